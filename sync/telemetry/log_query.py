"""The Logs Insights query for request metrics, and how its one row is read. Pure.

The platform's lines are uvicorn's access lines (`"GET /x HTTP/1.1" 200 OK`, with no duration unless a middleware adds one)
and JSON lines with status and duration. Both are parsed out of @message: log groups of ECS have no @duration field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from config.settings import TelemetrySettings

STATUS_PATTERN = r'(?:HTTP/[0-9.]+"?\s+|status(?:_code)?"?\s*[:=]\s*"?)(?<status>[1-5][0-9][0-9])(?:[^0-9]|$)'
DURATION_PATTERNS = (
    r"(?:duration|latency|elapsed|response_time|process_time|processing_time)_?ms\"?\s*[:=]\s*\"?"
    r"(?<duration>[0-9]+(?:\.[0-9]+)?)",
    r"\s(?<duration>[0-9]+(?:\.[0-9]+)?)\s?ms(?:[^a-zA-Z0-9]|$)",
)
GROUP = re.compile(r"\(\?P?<([A-Za-z]\w*)>")
UNESCAPED_SLASH = re.compile(r"(?<!\\)((?:\\\\)*)/")
MILLISECONDS = {"milliseconds": 1.0, "seconds": 1000.0}


class Requests(NamedTuple):
    """The query's row for its window; None if nothing was counted or measured."""

    requests: float
    errors: float
    mean_milliseconds: float | None
    p95_milliseconds: float | None


def insights_query(settings: TelemetrySettings) -> str:
    """One query of one row: requests, errors, mean and p95 duration in the unit of `telemetry.log_duration_unit`.

    `count(field)` counts only the lines in which the field was found, so counting errors needs no text comparison.
    """
    durations = (settings.log_duration_pattern,) if settings.log_duration_pattern else DURATION_PATTERNS
    names = [f"owkaiDuration{number}" for number in range(1, len(durations) + 1)]
    failing = "5" if settings.log_errors == "5xx" else "[45]"
    return "\n| ".join(
        (
            "fields @message",
            f"parse @message /{_named(settings.log_status_pattern or STATUS_PATTERN, 'owkaiStatus')}/",
            "filter ispresent(owkaiStatus)",
            f"parse owkaiStatus /(?<owkaiError>{failing}[0-9][0-9])/",
            *(f"parse @message /{_named(found, name)}/" for found, name in zip(durations, names, strict=True)),
            f"fields coalesce({', '.join(names)}) as owkaiDuration" if len(names) > 1 else f"fields {names[0]} as owkaiDuration",
            "stats count(*) as requests, count(owkaiError) as errors, avg(owkaiDuration) as mean, "
            "pct(owkaiDuration, 95) as p95",
        )
    )  # fmt: skip


def _named(pattern: str, name: str) -> str:
    """The pattern with its one named group called `name` (a field of that name must not exist in JSON lines), slashes escaped."""
    return UNESCAPED_SLASH.sub(r"\1\/", GROUP.sub(f"(?<{name}>", pattern, count=1))


def read_row(results: Sequence[Sequence[Mapping[str, Any]]], settings: TelemetrySettings) -> Requests:
    """The row of `insights_query`. No row means no request line in the window. Raises ValueError for anything else."""
    if not results:
        return Requests(0.0, 0.0, None, None)
    fields = {str(cell.get("field")): cell.get("value") for cell in results[0]}
    requests, errors = number(fields.get("requests")), number(fields.get("errors"))
    if requests is None or requests < 0:
        raise ValueError("the row of the logs query holds no count of requests")
    factor = MILLISECONDS[settings.log_duration_unit]
    mean, p95 = number(fields.get("mean")), number(fields.get("p95"))
    return Requests(
        requests,
        min(max(errors or 0.0, 0.0), requests),
        None if mean is None or mean < 0 else mean * factor,
        None if p95 is None or p95 < 0 else p95 * factor,
    )


def number(value: Any) -> float | None:
    """A finite number, or None."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
