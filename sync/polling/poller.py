"""Polling: one cycle finds what has changed on the source, by queries only.

Each cycle reads the source in one REPEATABLE READ, READ ONLY transaction. Inserts and updates are found exactly, by the transaction
id on every row (`sync.polling.horizon`); deletes, and changes that leave no such trace, by reconciliation
(`sync.polling.reconciliation`). Rows and horizon are committed together.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import psycopg
from psycopg import sql

from analytics.state.store import Store
from sync.polling.horizon import (
    XIDS,
    Horizon,
    Signs,
    SourceSnapshot,
    begin_snapshot,
    changed_since,
    parse_horizon,
    read_signs,
    rewritten,
)
from sync.polling.pace import RECONCILING_SHARE, Pace
from sync.polling.reconciliation import (
    Numbers,
    SourceReader,
    keys_only,
    reconcile,
    replace_rows,
    source_key,
    whole_rows,
)
from sync.session import SyncSession
from sync.source import schema
from sync.source.schema import SourceTable
from sync.values import wire

log = logging.getLogger(__name__)

STORE_SECONDS = 10.0  # a horizon that moved without any row is stored this often
ROWS_BY_KEY = 20_000  # more changed rows than this are read by a scan
REMEMBERED = 200_000  # rows known from transactions near the horizon, so that they are not applied again and again


class RewrittenError(RuntimeError):
    """A table was truncated or rewritten while it was read; the cycle is undone and repeated."""


@dataclass(frozen=True)
class PollCycle:
    """A completed cycle: the cache equals the source's snapshot of `at`, up to changes that only reconciliation finds.

    `lsn` is the WAL position just before the snapshot. `committed`: the cycle took a commit to the cache.
    """

    at: datetime
    lsn: int
    committed: bool


@dataclass(frozen=True)
class Look:
    """What a cycle starts from. `compare_all`: transaction ids do not lead on from the last cycle, so every row is compared."""

    at: datetime
    started: float  # monotonic seconds
    lsn: int
    signs: Mapping[str, Signs]
    snapshot: SourceSnapshot
    compare_all: bool


@dataclass(frozen=True)
class CycleChanges:
    """What a cycle has applied so far: number of rows, tables, and the horizon to commit with them.

    `known` holds, by table, rows that the next cycle meets again: id and transaction id.
    """

    horizon: Horizon
    rows: int = 0
    touched: frozenset[str] = frozenset()
    known: Mapping[str, dict[int, int]] | None = None  # None: nothing was read

    def with_table(self, name: str, rows: int) -> CycleChanges:
        return self if not rows else replace(self, rows=self.rows + rows, touched=self.touched | {name})


class Poller:
    """Finds the changes of one source since the store's horizon. Belongs to the sync thread."""

    def __init__(self, session: SyncSession, store: Store, mapping: schema.Mapping) -> None:
        self._session, self._store, self._tables = session, store, mapping.tables
        settings = session.settings.sync
        self.pace = Pace(settings.poll_seconds, settings.reconcile_seconds)
        self._horizon = parse_horizon(store.horizon()) or Horizon(-1, -1)
        self._applied_snapshot = ""  # the snapshot that is applied as a whole
        self._known: Mapping[str, dict[int, int]] = {}
        self._not_before: dict[str, float] = {}
        self._stored_at = -math.inf

    def cycle(self, connection: psycopg.Connection) -> PollCycle:
        """Read the source once; all of a cycle is committed, or nothing.

        Raises `RewrittenError`, `SourceError`, `psycopg.Error`, `WireError`, `duckdb.Error`, `Stopped`.
        """
        at, started = self._session.clock(), time.monotonic()
        lsn, signs = read_signs(connection, self._tables)
        snapshot = begin_snapshot(connection)
        try:
            compare_all = not self._horizon.leads_to(snapshot)
            if compare_all and self._horizon.oldest >= 0:
                log.warning("transaction ids of the source do not lead on from the last cycle; all rows are compared")
            changes = self._read(connection, Look(at, started, lsn, signs, snapshot, compare_all))
            committed = self._commit(lsn, changes)
        except BaseException:
            self._store.rollback()
            raise
        finally:
            if not connection.closed:
                connection.rollback()
        self._horizon, self._applied_snapshot = changes.horizon, snapshot.text
        if changes.known is not None:
            self._known = changes.known
        return PollCycle(at, lsn, committed)

    def _read(self, connection: psycopg.Connection, look: Look) -> CycleChanges:
        """Apply what has changed, inside an open transaction of the store."""
        due = [table for table in self._tables if look.compare_all or self._due(table, look)]
        changes = CycleChanges(self._horizon.moved_to(look.snapshot))
        # A standby's snapshot text leaves out unfinished transactions, so equal texts prove nothing there.
        unchanged = look.snapshot.text == self._applied_snapshot and not look.snapshot.in_recovery
        if unchanged and not due:
            return changes
        source = SourceReader(connection, self._session.settings, look.at, self._session.stopping, wire.Mapped())
        self._store.begin()
        known: dict[str, dict[int, int]] = {}
        if not look.compare_all:
            for table in self._tables:
                rows, known[table.table.name] = self._apply_changed(table, source, look.snapshot)
                changes = changes.with_table(table.table.name, rows)
        self.pace.read(time.monotonic() - look.started)
        compared = time.monotonic()
        for table in due:
            changes = self._compare(table, source, changes, look)
        if due:
            self.pace.reconciled(time.monotonic() - compared)
        if rewritten(connection, self._tables):
            raise RewrittenError("a table was truncated or rewritten while it was read")
        self._session.board.add(rows_applied=changes.rows, values_mapped=source.mapped.values)
        return replace(changes, known=known)

    def _apply_changed(
        self, table: SourceTable, source: SourceReader, snapshot: SourceSnapshot
    ) -> tuple[int, dict[int, int]]:
        """Apply the rows that may have changed since the horizon; their number, and those that the next cycle meets again."""
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
            scan = count > ROWS_BY_KEY
            changed: Numbers = np.unique(ids if scan else ids[fresh])
            rows = source.rows(table, condition) if scan else source.rows_of(table, changed)
            replace_rows(name, changed, rows, self._store)
        return count, again if len(again) <= REMEMBERED else {}

    def _due(self, table: SourceTable, look: Look) -> bool:
        """Whether a table is compared in this cycle: its time has come, or a sign indicates a change."""
        name = table.table.name
        if time.monotonic() < self._not_before.get(name, 0.0):
            return False
        return self._overdue(name, look.at) or self._horizon.signs.get(name) != look.signs[name]

    def _overdue(self, name: str, at: datetime) -> bool:
        since = at.timestamp() - self._horizon.reconciled.get(name, 0.0)
        return not 0 <= since < self._session.settings.sync.reconcile_seconds

    def _compare(self, table: SourceTable, source: SourceReader, changes: CycleChanges, look: Look) -> CycleChanges:
        """Reconcile one table: by its ids when only deletes are suspected, else by whole rows."""
        name, horizon = table.table.name, changes.horizon
        before, signs = horizon.signs.get(name), look.signs[name]
        same_files = before is not None and before.files == signs.files
        only_deletes = same_files and not look.compare_all and not self._overdue(name, look.at)
        started = time.monotonic()
        rows = reconcile(table, source, self._store, keys_only(table) if only_deletes else whole_rows(table))
        self._not_before[name] = time.monotonic() + (RECONCILING_SHARE - 1) * (time.monotonic() - started)
        if rows:
            log.info("%s: %d rows differed from the source and were replaced or removed", table.qualified, rows)
        horizon = horizon.pruned(name, signs) if only_deletes else horizon.reconciled_at(name, look.at, signs)
        return replace(changes, horizon=horizon).with_table(name, rows)

    def _commit(self, lsn: int, changes: CycleChanges) -> bool:
        """Commit what the cycle changed; a horizon that moved without any row is only stored from time to time."""
        horizon = changes.horizon
        if changes.touched:
            self._store.commit(lsn, horizon.text())
            self._session.cache.touched(*changes.touched)
            self._session.board.add(transactions_applied=1)
            self._stored_at = time.monotonic()
            return True
        self._store.rollback()
        if time.monotonic() - self._stored_at >= STORE_SECONDS or (
            (horizon.reconciled, horizon.signs) != (self._horizon.reconciled, self._horizon.signs)
        ):
            self._store.advance(lsn, horizon.text())
            self._stored_at = time.monotonic()
            return True
        return False
