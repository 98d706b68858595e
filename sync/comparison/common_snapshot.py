"""A common snapshot: the source at an exported snapshot, the cache at the same WAL position.

Why not a plain snapshot and the current WAL position: a commit becomes visible to snapshots only after its record is in the
WAL, and not in the WAL's order. A snapshot paired with `pg_current_wal_lsn()` may lack a transaction that the position
includes, so a correct cache would sometimes look wrong. The snapshot that a new logical slot exports has no such gap: it
shows exactly the transactions whose commit records lie before the slot's consistent point.

That point is in the past once the slot exists, and sync does not wait for it. So a barrier stops sync before the slot is created.
While the slot waits for open transactions on the source, the barrier follows the source. If the cache has meanwhile applied a
change from after the consistent point, the position is lost (`PassedError`), and another slot is tried.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import psycopg
from psycopg import sql

from analytics.state.store import Store
from config.settings import Settings
from sync.copy.copy_stream import Stopped, Stopping
from sync.position_barrier import NOW, PassedError
from sync.source.connections import SourceError, connect, wal_position
from sync.source.open_transactions import described, open_transactions, remedy_for_open
from sync.stream.slots import ExportedSlot, create_slot

log = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 5
TRAIL_SECONDS = 0.5  # how far the moving barrier stays behind the source; doubled with every attempt
HELD_SECONDS = 20.0  # sync continues after this time
REACH_SECONDS = 60.0  # bound on sync reaching a position
OPEN_TRANSACTIONS_SECONDS = 60.0  # bound on transactions that were open when the slot was made


class VerifyError(RuntimeError):
    """The two sides could not be compared. `remedy` states what the operator can do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class Positions(Protocol):
    """The part of `sync.loop.SyncLoop` that is needed here."""

    def at_position(self, lsn: int, action: Callable[[Store], T]) -> Future[T]:
        """See `SyncLoop.at_position`."""


@dataclass(frozen=True)
class CommonSnapshot(Generic[T]):
    """`source` is in a read-only transaction at `lsn`; `result` is what the action returned for the store at `lsn`."""

    lsn: int
    source: psycopg.Connection
    result: T


@contextmanager
def common_snapshot(
    settings: Settings,
    positions: Positions,
    action: Callable[[Store, psycopg.Connection], T],
    stopping: Stopping,
    *,
    all_organizations: bool = False,
    undo: Callable[[T], None] = lambda result: None,
) -> Iterator[CommonSnapshot[T]]:
    """Run `action(store, source)` in the sync thread at one position; the source's transaction stays open inside the `with`.

    `undo` receives a result that arrived after the caller stopped waiting. Raises `VerifyError`, `SourceError`, `psycopg.Error`,
    `Stopped`, and what the action raises.
    """
    with connect(settings, all_organizations=all_organizations, statement_timeout=False) as source:
        trail = TRAIL_SECONDS
        for _ in range(ATTEMPTS):
            try:
                found = _attempt(settings, positions, action, source, trail, stopping, undo)
                break
            except PassedError:
                log.debug("sync was past the consistent point; trying again")
                trail *= 2
                source.rollback()
        else:
            raise VerifyError(
                "the source was too busy to be compared at one position",
                "verify again when fewer long transactions are open on the source",
            )
        yield found


def _attempt(
    settings: Settings,
    positions: Positions,
    action: Callable[[Store, psycopg.Connection], T],
    source: psycopg.Connection,
    trail_seconds: float,
    stopping: Stopping,
    undo: Callable[[T], None],
) -> CommonSnapshot[T]:
    hold = _MovingBarrier(positions, source, trail_seconds, stopping)
    try:
        generation = hold.begin()
        slot = _export(settings, hold)
        try:
            source.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            source.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(slot.snapshot))
        finally:
            slot.connection.close()  # this also drops the slot
        lsn = slot.consistent_lsn

        def at_position(store: Store) -> T:
            if store is not generation:
                raise PassedError("a new copy has replaced the cache")
            return action(store, source)

        future = positions.at_position(lsn, at_position)
    finally:
        hold.release()
    return CommonSnapshot(lsn, source, _await(future, REACH_SECONDS, stopping, undo))


def _export(settings: Settings, hold: _MovingBarrier) -> ExportedSlot:
    name = f"owkai_verify_{os.getpid()}_{secrets.token_hex(4)}"
    try:
        return create_slot(settings, hold.watch, temporary_name=name)
    except SourceError as error:
        if "replication slots are in use" in str(error):
            raise SourceError(
                "the source has no free replication slot to verify with", "raise max_replication_slots on the source"
            ) from error
        raise


class _MovingBarrier:
    """Keeps sync from passing a position that is known to precede the slot's consistent point."""

    def __init__(
        self, positions: Positions, source: psycopg.Connection, trail_seconds: float, stopping: Stopping
    ) -> None:
        self._positions, self._source, self._trail, self._stopping = positions, source, trail_seconds, stopping
        self._go = threading.Event()
        self._sampled: tuple[float, int] | None = None
        self._started = time.monotonic()

    def begin(self) -> Store:
        """Stop sync at its current position; returns the generation it works on."""
        standing: Future[Store] = Future()
        go = self._go

        def pause(store: Store) -> None:
            if standing.set_running_or_notify_cancel():
                standing.set_result(store)
                self._wait(go)

        waiting = self._positions.at_position(NOW, pause)
        waiting.add_done_callback(lambda done: standing.cancel() if done.cancelled() else None)
        generation = _await(standing, REACH_SECONDS, self._stopping, lambda store: go.set())
        self._started = time.monotonic()
        return generation

    def watch(self) -> bool:
        """Called while the slot waits on the source: moves the barrier. Returns true when the wait must end."""
        now = time.monotonic()
        if self._stopping():
            return True
        if now - self._started > OPEN_TRANSACTIONS_SECONDS:
            raise self._too_long()
        if self._sampled is None or now - self._sampled[0] >= self._trail:
            if self._sampled is not None:
                self._move(self._sampled[1])
            self._sampled = (now, wal_position(self._source))
        return False

    def _move(self, lsn: int) -> None:
        before, self._go = self._go, threading.Event()
        go = self._go
        self._positions.at_position(lsn, lambda store: self._wait(go))
        before.set()

    def _wait(self, go: threading.Event) -> None:
        go.wait(HELD_SECONDS)

    def release(self) -> None:
        self._go.set()

    def _too_long(self) -> VerifyError:
        found = open_transactions(self._source)
        return VerifyError(
            f"transactions have been open on the source for {OPEN_TRANSACTIONS_SECONDS:g} s: {described(found)}",
            f"{remedy_for_open(found)}; then verify again",
        )


def _await(future: Future[T], seconds: float, stopping: Stopping, undo: Callable[[T], None]) -> T:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return future.result(0.1)
        except CancelledError:
            raise VerifyError("sync has stopped") from None
        except TimeoutError:
            if future.done():
                raise  # raised by the action
            over = time.monotonic() > deadline
            if not (over or stopping()):
                continue
            if not future.cancel():
                future.add_done_callback(lambda done: _undo(done, undo))
            if over:
                raise VerifyError(
                    f"sync did not reach the compared position within {seconds:g} s",
                    "see the phase of sync on /readyz, and the log",
                ) from None
            raise Stopped from None


def _undo(done: Future[T], undo: Callable[[T], None]) -> None:
    with contextlib.suppress(Exception):
        if not done.cancelled() and done.exception() is None:
            undo(done.result())
