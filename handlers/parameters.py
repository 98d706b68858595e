"""Query parameters. One rule for all routes: a parameter is known to its route, given once and within its range, or 400."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from handlers.problem import Refusal, bad_request
from handlers.redaction import shown

DAYS = re.compile(r"[1-9][0-9]{0,2}")
DAYS_RANGE = "a whole number from 1 to 365"
TZ_RANGE = "an IANA time zone name such as Europe/Berlin"
NO_PARAMETERS = "this path takes none"

Parser = Callable[[str, frozenset[str]], Any]


def parse_days(text: str, zones: frozenset[str]) -> int:
    """1 to 365; raises ValueError that states the range."""
    if not DAYS.fullmatch(text) or int(text) > 365:
        raise ValueError(DAYS_RANGE)
    return int(text)


def parse_zone(text: str, zones: frozenset[str]) -> str:
    """A name of the zone database, exactly; no file is opened to find out."""
    if text not in zones:
        raise ValueError(TZ_RANGE)
    return text


PARSERS: Mapping[str, tuple[Parser, Any]] = {"days": (parse_days, 7), "tz": (parse_zone, "UTC")}


def read_options(
    arguments: Mapping[str, list[bytes]], allowed: tuple[str, ...], zones: frozenset[str]
) -> tuple[tuple[str, Any], ...]:
    """The options of a view, in the order of `allowed`, with defaults; raises `Refusal` 400 naming the parameter."""
    for name, values in arguments.items():
        if name not in allowed:
            known = f"known here: {', '.join(allowed)}" if allowed else NO_PARAMETERS
            raise _refused(name, f"unknown parameter {shown(name, 32)!r}; {known}", "parameter_unknown")
        if len(values) > 1:
            raise _refused(name, f"parameter {name!r} is given {len(values)} times; give it once", "parameter_repeated")
    options = []
    for name in allowed:
        parse, default = PARSERS[name]
        if name not in arguments:
            options.append((name, default))
            continue
        try:
            options.append((name, parse(arguments[name][0].decode("utf-8", "replace"), zones)))
        except ValueError as error:
            raise _refused(name, f"parameter {name!r} must be {error}", "parameter_range") from None
    return tuple(options)


def _refused(name: str, detail: str, reason: str) -> Refusal:
    return bad_request(detail, reason, parameter=shown(name, 32))
