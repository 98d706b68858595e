"""What the rest of the server may know of sync: one small, thread-safe board that sync writes and others read."""

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
    """Where sync stands. Set by `sync.loop` alone."""

    STARTING = "starting"  # preflight; nothing is known of the source yet
    COPYING = "copying"  # first copy, or a new copy beside a live cache
    STREAMING = "streaming"  # changes are applied as they commit
    POLLING = "polling"  # changes are found by repeated queries
    RETRYING = "retrying"  # the source is out of reach; next attempt after a pause
    PAUSED = "paused"  # needs a person: `error` says what is wrong, `remedy` what to do
    STOPPED = "stopped"


@dataclass(frozen=True)
class CopyProgress:
    """How far a copy has come. `rows_estimated` is Postgres' own estimate, so it may be passed."""

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
    """Client connections of the source's whole server as pg_stat_activity showed them at `sampled_at`.

    `active` and `idle` are None where the role may not see the state of other roles' sessions (pg_read_all_stats).
    """

    active: int | None
    idle: int | None
    total: int
    maximum: int
    sampled_at: datetime


@dataclass(frozen=True)
class RoundTrip:
    """How long the source takes to answer an empty query: the median of the last few."""

    milliseconds: float
    measured_at: datetime


@dataclass(frozen=True)
class Statements:
    """What pg_stat_statements says of the source's database between `since` and `sampled_at`: sums, never a statement's text."""

    executed: int
    slow: int  # executions of statements that took `slow_milliseconds` or more on average in their interval
    milliseconds: float  # execution time of all
    slow_milliseconds: float
    since: datetime
    sampled_at: datetime


@dataclass(frozen=True)
class Verification:
    """The newest comparison of source and cache. `error` says why there was none; then the rest is of the last that was."""

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
    """One moment of sync. Times are aware UTC; positions are WAL positions (LSN) as integers.

    `fresh_at` is the last moment at which the cache was known to hold all that the source had committed.
    """

    phase: Phase = Phase.STARTING
    mode: str = "unknown"  # stream | poll
    mode_reason: str | None = None  # why it polls, and what would allow streaming
    guarantee: str = "none yet"  # exact | eventual …, in words for /readyz
    applied_lsn: int | None = None
    source_lsn: int | None = None
    fresh_at: datetime | None = None
    retained_wal_bytes: int | None = None
    progress: CopyProgress | None = None
    connections: Connections | None = None
    round_trip: RoundTrip | None = None  # None while the source does not answer
    organization_names: Mapping[int, str] = field(default_factory=dict)  # where a table of the source provides them
    statements: Statements | None = None  # None where pg_stat_statements cannot be read
    verification: Verification | None = None
    verify_runs: int = 0  # comparisons completed since the start
    verify_failures: int = 0  # comparisons that could not be made
    error: str | None = None
    remedy: str | None = None
    rows_applied: int = 0
    transactions_applied: int = 0
    values_mapped: int = 0  # values Postgres has and DuckDB has not, mapped by rule
    newest_ahead_seconds: float = (
        0.0  # by how much the newest row is dated after now, beyond meaning.future_tolerance_seconds
    )
    copies: int = 0  # full copies since the start
    reconnects: int = 0
    rejected_writes: int = 0  # tables on which our publication makes Postgres reject UPDATE and DELETE

    @property
    def needs_attention(self) -> bool:
        """Whether a person must act; the log says what to do."""
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
    """Holds the newest `SyncStatus`. `update` replaces fields atomically; `current` is an immutable value.

    It notes when data last moved: rows or positions were applied, equality with the source was confirmed, or a copy went on.
    `jobs` are the threads and tasks that keep the server going.
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
        """How long no data has moved."""
        return time.monotonic() - self._moved

    def at_standstill(self, now: datetime, stale_after_seconds: float) -> bool:
        """Whether data has stopped moving, whatever sync is busy with: answers are stale, and nothing was brought in for a minute."""
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
