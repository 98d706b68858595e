"""GET /performance: the database part live, the machine part unavailable without telemetry. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from analytics.cache import Snapshot
from analytics.question import HOUR, Question
from analytics.responses import (
    ApplicationMetrics,
    ConnectionUse,
    Cpu,
    DatabaseMetrics,
    ErrorRates,
    Memory,
    Performance,
    PerformanceMeta,
    PerformanceSources,
    QueryPerformance,
    ResponseTimes,
    Storage,
    SystemMetrics,
    Throughput,
)
from analytics.status import Connections

SLOW_AFTER = timedelta(minutes=5)
DEGRADED_SHARE = 0.05  # of the hour's actions that wait longer than SLOW_AFTER
HIGH_UTILIZATION_PERCENT = 80
TARGET_MILLISECONDS = 200.0
TARGET_ERROR_RATE = 0.01
NONE = "none"
UNAVAILABLE = "unavailable"
HOW_TO_ENABLE = (
    'Not measured: no telemetry source is configured (telemetry.source = "none" in the settings file). '
    "Set telemetry.source to a source that this release offers to see these values."
)


class Waiting(NamedTuple):
    """The row of sql/waiting_actions.sql."""

    actions: int
    waiting: int


def performance(snapshot: Snapshot, question: Question) -> Performance:
    """Every documented key. Without telemetry machine values are null, status "unavailable", source "none"."""
    return Performance(
        timestamp=question.now,
        system_metrics=SystemMetrics(
            cpu=Cpu(None, None, UNAVAILABLE, NONE),
            memory=Memory(None, None, UNAVAILABLE, NONE),
            storage=Storage(None, None, UNAVAILABLE, NONE),
            message=HOW_TO_ENABLE,
        ),
        application_metrics=ApplicationMetrics(
            response_times=ResponseTimes(None, None, TARGET_MILLISECONDS, UNAVAILABLE, NONE),
            throughput=Throughput(None, UNAVAILABLE, NONE),
            error_rates=ErrorRates(None, TARGET_ERROR_RATE, UNAVAILABLE, NONE),
            message=HOW_TO_ENABLE,
        ),
        database_metrics=DatabaseMetrics(
            connections=connection_use(question.sync.connections),
            query_performance=query_performance(snapshot, question),
        ),
        meta=PerformanceMeta(
            version="2.0.0",
            mock_data=question.settings.mock_data,
            cloudwatch_enabled=False,
            data_sources=PerformanceSources(NONE, NONE, "postgresql"),
        ),
    )


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


def query_performance(snapshot: Snapshot, question: Question) -> QueryPerformance:
    """An estimate from the actions themselves: those of the last hour, and those pending longer than five minutes.

    "degraded" when more than 5 % of the hour's actions wait that long. Pending is the platform's automatic `pending` or
    a status that waits for a human.
    """
    found = snapshot.row(
        Waiting,
        "waiting_actions",
        org=question.organization_id,
        start=question.end - HOUR,
        end=question.end,
        waiting_since=question.end - SLOW_AFTER,
        statuses=["pending", *question.settings.meaning.pending_statuses],
    )
    degraded = found.waiting > DEGRADED_SHARE * found.actions
    return QueryPerformance(
        recent_queries=found.actions,
        slow_queries_estimate=found.waiting,
        status="degraded" if degraded else "optimal",
        source="agent_actions_table",
    )
