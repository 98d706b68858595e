"""The response of /performance and /performance/system: names, types and order of fields."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from analytics.responses import TelemetryState


@dataclass(frozen=True, slots=True)
class Cpu:
    """Percent; null without telemetry."""

    current: float | None
    average: float | None
    status: str
    source: str


@dataclass(frozen=True, slots=True)
class Memory:
    """Percent; null without telemetry."""

    current: float | None
    available: float | None
    status: str
    source: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Percent; null without telemetry."""

    used: float | None
    available: float | None
    status: str
    source: str


@dataclass(frozen=True, slots=True)
class SystemMetrics:
    cpu: Cpu
    memory: Memory
    storage: Storage
    message: Annotated[str | None, Field(description="Why values are missing or old.")]


@dataclass(frozen=True, slots=True)
class ResponseTimes:
    """Milliseconds; null without telemetry."""

    average: float | None
    p95: float | None
    target: float
    status: str
    source: str


@dataclass(frozen=True, slots=True)
class Throughput:
    requests_per_second: float | None
    status: str
    source: str


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """Rates 0–1; null without telemetry."""

    current: float | None
    target: float
    status: str
    source: str


@dataclass(frozen=True, slots=True)
class ApplicationMetrics:
    response_times: ResponseTimes
    throughput: Throughput
    error_rates: ErrorRates
    message: str | None


@dataclass(frozen=True, slots=True)
class ConnectionUse:
    """Connections of the source; `utilization` in percent. Null until sync has sampled them."""

    active: int | None
    idle: int | None
    total: int | None
    max: int | None
    utilization: float | None
    status: Literal["healthy", "high", "unavailable"]
    source: str


@dataclass(frozen=True, slots=True)
class QueryPerformance:
    recent_queries: int
    slow_queries_estimate: int
    status: Literal["optimal", "degraded"]
    source: Literal["pg_stat_statements", "agent_actions_table"]
    average_duration: Annotated[float | None, Field(description="Milliseconds; null where only actions are counted.")]


@dataclass(frozen=True, slots=True)
class DatabaseMetrics:
    connections: ConnectionUse
    query_performance: QueryPerformance


@dataclass(frozen=True, slots=True)
class PerformanceSources:
    system_metrics: str
    application_metrics: str
    database_metrics: str


@dataclass(frozen=True, slots=True)
class PartFreshness:
    status: TelemetryState
    timestamp: datetime | None
    metrics_age_seconds: int | None


@dataclass(frozen=True, slots=True)
class TelemetryFreshness:
    status: str
    system_metrics: PartFreshness
    application_metrics: PartFreshness


@dataclass(frozen=True, slots=True)
class PerformanceMeta:
    version: str
    mock_data: bool
    cloudwatch_enabled: bool
    data_sources: PerformanceSources
    telemetry: Annotated[TelemetryFreshness | None, Field(description="Null: telemetry is off.")]


@dataclass(frozen=True, slots=True)
class Performance:
    """GET /performance and /performance/system."""

    timestamp: datetime
    system_metrics: SystemMetrics
    application_metrics: ApplicationMetrics
    database_metrics: DatabaseMetrics
    meta: PerformanceMeta
