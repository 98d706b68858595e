"""Single flight: concurrent questions that have the same answer share one computation in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

from analytics.fair_workers import BacklogFullError, FairWorkers, Requester, Turn
from analytics.state.store import CacheNotReadyError

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


NOBODY = Requester(0)  # where workers are not shared between organizations


class Computation(Generic[Answer]):
    """One computation. `version` is the state of the data when it began; None while it waits for a worker.

    `requesters` are those on whose account it waits, `callers` the number of coroutines that wait for it.
    """

    def __init__(self) -> None:
        self.version: int | None = None
        self.requesters: list[Requester] = []
        self.callers = 0
        self.turn: Turn[Answer] | None = None
        self.future: Future[Answer] | None = None
        self.task: asyncio.Task[Answer]


class SingleFlight(Generic[Key, Answer]):
    """Per key at most one computation runs and one waits. All methods belong to one event loop.

    A caller never gets an answer that began before the data it could have seen: a running computation is shared only
    while `version()` has not moved since it began, otherwise the caller joins the one that follows. A caller that is
    cancelled does not take the others' computation with it; one that nobody waits for any more is not begun. An exception
    reaches everyone who waits and is not kept.
    """

    def __init__(self, workers: Executor | FairWorkers, version: Callable[[], int]) -> None:
        self._workers = workers
        self._version = version
        self._flights: dict[Key, Computation[Answer]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def join(
        self,
        key: Key,
        compute: Callable[[int], Answer],
        landed: Callable[[Key, Answer], None],
        requester: Requester = NOBODY,
    ) -> Answer:
        """The answer for `key`; `compute(version)` runs in a worker, `landed` on the loop once per computation.

        `requester` is on whose account it waits for a worker, where workers are shared fairly.
        Raises what `compute` raises, `CacheNotReadyError` when the workers have been shut down, and `BacklogFullError`.
        """
        flight = self._flights.get(key)
        if flight is None or (flight.version is not None and flight.version != self._version()):
            flight = self._launch(key, flight, compute, landed, requester)
        elif requester not in flight.requesters:
            flight.requesters.append(requester)
            if flight.turn is not None and isinstance(self._workers, FairWorkers):
                self._workers.share(flight.turn, requester)
        flight.callers += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.callers -= 1
            if not flight.callers:
                self._abandon(key, flight)

    def _abandon(self, key: Key, flight: Computation[Answer]) -> None:
        """Nobody waits any more: a computation that has not begun is given up."""
        if flight.future is not None and flight.future.cancel() and self._flights.get(key) is flight:
            del self._flights[key]

    def _launch(
        self,
        key: Key,
        before: Computation[Answer] | None,
        compute: Callable[[int], Answer],
        landed: Callable[[Key, Answer], None],
        requester: Requester,
    ) -> Computation[Answer]:
        flight: Computation[Answer] = Computation()
        flight.requesters.append(requester)

        def begin() -> Answer:
            flight.version = self._version()
            return compute(flight.version)

        async def fly() -> Answer:
            try:
                if before is not None:
                    await asyncio.wait([before.task])
                answer = await self._in_worker(flight, begin)
                landed(key, answer)
                return answer
            finally:
                if self._flights.get(key) is flight:
                    del self._flights[key]

        flight.task = asyncio.get_running_loop().create_task(fly())
        flight.task.add_done_callback(_notice)
        self._flights[key] = flight
        return flight

    async def _in_worker(self, flight: Computation[Answer], begin: Callable[[], Answer]) -> Answer:
        try:
            future = flight.future = self._submit(flight, begin)
        except BacklogFullError:
            raise
        except RuntimeError as error:
            raise CacheNotReadyError("the server is stopping") from error
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if future.cancelled() and task is not None and not task.cancelling():
                # Shut down while it waited for a worker: callers are to hear of that, not to be cancelled.
                raise CacheNotReadyError("the server is stopping") from error
            raise

    def _submit(self, flight: Computation[Answer], begin: Callable[[], Answer]) -> Future[Answer]:
        if not isinstance(self._workers, FairWorkers):
            return self._workers.submit(begin)
        first, *others = flight.requesters
        while True:
            try:
                flight.turn = self._workers.submit(begin, first)
                break
            except BacklogFullError:
                if not others:
                    raise
                first, *others = others  # one caller's backlog is no reason to refuse another
        for requester in others:
            self._workers.share(flight.turn, requester)
        return flight.turn.future


def _notice(task: asyncio.Task[Answer]) -> None:
    # Everyone who waited may have gone; the loop must not report an exception nobody asked for any more.
    if not task.cancelled():
        task.exception()
