"""No thread and no task ends unnoticed: it is logged, counted, and started again."""

from __future__ import annotations

import asyncio
import threading

import pytest

from analytics.state import background
from analytics.state.background import BackgroundThread, Jobs, keep_running


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.mark.parametrize("ending", ["raises", "returns"])
def test_a_thread_that_ends_by_itself_is_reported_and_started_again(
    ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    jobs, stopping, runs, steady = Jobs(), threading.Event(), [], threading.Event()

    def body() -> None:
        runs.append(1)
        if len(runs) < 3:
            if ending == "raises":
                raise TypeError("a fault of ours")
            return
        steady.set()
        stopping.wait()

    thread = BackgroundThread("worker", body, stopping, jobs)
    thread.start()
    assert steady.wait(20)
    assert jobs.current["worker"].failures == 2
    assert jobs.failing == ("worker",), "it has yet to prove well"
    assert "background job worker failed" in caplog.text
    assert ("a fault of ours" if ending == "raises" else "without being asked to") in caplog.text
    stopping.set()
    thread.join(20)
    assert len(runs) == 3


def test_a_job_counts_as_well_again_after_it_has_run_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs()
    jobs.failed("worker", ValueError("once"))
    assert jobs.failing == ("worker",)
    monkeypatch.setattr(background, "SETTLED_SECONDS", 0.0)
    assert jobs.failing == ("worker",), "it is not running"
    jobs.started("worker")
    assert jobs.failing == ()
    assert jobs.current["worker"].failures == 1


def test_pauses_between_starts_grow_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.5)
    jobs = Jobs()
    pauses = [jobs.failed("worker", ValueError("again")) for _ in range(12)]
    assert pauses[:3] == [0.5, 1.0, 2.0]
    assert pauses[-1] == background.LONGEST_PAUSE_SECONDS


def test_a_task_of_the_event_loop_is_started_again_and_ends_when_it_is_cancelled() -> None:
    jobs, runs = Jobs(), []

    async def body() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise TypeError("a fault of ours")
        await asyncio.Event().wait()

    async def story() -> None:
        task = asyncio.create_task(keep_running("task", body, jobs))
        async with asyncio.timeout(20):
            while len(runs) < 3:
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert jobs.current["task"].failures == 2
