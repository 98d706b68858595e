"""Following the source by logical replication: continue the cache or copy the source, then apply changes until a fault.

Guarantee: the cache is exactly the source at its applied position, even after a crash, because rows and position are committed
together and the slot only moves behind them.
"""

from __future__ import annotations

import logging
import time

import psycopg

from analytics.state.lsn import format_lsn
from analytics.state.store import CacheOrigin, Store
from analytics.state.sync_status import Phase
from sync.apply import Applier
from sync.continuity import gap, stream_shape
from sync.copy.initial_copy import copy_tables
from sync.generations import continued, new_generation, start_copy
from sync.publication.adjustment import ensure_publication
from sync.publication.catalogue import read_publication
from sync.publication.changes import Membership, publication_fingerprint
from sync.retention import retention_mark
from sync.session import SyncSession
from sync.source.connections import SourceIdentity, connect, wal_position
from sync.source.findings import Survey
from sync.source.open_transactions import SlotWait
from sync.source.schema import ShapeError
from sync.stream.batch_loop import BatchLoop
from sync.stream.change_stream import ChangeStream
from sync.stream.slot_claim import claimed_slot
from sync.stream.slots import create_slot, drop_slot, find_slot, require_slot

log = logging.getLogger(__name__)

EXACT = "exact: the cache equals the source at the applied position"


def follow_by_stream(session: SyncSession, survey: Survey, identity: SourceIdentity, lost: ShapeError | None) -> None:
    """One attempt; returns only to begin again on another connection, or when stopping.

    `lost` names what the source lacks of the tables as this process last followed them: it is accepted, with a new copy, only once
    the table has been published again. Raises `ShapeError`, `SlotBusyError`, `SlotGoneError`, `SourceChangedError`, `SourceError`,
    `psycopg.Error`, `WireError`, `duckdb.Error`, `Stopped`.
    """
    settings = session.settings
    session.board.update(mode_reason=None)
    with connect(settings) as connection:
        if lost is not None and not _membership(session, connection, survey).renewed(session.membership, lost.table):
            raise lost
        ensure_publication(settings, connection, survey.mapping)
        membership = _membership(session, connection, survey)
        mark = publication_fingerprint(settings, connection, survey.mapping)
    shape = stream_shape(survey.mapping.fingerprint, mark, retention_mark(settings), identity.timeline)
    origin = CacheOrigin(identity.system_identifier, identity.database, settings.source.slot, shape)
    with claimed_slot(settings):
        store = continued(session, origin, lambda live: _gap(session, live, origin))
        if store is None:
            store = _copy(session, survey, origin)
        session.membership = membership
        _stream(session, store, survey, identity.version, mark)


def _membership(session: SyncSession, connection: psycopg.Connection, survey: Survey) -> Membership:
    publication = read_publication(connection, session.settings.source.publication, survey.mapping)
    return Membership.of(publication, survey.mapping)


def _gap(session: SyncSession, store: Store, origin: CacheOrigin) -> str | None:
    with connect(session.settings) as connection:
        slot = find_slot(connection, session.settings.source.slot)
        end = wal_position(connection)
    return gap(store.position(), store.origin(), origin, slot, end)


def _copy(session: SyncSession, survey: Survey, origin: CacheOrigin) -> Store:
    """A new generation, copied at a new slot's snapshot and published."""
    settings = session.settings
    start_copy(session, "stream")
    with connect(settings) as connection:
        drop_slot(connection, settings.source.slot)
    log.info("creating replication slot %s", settings.source.slot)
    waiting = SlotWait(settings, session.board, session.stopping)
    slot = create_slot(settings, waiting)
    waiting.over()
    session.publish()  # the wait has used the board's error for its own report
    copied_at = session.clock()
    started = time.monotonic()
    try:
        with new_generation(session, origin) as store:
            with connect(settings, all_organizations=survey.all_organizations, statement_timeout=False) as connection:
                rows = copy_tables(session, connection, slot.snapshot, survey.mapping, store)
            store.commit(slot.consistent_lsn)
    finally:
        slot.connection.close()
    position = format_lsn(slot.consistent_lsn)
    log.info("copied %d rows in %.1f s; the cache equals the source at %s", rows, time.monotonic() - started, position)
    session.freshness.known(copied_at)
    session.board.update(applied_lsn=slot.consistent_lsn, fresh_at=session.freshness.processed(slot.consistent_lsn))
    return store


def _stream(session: SyncSession, store: Store, survey: Survey, server_version: int, mark: str) -> None:
    """Apply changes as they come until a fault or the end of the server."""
    position = store.position()
    assert position is not None  # noqa: S101 - the generation is complete
    require_slot(session.settings)
    stream = ChangeStream(session.settings, position.lsn, server_version, session.stopping, survey.mapping.long_values)
    applier = Applier(session.cache, store, survey.mapping, session.board)
    try:
        session.board.update(mode="stream", guarantee=EXACT, progress=None)
        session.mapping = survey.mapping
        session.sampler.watch(survey.mapping, mark)
        session.followed(Phase.STREAMING, position.lsn, committed=False)
        BatchLoop(session, stream, applier, store).run()
        if not session.stopping():
            stream.end()
    finally:
        # Without a stream nothing confirms that the cache still equals the source, even where the WAL stands still.
        session.freshness.reset()
        session.sampler.watch(None)
        applier.abandon()
        stream.close()
