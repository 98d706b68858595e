"""Worker threads that share their time fairly: between organizations, and within each between its callers.

A caller who asks for a hundred answers waits for them behind everyone else's first. Whoever has used the least computing time
is next; idle time earns no credit. A caller and an organization never have more computations under way than their
limits, so that a worker is left for the others. An organization that computes without pause rests in between while others
compute too: cores and the interpreter are shared beyond the queue. A caller whose waiting computations could not be done in
time is refused at once, judged by how long their computations take on this machine.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

BURST_SECONDS = 1.0  # of computing by one organization without a pause, before it rests
RESTS_PER_COMPUTATION = 3.0  # a rest beside the computation before it: a quarter of one worker is left to who rests
LONGEST_REST_SECONDS = 1.0
ACTIVE_SECONDS = 2.0  # an organization that computed so recently is one that others make room for
MEAN_WEIGHT = 0.2  # of the newest duration in a running mean

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Requester:
    """For whom an answer is computed. `account` None: for all of the organization, such as its live updates."""

    organization_id: int
    account: Hashable = None


@dataclass(frozen=True, slots=True)
class Shares:
    """How many computations may be under way at once: of one caller, and of one organization. Both at least 1."""

    per_caller: int
    per_organization: int


def default_shares(threads: int) -> Shares:
    """One worker stays free for other organizations, and half of what an organization gets for its other callers."""
    per_organization = max(1, threads - 1)
    return Shares(max(1, math.ceil(per_organization / 2)), per_organization)


class BacklogFullError(RuntimeError):
    """The caller already waits for more than can be computed in time; `wait_seconds` (at least 1) until it is worth asking."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(f"too many computations are waiting; ask again in {wait_seconds} s")
        self.wait_seconds = wait_seconds


class QueuedComputation(Generic[Result]):
    """A computation that waits in the queue of each caller who requested it; the first queue to be served starts it."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self.work = work
        self.future: Future[Result] = Future()
        self.claimed = False

    def claim(self) -> bool:
        """Whether the caller must start the computation: it has not started and is still wanted."""
        if self.claimed:
            return False
        self.claimed = True
        return self.future.set_running_or_notify_cancel()


class TimeShare(ABC):
    """A queue that shares computing time with its siblings. `used_seconds` is compared between siblings."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.used_seconds = 0.0
        self.listed = False

    @property
    @abstractmethod
    def has_work(self) -> bool:
        """Whether a waiting computation may start; all of them may turn out to be cancelled."""


Share = TypeVar("Share", bound=TimeShare)


class LeastUsedQueue(Generic[Share]):
    """Serves the queue with work that has used the least computing time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Share]] = []
        self._serial = itertools.count()
        self._clock_seconds = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, share: Share) -> None:
        """Add a queue that has work. One that was idle gets no credit for the time it was idle."""
        if share.listed or not share.has_work:
            return
        share.listed = True
        share.used_seconds = max(share.used_seconds, self._clock_seconds)
        heapq.heappush(self._heap, (share.used_seconds, next(self._serial), share))

    def pop(self) -> Share | None:
        while self._heap:
            used_seconds, _, share = heapq.heappop(self._heap)
            if used_seconds < share.used_seconds:  # charged since it was listed
                heapq.heappush(self._heap, (share.used_seconds, next(self._serial), share))
                continue
            share.listed = False
            self._clock_seconds = max(self._clock_seconds, used_seconds)
            return share
        return None


class CallerQueue(TimeShare):
    """A caller's waiting computations, first come first served."""

    def __init__(self, account: Hashable, limit: int, mean_seconds: float) -> None:
        super().__init__(limit)
        self.account = account
        self.waiting: deque[QueuedComputation[Any]] = deque()
        self.mean_seconds = mean_seconds

    @property
    def has_work(self) -> bool:
        return bool(self.waiting) and self.running < self.limit

    def take(self) -> QueuedComputation[Any] | None:
        while self.waiting:
            computation = self.waiting.popleft()
            if computation.claim():
                return computation
        return None


class OrganizationQueue(TimeShare):
    """An organization with computations waiting or under way."""

    def __init__(self, organization_id: int, limit: int) -> None:
        super().__init__(limit)
        self.organization_id = organization_id
        self.callers: dict[Hashable, CallerQueue] = {}
        self.callers_by_use: LeastUsedQueue[CallerQueue] = LeastUsedQueue()
        self.spent_seconds = 0.0  # since it last had nothing to do
        self.rests = 0

    @property
    def has_work(self) -> bool:
        return len(self.callers_by_use) > 0 and self.running < self.limit and not self.rests

    def take(self) -> tuple[CallerQueue, QueuedComputation[Any]] | None:
        """The next computation of a caller below their limit."""
        while (caller := self.callers_by_use.pop()) is not None:
            computation = caller.take()
            if computation is not None:
                return caller, computation
            self.forget_if_idle(caller)
        return None

    def forget_if_idle(self, caller: CallerQueue) -> None:
        if not caller.waiting and not caller.running:
            self.callers.pop(caller.account, None)


class FairWorkers:
    """`threads` workers for the computations of many callers. `submit` and `share` may be called from any thread.

    `patience_seconds` is how long a caller may have to wait behind their own computations; `most_waiting` bounds their number.
    `clock` is a steady clock in seconds; `rest(seconds, then)` calls `then` after so long, by default from a timer's thread.
    """

    def __init__(
        self,
        threads: int,
        name: str,
        shares: Shares,
        patience_seconds: float = math.inf,
        most_waiting: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        rest: Callable[[float, Callable[[], None]], None] | None = None,
    ) -> None:
        self._clock = clock
        self._threads = threads
        self._shares = shares
        self._patience_seconds = patience_seconds
        self._most_waiting = most_waiting
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._organizations: dict[int, OrganizationQueue] = {}
        self._organizations_by_use: LeastUsedQueue[OrganizationQueue] = LeastUsedQueue()
        self._running = 0
        self._mean_seconds = 0.0
        self._active: OrderedDict[int, float] = OrderedDict()  # organizations by when they last computed
        self._rest = rest or start_timer
        self._closed = False

    def __len__(self) -> int:
        """Organizations with computations waiting or under way."""
        return len(self._organizations)

    def submit(self, work: Callable[[], Result], requester: Requester) -> QueuedComputation[Result]:
        """Queue a computation. Raises `BacklogFullError`, and RuntimeError after `shutdown`."""
        computation = QueuedComputation(work)
        with self._lock:
            if self._closed:
                raise RuntimeError("the workers have been shut down")
            caller = self._caller(requester)
            self._check_backlog(caller)
            self._queue(computation, caller, requester)
        return computation

    def share(self, computation: QueuedComputation[Any], requester: Requester) -> None:
        """Another caller waits for the same computation: it starts when the first of them comes up."""
        with self._lock:
            if not (self._closed or computation.claimed):
                caller = self._caller(requester)
                if computation not in caller.waiting:
                    self._queue(computation, caller, requester)

    def shutdown(self) -> None:
        """Cancel what waits; what is under way ends by itself. Idempotent."""
        with self._lock:
            self._closed = True
            callers = [
                caller for organization in self._organizations.values() for caller in organization.callers.values()
            ]
            waiting = [computation for caller in callers for computation in caller.waiting]
            self._organizations.clear()
            self._organizations_by_use = LeastUsedQueue()
        for computation in waiting:
            computation.future.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    # -- with the lock held ----------------------------------------------------------------------------------------

    def _caller(self, requester: Requester) -> CallerQueue:
        organization = self._organizations.get(requester.organization_id)
        if organization is None:
            organization = OrganizationQueue(requester.organization_id, self._shares.per_organization)
            self._organizations[requester.organization_id] = organization
        caller = organization.callers.get(requester.account)
        if caller is None:
            caller = CallerQueue(requester.account, self._shares.per_caller, self._mean_seconds)
            organization.callers[requester.account] = caller
        return caller

    def _check_backlog(self, caller: CallerQueue) -> None:
        expected_seconds = len(caller.waiting) * caller.mean_seconds / caller.limit
        if len(caller.waiting) < self._most_waiting and expected_seconds <= self._patience_seconds:
            return
        caller.waiting = deque(
            computation for computation in caller.waiting if not (computation.claimed or computation.future.cancelled())
        )
        expected_seconds = len(caller.waiting) * caller.mean_seconds / caller.limit
        if len(caller.waiting) >= self._most_waiting or expected_seconds > self._patience_seconds:
            raise BacklogFullError(max(1, math.ceil(min(expected_seconds, self._patience_seconds) / 2)))

    def _queue(self, computation: QueuedComputation[Any], caller: CallerQueue, requester: Requester) -> None:
        caller.waiting.append(computation)
        organization = self._organizations[requester.organization_id]
        organization.callers_by_use.add(caller)
        self._organizations_by_use.add(organization)
        self._dispatch()

    def _dispatch(self) -> None:
        """Start what may start."""
        while self._running < self._threads and (organization := self._organizations_by_use.pop()) is not None:
            taken = organization.take()
            if taken is None:
                self._forget_if_idle(organization)
                continue
            caller, computation = taken
            expected_seconds = caller.mean_seconds
            for share in (caller, organization):
                share.running += 1
                share.used_seconds += expected_seconds
            self._running += 1
            organization.callers_by_use.add(caller)
            self._organizations_by_use.add(organization)
            self._executor.submit(self._work, organization, caller, computation, expected_seconds)

    def _rest_after(self, organization: OrganizationQueue, seconds: float) -> None:
        """Let an organization that goes on computing rest, where others have computed just now."""
        now = self._clock()
        self._active[organization.organization_id] = now
        self._active.move_to_end(organization.organization_id)
        while next(iter(self._active.values())) < now - ACTIVE_SECONDS:
            self._active.popitem(last=False)
        organization.spent_seconds += seconds
        if len(self._active) > 1 and organization.callers and organization.spent_seconds > BURST_SECONDS:
            organization.rests += 1
            self._rest(min(seconds * RESTS_PER_COMPUTATION, LONGEST_REST_SECONDS), partial(self._rested, organization))

    def _rested(self, organization: OrganizationQueue) -> None:
        with self._lock:
            organization.rests -= 1
            if not self._closed:
                self._organizations_by_use.add(organization)
                self._forget_if_idle(organization)
                self._dispatch()

    def _forget_if_idle(self, organization: OrganizationQueue) -> None:
        if (
            not organization.callers
            and not organization.running
            and not organization.rests
            and self._organizations.get(organization.organization_id) is organization
        ):
            del self._organizations[organization.organization_id]

    # -- in a worker -----------------------------------------------------------------------------------------------

    def _work(
        self,
        organization: OrganizationQueue,
        caller: CallerQueue,
        computation: QueuedComputation[Any],
        expected_seconds: float,
    ) -> None:
        began = self._clock()
        try:
            result = computation.work()
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who waits
            self._finish(organization, caller, self._clock() - began, expected_seconds)
            computation.future.set_exception(error)
        else:
            self._finish(organization, caller, self._clock() - began, expected_seconds)
            computation.future.set_result(result)

    def _finish(
        self, organization: OrganizationQueue, caller: CallerQueue, seconds: float, expected_seconds: float
    ) -> None:
        """Charge what was used, and start what may start now."""
        with self._lock:
            self._running -= 1
            for share in (caller, organization):
                share.running -= 1
                share.used_seconds += seconds - expected_seconds
            caller.mean_seconds = running_mean(caller.mean_seconds, seconds)
            self._mean_seconds = running_mean(self._mean_seconds, seconds)
            if self._closed:
                return
            organization.callers_by_use.add(caller)
            organization.forget_if_idle(caller)
            self._rest_after(organization, seconds)
            self._organizations_by_use.add(organization)
            self._forget_if_idle(organization)
            self._dispatch()


def start_timer(seconds: float, then: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, then)
    timer.daemon = True
    timer.start()


def running_mean(mean: float, newest: float) -> float:
    return newest if mean == 0.0 else mean + MEAN_WEIGHT * (newest - mean)
