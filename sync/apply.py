"""Applies changes to the cache: delete-by-join and append of a batch's final rows, in one transaction with the position reached.

A transaction of the source larger than a batch is applied in parts inside one DuckDB transaction: readers see all of it or
none, and DuckDB spills what does not fit in memory.
"""

from __future__ import annotations

import logging
from functools import partial

from analytics.state.cache import Cache
from analytics.state.store import Store
from analytics.state.sync_status import StatusBoard
from sync.faults import SlotGoneError
from sync.source.schema import Mapping
from sync.stream.batch import Batch
from sync.stream.pgoutput import Relation, Target, Truncate, UnidentifiedRowError, decode_changes
from sync.values import wire

log = logging.getLogger(__name__)


class Applier:
    """Applies gathered batches to one store. The caller decides when to commit; `abandon` undoes what is not committed."""

    def __init__(self, cache: Cache, store: Store, mapping: Mapping, board: StatusBoard) -> None:
        self._cache, self._store, self._mapping, self._board = cache, store, mapping, board
        self._targets: dict[int, tuple[Relation, Target | None]] = {}
        self._touched: set[str] = set()
        self._rows = 0
        self._mapped = wire.Mapped()
        self.open = False

    def apply(self, batch: Batch, relations: dict[int, Relation]) -> None:
        """Apply the batch's rows, then its deferred message. Raises `WireError`, `SlotGoneError`, `ShapeError`, `duckdb.Error`."""
        for oid, messages in batch.take_rows().items():
            target = self._target(relations[oid])
            if target is None:
                continue
            table = self._table(relations[oid])
            self._begin()
            try:
                changes = decode_changes(target, messages, partial(self._store.lookup, table), self._mapped)
            except UnidentifiedRowError as error:
                raise SlotGoneError(f"table {relations[oid].schema}.{relations[oid].name}: {error}") from error
            if len(changes.removed):
                keys = changes.removed
                self._store.remove(table, wire.key_rows(keys), int(keys.min()), int(keys.max()))
            if changes.rows is not None:
                self._store.append(table, changes.rows)
            self._touched.add(table)
            self._rows += changes.messages
        deferred, batch.deferred = batch.deferred, None
        if isinstance(deferred, Relation):
            relations[deferred.oid] = deferred
        elif isinstance(deferred, Truncate):
            for oid in deferred.relations:
                if oid in relations and self._target(relations[oid]) is not None:
                    table = self._table(relations[oid])
                    self._begin()
                    self._store.truncate(table)
                    self._touched.add(table)
                    log.info("table %s was truncated on the source", table)

    def commit(self, batch: Batch) -> int:
        """Commit all complete transactions of the batch; returns the position reached, which may now be acknowledged."""
        assert batch.end_lsn is not None  # noqa: S101 - the caller commits only at the end of a transaction
        lsn = batch.end_lsn
        if self.open:
            self._store.commit(lsn)
            self.open = False
            self._cache.touched(*self._touched)
        else:
            self._store.advance(lsn)
        self._board.add(
            rows_applied=self._rows, transactions_applied=batch.transactions, values_mapped=self._mapped.values
        )
        self._touched, self._rows, self._mapped = set(), 0, wire.Mapped()
        batch.committed()
        return lsn

    def abandon(self) -> None:
        """Undo what is not committed."""
        if self.open:
            self._store.rollback()
            self.open = False

    def _begin(self) -> None:
        if not self.open:
            self._store.begin()
            self.open = True

    def _target(self, relation: Relation) -> Target | None:
        known = self._targets.get(relation.oid)
        if known is None or known[0] != relation:
            table = self._mapping.find(relation.schema, relation.name)
            known = (relation, None if table is None else table.target(relation))
            self._targets[relation.oid] = known
        return known[1]

    def _table(self, relation: Relation) -> str:
        table = self._mapping.find(relation.schema, relation.name)
        assert table is not None  # noqa: S101 - it has a target
        return table.table.name
