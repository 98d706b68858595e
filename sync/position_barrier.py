"""Work that needs the cache at one exact position, as verification and repair do; the sync thread runs it between batches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from analytics.state.store import UNREADABLE, Store

T = TypeVar("T")

NOW = 0  # as a position: between two batches, wherever the cache is


class PassedError(RuntimeError):
    """The cache contains a change from after the requested position, so it can no longer show that position.

    A new slot's position is ahead only if sync waits while the slot is made.
    """


@dataclass(frozen=True)
class BarrierRequest:
    """A request to run `action` on the store when it contains exactly what committed before `lsn`."""

    lsn: int
    action: Callable[[Store], Any]
    future: Future[Any]


class PositionBarrier:
    """Requests from any thread, run by the sync thread. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[BarrierRequest] = []
        self._closed = False

    def request(self, lsn: int, action: Callable[[Store], T]) -> Future[T]:
        """A future of what `action` returns or raises; cancelled if sync ends first."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                future.cancel()
                return future
            self._waiting.append(BarrierRequest(lsn, action, future))
            self._waiting.sort(key=lambda request: request.lsn)
        return future

    @property
    def next_lsn(self) -> int | None:
        """The lowest requested position; None if there is no request."""
        with self._lock:
            return self._waiting[0].lsn if self._waiting else None

    def run(self, store: Store, reached_lsn: int, changed_lsn: int) -> None:
        """Run the requests for positions up to `reached_lsn`; an action's exception goes to its requester.

        `changed_lsn` is the end of the last transaction that changed the store; positions before it can no longer be shown. WAL of other
        tables and databases moves only `reached_lsn`: the store still shows every position up to it.
        """
        while True:
            with self._lock:
                if not self._waiting or self._waiting[0].lsn > reached_lsn:
                    return
                request = self._waiting.pop(0)
            if not request.future.set_running_or_notify_cancel():
                continue
            try:
                if request.lsn != NOW and changed_lsn > request.lsn:
                    raise PassedError("the cache is already past the requested position")
                result = request.action(store)
            except Exception as error:  # noqa: BLE001 - handed to the requester
                store.suspect = store.suspect or isinstance(error, UNREADABLE)
                request.future.set_exception(error)
            else:
                request.future.set_result(result)

    def close(self) -> None:
        """Cancel the waiting requests and all later ones. Idempotent."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
        for request in waiting:
            request.future.cancel()
