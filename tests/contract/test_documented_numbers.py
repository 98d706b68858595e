"""docs/reference/numbers.md has one row for each field of each response type, and none besides."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

from analytics.executive.formulas import FIGURES
from analytics.executive.responses import ExecutiveDashboard, ExecutiveKpis
from analytics.performance_responses import Performance
from analytics.predictive.responses import CollectingData, Predictions
from analytics.responses import ConnectionMessage, DebugAction, MetricsUpdate, RealTimeMetrics, Trends
from handlers.contract.operational import Ready

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "numbers.md"
RESPONSES: dict[str, Any] = {
    "/trends": Trends,
    "/realtime/metrics": RealTimeMetrics,
    "/performance": Performance,
    "/executive/dashboard": ExecutiveDashboard,
    "/predictive/trends": Predictions | CollectingData,
    "/debug": tuple[DebugAction, ...],
    "connection": ConnectionMessage,
    "metrics_update": MetricsUpdate,
    "/readyz": Ready,
}
ROW = re.compile(r"(?m)^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$")


def field_paths(kind: Any, path: str = "") -> Iterator[str]:
    """The paths of all values below a response type: `a.b`, `list[].c`."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        for member in typing.get_args(kind):
            yield from field_paths(member, path)
    elif typing.get_origin(kind) is tuple:
        yield from field_paths(typing.get_args(kind)[0], f"{path}[]")
    elif is_dataclass(kind):
        for name, member in typing.get_type_hints(kind).items():
            yield from field_paths(member, f"{path}.{name}" if path else name)
    elif kind is not type(None):
        yield path


def rows(section: str) -> list[tuple[str, str, str]]:
    """(field, unit, formula) of the section headed by `section`."""
    parts = re.split(r"(?m)^#{2,3} (.+)\n", PAGE.read_text(encoding="utf-8"))
    found: list[tuple[str, str, str]] = ROW.findall(parts[parts.index(section) + 1])
    return found


@pytest.mark.parametrize("section", RESPONSES)
def test_every_field_of_a_response_has_its_row(section: str) -> None:
    documented = [field for field, _, _ in rows(section)]
    assert sorted(documented) == sorted(set(field_paths(RESPONSES[section])))


def test_the_executive_figures_have_the_formulas_and_units_that_the_report_prints() -> None:
    documented = rows("/executive/dashboard")
    for figure in FIGURES:
        part = "executive_kpis" if figure.section in typing.get_type_hints(ExecutiveKpis) else "business_metrics"
        assert (f"{part}.{figure.section}.{figure.name}", figure.unit, figure.formula) in documented
