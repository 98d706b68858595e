"""The loop of an open stream: gather a batch, apply it, commit it, acknowledge the position it reaches."""

from __future__ import annotations

import logging
import time

from analytics.state.store import Store
from analytics.state.sync_status import Phase
from sync.apply import Applier
from sync.cache_damage import require_readable
from sync.faults import SourceChangedError
from sync.housekeeping import Housekeeping
from sync.session import SyncSession
from sync.stream.batch import Batch, BatchLimits
from sync.stream.change_stream import ChangeStream

log = logging.getLogger(__name__)

ADVANCE_BYTES = 1 << 20
ADVANCE_SECONDS = 10.0
IDLE_SECONDS = 0.2


class BatchLoop:
    """Moves changes from one stream to one store. Belongs to the sync thread."""

    def __init__(self, session: SyncSession, stream: ChangeStream, applier: Applier, store: Store) -> None:
        self._session, self._stream, self._applier, self._store = session, stream, applier, store
        self._batch = Batch()
        self._limits = BatchLimits(session.settings.sync.batch_rows)
        self._committed_at = self._advanced_at = time.monotonic()
        self._durable = self._changed = stream.acknowledged  # committed positions: of anything, of rows of ours
        self._committed = False  # this stream has committed something

    def run(self) -> None:
        """Until the server stops, or the stream should begin again on a new connection.

        Raises `SourceChangedError`, `CacheDamagedError`, and what `ChangeStream.gather` and `Applier.apply` raise.
        """
        session, stream, batch = self._session, self._stream, self._batch
        housekeeping = Housekeeping(session, self._store)
        while not session.stopping():
            if session.sampler.shape_changed:
                raise SourceChangedError("the shape of the source's tables or the publication has changed")
            require_readable(self._store)
            barrier_lsn = session.barrier.next_lsn
            if not self._advance(barrier_lsn):
                continue
            if stream.position_wanted:
                stream.acknowledge(self._durable)
            self._publish()
            if barrier_lsn is not None and (batch.at_barrier or stream.processed >= barrier_lsn):
                session.barrier.run(self._store, barrier_lsn, self._changed)
            housekeeping.run(self._durable)
            if stream.outgrown and batch.rows == 0 and not batch.in_transaction:
                log.info("the stream reconnects, because a row of many megabytes has passed")
                return

    def _advance(self, barrier_lsn: int | None) -> bool:
        """Gather, apply and commit once; false while a transaction is still incomplete."""
        session, stream, batch, limits = self._session, self._stream, self._batch, self._limits
        idle = batch.in_transaction or batch.end_lsn is None
        stream.gather(batch, limits, IDLE_SECONDS if idle else 0.0, barrier_lsn)
        if batch.deferred is not None or batch.full(limits):
            self._applier.apply(batch, stream.relations)
        if batch.in_transaction:
            return False
        now = time.monotonic()
        if batch.end_lsn is None:
            self._advance_without_rows(now)
            return True
        wait = session.settings.sync.batch_milliseconds / 1000 - (now - self._committed_at)
        if wait > 0 and not batch.due(limits):
            session.stop.wait(wait)
            stream.gather(batch, limits, 0.0, barrier_lsn)
            if batch.in_transaction or batch.deferred is not None:
                return False
        self._applier.apply(batch, stream.relations)
        self._durable = self._changed = self._applier.commit(batch)
        self._committed, self._committed_at = True, time.monotonic()
        stream.acknowledge(self._durable)
        return True

    def _advance_without_rows(self, now: float) -> None:
        """WAL of other tables: store that it holds nothing of ours, so that the source can remove it.

        A source that shuts down waits until we have confirmed all of it.
        """
        stream = self._stream
        due = stream.position_wanted or now - self._advanced_at > ADVANCE_SECONDS
        if stream.processed - self._durable > ADVANCE_BYTES or (stream.processed > self._durable and due):
            self._store.advance(stream.processed)
            self._durable, self._advanced_at, self._committed = stream.processed, now, True
            stream.acknowledge(self._durable)

    def _publish(self) -> None:
        lsn = max(self._durable, self._stream.processed)
        self._session.board.update(applied_lsn=lsn, fresh_at=self._session.freshness.processed(lsn))
        self._session.followed(Phase.STREAMING, lsn, committed=self._committed)
