"""What is wrong with a settings tree, in words: one line per problem, never a secret value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from config.secrets import masked
from config.setting_keys import Leaf, SettingKind

Path = tuple[str, ...]


@dataclass(frozen=True)
class SettingsProblem:
    """One fault of one key. `path` may lead to a section; an empty one means the whole file."""

    path: Path
    what: str
    remedy: str = ""

    def text(self, place: str) -> str:
        """`place: key: what; remedy`, on one line."""
        parts = [place] if place else []
        key = ".".join(self.path)
        if key and not (place and place.endswith(key)):
            parts.append(key)
        line = ": ".join([*parts, self.what]) + (f"; {self.remedy}" if self.remedy else "")
        return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in line)


class SettingsError(ValueError):
    """Settings that cannot be used. `str()` lists all problems, one line each."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def nearest(name: str, known: Iterable[str]) -> str | None:
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def unknown_key(path: Path, siblings: Iterable[str], everywhere: Mapping[str, str]) -> SettingsProblem:
    """An unknown key: offers the nearest name of its section, else the section where a key of that name lives."""
    name = path[-1]
    close = nearest(name, siblings)
    if close:
        remedy = f'did you mean "{".".join((*path[:-1], close))}"?'
    elif name in everywhere:
        remedy = f'did you mean "{everywhere[name]}"?'
    else:
        remedy = "remove it; `owkai config reference` lists every key"
    return SettingsProblem(path, "is not a setting", remedy)


def from_validation(error: ErrorDetails, leaf: Leaf) -> SettingsProblem:
    """One of pydantic's errors in our words; the value is shown unless the setting is a secret."""
    kind, context = error["type"], error.get("ctx", {})
    what = _what(kind, context, leaf)
    shown = "" if leaf.secret else f", not {_show(error['input'])}"
    inner = [str(part) for part in error["loc"][len(leaf.path) :] if _names_an_entry(part, leaf)]
    path = (*leaf.path, *inner) if leaf.kind is SettingKind.MAP else leaf.path
    return SettingsProblem(path, f"{what}{shown}", _remedy(leaf))


def _what(kind: str, context: Mapping[str, Any], leaf: Leaf) -> str:
    bounds = {
        "greater_than": ("gt", "must be greater than"),
        "greater_than_equal": ("ge", "must be at least"),
        "less_than": ("lt", "must be less than"),
        "less_than_equal": ("le", "must be at most"),
    }
    if kind in bounds:
        name, words = bounds[kind]
        return f"{words} {context[name]:g}" if isinstance(context[name], float) else f"{words} {context[name]}"
    if kind == "finite_number":
        return "must be a finite number"
    if kind == "value_error":
        return str(context["error"])  # our own validators' messages
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(str(context.get("pattern")), f"must match {context.get('pattern')}")
    words_by_kind = {
        SettingKind.BOOLEAN: "must be true or false",
        SettingKind.INTEGER: "must be a whole number",
        SettingKind.NUMBER: "must be a number",
        SettingKind.TEXT: "must be a text in quotes",
        SettingKind.CHOICE: "must be " + _either(leaf.choices),
        SettingKind.LIST: 'must be a list of texts, e.g. ["a", "b"]',
        SettingKind.MAP: "must be a table of texts (ours = theirs)",
        SettingKind.PATH: "must be a path, as a text in quotes",
        SettingKind.SECRET: "must be a text in quotes",
    }
    return words_by_kind[leaf.kind]


PATTERNS = {
    r"^[A-Za-z_][A-Za-z0-9_$]{0,62}$": "must be a plain Postgres name: letters, digits and _, at most 63",
    r"^[a-z0-9_]{1,63}$": "must be a slot name: lower-case letters, digits and _, at most 63",
    r"^\d+(\.\d+)?\s*(KB|MB|GB|TB|KiB|MiB|GiB|TiB)$": 'must be a size with its unit, e.g. "512MiB"',
}


def _either(choices: tuple[str, ...]) -> str:
    """The choices in words; empty for none."""
    if not choices:
        return ""
    quoted = [f'"{choice}"' for choice in choices]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _remedy(leaf: Leaf) -> str:
    default = plain(leaf.default)
    return f"leave it out for the default, {default}" if default else "leave it out for the default"


def plain(value: Any) -> str:
    """A default as the file writes it; empty for none."""
    if value is None or (hasattr(value, "get_secret_value")):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{entry}"' for entry in value) + "]"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, int | float):
        return f"{int(value) if value == value // 1 else value}"
    return f'"{value}"'


def _show(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {UNPLACED}:
        return str(value[UNPLACED])
    text = masked(plain(value) if isinstance(value, bool | int | float | str) else type_name(value))
    return text if len(text) <= 60 else text[:57] + "..."


UNPLACED = "\0type"  # the key that stands for a TOML value of a type no setting has


def type_name(value: Any) -> str:
    return {
        dict: "a table",
        list: "a list",
        bool: "true or false",
        str: "a text",
        int: "a number",
        float: "a number",
    }.get(type(value), "a date or time")


def _names_an_entry(part: int | str, leaf: Leaf) -> bool:
    return leaf.kind is SettingKind.MAP and isinstance(part, str) and part != "[key]"
