"""Worker threads that share their time fairly: between organizations, and within each between its callers.

A caller who asks for a hundred answers waits for them behind everyone else's first. Whoever has used the least computing time
is next; nobody collects credit while idle. A caller and an organization never have more computations under way than their
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

Answer = TypeVar("Answer")


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


class Turn(Generic[Answer]):
    """A computation that waits in the lane of each caller who asked for it; the first lane that comes up starts it."""

    def __init__(self, work: Callable[[], Answer]) -> None:
        self.work = work
        self.future: Future[Answer] = Future()
        self.claimed = False

    def claim(self) -> bool:
        """Whether the computation is this lane's to start: nobody has, and somebody still waits for it."""
        if self.claimed:
            return False
        self.claimed = True
        return self.future.set_running_or_notify_cancel()


class Taker(ABC):
    """Takes turns with others of its kind. `used_seconds` is computing time on the clock that they have in common."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.used_seconds = 0.0
        self.listed = False

    @property
    @abstractmethod
    def wants_turn(self) -> bool:
        """Whether something waits that may be started; there may turn out to be nothing."""


Kind = TypeVar("Kind", bound=Taker)


class Rota(Generic[Kind]):
    """Who is next: of those who want a turn, whoever has used least."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Kind]] = []
        self._serial = itertools.count()
        self._clock_seconds = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, taker: Kind) -> None:
        """List one who wants a turn; one who was idle begins where the others are."""
        if taker.listed or not taker.wants_turn:
            return
        taker.listed = True
        taker.used_seconds = max(taker.used_seconds, self._clock_seconds)
        heapq.heappush(self._heap, (taker.used_seconds, next(self._serial), taker))

    def pop(self) -> Kind | None:
        while self._heap:
            used_seconds, _, taker = heapq.heappop(self._heap)
            if used_seconds < taker.used_seconds:  # charged since it was listed
                heapq.heappush(self._heap, (taker.used_seconds, next(self._serial), taker))
                continue
            taker.listed = False
            self._clock_seconds = max(self._clock_seconds, used_seconds)
            return taker
        return None


class Lane(Taker):
    """A caller's waiting computations, first come first served."""

    def __init__(self, account: Hashable, limit: int, mean_seconds: float) -> None:
        super().__init__(limit)
        self.account = account
        self.waiting: deque[Turn[Any]] = deque()
        self.mean_seconds = mean_seconds

    @property
    def wants_turn(self) -> bool:
        return bool(self.waiting) and self.running < self.limit

    def take(self) -> Turn[Any] | None:
        while self.waiting:
            turn = self.waiting.popleft()
            if turn.claim():
                return turn
        return None


class Tenant(Taker):
    """An organization with computations waiting or under way."""

    def __init__(self, organization_id: int, limit: int) -> None:
        super().__init__(limit)
        self.organization_id = organization_id
        self.lanes: dict[Hashable, Lane] = {}
        self.rota: Rota[Lane] = Rota()
        self.spent_seconds = 0.0  # since it last had nothing to do
        self.rests = 0

    @property
    def wants_turn(self) -> bool:
        return len(self.rota) > 0 and self.running < self.limit and not self.rests

    def take(self) -> tuple[Lane, Turn[Any]] | None:
        """The next computation of a caller below their limit."""
        while (lane := self.rota.pop()) is not None:
            turn = lane.take()
            if turn is not None:
                return lane, turn
            self.forget_if_idle(lane)
        return None

    def forget_if_idle(self, lane: Lane) -> None:
        if not lane.waiting and not lane.running:
            self.lanes.pop(lane.account, None)


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
        self._tenants: dict[int, Tenant] = {}
        self._rota: Rota[Tenant] = Rota()
        self._running = 0
        self._mean_seconds = 0.0
        self._active: OrderedDict[int, float] = OrderedDict()  # organizations by when they last computed
        self._rest = rest or start_timer
        self._closed = False

    def __len__(self) -> int:
        """Organizations with computations waiting or under way."""
        return len(self._tenants)

    def submit(self, work: Callable[[], Answer], requester: Requester) -> Turn[Answer]:
        """Queue a computation. Raises `BacklogFullError`, and RuntimeError after `shutdown`."""
        turn = Turn(work)
        with self._lock:
            if self._closed:
                raise RuntimeError("the workers have been shut down")
            lane = self._lane(requester)
            self._check_backlog(lane)
            self._queue(turn, lane, requester)
        return turn

    def share(self, turn: Turn[Any], requester: Requester) -> None:
        """Another caller waits for the same computation: it starts when the first of them comes up."""
        with self._lock:
            if not (self._closed or turn.claimed):
                lane = self._lane(requester)
                if turn not in lane.waiting:
                    self._queue(turn, lane, requester)

    def shutdown(self) -> None:
        """Cancel what waits; what is under way ends by itself. Idempotent."""
        with self._lock:
            self._closed = True
            lanes = [lane for tenant in self._tenants.values() for lane in tenant.lanes.values()]
            waiting = [turn for lane in lanes for turn in lane.waiting]
            self._tenants.clear()
            self._rota = Rota()
        for turn in waiting:
            turn.future.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    # -- with the lock held ----------------------------------------------------------------------------------------

    def _lane(self, requester: Requester) -> Lane:
        tenant = self._tenants.get(requester.organization_id)
        if tenant is None:
            tenant = Tenant(requester.organization_id, self._shares.per_organization)
            self._tenants[requester.organization_id] = tenant
        lane = tenant.lanes.get(requester.account)
        if lane is None:
            lane = Lane(requester.account, self._shares.per_caller, self._mean_seconds)
            tenant.lanes[requester.account] = lane
        return lane

    def _check_backlog(self, lane: Lane) -> None:
        expected_seconds = len(lane.waiting) * lane.mean_seconds / lane.limit
        if len(lane.waiting) < self._most_waiting and expected_seconds <= self._patience_seconds:
            return
        lane.waiting = deque(turn for turn in lane.waiting if not (turn.claimed or turn.future.cancelled()))
        expected_seconds = len(lane.waiting) * lane.mean_seconds / lane.limit
        if len(lane.waiting) >= self._most_waiting or expected_seconds > self._patience_seconds:
            raise BacklogFullError(max(1, math.ceil(min(expected_seconds, self._patience_seconds) / 2)))

    def _queue(self, turn: Turn[Any], lane: Lane, requester: Requester) -> None:
        lane.waiting.append(turn)
        tenant = self._tenants[requester.organization_id]
        tenant.rota.add(lane)
        self._rota.add(tenant)
        self._dispatch()

    def _dispatch(self) -> None:
        """Start what may start."""
        while self._running < self._threads and (tenant := self._rota.pop()) is not None:
            taken = tenant.take()
            if taken is None:
                self._forget_if_idle(tenant)
                continue
            lane, turn = taken
            expected_seconds = lane.mean_seconds
            for taker in (lane, tenant):
                taker.running += 1
                taker.used_seconds += expected_seconds
            self._running += 1
            tenant.rota.add(lane)
            self._rota.add(tenant)
            self._executor.submit(self._work, tenant, lane, turn, expected_seconds)

    def _rest_after(self, tenant: Tenant, seconds: float) -> None:
        """Let an organization that goes on computing rest, where others have computed just now."""
        now = self._clock()
        self._active[tenant.organization_id] = now
        self._active.move_to_end(tenant.organization_id)
        while next(iter(self._active.values())) < now - ACTIVE_SECONDS:
            self._active.popitem(last=False)
        tenant.spent_seconds += seconds
        if len(self._active) > 1 and tenant.lanes and tenant.spent_seconds > BURST_SECONDS:
            tenant.rests += 1
            self._rest(min(seconds * RESTS_PER_COMPUTATION, LONGEST_REST_SECONDS), partial(self._rested, tenant))

    def _rested(self, tenant: Tenant) -> None:
        with self._lock:
            tenant.rests -= 1
            if not self._closed:
                self._rota.add(tenant)
                self._forget_if_idle(tenant)
                self._dispatch()

    def _forget_if_idle(self, tenant: Tenant) -> None:
        if (
            not tenant.lanes
            and not tenant.running
            and not tenant.rests
            and self._tenants.get(tenant.organization_id) is tenant
        ):
            del self._tenants[tenant.organization_id]

    # -- in a worker -----------------------------------------------------------------------------------------------

    def _work(self, tenant: Tenant, lane: Lane, turn: Turn[Any], expected_seconds: float) -> None:
        began = self._clock()
        try:
            answer = turn.work()
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who waits
            self._finish(tenant, lane, self._clock() - began, expected_seconds)
            turn.future.set_exception(error)
        else:
            self._finish(tenant, lane, self._clock() - began, expected_seconds)
            turn.future.set_result(answer)

    def _finish(self, tenant: Tenant, lane: Lane, seconds: float, expected_seconds: float) -> None:
        """Charge what was used, and start what may start now."""
        with self._lock:
            self._running -= 1
            for taker in (lane, tenant):
                taker.running -= 1
                taker.used_seconds += seconds - expected_seconds
            lane.mean_seconds = running_mean(lane.mean_seconds, seconds)
            self._mean_seconds = running_mean(self._mean_seconds, seconds)
            if self._closed:
                return
            tenant.rota.add(lane)
            tenant.forget_if_idle(lane)
            self._rest_after(tenant, seconds)
            self._rota.add(tenant)
            self._forget_if_idle(tenant)
            self._dispatch()


def start_timer(seconds: float, then: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, then)
    timer.daemon = True
    timer.start()


def running_mean(mean: float, newest: float) -> float:
    return newest if mean == 0.0 else mean + MEAN_WEIGHT * (newest - mean)
