"""The body of /readyz: whether data is served, how fresh it is, and what needs an operator."""

from __future__ import annotations

from typing import Any

from analytics.state.lsn import format_lsn
from analytics.state.sync_status import Verification
from handlers.audit.audit_log import AuditLog
from handlers.services import Services


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
    """Whether an operator has to act: sync is paused, data has stopped moving, or a background job fails. The log names the cause."""
    board = services.board
    still = board.at_standstill(services.clock(), services.settings.sync.stale_after_seconds)
    return board.current.needs_attention or still or bool(board.jobs.failing)


def recording(audit: AuditLog) -> dict[str, Any]:
    """Whether accesses are recorded: `state` is recording, failing or off; `reason` is the operating system's error."""
    state = "off" if not audit.enabled else "failing" if audit.failing else "recording"
    return {"state": state, "reason": audit.failing, "anchor_failure": audit.anchor_failure}


def verification(last: Verification | None) -> dict[str, Any] | None:
    """The newest verification; None before the first."""
    if last is None:
        return None
    return {
        "equal": last.equal,
        "at": None if last.at is None else last.at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "lsn": format_lsn(last.lsn),
        "scope": last.scope,
        "rows": last.rows,
        "differing_buckets": last.differing_buckets,
        "seconds": round(last.seconds, 3),
        "last_attempt_failed": last.error is not None,  # why is in the log: it may name the source
    }
