"""Fair sharing of workers: between organizations and callers, with limits, without timing anything."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from analytics.fair_workers import BacklogFullError, FairWorkers, Requester, Shares, default_shares

PATIENCE_SECONDS = 30.0
NOISY, COLLEAGUE, NEIGHBOR = Requester(1, "noisy"), Requester(1, "colleague"), Requester(2, "neighbor")


class SteppedClock:
    """A clock that only a computation moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Held:
    """Computations that say who they are for and wait to be let go on."""

    def __init__(self) -> None:
        self.begun: list[Requester] = []
        self._begun = threading.Condition()
        self._let_go = threading.Semaphore(0)

    def work(self, requester: Requester) -> Callable[[], Requester]:
        def compute() -> Requester:
            with self._begun:
                self.begun.append(requester)
                self._begun.notify_all()
            assert self._let_go.acquire(timeout=PATIENCE_SECONDS)
            return requester

        return compute

    def wait_for(self, count: int) -> Counter[Requester]:
        with self._begun:
            assert self._begun.wait_for(lambda: len(self.begun) >= count, PATIENCE_SECONDS)
            return Counter(self.begun)

    def let_go(self, count: int) -> None:
        self._let_go.release(count)


@contextmanager
def workers(threads: int, shares: Shares, **options: float) -> Iterator[tuple[FairWorkers, Held]]:
    opened, held = FairWorkers(threads, "test", shares, **options), Held()
    try:
        yield opened, held
    finally:
        opened.shutdown()
        held.let_go(10_000)


def test_another_organization_is_next_whatever_waits_before_it() -> None:
    with workers(1, Shares(1, 1)) as (fair, held):
        noisy = [fair.submit(held.work(NOISY), NOISY) for _ in range(100)]
        held.wait_for(1)
        fair.submit(held.work(NEIGHBOR), NEIGHBOR)
        held.let_go(2)
        held.wait_for(3)
        assert held.begun[:3] == [NOISY, NEIGHBOR, NOISY]
        held.let_go(99)
        assert all(turn.future.result(PATIENCE_SECONDS) == NOISY for turn in noisy)


def test_a_colleague_is_next_within_the_organization() -> None:
    with workers(1, Shares(1, 1)) as (fair, held):
        for _ in range(100):
            fair.submit(held.work(NOISY), NOISY)
        held.wait_for(1)
        fair.submit(held.work(COLLEAGUE), COLLEAGUE)
        held.let_go(1)
        held.wait_for(2)
        assert held.begun == [NOISY, COLLEAGUE]


def test_neither_caller_nor_organization_gets_more_than_its_limit_while_workers_are_free() -> None:
    with workers(8, Shares(per_caller=2, per_organization=3)) as (fair, held):
        for _ in range(20):
            fair.submit(held.work(NOISY), NOISY)
        assert held.wait_for(2) == {NOISY: 2}
        for _ in range(20):
            fair.submit(held.work(COLLEAGUE), COLLEAGUE)
        assert held.wait_for(3) == {NOISY: 2, COLLEAGUE: 1}
        fair.submit(held.work(NEIGHBOR), NEIGHBOR)
        assert held.wait_for(4) == {NOISY: 2, COLLEAGUE: 1, NEIGHBOR: 1}, "a free worker takes the neighbor's at once"
        held.let_go(41)
        assert held.wait_for(41) == {NOISY: 20, COLLEAGUE: 20, NEIGHBOR: 1}


@pytest.mark.parametrize(("threads", "expected"), [(1, (1, 1)), (2, (1, 1)), (4, (2, 3)), (16, (8, 15))])
def test_default_limits_leave_a_worker_and_half_of_an_organization_to_others(
    threads: int, expected: tuple[int, int]
) -> None:
    shares = default_shares(threads)
    assert (shares.per_caller, shares.per_organization) == expected


def test_shares_are_of_computing_time_and_not_of_turns() -> None:
    clock = SteppedClock()
    fair = FairWorkers(1, "test", Shares(1, 1), clock=clock)
    order: list[str] = []
    gate = threading.Event()

    def costing(name: str, seconds: float) -> Callable[[], None]:
        def compute() -> None:
            assert gate.wait(PATIENCE_SECONDS)
            order.append(name)
            clock.now += seconds

        return compute

    turns = [fair.submit(costing("heavy", 0.1), NOISY) for _ in range(5)]
    turns += [fair.submit(costing("light", 0.01), NEIGHBOR) for _ in range(30)]
    gate.set()
    for turn in turns:
        turn.future.result(PATIENCE_SECONDS)
    fair.shutdown()
    seconds_of_lights = order[: order.index("heavy", 2)].count("light")
    assert 9 <= seconds_of_lights <= 12, order
    assert order[:33].count("heavy") <= 4, order


def test_who_computes_without_pause_rests_while_others_compute_and_not_when_alone() -> None:
    clock = SteppedClock()
    rests: list[tuple[float, Callable[[], None]]] = []
    fair = FairWorkers(
        2, "test", Shares(1, 1), clock=clock, rest=lambda seconds, then: rests.append((seconds, then))
    )  # fmt: skip

    def costing(seconds: float) -> Callable[[], None]:
        def compute() -> None:
            clock.now += seconds

        return compute

    for turn in [fair.submit(costing(0.25), NOISY) for _ in range(20)]:
        turn.future.result(PATIENCE_SECONDS)
    assert rests == [], "nobody else is there"
    gate = threading.Event()
    fair.submit(lambda: gate.wait(PATIENCE_SECONDS), NOISY)
    fair.submit(costing(0.25), NEIGHBOR).future.result(PATIENCE_SECONDS)  # charged to both, since both were under way
    noisy = [fair.submit(costing(0.25), NOISY) for _ in range(20)]
    gate.set()
    noisy[3].future.result(PATIENCE_SECONDS)  # a burst of a second is free
    assert [seconds for seconds, _ in rests] == [0.75]
    fair.submit(costing(0.25), NEIGHBOR).future.result(PATIENCE_SECONDS)
    assert [turn.claimed for turn in noisy] == [True] * 4 + [False] * 16, "it rests, and its neighbor does not"
    rests[0][1]()
    noisy[4].future.result(PATIENCE_SECONDS)
    assert [turn.claimed for turn in noisy] == [True] * 5 + [False] * 15
    fair.shutdown()


def test_a_shared_computation_starts_in_the_lane_that_comes_up_first_and_runs_once() -> None:
    with workers(1, Shares(1, 1)) as (fair, held):
        for _ in range(50):
            fair.submit(held.work(NOISY), NOISY)
        runs: list[int] = []
        shared = fair.submit(lambda: runs.append(1), NOISY)
        fair.share(shared, COLLEAGUE)
        held.wait_for(1)
        held.let_go(1)
        shared.future.result(PATIENCE_SECONDS)
        assert len(held.begun) <= 2, "it did not wait for the fifty before it"
        held.let_go(50)
        held.wait_for(50)
        assert runs == [1]


def test_a_backlog_that_cannot_be_computed_in_time_is_refused_and_nobody_else_is() -> None:
    clock = SteppedClock()
    fair = FairWorkers(1, "test", Shares(1, 1), patience_seconds=10.0, clock=clock)
    gate = threading.Event()

    def take_a_second() -> None:
        assert gate.wait(PATIENCE_SECONDS)
        clock.now += 1.0

    try:
        gate.set()
        fair.submit(take_a_second, NOISY).future.result(PATIENCE_SECONDS)  # how long one takes is known from here on
        gate.clear()
        fair.submit(take_a_second, NOISY)
        for _ in range(11):
            fair.submit(take_a_second, NOISY)
        with pytest.raises(BacklogFullError) as refused:
            fair.submit(take_a_second, NOISY)
        assert 1 <= refused.value.wait_seconds <= 10
        fair.submit(take_a_second, COLLEAGUE)
        fair.submit(take_a_second, NEIGHBOR)
        gate.set()
    finally:
        fair.shutdown()


def test_most_waiting_bounds_one_caller_and_those_given_up_do_not_count() -> None:
    with workers(1, Shares(1, 1), most_waiting=3) as (fair, held):
        fair.submit(held.work(NOISY), NOISY)
        held.wait_for(1)
        waiting = [fair.submit(held.work(NOISY), NOISY) for _ in range(3)]
        with pytest.raises(BacklogFullError):
            fair.submit(held.work(NOISY), NOISY)
        assert waiting[0].future.cancel()
        last = fair.submit(held.work(NOISY), NOISY)
        held.let_go(4)
        last.future.result(PATIENCE_SECONDS)
        assert len(held.begun) == 4, "the cancelled one never began"


def test_who_is_idle_is_forgotten_and_an_exception_reaches_who_waits() -> None:
    def fail() -> None:
        raise ArithmeticError("broken for once")

    with workers(2, Shares(1, 1)) as (fair, held):
        turns = [fair.submit(fail, Requester(number, "somebody")) for number in range(50)]
        for turn in turns:
            with pytest.raises(ArithmeticError):
                turn.future.result(PATIENCE_SECONDS)
        given_up = fair.submit(held.work(NOISY), NOISY)
        behind = fair.submit(held.work(NOISY), NOISY)
        held.wait_for(1)
        assert behind.future.cancel()
        held.let_go(1)
        given_up.future.result(PATIENCE_SECONDS)
        assert len(fair) == 0


def test_shutdown_cancels_what_waits_and_takes_nothing_more() -> None:
    with workers(1, Shares(1, 1)) as (fair, held):
        running = fair.submit(held.work(NOISY), NOISY)
        held.wait_for(1)
        waiting = fair.submit(held.work(NEIGHBOR), NEIGHBOR)
        fair.shutdown()
        fair.shutdown()
        assert waiting.future.cancelled()
        with pytest.raises(RuntimeError, match="shut down"):
            fair.submit(held.work(NOISY), NOISY)
        held.let_go(1)
        assert running.future.result(PATIENCE_SECONDS) == NOISY
