"""Work that must see the cache at one exact position: verification and repair ask, the sync thread does it in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from analytics.state.store import UNREADABLE, Store

T = TypeVar("T")

NOW = 0  # as a position: between the batches at hand, wherever the cache stands


class PassedError(RuntimeError):
    """The cache holds a change from after the position asked for, so it cannot show that position any more.

    A new slot's position is ahead only if sync waits while the slot is made.
    """


@dataclass(frozen=True)
class BarrierRequest:
    """One request: `action` wants the store when it holds exactly what committed before `lsn`."""

    lsn: int
    action: Callable[[Store], Any]
    future: Future[Any]


class PositionBarrier:
    """Requests of any thread, run by the sync thread. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[BarrierRequest] = []
        self._closed = False

    def request(self, lsn: int, action: Callable[[Store], T]) -> Future[T]:
        """A future of what `action` returns or raises; cancelled when sync ends before."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                future.cancel()
                return future
            self._waiting.append(BarrierRequest(lsn, action, future))
            self._waiting.sort(key=lambda hold: hold.lsn)
        return future

    @property
    def next_lsn(self) -> int | None:
        """The nearest position somebody waits for."""
        with self._lock:
            return self._waiting[0].lsn if self._waiting else None

    def run(self, store: Store, reached_lsn: int, changed_lsn: int) -> None:
        """Run what waits for positions up to `reached_lsn`; an action's exception is its requester's.

        `changed_lsn` is the end of the last transaction that changed the store: beyond a position, that position cannot be
        had. WAL of other tables and databases moves only `reached_lsn`: the store still shows every position up to it.
        """
        while True:
            with self._lock:
                if not self._waiting or self._waiting[0].lsn > reached_lsn:
                    return
                hold = self._waiting.pop(0)
            if not hold.future.set_running_or_notify_cancel():
                continue
            try:
                if hold.lsn != NOW and changed_lsn > hold.lsn:
                    raise PassedError("the cache is already past the position asked for")
                result = hold.action(store)
            except Exception as error:  # noqa: BLE001 - handed to the requester
                store.suspect = store.suspect or isinstance(error, UNREADABLE)
                hold.future.set_exception(error)
            else:
                hold.future.set_result(result)

    def close(self) -> None:
        """Cancel what still waits; later requests are cancelled at once. Idempotent."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
        for hold in waiting:
            hold.future.cancel()
