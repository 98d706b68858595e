"""GET /performance: the machine and the application from telemetry, the database from samples of the source. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from analytics.performance_responses import (
    ApplicationMetrics,
    ConnectionUse,
    Cpu,
    DatabaseMetrics,
    ErrorRates,
    Memory,
    PartFreshness,
    Performance,
    PerformanceMeta,
    PerformanceSources,
    QueryPerformance,
    ResponseTimes,
    Storage,
    SystemMetrics,
    TelemetryFreshness,
    Throughput,
)
from analytics.realtime import rounded, whole_seconds
from analytics.state.snapshot import ScopedSnapshot
from analytics.state.sync_status import Connections, Statements
from analytics.state.telemetry_board import TelemetrySample
from analytics.telemetry import TelemetryCondition, TelemetryReport, require
from analytics.view_context import HOUR, ViewContext

SLOW_AFTER = timedelta(minutes=5)
DEGRADED_SHARE = 0.05  # of the hour's actions that wait longer than SLOW_AFTER, or of its slow statements
HIGH_UTILIZATION_PERCENT = 80
HIGH_CPU_PERCENT = 80
HIGH_MEMORY_PERCENT = 85
HIGH_STORAGE_PERCENT = 80
TARGET_MILLISECONDS = 200.0
TARGET_ERROR_RATE = 0.01
NONE = "none"
UNAVAILABLE: Final = "unavailable"
HOW_TO_ENABLE = (
    'Not measured: no telemetry source is configured (telemetry.source = "none" in the settings file). '
    'Set it to "host" or "cloudwatch" to see these values.'
)
NO_REQUESTS = "Not measured: name telemetry.log_group or telemetry.load_balancer to see the requests of the service."


class Waiting(NamedTuple):
    """The row of sql/waiting_actions.sql."""

    actions: int
    waiting: int


def performance(snapshot: ScopedSnapshot, context: ViewContext) -> Performance:
    """Every documented key, and null for what is not known.

    Raises `TelemetryUnavailableError` where a telemetry source is configured and has nothing recent enough.
    """
    telemetry = context.telemetry_report
    require(telemetry, context.settings.telemetry)
    return Performance(
        timestamp=context.now,
        system_metrics=system_metrics(None if telemetry is None else telemetry.system),
        application_metrics=application_metrics(None if telemetry is None else telemetry.application),
        database_metrics=DatabaseMetrics(
            connections=connection_use(context.sync.connections),
            query_performance=query_performance(snapshot, context),
        ),
        meta=PerformanceMeta(
            version="2.0.0",
            mock_data=context.settings.mock_data,
            cloudwatch_enabled=telemetry is not None and telemetry.cloudwatch,
            data_sources=PerformanceSources(
                NONE if telemetry is None else used_source(telemetry.system),
                NONE if telemetry is None else used_source(telemetry.application),
                "postgresql",
            ),
            telemetry=None if telemetry is None else freshness(telemetry),
        ),
    )


def system_metrics(part: TelemetryCondition | None) -> SystemMetrics:
    """The machine; a value that is not known is null, "unavailable" and of source "none"."""
    sample = part.sample if part is not None else None
    source = NONE if part is None else part.source
    cpu, memory, storage = (
        (None, None, None)
        if sample is None
        else (rounded(sample.cpu_percent), rounded(sample.memory_percent), rounded(sample.disk_percent))
    )
    average = None if sample is None else rounded(sample.cpu_average_percent)
    return SystemMetrics(
        cpu=Cpu(
            cpu, average, word(cpu, HIGH_CPU_PERCENT, "normal", "high"), of(cpu if cpu is not None else average, source)
        ),
        memory=Memory(memory, rest(memory), word(memory, HIGH_MEMORY_PERCENT, "normal", "high"), of(memory, source)),
        storage=Storage(
            storage, rest(storage), word(storage, HIGH_STORAGE_PERCENT, "healthy", "warning"), of(storage, source)
        ),
        message=message(part, HOW_TO_ENABLE),
    )


def application_metrics(part: TelemetryCondition | None) -> ApplicationMetrics:
    """The requests of the application, likewise."""
    sample: TelemetrySample | None = part.sample if part is not None else None
    source = NONE if part is None else part.source
    mean, p95, rate, errors = (
        (None, None, None, None)
        if sample is None
        else (
            rounded(sample.mean_milliseconds),
            rounded(sample.p95_milliseconds),
            rounded(sample.requests_per_second, 2),
            rounded(sample.error_rate, 4),
        )
    )
    return ApplicationMetrics(
        response_times=ResponseTimes(
            mean, p95, TARGET_MILLISECONDS, word(mean, TARGET_MILLISECONDS, "good", "slow"), of(mean, source)
        ),
        throughput=Throughput(rate, UNAVAILABLE if rate is None or part is None else part.state, of(rate, source)),
        error_rates=ErrorRates(
            errors, TARGET_ERROR_RATE, word(errors, TARGET_ERROR_RATE, "good", "elevated"), of(errors, source)
        ),
        message=message(part, HOW_TO_ENABLE if part is None else NO_REQUESTS),
    )


def word(value: float | None, bound: float, below: str, from_there: str) -> str:
    return UNAVAILABLE if value is None else from_there if value >= bound else below


def of(value: float | None, source: str) -> str:
    return NONE if value is None else source


def rest(percent: float | None) -> float | None:
    """What is left of 100 %."""
    return None if percent is None else round(max(0.0, 100 - percent), 1)


def message(part: TelemetryCondition | None, not_collected: str) -> str | None:
    if part is None or part.source == NONE:
        return not_collected
    if part.state == "stale":
        return f"The last good values, {whole_seconds(part)} s old: {part.reason}"
    return part.reason


def used_source(part: TelemetryCondition) -> str:
    return NONE if part.sample is None else part.source


def freshness(telemetry: TelemetryReport) -> TelemetryFreshness:
    """How old the values of both parts are."""
    system, application = (
        PartFreshness(part.state, None if part.sample is None else part.sample.measured_at, whole_seconds(part))
        for part in (telemetry.system, telemetry.application)
    )
    return TelemetryFreshness(telemetry.state, system, application)


def connection_use(sample: Connections | None) -> ConnectionUse:
    """The newest sample of the source's connections; "high" from 80 % of the allowed ones on."""
    if sample is None:
        return ConnectionUse(None, None, None, None, None, UNAVAILABLE, NONE)
    percent = 100 * sample.total / sample.maximum if sample.maximum > 0 else None
    return ConnectionUse(
        active=sample.active,
        idle=sample.idle,
        total=sample.total,
        max=sample.maximum,
        utilization=None if percent is None else round(percent, 1),
        status="high" if percent is not None and percent >= HIGH_UTILIZATION_PERCENT else "healthy",
        source="postgresql",
    )


def query_performance(snapshot: ScopedSnapshot, context: ViewContext) -> QueryPerformance:
    """Of the source's own statistics where sync could read them, else an estimate from the actions."""
    statements = context.sync.statements
    return estimated(snapshot, context) if statements is None else measured(statements)


def measured(statements: Statements) -> QueryPerformance:
    """Statements of the source's database in the last hour, or since sync began to look; their mean in milliseconds.

    Slow are those that took `Statements.slow_milliseconds` or more on average; "degraded" when they are more than 5 %.
    """
    degraded = statements.slow > DEGRADED_SHARE * statements.executed
    mean = statements.milliseconds / statements.executed if statements.executed else None
    return QueryPerformance(
        recent_queries=statements.executed,
        slow_queries_estimate=statements.slow,
        status="degraded" if degraded else "optimal",
        source="pg_stat_statements",
        average_duration=rounded(mean, 2),
    )


def estimated(snapshot: ScopedSnapshot, context: ViewContext) -> QueryPerformance:
    """An estimate from the actions themselves: those of the last hour, and those pending longer than five minutes.

    "degraded" when more than 5 % of the hour's actions wait that long. Pending is the platform's automatic `pending` or
    a status that waits for a human.
    """
    found = snapshot.row(
        Waiting,
        "waiting_actions",
        start=context.end - HOUR,
        end=context.end,
        waiting_since=context.end - SLOW_AFTER,
        statuses=["pending", *context.settings.meaning.pending_statuses],
    )
    degraded = found.waiting > DEGRADED_SHARE * found.actions
    return QueryPerformance(
        recent_queries=found.actions,
        slow_queries_estimate=found.waiting,
        status="degraded" if degraded else "optimal",
        source="agent_actions_table",
        average_duration=None,
    )
