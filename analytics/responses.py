"""The responses of the analytics API as types: names, types and order of fields, and how they are written as JSON.

JSON, the OpenAPI and AsyncAPI documents and the contract tests derive from these types. A field's type carries its allowed
values, bounds and description (`Annotated`); `None` in the type means that the field can be null. Times are aware; JSON has
them in UTC, in whole seconds, with Z. Percentages are 0–100, rates 0–1.

The responses of /performance, /predictive/trends and /executive/dashboard are in `analytics.performance_responses`,
`analytics.predictive.responses` and `analytics.executive.responses`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from analytics.view_context import DataStatus
from config.utc_text import utc_text

NAME_CHARACTERS = 256  # longest agent, tool or control name shown, the mark included
TEXT_CHARACTERS = 2048  # longest sentence shown: recommendation, summary
CUT_MARK = "…"

CalendarDate = date  # for fields named date, which hide the type of that name in their class
Percent = Annotated[float, Field(ge=0, le=100, description="Percent.")]
Rate = Annotated[float, Field(ge=0, le=1, description="Rate, 0–1.")]
RiskLevel = Literal["low", "medium", "high", "critical", "unknown"]
TelemetryState = Literal["live", "stale", "unavailable"]

# What the platform's deployed web client reads beside the documented fields, by documented example. A field that telemetry
# alone can fill is there whenever telemetry is on.
DEPLOYED_CLIENT_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "realtime_metrics_cloudwatch": (
            "performance_metrics.timestamp",
            "system_health.estimated_availability",
            "system_health.fallback_reason",
        ),
        "predictive_trends_active": (
            "risk_forecast.predicted_high_risk",
            "risk_forecast.method",
            "risk_forecast.factors",
            "agent_workload_forecast.agent",
            "agent_workload_forecast.capacity_utilization",
            "agent_workload_forecast.trend",
            "agent_workload_forecast.high_risk_ratio",
            "anomalies.value",
            "anomalies.baseline",
            "anomalies.deviation",
        ),
        "performance": ("database_metrics.query_performance.average_duration",),
        "ws_metrics_update": (
            "metrics.active_users",
            "metrics.cpu_usage",
            "metrics.memory_usage",
            "metrics.response_time",
        ),
    }
)

# -- /trends ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DayCount:
    date: CalendarDate
    count: int


@dataclass(frozen=True, slots=True)
class AgentCount:
    agent: str
    count: int


@dataclass(frozen=True, slots=True)
class ToolCount:
    tool: str
    count: int


@dataclass(frozen=True, slots=True)
class EnrichedAction:
    agent_id: str
    action_type: str
    risk_level: RiskLevel
    mitre_tactic: str
    nist_control: str
    recommendation: str
    tool_name: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class TrendsMeta:
    version: str
    mock_data: bool
    real_data_sources: tuple[str, ...]
    days: int
    time_zone: str
    data_status: DataStatus


@dataclass(frozen=True, slots=True)
class Trends:
    """GET /trends. `high_risk_actions_by_day` has exactly `meta.days` entries, ascending."""

    high_risk_actions_by_day: tuple[DayCount, ...]
    top_agents: tuple[AgentCount, ...]
    top_tools: tuple[ToolCount, ...]
    enriched_actions: tuple[EnrichedAction, ...]
    pending_actions_count: int
    meta: TrendsMeta


# -- /debug ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DebugAction:
    """One entry of GET /debug, an array. What the source has not is null."""

    id: int
    agent_id: str | None
    risk_level: str | None
    mitre_tactic: str | None
    nist_control: str | None
    recommendation: str | None
    summary: str | None


# -- /realtime/metrics -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OverviewStatus:
    has_data: bool
    message: str
    data_age_minutes: Annotated[int | None, Field(description="Null: no action yet.")]


@dataclass(frozen=True, slots=True)
class RealTimeOverview:
    active_sessions: int
    recent_high_risk_actions: int
    active_agents: int
    total_actions_last_hour: int
    actions_last_24h: int
    status: OverviewStatus


@dataclass(frozen=True, slots=True)
class SystemHealthWithoutTelemetry:
    status: str = "phase_2_planned"
    message: str = "System health monitoring with AWS CloudWatch will be available in Phase 2"
    available_metrics: tuple[str, ...] = ("CPU", "Memory", "Disk", "Network", "API Response Time")
    cloudwatch_enabled: bool = False


@dataclass(frozen=True, slots=True)
class PerformanceWithoutTelemetry:
    status: str = "phase_2_planned"
    message: str = "Performance tracking with CloudWatch Logs Insights will be available in Phase 2"
    planned_metrics: tuple[str, ...] = ("Requests/sec", "Error rate", "Response time", "Cache hit rate")


@dataclass(frozen=True, slots=True)
class SystemHealth:
    """The machine, from telemetry. Percent and milliseconds; null is not known. `timestamp` is when it was measured."""

    status: TelemetryState
    source: Annotated[str, Field(json_schema_extra={"enum": ["cloudwatch", "host"]})]
    cpu_usage: float | None
    memory_usage: float | None
    disk_usage: float | None
    network_latency: float | None
    api_response_time: float | None
    timestamp: datetime | None
    metrics_age_seconds: int | None
    fallback_reason: Annotated[str | None, Field(description="Why the values are not live.")]
    estimated_availability: str | None = None


@dataclass(frozen=True, slots=True)
class PerformanceMetrics:
    """Requests, from telemetry. Milliseconds; `error_rate` 0–1; null is not known."""

    status: TelemetryState
    source: Annotated[str, Field(json_schema_extra={"enum": ["cloudwatch_logs", "cloudwatch", "host", "none"]})]
    requests_per_second: float | None
    avg_response_time: float | None
    p95_response_time: float | None
    error_rate: float | None
    timestamp: datetime | None
    metrics_age_seconds: int | None
    fallback_reason: str | None


@dataclass(frozen=True, slots=True)
class RealTimeDataQuality:
    source: str
    timestamp: datetime
    has_historical_data: bool
    has_recent_activity: bool
    data_status: DataStatus


@dataclass(frozen=True, slots=True)
class RealTimeMeta:
    version: str
    enterprise_grade: bool
    mock_data: bool
    real_data_sources: tuple[str, ...]
    phase: str
    cloudwatch_enabled: bool
    cloudwatch_status: str


@dataclass(frozen=True, slots=True)
class RealTimeMetrics:
    """GET /realtime/metrics."""

    timestamp: datetime
    real_time_overview: RealTimeOverview
    system_health: SystemHealth | SystemHealthWithoutTelemetry
    performance_metrics: PerformanceMetrics | PerformanceWithoutTelemetry
    data_quality: RealTimeDataQuality
    meta: RealTimeMeta


# -- WebSocket -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConnectionMessage:
    """The first message on a socket."""

    type: Literal["connection"]
    status: Literal["connected"]
    message: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class LiveMetrics:
    """The last hour of one organization. The deployed page reads the last four here too; null without telemetry."""

    active_websocket_connections: int
    recent_actions_last_hour: int
    high_risk_actions_last_hour: int
    active_agents_last_hour: int
    active_users: int
    cpu_usage: float | None
    memory_usage: float | None
    response_time: float | None


@dataclass(frozen=True, slots=True)
class LiveSystemMetrics:
    status: TelemetryState
    cpu_usage: float | None
    memory_usage: float | None
    response_time: float | None


@dataclass(frozen=True, slots=True)
class LiveDataQuality:
    source: str
    mock_data: bool
    has_activity: bool


@dataclass(frozen=True, slots=True)
class MetricsUpdate:
    """The repeated message on a socket."""

    type: Literal["metrics_update"]
    timestamp: datetime
    metrics: LiveMetrics
    system_metrics: LiveSystemMetrics
    data_quality: LiveDataQuality


# -- JSON ------------------------------------------------------------------------------------------------------------


def encode(response: Any) -> bytes:
    """Compact UTF-8 JSON of a response, fields in their stated order. A number JSON cannot say becomes null."""
    return json.dumps(plain(response), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def plain(value: Any) -> Any:
    """A response as dicts, lists, text, numbers and None."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"a response cannot hold a value of type {type(value).__name__}")


def connection_message(email: str, now: datetime) -> ConnectionMessage:
    """What a socket of `email` hears first."""
    return ConnectionMessage("connection", "connected", f"Real-time analytics connected for {email}", now)


def cut(text: str, characters: int = NAME_CHARACTERS) -> str:
    """`text` within `characters`; what was cut ends in a mark."""
    return text if len(text) <= characters else text[: characters - 1] + CUT_MARK
