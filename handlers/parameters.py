"""Query parameters. One rule for all routes: a parameter that is unknown, repeated or out of range is refused with 400."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from handlers.problem import Refusal, bad_request
from handlers.redaction import shown

WHOLE = re.compile(r"[1-9][0-9]{0,2}")
TZ_RANGE = "an IANA time zone name such as Europe/Berlin"
NO_PARAMETERS = "this path takes none"

Parser = Callable[[str, frozenset[str]], Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter of a route. `parse` takes its text and the zone names, and raises ValueError that states the range.

    `schema` (JSON Schema) and `meaning` describe it in the contract document. A `default` of None is the view's own.
    """

    name: str
    parse: Parser
    default: Any
    schema: Mapping[str, Any]
    meaning: str


def whole(lowest: int, highest: int) -> Parser:
    """A whole number in plain digits."""

    def parse(text: str, zones: frozenset[str]) -> int:
        if not WHOLE.fullmatch(text) or not lowest <= int(text) <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def one_of(*choices: str) -> Parser:
    """One of the names, exactly."""

    def parse(text: str, zones: frozenset[str]) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text

    return parse


def parse_zone(text: str, zones: frozenset[str]) -> str:
    """A name of the zone database, exactly; no file is opened to find out."""
    if text not in zones:
        raise ValueError(TZ_RANGE)
    return text


def number(name: str, lowest: int, highest: int, default: int | None, meaning: str) -> Parameter:
    schema: dict[str, Any] = {"type": "integer", "minimum": lowest, "maximum": highest}
    if default is not None:
        schema["default"] = default
    return Parameter(name, whole(lowest, highest), default, schema, meaning)


def choice(name: str, choices: tuple[str, ...], meaning: str) -> Parameter:
    """The first choice is the default."""
    return Parameter(name, one_of(*choices), choices[0], {"enum": list(choices), "default": choices[0]}, meaning)


DAYS = number("days", 1, 365, 7, "How many calendar days of the time zone, ending with today.")
REPORT_DAYS = number("days", 7, 365, 30, "Length of the period in days; it is compared with as many days before it.")
LIMIT = number("limit", 1, 100, None, "Most entries of a list. Without it 10 agents, 10 tools and 20 actions.")
DEBUG_LIMIT = number("limit", 1, 100, None, "Most actions. Without it 5.")
ZONE = Parameter(
    "tz",
    parse_zone,
    "UTC",
    {"type": "string", "format": "iana-time-zone", "default": "UTC", "examples": ["Europe/Berlin"]},
    "IANA name of the time zone in which days begin. Times in answers stay UTC.",
)
FORMAT = choice(
    "format",
    ("json", "csv", "pdf"),
    "Form of the answer: JSON, a table to file or a page to print. Accept is not read.",
)
TABLE = choice(
    "table",
    ("figures", "days"),
    "What the CSV holds: figures, one row with a column for each figure; days, one row for each day.",
)
DECIMAL = choice(
    "decimal",
    ("point", "comma"),
    "Decimal mark of the CSV. comma is for spreadsheets of locales that write 98,5; semicolons then separate the columns.",
)


def read_options(
    arguments: Mapping[str, list[bytes]], allowed: tuple[Parameter, ...], zones: frozenset[str]
) -> tuple[tuple[str, Any], ...]:
    """The options of a view, in the order of `allowed`, with defaults; raises `Refusal` 400 naming the parameter."""
    names = tuple(parameter.name for parameter in allowed)
    for name, values in arguments.items():
        if name not in names:
            known = f"known here: {', '.join(names)}" if names else NO_PARAMETERS
            raise _refused(name, f"unknown parameter {shown(name, 32)!r}; {known}", "parameter_unknown")
        if len(values) > 1:
            raise _refused(name, f"parameter {name!r} is given {len(values)} times; give it once", "parameter_repeated")
    options = []
    for parameter in allowed:
        name = parameter.name
        if name not in arguments:
            options.append((name, parameter.default))
            continue
        try:
            options.append((name, parameter.parse(arguments[name][0].decode("utf-8", "replace"), zones)))
        except ValueError as error:
            raise _refused(name, f"parameter {name!r} must be {error}", "parameter_range") from None
    return tuple(options)


def _refused(name: str, detail: str, reason: str) -> Refusal:
    return bad_request(detail, reason, parameter=shown(name, 32))
