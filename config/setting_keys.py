"""The settings tree as a flat list of leaves: what `config.load` accepts and `config.reference` describes."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from config.settings import Section, Settings

ENVIRONMENT_PREFIX = "OWKAI_"


class SettingKind(Enum):
    """How a value is written, in words for the operator."""

    BOOLEAN = "true or false"
    INTEGER = "whole number"
    NUMBER = "number"
    TEXT = "text"
    CHOICE = "one of"
    LIST = "list of texts"
    MAP = "table of names"
    PATH = "path"
    SECRET = "text, secret"  # noqa: S105 - the word, not a secret


@dataclass(frozen=True)
class Leaf:
    """One setting. `path` is its key as written in the file; `choices` is empty unless `kind` is CHOICE."""

    path: tuple[str, ...]
    attributes: tuple[str, ...]
    kind: SettingKind
    default: Any
    description: str
    choices: tuple[str, ...] = ()
    may_be_empty: bool = False  # an empty text is a value of its own

    @property
    def key(self) -> str:
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + "_".join(self.path).upper()

    @property
    def secret(self) -> bool:
        return self.kind is SettingKind.SECRET

    def value(self, settings: Settings) -> Any:
        found: Any = settings
        for attribute in self.attributes:
            found = getattr(found, attribute)
        return found


@dataclass(frozen=True)
class Branch:
    """One section of the tree; the root has an empty path."""

    path: tuple[str, ...]
    model: type[Section]
    description: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(key_name(name, field) for name, field in self.model.model_fields.items())


def key_name(attribute: str, field: FieldInfo) -> str:
    """The name of a field as written in the file."""
    return field.alias or attribute


def branches(model: type[Section] = Settings, path: tuple[str, ...] = (), description: str = "") -> Iterator[Branch]:
    """Every section, parents before children."""
    yield Branch(path, model, description)
    for attribute, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from branches(inner, (*path, key_name(attribute, field)), field.description or "")


def leaves(
    model: type[Section] = Settings, path: tuple[str, ...] = (), attributes: tuple[str, ...] = ()
) -> Iterator[Leaf]:
    """Every setting in the order of the tree; a section's own settings come before its subsections."""
    inner_sections = []
    for attribute, field in model.model_fields.items():
        name, inner = key_name(attribute, field), field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            inner_sections.append((inner, name, attribute))
            continue
        kind, choices = _kind(inner)
        yield Leaf(
            path=(*path, name),
            attributes=(*attributes, attribute),
            kind=kind,
            default=field.get_default(call_default_factory=True),
            description=field.description or "",
            choices=choices,
            may_be_empty=kind in (SettingKind.TEXT, SettingKind.SECRET, SettingKind.LIST) or "" in choices,
        )
    for inner, name, attribute in inner_sections:
        yield from leaves(inner, (*path, name), (*attributes, attribute))


def _kind(annotation: Any) -> tuple[SettingKind, tuple[str, ...]]:
    origin = get_origin(annotation)
    if origin is Literal:
        return SettingKind.CHOICE, tuple(str(choice) for choice in get_args(annotation))
    if origin in (Union, types.UnionType):
        kinds = [_kind(member)[0] for member in get_args(annotation) if member is not type(None)]
        return (SettingKind.PATH if SettingKind.PATH in kinds else SettingKind.TEXT), ()
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _kind(annotation.__origin__)
    plain = origin or annotation
    by_type = {
        bool: SettingKind.BOOLEAN,
        int: SettingKind.INTEGER,
        float: SettingKind.NUMBER,
        str: SettingKind.TEXT,
        tuple: SettingKind.LIST,
        dict: SettingKind.MAP,
        Path: SettingKind.PATH,
        SecretStr: SettingKind.SECRET,
    }
    return by_type[plain], ()
