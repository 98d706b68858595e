"""Verification: every mapped column of source and cache, compared at one WAL position, and the repair of what differs.

The source is read without locks, in one read-only transaction; both sides sum their rows by bucket (`sync.comparison.checksums`), so
memory is bounded by the number of buckets. Only differing buckets are read row by row, as (id, checksum), in order of id.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType

import duckdb
import numpy as np
import psycopg

from analytics.state.cache import Cache
from analytics.state.lsn import format_lsn
from analytics.state.snapshot import Snapshot
from analytics.state.store import CacheNotReadyError, Store
from analytics.state.sync_status import Phase, StatusBoard, Verification
from config.settings import Settings
from sync.comparison.common_snapshot import Positions, VerifyError, common_snapshot
from sync.comparison.compared_rows import ROWS_PER_READ, CacheSide, SourceSide, rows_by_key
from sync.comparison.differences import (
    REPAIR_LIMIT,
    BucketDifference,
    ComparisonReport,
    KeyDifferences,
    TableComparison,
    differing_buckets,
    differing_keys,
)
from sync.copy.copy_stream import Stopped, Stopping, copy_rows
from sync.copy.initial_copy import decode_rows
from sync.source.connections import SourceError
from sync.source.findings import Survey
from sync.source.preflight import survey
from sync.source.schema import Mapping, SourceTable
from sync.values import wire

log = logging.getLogger(__name__)

STOP_CHECK_SECONDS = 0.2  # how soon a stop is noticed


class BusyError(RuntimeError):
    """Another verification is running."""


# Expected errors of source, cache or network; any other error is a bug.
COMPARISON_ERRORS = (VerifyError, SourceError, CacheNotReadyError, psycopg.Error, duckdb.Error)


@dataclass(frozen=True)
class Scope:
    """What is compared: all tables or one, all kept rows or the last `days` (days in UTC, including today).

    Tables without an event time are always compared whole; rows without one are left out when `days` is given.
    """

    table: str | None = None
    days: int | None = None

    @property
    def title(self) -> str:
        """For the status board."""
        within = "all" if self.days is None else f"last {self.days} days"
        return within if self.table is None else f"{within} of {self.table}"

    def covers(self, other: Scope) -> bool:
        """Whether this scope includes everything in `other`."""
        tables = self.table in (None, other.table)
        return tables and (self.days is None or (other.days is not None and self.days >= other.days))

    def since(self, now: datetime) -> datetime | None:
        if self.days is None:
            return None
        return (now - timedelta(days=self.days - 1)).replace(hour=0, minute=0, second=0, microsecond=0)


class Verifier:
    """Compares and repairs. Methods may be called from any thread except the sync thread; one verification runs at a time."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        positions: Positions,
        board: StatusBoard,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings, self._cache, self._positions, self._board, self._clock = (
            settings,
            cache,
            positions,
            board,
            clock,
        )
        self._one = threading.Lock()
        self._shown: tuple[Scope, int, Verification] | None = None  # with the number of copies there were then

    def verify(self, scope: Scope, stopping: Stopping) -> ComparisonReport:
        """Compare at one position; the status board shows the result, unless it would hide a difference found in a wider scope.

        Raises `VerifyError`, `BusyError`, `SourceError`, `psycopg.Error`, `Stopped`.
        """
        with self._exclusively():
            report = self._verify(scope, self._survey(), stopping)
        self._record(report, scope)
        return report

    def _record(self, report: ComparisonReport, scope: Scope) -> None:
        """Show the result, unless it would hide a difference that it does not cover."""
        self._board.add(verify_runs=1)
        now, last = self._board.current, self._shown
        same_copy = last is not None and last[1] == now.copies
        if scope.table is not None and report.equal:
            return
        if last is not None and same_copy and last[2].differing_buckets and not scope.covers(last[0]):
            return
        shown = Verification(report.at, report.lsn, scope.title, report.rows, report.differing_buckets, report.seconds)
        self._shown = (scope, now.copies, shown)
        self._board.update(verification=shown)

    def repair(self, report: ComparisonReport, stopping: Stopping) -> int:
        """Copy the report's differing rows from the source again, at a new position; returns how many keys.

        Raises as `verify` does; `VerifyError` as well when too many rows differ to repair them individually.
        """
        if report.differing_rows > REPAIR_LIMIT:
            raise VerifyError(
                f"{report.differing_rows} rows differ, more than the {REPAIR_LIMIT} that are repaired one by one",
                "stop the server, run `owkai sync drop` and start it again to make a new copy",
            )
        with self._exclusively():
            found = self._survey()
            now = self._clock()

            def replace(store: Store, source: psycopg.Connection) -> int:
                return self._replace(store, source, report, found.mapping, now, stopping)

            with common_snapshot(
                self._settings, self._positions, replace, stopping, all_organizations=found.all_organizations
            ) as common:
                log.info("repaired %d keys of the cache at %s", common.result, format_lsn(common.lsn))
                return common.result

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        if not self._one.acquire(timeout=5):
            raise BusyError("another verification is running; wait for it to end")
        try:
            yield
        finally:
            self._one.release()

    def _survey(self) -> Survey:
        now = self._board.current
        if now.phase is Phase.POLLING:
            raise VerifyError(
                "sync polls this source, so there is no position at which both sides could be compared",
                "polling reconciles automatically, see docs/explanation/sync.md; sync.mode = stream is exact",
            )
        if now.phase is not Phase.STREAMING:
            why = f": {now.error}" if now.error else ""
            raise VerifyError(f"sync is {now.phase.value}{why}", now.remedy or "verify again when it is streaming")
        found = survey(self._settings)
        found.require()
        return found

    # -- comparing -----------------------------------------------------------------------------------------------

    def _verify(self, scope: Scope, found: Survey, stopping: Stopping) -> ComparisonReport:
        started = time.monotonic()
        tables = [table for table in found.mapping.tables if scope.table in (None, table.table.name)]
        if not tables:
            raise VerifyError(f"table {scope.table} is not copied from the source", "see [source.tables]")
        with common_snapshot(
            self._settings,
            self._positions,
            lambda store, _: self._open_read(store, found.mapping),
            stopping,
            all_organizations=found.all_organizations,
            undo=lambda opened: opened.close(),
        ) as common:
            # Retention depends on the clock: a time after the cache's snapshot makes this horizon the later one.
            with common.result as opened, interruptible(stopping, common.source.cancel, opened.snapshot.interrupt):
                now = self._clock()
                compared = [
                    self._compare(table, common.source, opened.snapshot, scope, now, stopping) for table in tables
                ]
            report = ComparisonReport(common.lsn, now, time.monotonic() - started, scope.days, tuple(compared))
        log.info("%s", next(report.lines()))
        return report

    def _open_read(self, store: Store, mapping: Mapping) -> _OpenRead:
        origin = store.origin()
        if origin is None or not origin.mapping.startswith(mapping.fingerprint):
            raise VerifyError(
                "the source's tables have changed since the cache was copied",
                "sync makes a new copy automatically; verify again when it is complete",
            )
        return _OpenRead(store)

    def _compare(
        self,
        table: SourceTable,
        source: psycopg.Connection,
        cache: Snapshot,
        scope: Scope,
        now: datetime,
        stopping: Stopping,
    ) -> TableComparison:
        since = scope.since(now)
        theirs = SourceSide.of(table, self._settings, now, since)
        ours = CacheSide.of(table, self._settings, now, since)
        source_buckets = list(theirs.buckets(source))
        if stopping():
            raise Stopped
        cache_buckets = list(ours.buckets(cache))
        if stopping():
            raise Stopped
        differing = differing_buckets(source_buckets, cache_buckets)
        keys = KeyDifferences()
        if differing:
            names = [bucket.key for bucket in differing]
            keys = differing_keys(
                _stoppable(stopping, theirs.rows(source, names)), _stoppable(stopping, ours.rows(cache, names))
            )
            _report_differences(table, differing)
        return TableComparison(
            table.table.name,
            table.qualified,
            sum(bucket.rows for bucket in source_buckets),
            sum(bucket.rows for bucket in cache_buckets),
            len({bucket.key for bucket in (*source_buckets, *cache_buckets)}),
            differing,
            keys,
        )

    # -- repairing -----------------------------------------------------------------------------------------------

    def _replace(
        self,
        store: Store,
        source: psycopg.Connection,
        report: ComparisonReport,
        mapping: Mapping,
        now: datetime,
        stopping: Stopping,
    ) -> int:
        """In the sync thread: remove the differing keys, append the source's rows, commit at the store's position."""
        position = store.position()
        assert position is not None  # noqa: S101 - a generation that receives the stream is complete
        mapped = wire.Mapped()
        touched, keys_done = [], 0
        store.begin()
        try:
            for comparison in report.tables:
                table = next((table for table in mapping.tables if table.table.name == comparison.name), None)
                keys = np.array(comparison.keys.repairable, dtype=np.int64)
                if table is None or not len(keys):
                    continue
                for first in range(0, len(keys), ROWS_PER_READ):
                    part = keys[first : first + ROWS_PER_READ]
                    store.remove(table.table.name, wire.key_rows(part), int(part.min()), int(part.max()))
                    command = rows_by_key(table, self._settings, now, part.tolist()).as_string(source)
                    rows = list(copy_rows(source, command, stopping))
                    if rows:
                        store.append(table.table.name, decode_rows(table, rows, mapped))
                touched.append(table.table.name)
                keys_done += len(keys)
            store.commit(position.lsn)
        except BaseException:
            store.rollback()
            raise
        self._cache.touched(*touched)
        return keys_done


class _OpenRead:
    """A read of the cache that was opened in the sync thread and is used and closed in another."""

    def __init__(self, store: Store) -> None:
        self._stack = ExitStack()
        self.snapshot: Snapshot = self._stack.enter_context(store.read())

    def __enter__(self) -> _OpenRead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def close(self) -> None:
        self._stack.close()


@contextmanager
def interruptible(stopping: Stopping, *cancels: Callable[[], None]) -> Iterator[None]:
    """Call `cancels` once `stopping` returns true; the errors that follow become `Stopped`."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(STOP_CHECK_SECONDS):
            if stopping():
                for cancel in cancels:
                    try:
                        cancel()
                    except Exception:  # the query had already ended
                        log.debug("a cancelled query had ended", exc_info=True)
                return

    watcher = threading.Thread(target=watch, name="owkai-verify-watch", daemon=True)
    watcher.start()
    try:
        yield
    except (psycopg.Error, duckdb.Error) as error:
        if stopping():
            raise Stopped from error
        raise
    finally:
        over.set()
        watcher.join()


def _stoppable(stopping: Stopping, pairs: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for place, pair in enumerate(pairs):
        if place % ROWS_PER_READ == 0 and stopping():
            raise Stopped
        yield pair


def _report_differences(table: SourceTable, differing: tuple[BucketDifference, ...]) -> None:
    for bucket in differing[:10]:
        log.error(
            "verification: table %s differs from the source in bucket %s (%d rows there, %d here); "
            "run `owkai verify --repair`",
            table.table.name,
            bucket.key,
            bucket.source_rows,
            bucket.cache_rows,
        )
