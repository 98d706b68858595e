"""Single computation: concurrent questions that have the same answer share one computation in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

from analytics.fair_workers import BacklogFullError, FairWorkers, QueuedComputation, Requester
from analytics.state.store import CacheNotReadyError

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


UNSHARED = Requester(0)  # where workers are not shared between organizations


class Computation(Generic[Result]):
    """One computation. `version` is the state of the data when it began; None while it waits for a worker.

    `requesters` are those on whose account it waits, `callers` the number of coroutines that wait for it.
    """

    def __init__(self) -> None:
        self.version: int | None = None
        self.requesters: list[Requester] = []
        self.callers = 0
        self.queued: QueuedComputation[Result] | None = None
        self.future: Future[Result] | None = None
        self.task: asyncio.Task[Result]


class SingleFlight(Generic[Key, Result]):
    """Per key at most one computation runs and one waits. All methods belong to one event loop.

    A caller never gets an answer that began before the data it could have seen: a running computation is shared only
    while `version()` has not moved since it began, otherwise the caller joins the one that follows. A caller that is
    cancelled does not take the others' computation with it; a computation that no one waits for any more is not started. An exception
    reaches everyone who waits and is not kept.
    """

    def __init__(self, workers: Executor | FairWorkers, version: Callable[[], int]) -> None:
        self._workers = workers
        self._version = version
        self._computations: dict[Key, Computation[Result]] = {}

    def __len__(self) -> int:
        return len(self._computations)

    async def join(
        self,
        key: Key,
        compute: Callable[[int], Result],
        on_result: Callable[[Key, Result], None],
        requester: Requester = UNSHARED,
    ) -> Result:
        """The answer for `key`; `compute(version)` runs in a worker, `on_result` on the loop once per computation.

        `requester` is on whose account it waits for a worker, where workers are shared fairly.
        Raises what `compute` raises, `CacheNotReadyError` when the workers have been shut down, and `BacklogFullError`.
        """
        computation = self._computations.get(key)
        if computation is None or (computation.version is not None and computation.version != self._version()):
            computation = self._launch(key, computation, compute, on_result, requester)
        elif requester not in computation.requesters:
            computation.requesters.append(requester)
            if computation.queued is not None and isinstance(self._workers, FairWorkers):
                self._workers.share(computation.queued, requester)
        computation.callers += 1
        try:
            return await asyncio.shield(computation.task)
        finally:
            computation.callers -= 1
            if not computation.callers:
                self._abandon(key, computation)

    def _abandon(self, key: Key, computation: Computation[Result]) -> None:
        """Nobody waits any more: a computation that has not begun is given up."""
        if (
            computation.future is not None
            and computation.future.cancel()
            and self._computations.get(key) is computation
        ):
            del self._computations[key]

    def _launch(
        self,
        key: Key,
        before: Computation[Result] | None,
        compute: Callable[[int], Result],
        on_result: Callable[[Key, Result], None],
        requester: Requester,
    ) -> Computation[Result]:
        computation: Computation[Result] = Computation()
        computation.requesters.append(requester)

        def begin() -> Result:
            computation.version = self._version()
            return compute(computation.version)

        async def run() -> Result:
            try:
                if before is not None:
                    await asyncio.wait([before.task])
                result = await self._in_worker(computation, begin)
                on_result(key, result)
                return result
            finally:
                if self._computations.get(key) is computation:
                    del self._computations[key]

        computation.task = asyncio.get_running_loop().create_task(run())
        computation.task.add_done_callback(_retrieve_exception)
        self._computations[key] = computation
        return computation

    async def _in_worker(self, computation: Computation[Result], begin: Callable[[], Result]) -> Result:
        try:
            future = computation.future = self._submit(computation, begin)
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

    def _submit(self, computation: Computation[Result], begin: Callable[[], Result]) -> Future[Result]:
        if not isinstance(self._workers, FairWorkers):
            return self._workers.submit(begin)
        first, *others = computation.requesters
        while True:
            try:
                computation.queued = self._workers.submit(begin, first)
                break
            except BacklogFullError:
                if not others:
                    raise
                first, *others = others  # one caller's backlog is no reason to refuse another
        for requester in others:
            self._workers.share(computation.queued, requester)
        return computation.queued.future


def _retrieve_exception(task: asyncio.Task[Result]) -> None:
    # Everyone who waited may have gone; the loop must not report an exception that no one is waiting for.
    if not task.cancelled():
        task.exception()
