"""docs/reference/metrics.md against the code it is generated from, and against the page of a running server."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from handlers.metrics.definitions import counter
from handlers.metrics.reference import definitions, process_metrics, reference
from tests.handlers.fixtures import Serve

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
UNKNOWN_AT_FIRST = ("owkai_verify_", "owkai_telemetry_", "owkai_forecast_", "owkai_job_failures", "owkai_sync_")


def test_the_reference_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `make docs`"


@pytest.mark.gen_test
async def test_the_page_has_the_metrics_of_the_reference_with_their_types_and_labels(serve: Serve) -> None:
    served = serve()
    await served.ask("/metrics")
    text = (await served.ask("/metrics")).body.decode()
    found = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(text)
    }
    described = {one.name: one for one in (*definitions(), *process_metrics())}
    assert found.keys() <= described.keys()
    for name, family in found.items():
        assert (family.type, family.documentation) == (described[name].type.value, described[name].meaning), name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == set(described[name].label_names), name
    absent = described.keys() - found.keys()
    assert [name for name in absent if not name.startswith(UNKNOWN_AT_FIRST)] == []


def test_a_counter_needs_its_suffix() -> None:
    with pytest.raises(ValueError, match="owkai_copies: the name of a counter ends in _total"):
        counter("owkai_copies", "Copies.")
