"""For operators and orchestrators: alive, ready, metrics. None of them names an organization, a person, a host or a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from analytics.predictive.schedule import ForecastStatus
from analytics.state.lsn import format_lsn
from analytics.state.sync_status import Phase, Verification
from analytics.telemetry import report
from config.utc_text import utc_text
from handlers.audit.audit_log import AuditLog
from handlers.base import ApiHandler
from handlers.live.broadcaster import Broadcaster
from handlers.metrics import CONTENT_TYPE, family, single
from handlers.parameters import read_options
from handlers.services import Services


class Health(ApiHandler):
    """/healthz: the process answers."""

    def get(self) -> None:
        read_options(self.request.query_arguments, (), self.services.zones)
        self.set_header("Content-Type", "application/json")
        self.finish(b'{"status": "alive"}')

    def head(self) -> None:
        self.get()


class Readiness(ApiHandler):
    """/readyz: 200 when data is served, 503 before the first copy and while draining. Stale data is served and said so."""

    def get(self) -> None:
        read_options(self.request.query_arguments, (), self.services.zones)
        body = readiness(self.services)
        if not body["ready"]:
            self.set_status(503)
            self.set_header("Retry-After", "2")
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(body).encode())

    def head(self) -> None:
        self.get()


class Metrics(ApiHandler):
    """/metrics, in Prometheus' text format."""

    def initialize(self, broadcaster: Broadcaster, **common: object) -> None:  # type: ignore[override]
        super().initialize(**common)  # type: ignore[arg-type]
        self._broadcaster = broadcaster

    def get(self) -> None:
        read_options(self.request.query_arguments, (), self.services.zones)
        self.set_header("Content-Type", CONTENT_TYPE)
        lines = [*self.services.metrics.lines(), *server_lines(self.services, self._broadcaster)]
        self.finish(("\n".join(lines) + "\n").encode())

    def head(self) -> None:
        self.get()


def readiness(services: Services) -> dict[str, Any]:
    """The body of /readyz. `lag_seconds` is the time since the cache was last known to equal the source."""
    status = services.board.current
    now = services.clock()
    lag = status.lag_seconds(now)
    progress = status.progress
    return {
        "ready": services.cache.ready and not services.draining.is_set() and services.audit.accepting,
        "state": "draining" if services.draining.is_set() else status.phase.value,
        "mode": status.mode,
        "mode_reason": status.mode_reason,
        "guarantee": status.guarantee,
        "stale": status.stale(now, services.settings.sync.stale_after_seconds),
        "needs_attention": needs_attention(services),
        "lag_bytes": status.lag_bytes,
        "lag_seconds": None if lag is None else round(lag, 3),
        "lsn": format_lsn(status.applied_lsn),
        "cache_version": services.cache.version,
        "retained_wal_bytes": status.retained_wal_bytes,
        "copy": None
        if progress is None
        else {
            "table": progress.table,
            "rows": progress.rows_copied,
            "rows_estimated": progress.rows_estimated,
            "percent": progress.percent,
        },
        "verify": verification(status.verification),
        "failing_jobs": list(services.board.jobs.failing),
        "audit": recording(services.audit),
        "settings_warnings": services.settings_warnings,
        "mock_data": services.settings.mock_data,
    }


def needs_attention(services: Services) -> bool:
    """Whether a person must look: sync is paused, or data has stopped moving. The log names the cause."""
    board = services.board
    still = board.at_standstill(services.clock(), services.settings.sync.stale_after_seconds)
    return board.current.needs_attention or still or bool(board.jobs.failing)


def recording(audit: AuditLog) -> dict[str, Any]:
    """Whether accesses are recorded: `state` is recording, failing or off; the reason is the system's word for it."""
    state = "off" if not audit.enabled else "failing" if audit.failing else "recording"
    return {"state": state, "reason": audit.failing, "anchor_failure": audit.anchor_failure}


def verification(last: Verification | None) -> dict[str, Any] | None:
    """The newest comparison of cache and source; null before the first."""
    if last is None:
        return None
    return {
        "equal": last.equal,
        "at": None if last.at is None else utc_text(last.at),
        "lsn": format_lsn(last.lsn),
        "scope": last.scope,
        "rows": last.rows,
        "differing_buckets": last.differing_buckets,
        "seconds": round(last.seconds, 3),
        "last_attempt_failed": last.error is not None,  # why is in the log: it may name the source
    }


def server_lines(services: Services, broadcaster: Broadcaster) -> Iterator[str]:
    """Metrics of sync, cache and live clients."""
    status = services.board.current
    lag = status.lag_seconds(services.clock())
    yield from family("owkai_sync_phase", "gauge", "1 for the phase that sync is in.")
    for phase in Phase:
        yield f'owkai_sync_phase{{phase="{phase.value}"}} {int(status.phase is phase)}'
    jobs = services.board.jobs.current
    yield from family("owkai_job_failures_total", "counter", "Failures of a background job; it was started again.")
    for job, fared in sorted(jobs.items()):
        yield f'owkai_job_failures_total{{job="{job}"}} {fared.failures}'
    failing = len(services.board.jobs.failing)
    for name, kind, explanation, value in (
        ("owkai_jobs_failing", "gauge", "Background jobs that failed in the last two minutes.", failing),
        ("owkai_ready", "gauge", "1 when data is served.", int(readiness(services)["ready"])),
        ("owkai_settings_warnings", "gauge", "Settings that are seldom meant.", services.settings_warnings),
        ("owkai_mock_data", "gauge", "1 when the source is the demo's.", int(services.settings.mock_data)),
        (
            "owkai_cache_version",
            "gauge",
            "Version of the data: rises with each commit and swap.",
            services.cache.version,
        ),
        ("owkai_sync_needs_attention", "gauge", "1 while sync needs a person.", int(needs_attention(services))),
        ("owkai_sync_still_seconds", "gauge", "Since data last moved.", services.board.still_seconds),
        ("owkai_sync_lag_bytes", "gauge", "Source WAL not yet applied.", status.lag_bytes),
        ("owkai_sync_lag_seconds", "gauge", "Since the cache last equalled the source.", lag),
        ("owkai_sync_retained_wal_bytes", "gauge", "WAL the source keeps for us.", status.retained_wal_bytes),
        (
            "owkai_source_rejected_write_tables",
            "gauge",
            "Tables on which our publication makes Postgres reject UPDATE and DELETE.",
            status.rejected_writes,
        ),
        ("owkai_sync_rows_applied_total", "counter", "Row changes applied.", status.rows_applied),
        ("owkai_sync_transactions_applied_total", "counter", "Transactions applied.", status.transactions_applied),
        ("owkai_sync_values_mapped_total", "counter", "Values mapped by rule.", status.values_mapped),
        (
            "owkai_source_rows_ahead_seconds",
            "gauge",
            "How far the newest row is dated ahead.",
            status.newest_ahead_seconds,
        ),
        ("owkai_sync_copies_total", "counter", "Full copies since the start.", status.copies),
        ("owkai_sync_reconnects_total", "counter", "Connections made again.", status.reconnects),
        ("owkai_verify_runs_total", "counter", "Comparisons of cache and source.", status.verify_runs),
        ("owkai_verify_failures_total", "counter", "Comparisons that could not be made.", status.verify_failures),
        *verify_measures(status.verification),
        *telemetry_measures(services),
        *forecast_measures(services.forecasting.status),
        ("owkai_websocket_clients", "gauge", "Open live connections.", broadcaster.total),
        ("owkai_websocket_organizations", "gauge", "Organizations with live clients.", broadcaster.organizations),
        ("owkai_audit_failed_writes_total", "counter", "Audit writes that failed.", services.audit.failed_writes),
        ("owkai_audit_records_total", "counter", "Audit records written.", services.audit.written_records),
        ("owkai_audit_failing", "gauge", "1 while accesses cannot be recorded.", int(bool(services.audit.failing))),
        ("owkai_audit_anchor_failing", "gauge", "1 while the anchor fails.", int(bool(services.audit.anchor_failure))),
    ):
        yield from single(name, kind, explanation, value)


def forecast_measures(status: ForecastStatus) -> Iterator[tuple[str, str, str, float | None]]:
    """Metrics of forecasting: how it runs, and how forecasts that were issued turned out, over all organizations."""
    yield "owkai_forecast_outlooks", "gauge", "Organizations that have an outlook.", status.outlooks
    yield "owkai_forecast_made_total", "counter", "Outlooks made or confirmed.", status.made
    yield "owkai_forecast_failures_total", "counter", "Outlooks that failed; the log says why.", status.failures
    yield "owkai_forecast_last_seconds", "gauge", "How long the newest outlook took.", status.last_seconds
    yield "owkai_forecast_round_seconds", "gauge", "How long the newest round over all took.", status.last_round_seconds
    for kind, words, score in (
        ("risk", "Daily forecasts of high-risk actions", status.accuracy.high_risk),
        ("workload", "Next-day forecasts of agents' actions", status.accuracy.workload),
    ):
        prefix = f"owkai_forecast_{kind}"
        yield f"{prefix}_scored", "gauge", f"{words} whose day is over, last 90 days.", score.forecasts_scored
        yield f"{prefix}_within_band_ratio", "gauge", f"{words}: share inside the stated band.", score.within_band
        yield (
            f"{prefix}_stated_confidence_ratio",
            "gauge",
            f"{words}: mean stated confidence.",
            score.stated_confidence,
        )
        yield (
            f"{prefix}_absolute_error",
            "gauge",
            f"{words}: mean absolute error in actions.",
            score.mean_absolute_error,
        )
        yield (
            f"{prefix}_usual_absolute_error",
            "gauge",
            f"{words}: that of the weekday's four-week mean.",
            score.usual_absolute_error,
        )


def telemetry_measures(services: Services) -> Iterator[tuple[str, str, str, float | None]]:
    """Metrics of the telemetry collector; without a value where telemetry is off."""
    status = services.telemetry.current
    found = report(status, services.settings.telemetry, services.clock())
    on = found is not None
    age = None if found is None else found.system.age_seconds
    yield "owkai_telemetry_age_seconds", "gauge", "Age of the last good sample of the system metrics.", age
    yield "owkai_telemetry_collections_total", "counter", "Collections tried.", status.collections if on else None
    yield (
        "owkai_telemetry_failures_total",
        "counter",
        "Collections that failed in part.",
        status.failures if on else None,
    )


def verify_measures(last: Verification | None) -> Iterator[tuple[str, str, str, float | None]]:
    """Metrics of the newest comparison; without a value before the first."""
    made = last if last is not None and last.at is not None else None
    at = None if made is None or made.at is None else made.at.timestamp()
    yield "owkai_verify_last_timestamp_seconds", "gauge", "When cache and source were last compared.", at
    differing = None if made is None else made.differing_buckets
    yield (
        "owkai_verify_differing_buckets",
        "gauge",
        "Buckets that differed then; above 0: owkai verify --repair.",
        differing,
    )
    yield "owkai_verify_rows", "gauge", "Rows compared then.", None if made is None else made.rows
    yield "owkai_verify_duration_seconds", "gauge", "How long that took.", None if made is None else made.seconds
