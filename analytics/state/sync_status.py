"""What sync publishes about itself: one small, thread-safe board that sync writes and the other packages read."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any

from analytics.state.background import Jobs


class Phase(Enum):
    """What sync is doing. `sync.state.next_state` decides it; the sync thread publishes it here. None survives a restart.

    In every phase the cache equals the source at the position it has committed (when polling: at its last snapshot).
    """

    STARTING = "starting"
    """Set at the start. Examines the source; ends with a copy, with following the source, or with a fault."""

    COPYING = "copying"
    """Set when a new generation is begun. Waits for the copy to complete; the live generation, if any, is served unchanged."""

    STREAMING = "streaming"
    """Set when the change stream is open, after a full disk when a commit succeeded. Each commit advances the position."""

    POLLING = "polling"
    """Set when a poll has completed. Waits for the next one; the guarantee is eventual, within the published bounds."""

    RETRYING = "retrying"
    """Set after a fault that can pass without help. Tries again after a pause with jitter; the position stands still."""

    PAUSED = "paused"
    """Set after a fault that the operator must end; `error` and `remedy` describe it. Tries again at the slowest pace."""

    STOPPED = "stopped"
    """Set when the server stops, or when sync gives up because another server holds its slot. Final."""


@dataclass(frozen=True)
class InitialCopyProgress:
    """How far a copy has come. `rows_estimated` is Postgres' own estimate; the copy can have more rows."""

    table: str
    rows_copied: int
    rows_estimated: int
    started_at: datetime

    @property
    def percent(self) -> float:
        """0–100, one decimal; stays below 100 until the copy is published."""
        if self.rows_estimated <= 0:
            return 0.0
        return min(99.9, round(100 * self.rows_copied / self.rows_estimated, 1))


@dataclass(frozen=True)
class Connections:
    """Client connections of the source's whole server, as in pg_stat_activity at `sampled_at`.

    `active` and `idle` are None where the role may not see the state of other roles' sessions (pg_read_all_stats).
    """

    active: int | None
    idle: int | None
    total: int
    maximum: int
    sampled_at: datetime


@dataclass(frozen=True)
class RoundTrip:
    """How long the source takes for an empty query: the median of the last few."""

    milliseconds: float
    measured_at: datetime


@dataclass(frozen=True)
class Statements:
    """Sums from pg_stat_statements for the source's database between `since` and `sampled_at`, without any statement text."""

    executed: int
    slow: int  # executions of statements that took `slow_milliseconds` or more on average in their interval
    milliseconds: float  # execution time of all
    slow_milliseconds: float
    since: datetime
    sampled_at: datetime


@dataclass(frozen=True)
class Verification:
    """The last completed comparison of source and cache. `error` is set if a later one could not be made, and states why."""

    at: datetime | None = None
    lsn: int | None = None
    scope: str = ""  # "all" or "last N days"
    rows: int = 0
    differing_buckets: int = 0
    seconds: float = 0.0
    error: str | None = None

    @property
    def equal(self) -> bool | None:
        return None if self.at is None else self.differing_buckets == 0


@dataclass(frozen=True)
class SyncStatus:
    """Sync at one point in time. Times are aware UTC; positions are LSNs as integers.

    `fresh_at` is the last time at which the cache was known to hold everything that the source had committed.
    """

    phase: Phase = Phase.STARTING
    mode: str = "unknown"  # stream | poll
    mode_reason: str | None = None  # why it polls, and what would allow streaming
    guarantee: str = "none yet"  # exact | eventual …, as /readyz shows it
    applied_lsn: int | None = None
    source_lsn: int | None = None
    fresh_at: datetime | None = None
    retained_wal_bytes: int | None = None
    progress: InitialCopyProgress | None = None
    connections: Connections | None = None
    round_trip: RoundTrip | None = None  # None while the source is unreachable
    organization_names: Mapping[int, str] = field(default_factory=dict)  # where a table of the source provides them
    statements: Statements | None = None  # None where pg_stat_statements cannot be read
    verification: Verification | None = None
    verify_runs: int = 0  # comparisons completed since the start
    verify_failures: int = 0  # comparisons that could not be made
    error: str | None = None
    remedy: str | None = None
    rows_applied: int = 0
    transactions_applied: int = 0
    values_mapped: int = 0  # values that DuckDB cannot represent, mapped by rule
    newest_ahead_seconds: float = (
        0.0  # how far the newest row is in the future, beyond meaning.future_tolerance_seconds
    )
    copies: int = 0  # full copies since the start
    reconnects: int = 0
    rejected_writes: int = 0  # tables on which our publication makes Postgres reject UPDATE and DELETE

    @property
    def needs_attention(self) -> bool:
        """Whether the operator must act; the log states what to do."""
        return self.phase is Phase.PAUSED or self.rejected_writes > 0

    @property
    def lag_bytes(self) -> int | None:
        if self.applied_lsn is None or self.source_lsn is None:
            return None
        return max(0, self.source_lsn - self.applied_lsn)

    def lag_seconds(self, now: datetime) -> float | None:
        """Seconds since the cache was last known to equal the source; None before the first copy is done."""
        return None if self.fresh_at is None else max(0.0, (now - self.fresh_at).total_seconds())

    def stale(self, now: datetime, bound_seconds: float) -> bool:
        lag = self.lag_seconds(now)
        return lag is None or lag > bound_seconds


STANDSTILL_SECONDS = 60.0


class StatusBoard:
    """Holds the current `SyncStatus`. `update` replaces fields atomically; `current` is an immutable value.

    It records when data last moved: rows or positions were applied, equality with the source was confirmed, or a copy advanced.
    `jobs` are the server's background threads and tasks.
    """

    def __init__(self) -> None:
        self.jobs = Jobs()
        self._lock = threading.Lock()
        self._current = SyncStatus()
        self._moved = time.monotonic()

    @property
    def current(self) -> SyncStatus:
        return self._current

    @property
    def still_seconds(self) -> float:
        """Seconds since data last moved."""
        return time.monotonic() - self._moved

    def at_standstill(self, now: datetime, stale_after_seconds: float) -> bool:
        """Whether data has stopped moving, whatever sync is doing: responses are stale, and for a minute nothing has come in."""
        status = self._current
        return (
            status.phase is not Phase.STOPPED
            and self.still_seconds >= STANDSTILL_SECONDS
            and status.stale(now, stale_after_seconds)
        )

    def update(self, **changes: Any) -> None:
        with self._lock:
            before, self._current = self._current, replace(self._current, **changes)
            if _progress(before) != _progress(self._current):
                self._moved = time.monotonic()

    def add(self, **increments: int) -> None:
        """Add to counters."""
        with self._lock:
            totals = {name: getattr(self._current, name) + step for name, step in increments.items()}
            self._current = replace(self._current, **totals)


def _progress(status: SyncStatus) -> tuple[object, ...]:
    return status.applied_lsn, status.fresh_at, status.progress and status.progress.rows_copied
