"""Following a source that does not allow logical replication: continue the cache or copy the source, then poll until a fault.

Needs only SELECT; touches neither slot nor publication. The guarantee is eventual, within the bounds that the board states; the
stored WAL position is only a hint for people.
"""

from __future__ import annotations

import logging
import time

from analytics.state.lsn import format_lsn
from analytics.state.store import CacheOrigin, Store
from analytics.state.sync_status import Phase
from config.settings import Settings
from sync.cache_damage import require_readable
from sync.continuity import polled_shape, same_database, what_changed
from sync.copy.initial_copy import copy_tables
from sync.faults import SourceChangedError
from sync.generations import continued, new_generation, start_copy
from sync.housekeeping import Housekeeping
from sync.polling.horizon import Horizon, begin_snapshot, read_signs, rewritten
from sync.polling.poller import Poller, RewrittenError
from sync.position_barrier import NOW
from sync.session import SyncSession
from sync.source.connections import SourceIdentity, connect
from sync.source.findings import Survey

log = logging.getLogger(__name__)

CATALOGUE_SETTINGS = "SET jit = off"
REREAD_SECONDS = 1.0  # the longest wait before a cycle that met a rewritten table is repeated


def follow_by_polling(session: SyncSession, survey: Survey, identity: SourceIdentity) -> None:
    """One attempt; returns only when stopping.

    Raises `SourceChangedError`, `SourceError`, `psycopg.Error`, `WireError`, `duckdb.Error`, `Stopped`.
    """
    board = session.board
    if board.current.mode_reason != survey.why_not_streaming:
        reasons = "; ".join(obstacle.message for obstacle in survey.obstacles)
        log.info("the source is polled: %s", reasons or survey.why_not_streaming)
    board.update(mode="poll", mode_reason=survey.why_not_streaming, retained_wal_bytes=None)
    origin = _origin(session.settings, survey, identity)
    store = continued(session, origin, lambda live: _gap(live, origin))
    if store is None:
        store = _copy(session, survey, origin)
    session.mapping = survey.mapping
    session.sampler.watch(survey.mapping)
    try:
        _poll(session, store, survey)
    finally:
        session.sampler.watch(None)


def _origin(settings: Settings, survey: Survey, identity: SourceIdentity) -> CacheOrigin:
    """Differs from the origin of a streamed cache: neither mode continues where the other stopped."""
    shape = polled_shape(survey.mapping.fingerprint)
    return CacheOrigin(identity.system_identifier, identity.database, settings.source.slot, shape)


def _gap(store: Store, origin: CacheOrigin) -> str | None:
    """Why a polled cache cannot be continued; None if it can. An old horizon is no reason: then all rows are compared."""
    before = store.origin()
    if before is None or store.position() is None:
        return "the cache is incomplete"
    if not same_database(before, origin):
        return "the source is another database than the cache was copied from"
    if before != origin:
        return what_changed(before, origin)
    return None


def _copy(session: SyncSession, survey: Survey, origin: CacheOrigin) -> Store:
    """A new generation, all tables at one snapshot, published."""
    start_copy(session, "poll")
    started, at = time.monotonic(), session.clock()
    tables = survey.mapping.tables
    options = {"all_organizations": survey.all_organizations, "statement_timeout": False}
    with connect(session.settings, **options) as exporter, connect(session.settings, **options) as reader:
        lsn, signs = read_signs(exporter, tables)
        snapshot = begin_snapshot(exporter)
        (exported,) = exporter.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        horizon = Horizon(snapshot.oldest, snapshot.timeline)
        for table, sign in signs.items():
            horizon = horizon.reconciled_at(table, at, sign)
        with new_generation(session, origin) as store:
            rows = copy_tables(session, reader, exported, survey.mapping, store)
            if rewritten(exporter, tables):
                raise RewrittenError("a table was truncated or rewritten while it was copied")
            store.commit(lsn, horizon.text())
    log.info("copied %d rows in %.1f s near %s", rows, time.monotonic() - started, format_lsn(lsn))
    session.board.update(applied_lsn=lsn, fresh_at=session.freshness.known(at))
    return store


def _poll(session: SyncSession, store: Store, survey: Survey) -> None:
    """Cycle after cycle, with housekeeping and the work of others in between."""
    poller = Poller(session, store, survey.mapping)
    housekeeping = Housekeeping(session, store)
    with connect(session.settings, all_organizations=survey.all_organizations, statement_timeout=False) as connection:
        connection.execute(CATALOGUE_SETTINGS)
        while not session.stopping():
            if session.sampler.shape_changed:
                raise SourceChangedError("the shape of the source's tables has changed")
            try:
                cycle = poller.cycle(connection)
            except RewrittenError as error:
                log.info("%s; reading it again", error)
                session.stop.wait(min(REREAD_SECONDS, poller.pace.pause))
                continue
            session.board.update(
                mode="poll", guarantee=poller.pace.guarantee, progress=None,
                applied_lsn=cycle.lsn, fresh_at=session.freshness.known(cycle.at),
            )  # fmt: skip
            session.followed(Phase.POLLING, cycle.lsn, committed=cycle.committed)
            require_readable(store)
            session.barrier.run(store, NOW, cycle.lsn)
            housekeeping.run(cycle.lsn)
            session.stop.wait(poller.pace.pause)
