"""The metrics that are read at scrape time: sync, cache, verification, telemetry, forecasts, live clients, audit trail.

A value of None leaves the metric out of the page, because an unknown number is not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from analytics.predictive.forecast_record import Score
from analytics.predictive.schedule import ForecastStatus
from analytics.state.sync_status import Phase, SyncStatus, Verification
from analytics.state.telemetry_board import TelemetryStatus
from analytics.telemetry import report
from handlers.metrics.definitions import MetricDefinition, MetricType, counter, gauge
from handlers.readiness import needs_attention, readiness
from handlers.services import Services

Family = CounterMetricFamily | GaugeMetricFamily
Sample = tuple[tuple[str, ...], float]  # values of the labels, value


class LiveConnections(Protocol):
    """How many live connections there are, and of how many organizations."""

    @property
    def total(self) -> int: ...

    @property
    def organizations(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ServerState:
    """The state of the server at one scrape."""

    services: Services
    live: LiveConnections
    sync: SyncStatus
    verified: Verification | None  # the newest verification that came to an end
    telemetry: TelemetryStatus | None  # None: telemetry is off
    forecasts: ForecastStatus


@dataclass(frozen=True, slots=True)
class StatusMetric:
    """A definition and the function that reads its samples."""

    definition: MetricDefinition
    read: Callable[[ServerState], Iterable[Sample]]


def without_labels(definition: MetricDefinition, value: Callable[[ServerState], float | None]) -> StatusMetric:
    def read(state: ServerState) -> Iterator[Sample]:
        found = value(state)
        if found is not None:
            yield (), found

    return StatusMetric(definition, read)


def phases(state: ServerState) -> Iterator[Sample]:
    for phase in Phase:
        yield (phase.value,), state.sync.phase is phase


def job_failures(state: ServerState) -> Iterator[Sample]:
    for name, job in sorted(state.services.board.jobs.current.items()):
        yield (name,), job.failures


def telemetry_age_seconds(state: ServerState) -> float | None:
    services = state.services
    found = report(services.telemetry.current, services.settings.telemetry, services.clock())
    return None if found is None else found.system.age_seconds


def verified_at(state: ServerState) -> float | None:
    last = state.verified
    return None if last is None or last.at is None else last.at.timestamp()


def score_metrics(kind: str, words: str, score: Callable[[ServerState], Score]) -> Iterator[StatusMetric]:
    """How forecasts of one kind turned out, over all organizations and the last 90 days."""
    prefix = f"owkai_forecast_{kind}"
    yield without_labels(
        gauge(f"{prefix}_scored", f"{words} whose day is over, last 90 days."),
        lambda state: score(state).forecasts_scored,
    )
    yield without_labels(
        gauge(f"{prefix}_within_band_ratio", f"{words}: share with the actual value inside the stated range."),
        lambda state: score(state).within_band,
    )
    yield without_labels(
        gauge(f"{prefix}_stated_confidence_ratio", f"{words}: mean stated confidence."),
        lambda state: score(state).stated_confidence,
    )
    yield without_labels(
        gauge(f"{prefix}_absolute_error", f"{words}: mean absolute error in actions."),
        lambda state: score(state).mean_absolute_error,
    )
    yield without_labels(
        gauge(
            f"{prefix}_usual_absolute_error",
            f"{words}: mean absolute error of the four-week mean of the same weekday, in actions.",
        ),
        lambda state: score(state).usual_absolute_error,
    )


STATUS_METRICS: tuple[StatusMetric, ...] = (
    without_labels(
        gauge(
            "owkai_http_connections",
            "Open connections that speak HTTP, half-open handshakes included; live connections are not.",
        ),
        lambda state: state.services.metrics.open_connections,
    ),
    without_labels(
        gauge("owkai_http_open_requests", "Requests without a response so far."),
        lambda state: state.services.metrics.open_requests,
    ),
    without_labels(
        counter("owkai_websocket_messages_total", "Messages written to live clients."),
        lambda state: state.services.metrics.websocket_messages,
    ),
    without_labels(
        counter("owkai_websocket_pushes_total", "Updates sent before the next tick because a number had changed."),
        lambda state: state.services.metrics.websocket_pushes,
    ),
    without_labels(
        counter("owkai_websocket_dropped_slow_total", "Live clients closed because they did not read."),
        lambda state: state.services.metrics.websockets_dropped_slow,
    ),
    without_labels(
        counter("owkai_websocket_silent_total", "Live clients closed because they answered no ping."),
        lambda state: state.services.metrics.websockets_silent,
    ),
    without_labels(gauge("owkai_websocket_clients", "Open live connections."), lambda state: state.live.total),
    without_labels(
        gauge("owkai_websocket_organizations", "Organizations with live clients."),
        lambda state: state.live.organizations,
    ),
    StatusMetric(
        counter(
            "owkai_job_failures_total",
            "Failures of a background job; it was started again.",
            ("job", "name of the background thread or task"),
        ),
        job_failures,
    ),
    without_labels(
        gauge("owkai_jobs_failing", "Background jobs that failed in the last two minutes."),
        lambda state: len(state.services.board.jobs.failing),
    ),
    without_labels(gauge("owkai_ready", "1 while data is served."), lambda state: readiness(state.services)["ready"]),
    without_labels(
        gauge("owkai_settings_warnings", "Settings that are rarely intended; the log at start names them."),
        lambda state: state.services.settings_warnings,
    ),
    without_labels(
        gauge("owkai_mock_data", "1 where the source is the demo's."), lambda state: state.services.settings.mock_data
    ),
    without_labels(
        gauge("owkai_cache_version", "Version of the data: rises with each commit and each swap of the cache."),
        lambda state: state.services.cache.version,
    ),
    StatusMetric(
        gauge(
            "owkai_sync_phase",
            "1 for the phase that sync is in, 0 for the others.",
            ("phase", ", ".join(phase.value for phase in Phase)),
        ),
        phases,
    ),
    without_labels(
        gauge("owkai_sync_needs_attention", "1 while sync or a background job needs an operator."),
        lambda state: needs_attention(state.services),
    ),
    without_labels(
        gauge("owkai_sync_still_seconds", "Time since data last moved."),
        lambda state: state.services.board.still_seconds,
    ),
    without_labels(
        gauge("owkai_sync_lag_bytes", "WAL of the source that is not yet applied."), lambda state: state.sync.lag_bytes
    ),
    without_labels(
        gauge("owkai_sync_lag_seconds", "Time since the cache was last known to equal the source."),
        lambda state: state.sync.lag_seconds(state.services.clock()),
    ),
    without_labels(
        gauge("owkai_sync_retained_wal_bytes", "WAL that the source retains for this server."),
        lambda state: state.sync.retained_wal_bytes,
    ),
    without_labels(
        counter("owkai_sync_rows_applied_total", "Row changes applied."), lambda state: state.sync.rows_applied
    ),
    without_labels(
        counter("owkai_sync_transactions_applied_total", "Transactions applied."),
        lambda state: state.sync.transactions_applied,
    ),
    without_labels(
        counter("owkai_sync_values_mapped_total", "Values that were mapped or shortened by rule."),
        lambda state: state.sync.values_mapped,
    ),
    without_labels(
        counter("owkai_sync_copies_total", "Complete copies of the source since the start."),
        lambda state: state.sync.copies,
    ),
    without_labels(
        counter("owkai_sync_reconnects_total", "Connections to the source that were made again."),
        lambda state: state.sync.reconnects,
    ),
    without_labels(
        gauge(
            "owkai_source_rejected_write_tables",
            "Tables on which the publication makes Postgres reject UPDATE and DELETE.",
        ),
        lambda state: state.sync.rejected_writes,
    ),
    without_labels(
        gauge("owkai_source_rows_ahead_seconds", "How far in the future the newest row is dated."),
        lambda state: state.sync.newest_ahead_seconds,
    ),
    without_labels(
        counter("owkai_verify_runs_total", "Verifications of the cache against the source."),
        lambda state: state.sync.verify_runs,
    ),
    without_labels(
        counter("owkai_verify_failures_total", "Verifications that could not be completed."),
        lambda state: state.sync.verify_failures,
    ),
    without_labels(
        gauge("owkai_verify_last_timestamp_seconds", "Time of the last verification, in seconds since 1970."),
        lambda state: verified_at(state),
    ),
    without_labels(
        gauge(
            "owkai_verify_differing_buckets",
            "Buckets that differed in the last verification; above 0: run owkai verify --repair.",
        ),
        lambda state: None if state.verified is None else state.verified.differing_buckets,
    ),
    without_labels(
        gauge("owkai_verify_rows", "Rows compared in the last verification."),
        lambda state: None if state.verified is None else state.verified.rows,
    ),
    without_labels(
        gauge("owkai_verify_duration_seconds", "Duration of the last verification."),
        lambda state: None if state.verified is None else state.verified.seconds,
    ),
    without_labels(
        gauge("owkai_telemetry_age_seconds", "Age of the last good sample of the system metrics."),
        lambda state: telemetry_age_seconds(state),
    ),
    without_labels(
        counter("owkai_telemetry_collections_total", "Collections attempted."),
        lambda state: None if state.telemetry is None else state.telemetry.collections,
    ),
    without_labels(
        counter("owkai_telemetry_failures_total", "Collections that failed at least in part."),
        lambda state: None if state.telemetry is None else state.telemetry.failures,
    ),
    without_labels(
        gauge("owkai_forecast_outlooks", "Organizations that have a forecast."), lambda state: state.forecasts.outlooks
    ),
    without_labels(
        counter("owkai_forecast_made_total", "Forecasts computed or confirmed."), lambda state: state.forecasts.made
    ),
    without_labels(
        counter("owkai_forecast_failures_total", "Forecasts that failed; the log has the reason."),
        lambda state: state.forecasts.failures,
    ),
    without_labels(
        gauge("owkai_forecast_last_seconds", "Duration of the newest forecast."),
        lambda state: state.forecasts.last_seconds,
    ),
    without_labels(
        gauge("owkai_forecast_round_seconds", "Duration of the newest round over all organizations."),
        lambda state: state.forecasts.last_round_seconds,
    ),
    *score_metrics("risk", "Daily forecasts of high-risk actions", lambda state: state.forecasts.accuracy.high_risk),
    *score_metrics(
        "workload", "Next-day forecasts of agents' actions", lambda state: state.forecasts.accuracy.workload
    ),
    without_labels(
        counter("owkai_audit_records_total", "Audit records written."),
        lambda state: state.services.audit.written_records,
    ),
    without_labels(
        counter("owkai_audit_failed_writes_total", "Audit writes that failed."),
        lambda state: state.services.audit.failed_writes,
    ),
    without_labels(
        gauge("owkai_audit_failing", "1 while accesses cannot be recorded."),
        lambda state: bool(state.services.audit.failing),
    ),
    without_labels(
        gauge("owkai_audit_anchor_failing", "1 while the anchor cannot be written."),
        lambda state: bool(state.services.audit.anchor_failure),
    ),
)


class StatusCollector(Collector):
    """Reads `STATUS_METRICS` at each scrape."""

    def __init__(self, services: Services, live: LiveConnections) -> None:
        self._services = services
        self._live = live

    def describe(self) -> Iterator[Family]:
        """The families without samples: the registry takes their names from here and does not read any value."""
        for metric in STATUS_METRICS:
            yield family(metric.definition)

    def collect(self) -> Iterator[Family]:
        state = server_state(self._services, self._live)
        for metric in STATUS_METRICS:
            found = family(metric.definition)
            for labels, value in metric.read(state):
                found.add_metric(labels, float(value))
            if found.samples:
                yield found


def server_state(services: Services, live: LiveConnections) -> ServerState:
    sync, telemetry = services.board.current, services.telemetry.current
    verified = sync.verification
    return ServerState(
        services,
        live,
        sync,
        verified if verified is not None and verified.at is not None else None,
        None if telemetry.source == "none" else telemetry,
        services.forecasting.status,
    )


def family(definition: MetricDefinition) -> Family:
    """A family without samples."""
    if definition.type is MetricType.COUNTER:
        return CounterMetricFamily(definition.name, definition.meaning, labels=definition.label_names)
    return GaugeMetricFamily(definition.name, definition.meaning, labels=definition.label_names)
