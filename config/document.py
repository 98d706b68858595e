"""A settings file as a tree of values and the line of every key. Reads TOML; knows nothing of our settings."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAXIMUM_BYTES = 1_000_000
MAXIMUM_DEPTH = 32  # parts of one dotted key; our own tree has three levels

_POSITION = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")
_BARE_OR_QUOTED = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_DOTTED = rf"{_BARE_OR_QUOTED}(?:[ \t]*\.[ \t]*{_BARE_OR_QUOTED})*"
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*({_DOTTED})[ \t]*\]")
_KEY = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")
_PART = re.compile(_BARE_OR_QUOTED)
_STRING_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*', re.DOTALL
)


class DocumentError(ValueError):
    """The file is no settings document; `line` is None where the fault has no place."""

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line


@dataclass(frozen=True)
class SettingsDocument:
    """`values` as tomllib gives them; `lines` maps the path of a key or section to its line, counted from 1."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)

    def line(self, path: tuple[str, ...]) -> int | None:
        """The line of the key, or of the nearest enclosing one: keys inside an inline table have none."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None


def read_document(path: Path) -> SettingsDocument:
    """Read a settings file. Raises `DocumentError`, and `OSError` where the file cannot be read."""
    with path.open("rb") as handle:
        raw = handle.read(MAXIMUM_BYTES + 1)
    return parse_document(raw)


def parse_document(raw: bytes) -> SettingsDocument:
    """Parse the bytes of a settings file: UTF-8 without byte order mark, LF or CRLF, at most 1 MB."""
    if len(raw) > MAXIMUM_BYTES:
        raise DocumentError(f"is larger than {MAXIMUM_BYTES} bytes, which no settings file is")
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise DocumentError("starts with a byte order mark; save it as UTF-8 without one", 1)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DocumentError(f"is not UTF-8 (byte 0x{raw[error.start]:02x}); save it as UTF-8", line) from error
    _refuse_depth(text)
    try:
        values = tomllib.loads(text)
    except RecursionError as error:
        raise DocumentError("is nested too deeply") from error
    except ValueError as error:
        raise _explain(error, text) from error
    return SettingsDocument(values, key_lines(text))


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of every key and section header of a valid TOML text; keys inside inline tables are left out."""
    lines: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    depth = 0
    for number, line in enumerate(_without_strings(text).split("\n"), 1):
        original = _KEY.match(line) if depth == 0 else None
        header = _HEADER.match(line) if depth == 0 and original is None else None
        if header:
            section = _parts(header.group(1))
            lines.setdefault(section, number)
        elif original:
            path = (*section, *_parts(original.group(1)))
            for length in range(len(section) + 1, len(path) + 1):
                lines.setdefault(path[:length], number)
            depth += _opened(line[original.end() :])
        else:
            depth += _opened(line) if depth else 0
    return lines


def _without_strings(text: str) -> str:
    """The text with the contents of values' strings and comments blanked, line ends kept, quoted keys kept."""

    def blank(found: re.Match[str]) -> str:
        rest = text[found.end() : found.end() + 80].lstrip(" \t")
        before = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
        if found.group().startswith(("'", '"')) and rest.startswith(("=", ".", "]")) and "=" not in before:
            return found.group()
        return re.sub(r"[^\n]", " ", found.group())

    return _STRING_OR_COMMENT.sub(blank, text)


def _opened(line: str) -> int:
    return line.count("[") + line.count("{") - line.count("]") - line.count("}")


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _refuse_depth(text: str) -> None:
    # tomllib's work grows with the square of the parts of a dotted key.
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") <= MAXIMUM_DEPTH:
            continue
        head = re.split(r"""[="'#]""", line, maxsplit=1)[0]
        if head.count(".") > MAXIMUM_DEPTH and re.fullmatch(r"[\w\s.\[\]-]*", head):
            raise DocumentError("is nested too deeply", number)


def _explain(error: ValueError, text: str) -> DocumentError:
    if not isinstance(error, tomllib.TOMLDecodeError):
        return DocumentError("holds a number that is too long")
    message = str(error)
    place = _POSITION.search(message)
    what = _POSITION.sub("", message)
    line = int(place.group(1)) if place and place.group(1) else text.count("\n") + 1
    if what.startswith(("Cannot declare", "Cannot overwrite")):
        # Of a key given twice tomllib points behind the value, for the last line at the end of the document.
        while line > 1 and not text.split("\n")[line - 1].strip():
            line -= 1
        return DocumentError("gives a key or section a second time; keep one of them", line)
    return DocumentError(f"is not TOML: {what[:1].lower()}{what[1:]}", line)
