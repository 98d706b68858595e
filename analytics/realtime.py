"""GET /realtime/metrics and the socket's metrics_update: what happens now. Pure: no clock, HTTP or Postgres."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from analytics.responses import (
    LiveDataQuality,
    LiveMetrics,
    LiveSystemMetrics,
    MetricsUpdate,
    OverviewStatus,
    PerformanceMetrics,
    PerformanceWithoutTelemetry,
    RealTimeDataQuality,
    RealTimeMeta,
    RealTimeMetrics,
    RealTimeOverview,
    SystemHealth,
    SystemHealthWithoutTelemetry,
)
from analytics.state.snapshot import ScopedSnapshot
from analytics.telemetry import TelemetryCondition, TelemetryReport, require
from analytics.view_context import HOUR, ViewContext

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
ROUND_TRIP_AGE = timedelta(seconds=30)  # measured every second; an older one comes from a line that has died since


class RecentActivity(NamedTuple):
    """The row of sql/recent_activity.sql; every field counts actions or agents of one organization."""

    actions_hour: int
    high_risk_hour: int
    agents_hour: int
    actions_day: int


def realtime(snapshot: ScopedSnapshot, context: ViewContext) -> RealTimeMetrics:
    """The last hour and day before now. Sessions are people with an audit event or a login in the last hour.

    Under `telemetry.strict` raises `TelemetryUnavailableError` where a telemetry source has nothing recent enough.
    """
    telemetry = context.telemetry_report
    if context.settings.telemetry.strict:
        require(telemetry, context.settings.telemetry)
    activity = recent_activity(snapshot, context)
    ((newest,),) = snapshot.rows("newest_action", latest=context.latest)
    age = age_minutes(newest, context.end)
    recent = activity.actions_hour > 0
    return RealTimeMetrics(
        timestamp=context.now,
        real_time_overview=RealTimeOverview(
            active_sessions=active_people(snapshot, context),
            recent_high_risk_actions=activity.high_risk_hour,
            active_agents=activity.agents_hour,
            total_actions_last_hour=activity.actions_hour,
            actions_last_24h=activity.actions_day,
            status=OverviewStatus(
                has_data=recent, message=overview_message(context, recent, age), data_age_minutes=age
            ),
        ),
        system_health=(
            SystemHealthWithoutTelemetry() if telemetry is None else system_health(telemetry, network_latency(context))
        ),
        performance_metrics=(
            PerformanceWithoutTelemetry() if telemetry is None else performance_metrics(telemetry.application)
        ),
        data_quality=RealTimeDataQuality(
            source="demo_database" if context.settings.mock_data else "production_database",
            timestamp=context.now,
            has_historical_data=newest is not None,
            has_recent_activity=recent,
            data_status=context.data_status(recent=recent),
        ),
        meta=RealTimeMeta(
            version="1.0.0-phase2",
            enterprise_grade=True,
            mock_data=context.settings.mock_data,
            real_data_sources=data_sources(telemetry),
            phase="2_of_3",
            cloudwatch_enabled=telemetry is not None and telemetry.cloudwatch,
            cloudwatch_status=telemetry.state if telemetry is not None and telemetry.cloudwatch else "disabled",
        ),
    )


def metrics_update(snapshot: ScopedSnapshot, context: ViewContext, *, connections: int = 0) -> MetricsUpdate:
    """One message for every socket of the organization; `connections` is how many of them are open."""
    activity = recent_activity(snapshot, context)
    machine = live_system_metrics(context.telemetry_report)
    return MetricsUpdate(
        type="metrics_update",
        timestamp=context.now,
        metrics=LiveMetrics(
            active_websocket_connections=connections,
            recent_actions_last_hour=activity.actions_hour,
            high_risk_actions_last_hour=activity.high_risk_hour,
            active_agents_last_hour=activity.agents_hour,
            active_users=active_people(snapshot, context),
            cpu_usage=machine.cpu_usage,
            memory_usage=machine.memory_usage,
            response_time=machine.response_time,
        ),
        system_metrics=machine,
        data_quality=LiveDataQuality(
            source="real_database",
            mock_data=context.settings.mock_data,
            has_activity=activity.actions_hour > 0,
        ),
    )


def network_latency(context: ViewContext) -> float | None:
    """Milliseconds. With host telemetry the round trip to the source, as sync's sampler last measured it; else the sample's own."""
    telemetry, round_trip = context.telemetry_report, context.sync.round_trip
    if telemetry is None or telemetry.source != "host":
        sample = None if telemetry is None else telemetry.system.sample
        return rounded(None if sample is None else sample.network_milliseconds)
    if round_trip is None or context.now - round_trip.measured_at > ROUND_TRIP_AGE:
        return None
    return rounded(round_trip.milliseconds, 2)


def system_health(telemetry: TelemetryReport, latency: float | None) -> SystemHealth:
    """The machine's newest values and their true age; `latency` in milliseconds."""
    part, sample = telemetry.system, telemetry.system.sample
    application = telemetry.application.sample
    return SystemHealth(
        status=part.state,
        source=part.source if sample is not None else telemetry.source,
        cpu_usage=rounded(None if sample is None else sample.cpu_percent),
        memory_usage=rounded(None if sample is None else sample.memory_percent),
        disk_usage=rounded(None if sample is None else sample.disk_percent),
        network_latency=latency,
        api_response_time=rounded(None if application is None else application.mean_milliseconds),
        timestamp=None if sample is None else sample.measured_at,
        metrics_age_seconds=whole_seconds(part),
        fallback_reason=part.reason,
    )


def performance_metrics(part: TelemetryCondition) -> PerformanceMetrics:
    """The application's newest values and their true age."""
    sample = part.sample
    return PerformanceMetrics(
        status=part.state,
        source=part.source,
        requests_per_second=rounded(None if sample is None else sample.requests_per_second, 2),
        avg_response_time=rounded(None if sample is None else sample.mean_milliseconds),
        p95_response_time=rounded(None if sample is None else sample.p95_milliseconds),
        error_rate=rounded(None if sample is None else sample.error_rate, 4),
        timestamp=None if sample is None else sample.measured_at,
        metrics_age_seconds=whole_seconds(part),
        fallback_reason=part.reason,
    )


def live_system_metrics(telemetry: TelemetryReport | None) -> LiveSystemMetrics:
    """What a socket hears of the machine; it goes on when there is nothing to say."""
    if telemetry is None:
        return LiveSystemMetrics(status="unavailable", cpu_usage=None, memory_usage=None, response_time=None)
    health = system_health(telemetry, None)
    return LiveSystemMetrics(health.status, health.cpu_usage, health.memory_usage, health.api_response_time)


def data_sources(telemetry: TelemetryReport | None) -> tuple[str, ...]:
    """Where the numbers of an answer come from; a telemetry source only when one of its values is shown."""
    if telemetry is None or not telemetry.used:
        return ("postgresql_rds",)
    return "postgresql_rds", "aws_cloudwatch" if telemetry.cloudwatch else "host"


def rounded(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)


def whole_seconds(part: TelemetryCondition) -> int | None:
    """The age of the last good sample, rounded down."""
    return None if part.age_seconds is None else int(part.age_seconds)


def recent_activity(snapshot: ScopedSnapshot, context: ViewContext) -> RecentActivity:
    return snapshot.row(
        RecentActivity,
        "recent_activity",
        hour_start=context.end - HOUR,
        day_start=context.end - DAY,
        end=context.end,
        count_false_positives=context.settings.meaning.count_false_positives,
    )


def active_people(snapshot: ScopedSnapshot, context: ViewContext) -> int:
    window = {"start": context.end - HOUR, "end": context.end}
    ((people,),) = snapshot.rows("active_people", **window)
    return int(people)


def age_minutes(newest: datetime | None, now: datetime) -> int | None:
    """ReadBody minutes since the newest action; 0 for one that the source's clock dates slightly ahead of ours."""
    return None if newest is None else max(0, (now - newest) // MINUTE)


def overview_message(context: ViewContext, recent: bool, age: int | None) -> str:
    """Live, or why it is not: behind the source, or how long ago the last action was."""
    if context.stale:
        behind = context.sync.lag_seconds(context.now)
        if behind is None:
            return "Not in step with the source yet: numbers may be out of date"
        return f"Behind the source for {duration(int(behind // 60))}: numbers may be out of date"
    if recent:
        return f"Live data from {'demo' if context.settings.mock_data else 'production'} database"
    if age is None:
        return "No actions recorded yet"
    return f"No actions in the last hour; the last one was {duration(age)} ago"


def duration(minutes: int) -> str:
    """Minutes in words of one unit, rounded down."""
    for unit, size in (("day", 1440), ("hour", 60), ("minute", 1)):
        if minutes >= size:
            amount = minutes // size
            return f"{amount} {unit}" + ("s" if amount > 1 else "")
    return "less than a minute"
