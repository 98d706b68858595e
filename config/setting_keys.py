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


class Kind(Enum):
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
    kind: Kind
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
        return self.kind is Kind.SECRET

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
            may_be_empty=kind in (Kind.TEXT, Kind.SECRET, Kind.LIST) or "" in choices,
        )
    for inner, name, attribute in inner_sections:
        yield from leaves(inner, (*path, name), (*attributes, attribute))


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    origin = get_origin(annotation)
    if origin is Literal:
        return Kind.CHOICE, tuple(str(choice) for choice in get_args(annotation))
    if origin in (Union, types.UnionType):
        kinds = [_kind(member)[0] for member in get_args(annotation) if member is not type(None)]
        return (Kind.PATH if Kind.PATH in kinds else Kind.TEXT), ()
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _kind(annotation.__origin__)
    plain = origin or annotation
    by_type = {
        bool: Kind.BOOLEAN,
        int: Kind.INTEGER,
        float: Kind.NUMBER,
        str: Kind.TEXT,
        tuple: Kind.LIST,
        dict: Kind.MAP,
        Path: Kind.PATH,
        SecretStr: Kind.SECRET,
    }
    return by_type[plain], ()
