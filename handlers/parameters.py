"""Query parameters. One rule for all routes: a parameter is known to its route, given once and within its range, or 400."""

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
    """A query parameter of a route. `parse` takes its text and the zone names, and raises ValueError that states the range."""

    name: str
    parse: Parser
    default: Any


def whole_days(lowest: int, highest: int) -> Parser:
    """A whole number of days in plain digits."""

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


DAYS = Parameter("days", whole_days(1, 365), 7)
REPORT_DAYS = Parameter("days", whole_days(7, 365), 30)
ZONE = Parameter("tz", parse_zone, "UTC")
FORMAT = Parameter("format", one_of("json", "csv", "pdf"), "json")


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
