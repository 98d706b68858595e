"""Polling: the road for sources that do not allow logical replication. Needs nothing but SELECT.

Each cycle looks at the source in one REPEATABLE READ, READ ONLY transaction. Inserts and updates are found exactly, by the
transaction id on every row (`sync.polling.horizon`); deletes and whatever leaves no such trace by reconciliation
(`sync.polling.reconciliation`). Rows and horizon are committed together. The guarantee is eventual, with the bounds stated on the board;
the stored WAL position is a hint for people and never more.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime

import numpy as np
import psycopg
from psycopg import sql

from analytics.state.cache import Cache
from analytics.state.lsn import format_lsn
from analytics.state.store import CacheOrigin, Store
from analytics.state.sync_status import Phase, StatusBoard
from config.settings import Settings
from sync.continuity import polled_shape, same_database, what_changed
from sync.copy.copy_stream import Stopping
from sync.copy.initial_copy import copy_tables
from sync.faults import SourceChangedError
from sync.freshness import Freshness
from sync.housekeeping import Housekeeping
from sync.polling.horizon import (
    XIDS,
    Horizon,
    Signs,
    SourceSnapshot,
    changed_since,
    parse_horizon,
    read_signs,
    read_snapshot,
    rewritten,
)
from sync.polling.reconciliation import (
    Numbers,
    SourceReader,
    keys_alone,
    reconcile,
    replace_rows,
    source_key,
    whole_rows,
)
from sync.source.connections import connect
from sync.source.findings import Survey
from sync.source.schema import Mapping, SourceTable
from sync.values import wire

log = logging.getLogger(__name__)

READING_SHARE = 5  # looking for changes takes at most a fifth of the time of one source connection
RECONCILING_SHARE = 10  # comparing checksums at most a tenth
CYCLES_REMEMBERED = 100
STORE_SECONDS = 10.0  # a horizon that moved without a row is stored this often
ROWS_BY_KEY = 20_000  # more changed rows than this are read by a scan
REMEMBERED = 200_000  # rows known from transactions near the horizon, so as not to apply them again and again
CATALOGUE_SETTINGS = "SET jit = off"


class RewrittenError(RuntimeError):
    """A table was truncated or rewritten while it was read; the cycle is undone and done again."""


def polled_origin(found: Survey, settings: Settings) -> CacheOrigin:
    """A polled cache is another than a streamed one: neither mode goes on where the other stood."""
    assert found.identity is not None  # noqa: S101 - a survey without errors has it
    identity = found.identity
    return CacheOrigin(
        identity.system_identifier, identity.database, settings.source.slot, polled_shape(found.mapping.fingerprint)
    )


def polling_gap(store: Store, origin: CacheOrigin) -> str | None:
    """Why a polled cache cannot be continued; None when it can. An old horizon is no reason: all is compared then."""
    before = store.origin()
    if before is None or store.position() is None:
        return "the cache is incomplete"
    if not same_database(before, origin):
        return "the source is another database than the cache was copied from"
    if before != origin:
        return what_changed(before, origin)
    return None


def copy_for_polling(
    settings: Settings,
    cache: Cache,
    found: Survey,
    origin: CacheOrigin,
    board: StatusBoard,
    freshness: Freshness,
    clock: Callable[[], datetime],
    stopping: Stopping,
) -> Store:
    """A new generation, all tables at one snapshot, published. The live one answers meanwhile."""
    board.update(phase=Phase.COPYING, mode="poll", progress=None)
    freshness.reset()
    started = time.monotonic()
    at = clock()
    tables = found.mapping.tables
    options = {"all_organizations": found.all_organizations, "statement_timeout": False}
    with connect(settings, **options) as exporter, connect(settings, **options) as reader:
        lsn, signs = read_signs(exporter, tables)
        snapshot = _begin(exporter)
        (exported,) = exporter.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        horizon = Horizon(snapshot.oldest, snapshot.timeline)
        for table, sign in signs.items():
            horizon = horizon.reconciled_at(table, at, sign)
        store = cache.build(origin)
        try:
            store.begin()
            rows = copy_tables(reader, exported, found.mapping, store, settings, board, clock, stopping)
            if rewritten(exporter, tables):
                raise RewrittenError("a table was truncated or rewritten while it was copied")
            store.commit(lsn, horizon.text())
            store.checkpoint()
        except BaseException:
            store.rollback()
            cache.discard(store)
            raise
    cache.publish(store)
    board.add(copies=1)
    log.info("copied %d rows in %.1f s near %s", rows, time.monotonic() - started, format_lsn(lsn))
    board.update(applied_lsn=lsn, fresh_at=freshness.known(at))
    return store


class Pace:
    """How long to wait between cycles and what may be promised. Seconds, from the newest cycles as they really went."""

    def __init__(self, poll: float, reconcile: float) -> None:
        self._poll, self._reconcile = poll, reconcile
        self._reading: deque[float] = deque([0.0], maxlen=CYCLES_REMEMBERED)
        self._reconciling: deque[float] = deque([0.0], maxlen=CYCLES_REMEMBERED)

    def read(self, seconds: float) -> None:
        """A cycle looked for changed rows for so long."""
        self._reading.append(seconds)

    def reconciled(self, seconds: float) -> None:
        """A cycle compared tables for so long."""
        self._reconciling.append(seconds)

    @property
    def pause(self) -> float:
        """Until the next cycle: a slow scan is run less often, so that the source keeps most of its time."""
        return max(self._poll, (READING_SHARE - 1) * self._reading[-1])

    @property
    def inserts_within(self) -> int:
        """A row that commits just after a snapshot is seen by the next one and visible when that cycle is done; either cycle
        may compare tables besides."""
        reading, reconciling = max(self._reading), max(self._reconciling)
        return math.ceil(max(self._poll, (READING_SHARE - 1) * reading) + 2 * (reading + reconciling))

    @property
    def deletes_within(self) -> int:
        """The same after the longest time between two comparisons of a table."""
        return math.ceil(max(self._reconcile, RECONCILING_SHARE * max(self._reconciling))) + self.inserts_within

    @property
    def guarantee(self) -> str:
        return (
            f"eventual: inserts and updates within {self.inserts_within} s, "
            f"deletes and silent changes within {self.deletes_within} s"
        )


class Poller:
    """Follows one source by repeated queries. Belongs to the sync thread; `run` returns only by raising or when stopping."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        store: Store,
        found: Survey,
        board: StatusBoard,
        freshness: Freshness,
        clock: Callable[[], datetime],
        stopping: threading.Event,
        changed_shape: Callable[[], bool] = lambda: False,
        between: Callable[[int], None] = lambda lsn: None,
    ) -> None:
        self._settings, self._cache, self._store, self._clock = settings, cache, store, clock
        self._board, self._freshness, self._stop = board, freshness, stopping
        self._mapping: Mapping = found.mapping
        self._all_organizations = found.all_organizations
        self._changed_shape, self._between = changed_shape, between
        self._pace = Pace(settings.sync.poll_seconds, settings.sync.reconcile_seconds)
        self._horizon = parse_horizon(store.horizon()) or Horizon(-1, -1)
        self._seen = ""  # the snapshot all of which is applied
        self._known: dict[str, dict[int, int]] = {}
        self._not_before: dict[str, float] = {}
        self._stored_at = time.monotonic()

    def run(self) -> None:
        """Raises `SourceChangedError`, `SourceError`, `psycopg.Error`, `WireError`, `duckdb.Error`, `Stopped`."""
        housekeeping = Housekeeping(self._settings, self._cache, self._store, self._clock, self._board)
        with connect(self._settings, all_organizations=self._all_organizations, statement_timeout=False) as connection:
            connection.execute(CATALOGUE_SETTINGS)
            while not self._stop.is_set():
                if self._changed_shape():
                    raise SourceChangedError("the shape of the source's tables has changed")
                try:
                    lsn = self._cycle(connection)
                except RewrittenError as error:
                    log.info("%s; it is read again", error)
                    self._stop.wait(min(1.0, self._pace.pause))
                    continue
                self._between(lsn)
                housekeeping.run(lsn)
                self._stop.wait(self._pace.pause)

    # -- one cycle -----------------------------------------------------------------------------------------------

    def _cycle(self, connection: psycopg.Connection) -> int:
        """Look once; returns the WAL position before the look. All of a cycle is committed, or nothing."""
        at, started = self._clock(), time.monotonic()
        lsn, signs = read_signs(connection, self._mapping.tables)
        snapshot = _begin(connection)
        try:
            whole = not self._horizon.leads_to(snapshot)
            if whole and self._horizon.oldest >= 0:
                log.warning("transaction ids of the source do not lead on from the last look; all rows are compared")
            due = [table for table in self._mapping.tables if whole or self._due(table, signs, at)]
            horizon = self._horizon.moved_to(snapshot)
            touched: set[str] = set()
            # A standby's snapshot text leaves out what is unfinished, so equal texts prove nothing there.
            silent = snapshot.text == self._seen and not snapshot.in_recovery
            if due or not silent:
                horizon = self._read(connection, snapshot, horizon, due, signs, at, started, touched, whole)
            self._keep(lsn, horizon, touched)
        except BaseException:
            self._store.rollback()
            raise
        finally:
            if not connection.closed:
                connection.rollback()
        self._horizon, self._seen = horizon, snapshot.text
        self._board.update(
            phase=Phase.POLLING, mode="poll", guarantee=self._pace.guarantee, progress=None,
            applied_lsn=lsn, fresh_at=self._freshness.known(at),
        )  # fmt: skip
        return lsn

    def _read(
        self,
        connection: psycopg.Connection,
        snapshot: SourceSnapshot,
        horizon: Horizon,
        due: list[SourceTable],
        signs: dict[str, Signs],
        at: datetime,
        started: float,
        touched: set[str],
        whole: bool,
    ) -> Horizon:
        source = SourceReader(connection, self._settings, at, self._stop.is_set, wire.Mapped())
        known: dict[str, dict[int, int]] = {}
        applied = 0
        self._store.begin()
        if not whole:
            for table in self._mapping.tables:
                name = table.table.name
                rows, known[name] = self._changed(table, source, snapshot)
                applied += rows
                if rows:
                    touched.add(name)
        self._pace.read(time.monotonic() - started)
        compared = time.monotonic()
        for table in due:
            rows, horizon = self._compare(table, source, horizon, signs[table.table.name], touched, whole)
            applied += rows
        if due:
            self._pace.reconciled(time.monotonic() - compared)
        if rewritten(connection, self._mapping.tables):
            raise RewrittenError("a table was truncated or rewritten while it was read")
        self._known = known
        self._board.add(rows_applied=applied, values_mapped=source.mapped.values)
        return horizon

    def _changed(
        self, table: SourceTable, source: SourceReader, snapshot: SourceSnapshot
    ) -> tuple[int, dict[int, int]]:
        """Apply the rows that may have changed since the horizon; their number, and those that the next cycle will meet again."""
        condition = sql.SQL(changed_since(self._horizon))
        query = sql.SQL("SELECT {}, xmin::text::bigint FROM {} WHERE {}").format(
            source_key(table), table.identifier, condition
        )
        ids, xids = source.numbers(query, 2)
        if not len(ids):
            return 0, {}
        name = table.table.name
        before = self._known.get(name, {})
        pairs = list(zip(ids.tolist(), xids.tolist(), strict=True))
        # One transaction's version of a row becomes visible once: what was applied with that id is applied.
        fresh = np.fromiter((before.get(key) != xid for key, xid in pairs), np.bool_, len(pairs))
        again = {key: xid for key, xid in pairs if (xid - snapshot.oldest) % XIDS < XIDS // 2}
        count = int(fresh.sum())
        if count:
            whole = count > ROWS_BY_KEY
            changed: Numbers = np.unique(ids if whole else ids[fresh])
            rows = source.rows(table, condition) if whole else source.rows_of(table, changed)
            replace_rows(name, changed, rows, self._store)
        return count, again if len(again) <= REMEMBERED else {}

    def _due(self, table: SourceTable, signs: dict[str, Signs], at: datetime) -> bool:
        """Whether a table is compared in this cycle: its time has come, or a sign says so."""
        name = table.table.name
        if time.monotonic() < self._not_before.get(name, 0.0):
            return False
        return self._overdue(name, at) or self._horizon.signs.get(name) != signs[name]

    def _overdue(self, name: str, at: datetime) -> bool:
        since = at.timestamp() - self._horizon.reconciled.get(name, 0.0)
        return not 0 <= since < self._settings.sync.reconcile_seconds

    def _compare(
        self, table: SourceTable, source: SourceReader, horizon: Horizon, signs: Signs, touched: set[str], whole: bool
    ) -> tuple[int, Horizon]:
        """Reconcile one table: by its ids when deletes are all that is suspected, else by whole rows."""
        name = table.table.name
        before = horizon.signs.get(name)
        same_files = before is not None and before.files == signs.files
        deletes_alone = same_files and not whole and not self._overdue(name, source.now)
        started = time.monotonic()
        rows = reconcile(table, source, self._store, keys_alone(table) if deletes_alone else whole_rows(table))
        self._not_before[name] = time.monotonic() + (RECONCILING_SHARE - 1) * (time.monotonic() - started)
        if rows:
            touched.add(name)
            log.info("%s: %d rows differed from the source and were replaced or removed", table.qualified, rows)
        return rows, horizon.pruned(name, signs) if deletes_alone else horizon.reconciled_at(name, source.now, signs)

    def _keep(self, lsn: int, horizon: Horizon, touched: set[str]) -> None:
        """Commit what the cycle changed; a horizon that moved alone is stored now and then."""
        if touched:
            self._store.commit(lsn, horizon.text())
            self._cache.touched(*touched)
            self._board.add(transactions_applied=1)
            self._stored_at = time.monotonic()
            return
        self._store.rollback()
        if time.monotonic() - self._stored_at >= STORE_SECONDS or (
            (horizon.reconciled, horizon.signs) != (self._horizon.reconciled, self._horizon.signs)
        ):
            self._store.advance(lsn, horizon.text())
            self._stored_at = time.monotonic()


def _begin(connection: psycopg.Connection) -> SourceSnapshot:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    return read_snapshot(connection)
