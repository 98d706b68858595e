"""Does an answer have the structure of a documented example? Keys, order, nesting, types and forms of texts; not values.

`differences(example, answer, nullable)` lists what is wrong, one sentence with a path each; an empty list is a match.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import handlers.contract
from tests.contract.document import faults, schema_of_example

EXAMPLES = Path(handlers.contract.__file__).parent / "examples" / "documented"

FORMS = (
    ("a time in UTC, whole seconds, Z", re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")),
    ("a date", re.compile(r"\d{4}-\d{2}-\d{2}")),
)

# Where a documented field may be null, by example. Everywhere else null is a fault.
NULLABLE: dict[str, frozenset[str]] = {
    "debug": frozenset(
        {"[].risk_level", "[].mitre_tactic", "[].nist_control", "[].recommendation", "[].summary"},
    ),
    "realtime_metrics_cloudwatch": frozenset(
        {"real_time_overview.status.data_age_minutes", "system_health.network_latency", "system_health.disk_usage"}
    ),
    "performance": frozenset(
        {
            "system_metrics.cpu.current",
            "system_metrics.cpu.average",
            "system_metrics.memory.current",
            "system_metrics.memory.available",
            "system_metrics.storage.used",
            "system_metrics.storage.available",
            "application_metrics.response_times.average",
            "application_metrics.response_times.p95",
            "application_metrics.throughput.requests_per_second",
            "application_metrics.error_rates.current",
            "database_metrics.connections.active",
            "database_metrics.connections.idle",
            "database_metrics.connections.total",
            "database_metrics.connections.max",
            "database_metrics.connections.utilization",
        }
    ),
    "ws_metrics_update": frozenset(
        {"system_metrics.cpu_usage", "system_metrics.memory_usage", "system_metrics.response_time"},
    ),
}


def example(name: str) -> Any:
    """A documented example, e.g. `example("trends")`."""
    return json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def assert_documented(name: str, answer: Any, *, without: Collection[str] = ()) -> None:
    """Fail unless `answer` has the structure of example `name` and the contract document allows it.

    Top-level keys in `without` are not compared with the example.
    """
    documented = example(name)
    if without:
        documented = {key: value for key, value in documented.items() if key not in without}
    found = differences(documented, answer, NULLABLE.get(name, frozenset()))
    assert not found, f"{name} is not as documented:\n" + "\n".join(found)
    schema, document = schema_of_example(name)
    assert faults(schema, answer, document) == []


def differences(documented: Any, answer: Any, nullable: Collection[str] = (), path: str = "") -> list[str]:
    """What of `documented` is missing or of another type in `answer`; further keys are allowed, further nulls are not."""
    return list(_differences(documented, answer, nullable, path))


def _differences(documented: Any, answer: Any, nullable: Collection[str], path: str) -> Iterator[str]:
    where = path or "the answer"
    if answer is None:
        if path not in nullable:
            yield f"{where} is null"
    elif isinstance(documented, dict):
        if not isinstance(answer, dict):
            yield f"{where} is {_kind(answer)}, not an object"
            return
        missing = [key for key in documented if key not in answer]
        for key in missing:
            yield f"{where} lacks {key!r}"
        if [key for key in answer if key in documented] != [key for key in documented if key not in missing]:
            yield f"{where} has its keys in another order"
        for key, value in documented.items():
            if key in answer:
                yield from _differences(value, answer[key], nullable, f"{path}.{key}" if path else key)
    elif isinstance(documented, list):
        if not isinstance(answer, list):
            yield f"{where} is {_kind(answer)}, not an array"
            return
        for item in answer:
            yield from _differences(documented[0], item, nullable, f"{path}[]")
    elif _kind(documented) != _kind(answer) and not (_kind(documented) == "a fraction" and _kind(answer) == "a number"):
        yield f"{where} is {_kind(answer)}, not {_kind(documented)}"
    elif isinstance(documented, str):
        for form, pattern in FORMS:
            if pattern.fullmatch(documented) and not pattern.fullmatch(answer):
                yield f"{where} is {answer!r}, not {form}"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int):
        return "a number"
    if isinstance(value, float):
        return "a fraction"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list):
        return "an array"
    return "an object" if isinstance(value, dict) else "null"
