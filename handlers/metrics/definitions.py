"""How a metric is described: on the page of `/metrics` and in the generated reference."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

UNITS = ("seconds", "bytes", "ratio")


class MetricType(Enum):
    """The types of the Prometheus text format that are used here."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """A metric. `labels` are pairs of a label's name and the values it can have."""

    name: str
    type: MetricType
    meaning: str
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def unit(self) -> str:
        """The unit that the name ends in; empty for a plain number."""
        name = self.name.removesuffix("_total")
        return next((unit for unit in UNITS if name.endswith(f"_{unit}")), "")

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.labels)


def counter(name: str, meaning: str, *labels: tuple[str, str]) -> MetricDefinition:
    """A number that only rises while the process runs. Raises ValueError for a name that does not end in _total."""
    if not name.endswith("_total"):
        raise ValueError(f"{name}: the name of a counter ends in _total")
    return MetricDefinition(name, MetricType.COUNTER, meaning, labels)


def gauge(name: str, meaning: str, *labels: tuple[str, str]) -> MetricDefinition:
    return MetricDefinition(name, MetricType.GAUGE, meaning, labels)


def histogram(name: str, meaning: str, *labels: tuple[str, str]) -> MetricDefinition:
    return MetricDefinition(name, MetricType.HISTOGRAM, meaning, labels)
