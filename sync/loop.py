"""The sync loop: preflight → copy → stream → (fault → pause → resume, or a new copy beside the live cache).

One thread drives it; it alone writes the cache. Guarantee in streaming mode: the cache is exactly the source at its applied
position, after any crash too, because rows and position are committed together and the slot moves only behind them.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import TypeVar

import duckdb
import psycopg

from analytics.state.background import BackgroundThread
from analytics.state.cache import Cache
from analytics.state.lsn import format_lsn
from analytics.state.store import UNREADABLE, CacheDamagedError, CacheOrigin, Store
from analytics.state.sync_status import Phase, StatusBoard
from config.settings import Settings
from sync.apply import Applier
from sync.continuity import gap, same_database, stream_shape
from sync.copy.initial_copy import copy_tables
from sync.faults import DISK, Action, FaultVerdict, SlotBusyError, SlotGoneError, SourceChangedError, judge
from sync.freshness import Freshness
from sync.housekeeping import Housekeeping
from sync.polling.poller import Poller, copy_for_polling, polled_origin, polling_gap
from sync.position_barrier import NOW, PositionBarrier
from sync.publication.adjustment import ensure_publication
from sync.publication.catalogue import read_publication
from sync.publication.changes import Membership, publication_fingerprint
from sync.retention import retention_mark
from sync.source.connections import SourceError, connect, server_text, wal_position
from sync.source.findings import Survey
from sync.source.open_transactions import SlotWait
from sync.source.preflight import survey
from sync.source.sampler import Sampler
from sync.source.schema import Mapping, ShapeError
from sync.stream.batch import Batch, BatchLimits
from sync.stream.replication import ChangeStream, create_slot, find_slot
from sync.stream.slot_claim import claimed_slot

log = logging.getLogger(__name__)

T = TypeVar("T")

EXACT = "exact: the cache equals the source at the applied position"
BUSY_SECONDS = 3.0  # a killed predecessor's connection may hold the slot for a moment; longer means another server
BUSY_EXIT_SECONDS = 20.0  # a server that has never had the slot gives up after this
FIRST_PAUSE_SECONDS = 0.2
ADVANCE_BYTES = 1 << 20
ADVANCE_SECONDS = 10.0
IDLE_SECONDS = 0.2


class SyncLoop:
    """Runs sync in a thread until `stop`. `failed` is set when it ended for good and the process must end too."""

    def __init__(self, settings: Settings, cache: Cache, board: StatusBoard, clock: Callable[[], datetime]) -> None:
        self._settings, self._cache, self._board, self._clock = settings, cache, board, clock
        self._stop = threading.Event()
        self._try_now = threading.Event()
        self._freshness = Freshness()
        self._sampler = Sampler(settings, board, self._freshness, clock)
        self._thread = BackgroundThread("owkai-sync", self._run, self._stop, board.jobs)
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._busy_since: float | None = None
        self._copy_needed: str | None = None
        self._streamed: Mapping | None = None
        self._membership = Membership()
        self._told: tuple[str, Phase] | None = None  # the fault that the log has named
        self._warned: set[str] = set()
        self._holds = PositionBarrier()
        self.failed: str | None = None

    def start(self) -> None:
        self._sampler.start()
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Stop after the batch at hand; what it cannot finish is undone. Idempotent."""
        self._stop.set()
        self._try_now.set()
        self._sampler.stop(timeout_seconds)
        self._thread.join(timeout_seconds)

    def try_now(self) -> None:
        """End the pause after a fault: its reason may just have been removed."""
        self._try_now.set()

    # -- the road ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except BaseException as caught:
                error = self._diagnosed(caught)
                verdict = judge(error)
                if verdict.action is Action.STOP:
                    break
                if verdict.message.startswith(type(error).__name__):
                    log.exception("sync met an error it has no rule for")
                self._recover(verdict, error)
                if self.failed:
                    self._stop.set()
        self._holds.close()
        self._board.update(phase=Phase.STOPPED)

    def at_position(self, lsn: int, action: Callable[[Store], T]) -> Future[T]:
        """Run `action` in the sync thread when the cache holds exactly what committed before `lsn` and nothing after.

        No transaction of the writer is open then. The future is cancelled when sync ends before, and raises `PassedError` when
        the cache is past `lsn` already; `NOW` is between the batches at hand.
        """
        return self._holds.request(lsn, action)

    def _warn(self, found: Survey) -> None:
        for finding in found.findings:
            if finding.level == "warning" and str(finding) not in self._warned:
                self._warned.add(str(finding))
                log.warning("%s", finding)

    def _follow(self) -> None:
        """One attempt: examine the source, continue or copy, then stream until a fault."""
        found = survey(self._settings)
        if found.unidentified and self._cache.live is not None:
            self._copy_needed = "changes of the source could not tell which rows they meant"
        found.require()
        identity = found.identity
        assert identity is not None  # noqa: S101 - a survey without errors has it
        self._warn(found)
        lost = self._streamed.lost_in(found.mapping) if self._streamed is not None else None
        if not found.streamable:
            if lost is not None:
                raise lost
            self._poll(found)
            return
        self._board.update(mode_reason=None)
        with connect(self._settings) as connection:
            if lost is not None and not self._membership_in(connection, found).renewed(self._membership, lost.table):
                raise lost  # this process goes on once the old shape is back, or the table has been published again
            ensure_publication(self._settings, connection, found.mapping)
            membership = self._membership_in(connection, found)
            mark = publication_fingerprint(self._settings, connection, found.mapping)
        shape = stream_shape(found.mapping.fingerprint, mark, retention_mark(self._settings), identity.timeline)
        origin = CacheOrigin(identity.system_identifier, identity.database, self._settings.source.slot, shape)
        with claimed_slot(self._settings):
            store = self._continue(found, origin)
            if store is None:
                store = self._copy(found, origin)
            self._membership = membership
            self._stream(store, found, mark)

    def _membership_in(self, connection: psycopg.Connection, found: Survey) -> Membership:
        publication = read_publication(connection, self._settings.source.publication, found.mapping)
        return Membership.of(publication, found.mapping)

    def _continue(self, found: Survey, origin: CacheOrigin) -> Store | None:
        """The live generation, when the slot leads on from exactly where it stands; None when a copy is needed."""
        store = self._cache.live
        if store is None:
            return None
        return store if self._continuable(store, origin, self._copy_needed or self._gap(store, origin)) else None

    def _continuable(self, store: Store, origin: CacheOrigin, reason: str | None) -> bool:
        """Whether there is no reason for a new copy; says the reason, and takes down what is another database's."""
        if reason is None:
            return True
        log.warning("a new copy of the source is made: %s", reason)
        self._board.update(error=reason, remedy="none needed: a new copy is made beside the live cache")
        before = store.origin()
        if before is None or not same_database(before, origin):
            self._cache.forget()  # another database's rows must not be shown as this one's
        return False

    def _gap(self, store: Store, origin: CacheOrigin) -> str | None:
        with connect(self._settings) as connection:
            slot = find_slot(connection, self._settings.source.slot)
            end = wal_position(connection)
        return gap(store.position(), store.origin(), origin, slot, end)

    def _copy(self, found: Survey, origin: CacheOrigin) -> Store:
        """A new generation, copied at a new slot's snapshot and published. The live one answers meanwhile."""
        self._board.update(phase=Phase.COPYING, mode="stream", progress=None)
        self._freshness.reset()
        with connect(self._settings) as connection:
            self._drop_slot(connection)
        log.info("creating replication slot %s", self._settings.source.slot)
        waiting = SlotWait(self._settings, self._board, self._stop.is_set)
        slot = create_slot(self._settings, waiting)
        waiting.over()
        copied_at = self._clock()
        try:
            store = self._cache.build(origin)
            try:
                started = time.monotonic()
                store.begin()
                with connect(
                    self._settings, all_organizations=found.all_organizations, statement_timeout=False
                ) as connection:
                    rows = copy_tables(
                        connection, slot.snapshot, found.mapping, store, self._settings, self._board, self._clock,
                        self._stop.is_set,
                    )  # fmt: skip
                store.commit(slot.consistent_lsn)
                store.checkpoint()
            except BaseException:
                store.rollback()
                self._cache.discard(store)
                raise
        finally:
            slot.connection.close()
        self._cache.publish(store)
        self._copy_needed = None
        self._board.add(copies=1)
        seconds = time.monotonic() - started
        log.info(
            "copied %d rows in %.1f s; the cache equals the source at %s",
            rows,
            seconds,
            format_lsn(slot.consistent_lsn),
        )
        self._freshness.known(copied_at)
        self._progressed(slot.consistent_lsn)
        return store

    def _drop_slot(self, connection: psycopg.Connection) -> None:
        slot = find_slot(connection, self._settings.source.slot)
        if slot is None:
            return
        if slot.active_pid is not None:
            raise SlotBusyError(f"replication slot {slot.name} is in use (server process {slot.active_pid})")
        connection.execute("SELECT pg_drop_replication_slot(%s)", [slot.name])

    def _poll(self, found: Survey) -> None:
        """Continue or copy, then look again and again until a fault or `stop`. Touches neither slot nor publication."""
        if self._board.current.mode_reason != found.why_not_streaming:
            reasons = "; ".join(obstacle.message for obstacle in found.obstacles)
            log.info("the source is polled: %s", reasons or found.why_not_streaming)
        self._board.update(mode="poll", mode_reason=found.why_not_streaming, retained_wal_bytes=None)
        origin = polled_origin(found, self._settings)
        store = self._cache.live
        if store is None or not self._continuable(store, origin, self._copy_needed or polling_gap(store, origin)):
            store = copy_for_polling(
                self._settings, self._cache, found, origin, self._board, self._freshness, self._clock, self._stop.is_set
            )
            self._copy_needed = None
        self._streamed = found.mapping
        self._sampler.watch(found.mapping)

        def between(lsn: int) -> None:
            self._recovered()
            self._examine(store)
            self._holds.run(store, NOW, lsn)

        try:
            Poller(
                self._settings, self._cache, store, found, self._board, self._freshness, self._clock, self._stop,
                lambda: self._sampler.shape_changed, between,
            ).run()  # fmt: skip
        finally:
            self._sampler.watch(None)

    def _stream(self, store: Store, found: Survey, mark: str) -> None:
        """Apply changes as they come until a fault or `stop`."""
        assert found.identity is not None  # noqa: S101 - checked before
        position = store.position()
        assert position is not None  # noqa: S101 - the generation is complete
        self._drop_nothing_if_busy()
        try:
            stream = ChangeStream(
                self._settings, position.lsn, found.identity.version, self._stop.is_set, found.mapping.long_values
            )
        except SourceError as error:
            raise _slot_error(error) from error
        applier = Applier(self._cache, store, found.mapping, self._board)
        try:
            self._board.update(mode="stream", guarantee=EXACT, progress=None)
            if self._board.current.remedy != DISK:
                self._streaming()
            self._streamed = found.mapping
            self._sampler.watch(found.mapping, mark)
            self._progressed(position.lsn)
            self._apply(stream, applier, store)
            if not self._stop.is_set():
                stream.end()  # it begins again on another connection
        except SourceError as error:
            raise _slot_error(error) from error
        finally:
            # Without a stream nothing says that the cache still equals the source, even where the WAL stands still.
            self._freshness.reset()
            self._sampler.watch(None)
            applier.abandon()
            stream.close()

    def _apply(self, stream: ChangeStream, applier: Applier, store: Store) -> None:
        settings = self._settings.sync
        batch = Batch()
        housekeeping = Housekeeping(self._settings, self._cache, store, self._clock, self._board)
        committed_at = advanced_at = time.monotonic()
        durable = started = changed = stream.acknowledged
        limits = BatchLimits(settings.batch_rows)
        while not self._stop.is_set():
            if self._sampler.shape_changed:
                raise SourceChangedError("the shape of the source's tables or the publication has changed")
            self._examine(store)
            stream.hold_at = self._holds.next_lsn
            stream.gather(batch, limits, IDLE_SECONDS if batch.in_transaction or batch.end_lsn is None else 0.0)
            if batch.barrier is not None or batch.full(limits):
                applier.apply(batch, stream.relations)
            if batch.in_transaction:
                continue
            now = time.monotonic()
            if batch.end_lsn is not None:
                wait = settings.batch_milliseconds / 1000 - (now - committed_at)
                if wait > 0 and not batch.due(limits):
                    self._stop.wait(wait)
                    stream.gather(batch, limits, 0.0)
                    if batch.in_transaction or batch.barrier is not None:
                        continue
                applier.apply(batch, stream.relations)
                durable = changed = applier.commit(batch)
                committed_at = time.monotonic()
                stream.acknowledge(durable)
            elif stream.processed - durable > ADVANCE_BYTES or (
                stream.processed > durable and (stream.position_wanted or now - advanced_at > ADVANCE_SECONDS)
            ):
                # WAL of other tables: remember that it holds nothing of ours, so that the source can let go of it. A source
                # that shuts down waits until we have confirmed all of it.
                store.advance(stream.processed)
                durable, advanced_at = stream.processed, now
                stream.acknowledge(durable)
            if stream.position_wanted:
                stream.acknowledge(durable)
            if durable > started and self._board.current.remedy == DISK:
                self._streaming()
            self._progressed(max(durable, stream.processed))
            if stream.hold_at is not None and (batch.held or stream.processed >= stream.hold_at):
                self._holds.run(store, stream.hold_at, changed)
            housekeeping.run(durable)
            if stream.outgrown and batch.rows == 0 and not batch.in_transaction:
                log.info("the stream begins again on a new connection, because a row of many megabytes passed")
                return

    def _progressed(self, lsn: int) -> None:
        self._board.update(applied_lsn=lsn, fresh_at=self._freshness.processed(lsn))

    # -- faults --------------------------------------------------------------------------------------------------

    def _examine(self, store: Store) -> None:
        """Where a read failed: raises `CacheDamagedError` if the store cannot be read as a whole, so that it is copied again."""
        if not store.suspect:
            return
        store.suspect = False
        reason = store.unreadable()
        if reason is not None:
            raise CacheDamagedError(f"the cache is damaged: {server_text(reason)}")
        log.warning("a read of the cache failed, but every block of it can be read: no new copy is needed")

    def _diagnosed(self, error: BaseException) -> BaseException:
        """The error itself, or `CacheDamagedError` where it is a sign of a damaged file rather than of a full disk."""
        store = self._cache.live
        if isinstance(error, UNREADABLE) and not isinstance(error, duckdb.FatalException) and store is not None:
            store.suspect = True
            try:
                self._examine(store)
            except CacheDamagedError as damage:
                damage.__cause__ = error
                return damage
        return error

    def _drop_nothing_if_busy(self) -> None:
        with connect(self._settings) as connection:
            slot = find_slot(connection, self._settings.source.slot)
        if slot is None:
            raise SlotGoneError(f"replication slot {self._settings.source.slot} is gone")
        if slot.active_pid is not None:
            raise SlotBusyError(f"replication slot {slot.name} is in use (server process {slot.active_pid})")

    def _recover(self, verdict: FaultVerdict, error: BaseException) -> None:
        """Put the policy's verdict on the board and wait as it says."""
        if verdict.action is Action.COPY:
            self._copy_needed = verdict.message
            if isinstance(error, duckdb.Error):
                self._cache.reopen()  # DuckDB answers nothing more until then; what can be read is served meanwhile
        if verdict.action is Action.REOPEN and not self._cache.reopen():
            self._copy_needed = verdict.message
        if isinstance(error, ShapeError):
            self._copy_needed = "the shape of the source had changed"
        phase = Phase.PAUSED if verdict.action is Action.PAUSE else Phase.RETRYING
        if isinstance(error, SlotBusyError):
            self._busy_since = self._busy_since or time.monotonic()
            busy_seconds = time.monotonic() - self._busy_since
            if busy_seconds > BUSY_EXIT_SECONDS and self._streamed is None:
                self.failed = f"{verdict.message}; {verdict.remedy}"
                log.error("%s", self.failed)
                return
            if busy_seconds > BUSY_SECONDS:
                phase = Phase.PAUSED
        if self._told != (verdict.message, phase):
            self._told = (verdict.message, phase)
            log.error("sync %s: %s; %s", phase.value, verdict.message, verdict.remedy or "it goes on by itself")
        self._board.update(phase=phase, error=verdict.message, remedy=verdict.remedy or None, progress=None)
        pause = self._settings.sync.backoff_max_seconds if verdict.action is Action.PAUSE else self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, self._settings.sync.backoff_max_seconds)
        self._try_now.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        self._try_now.clear()

    def _streaming(self) -> None:
        # After a disk without room only a commit shows that there is room again: an open stream alone proves nothing.
        self._recovered()
        self._board.update(phase=Phase.STREAMING)

    def _recovered(self) -> None:
        if self._board.current.error is not None:
            log.info("sync goes on after: %s", server_text(self._board.current.error))
            self._board.add(reconnects=1)
        self._board.update(error=None, remedy=None)
        self._told = None
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._busy_since = None


def _slot_error(error: SourceError) -> Exception:
    """What the server's refusal to stream means."""
    text = str(error)
    said = text.partition("CONTEXT:")[0]  # the context names our slot, whatever is wrong
    if "publication" in said and "does not exist" in said:
        return SourceChangedError(text)
    if "does not exist" in said and "slot" in said:
        return SlotGoneError(text)
    if "is active for PID" in text:
        return SlotBusyError(text)
    if any(
        sign in text
        for sign in (
            "can no longer get changes",
            "has been invalidated",
            "requested WAL segment",
            "cannot read from logical",
        )
    ):
        return SlotGoneError(text)
    return error
