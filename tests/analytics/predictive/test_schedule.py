"""When outlooks are made: the first for whoever asks, then by the clock and by changed history, never twice for the same."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics.predictive import schedule
from analytics.predictive.forecast_record import FILE, ForecastRecord
from analytics.predictive.schedule import Forecasting
from analytics.state.background import Jobs
from analytics.state.cache import Cache
from analytics.views import Publisher, ViewKey
from config.settings import Settings
from tests.analytics.predictive.counts import rows
from tests.analytics.rows import NOW, Row, action, arrow, filled_cache, fresh_board, settings

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


class Scene:
    """A forecasting over a cache, with a clock that stands until told."""

    def __init__(self, cache: Cache, given: Settings, forecast_record: ForecastRecord) -> None:
        self.cache, self.settings, self.forecast_record = cache, given, forecast_record
        self.now = NOW
        self.forecasting = Forecasting(cache, given, lambda: self.now, forecast_record, Jobs())

    def add(self, actions: list[Row]) -> None:
        store = self.cache.live
        assert store is not None
        store.begin()
        store.append("agent_actions", arrow("agent_actions", actions))
        store.commit(200)
        self.cache.touched("agent_actions")

    async def settled(self) -> None:
        while self.forecasting._tasks:
            await asyncio.gather(*self.forecasting._tasks)


@contextmanager
def scene(given: Settings, actions: list[Row], forecast_record: ForecastRecord | None = None) -> Iterator[Scene]:
    with filled_cache(given, agent_actions=actions) as cache:
        found = Scene(cache, given, forecast_record or ForecastRecord(None))
        try:
            yield found
        finally:
            found.forecasting.close()


def run(claim: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(claim(), 30))  # type: ignore[arg-type]


@pytest.fixture
def eager(tmp_path: Path) -> Settings:
    """Changes of history count at once."""
    return settings(tmp_path / "data", predictive={"refresh_seconds": 0.001})


def history(days: int = 21) -> list[Row]:
    return rows([20] * days, risky=lambda day, number: 5)


def test_whoever_asks_first_waits_for_the_first_outlook_and_the_next_does_not(given: Settings) -> None:
    async def claim() -> None:
        with scene(given, history()) as found:
            await found.forecasting.ready(1)
            first = found.forecasting.outlook(1)
            assert first is not None
            assert first.forecasts is not None
            await found.forecasting.ready(1)
            assert found.forecasting.outlook(1) is first
            assert found.forecasting.status.made == 1

    run(claim)


def test_a_hundred_who_ask_at_once_share_one_computation(given: Settings) -> None:
    async def claim() -> None:
        with scene(given, history()) as found:
            made = []
            original = found.forecasting._make
            found.forecasting._make = lambda org: (made.append(org), original(org))[1]  # type: ignore[method-assign,func-returns-value]
            await asyncio.gather(*(found.forecasting.ready(1) for _ in range(100)))
            assert made == [1]
            assert found.forecasting.status.made == 1

    run(claim)


def test_a_round_makes_an_outlook_for_every_organization_that_acts(given: Settings) -> None:
    async def claim() -> None:
        actions = history() + rows([9] * 6, org=2, first_id=10_000) + [action(99_999, org=3, ago=60 * DAY)]
        with scene(given, actions) as found:
            assert await found.forecasting.round()
            assert found.forecasting.status.outlooks == 2
            assert found.forecasting.outlook(2) is not None
            assert found.forecasting.outlook(3) is None
            assert found.forecasting.status.last_round_seconds is not None

    run(claim)


def test_new_actions_of_today_leave_forecasts_as_they_are(eager: Settings) -> None:
    async def claim() -> None:
        with scene(eager, history()) as found:
            await found.forecasting.ready(1)
            before = found.forecasting.outlook(1)
            found.add([action(70_000 + n, ago=timedelta(minutes=1)) for n in range(50)])
            await asyncio.sleep(0.01)
            await found.forecasting.ready(1)
            await found.settled()
            after = found.forecasting.outlook(1)
            assert before is not None
            assert after is not None
            assert after is not before
            assert after.forecasts is before.forecasts
            assert after.anomalies is before.anomalies

    run(claim)


def test_a_changed_past_changes_the_forecast_and_meanwhile_the_old_one_is_shown(eager: Settings) -> None:
    async def claim() -> None:
        with scene(eager, history()) as found:
            await found.forecasting.ready(1)
            before = found.forecasting.outlook(1)
            found.add(rows([30] * 10, risky=lambda day, number: number, first_id=50_000))
            await asyncio.sleep(0.01)
            await found.forecasting.ready(1)
            assert found.forecasting.outlook(1) is before
            await found.settled()
            after = found.forecasting.outlook(1)
            assert before is not None
            assert before.forecasts is not None
            assert after is not None
            assert after.forecasts is not None
            assert after.forecasts.risk[0].point > before.forecasts.risk[0].point + 5

    run(claim)


def test_enough_history_that_arrives_later_is_waited_for(given: Settings) -> None:
    async def claim() -> None:
        with scene(given, history(2)) as found:
            await found.forecasting.ready(1)
            first = found.forecasting.outlook(1)
            assert first is not None
            assert first.forecasts is None
            found.add(rows([20] * 20, first_id=30_000))
            found.forecasting._checked_at[1] -= schedule.CHECK_SECONDS
            await found.forecasting.ready(1)
            second = found.forecasting.outlook(1)
            assert second is not None
            assert second.forecasts is not None

    run(claim)


def test_the_next_day_brings_new_forecasts_and_scores_for_the_old(given: Settings) -> None:
    async def claim() -> None:
        with scene(given, history()) as found:
            await found.forecasting.round()
            found.add([action(80_000 + n, ago=-9 * HOUR, risk_level="high") for n in range(6)])
            found.now = NOW + DAY
            await found.forecasting.round()
            found.now = NOW + 2 * DAY
            await found.forecasting.round()
            outlook = found.forecasting.outlook(1)
            assert outlook is not None
            assert outlook.forecasts is not None
            assert outlook.forecasts.risk[0].day == NOW.date() + 3 * DAY
            # Issued on the 15th for the 16th on; the 16th is over and had nothing, the evening of the 15th had six.
            score = outlook.accuracy.high_risk
            assert score.forecasts_scored == 1
            assert score.within_band == 0
            assert score.mean_absolute_error == pytest.approx(5, abs=0.6)
            assert outlook.accuracy.workload.forecasts_scored == 1
            assert found.forecasting.status.accuracy.high_risk.forecasts_scored == 1

    run(claim)


def test_the_schedule_starts_by_itself_and_again_after_the_hour(
    given: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "CHECK_SECONDS", 0.01)

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.005)

    async def claim() -> None:
        with scene(given, history()) as found:
            found.forecasting.start()
            await until(lambda: found.forecasting.outlook(1) is not None)
            first = found.forecasting.outlook(1)
            assert first is not None
            found.now = NOW + HOUR
            await until(lambda: found.forecasting.outlook(1) is not first)
            second = found.forecasting.outlook(1)
            assert second is not None
            assert second.hours_end == first.hours_end + HOUR
            assert second.forecasts is first.forecasts

    run(claim)


def test_a_failure_leaves_the_old_outlook_is_counted_and_ends_nothing(
    eager: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim() -> None:
        with scene(eager, history()) as found:
            await found.forecasting.ready(1)
            before = found.forecasting.outlook(1)

            def broken(*_: Any) -> Any:
                raise ArithmeticError("for this test")

            monkeypatch.setattr(schedule, "make_forecasts", broken)
            found.add(rows([20] * 3, first_id=30_000))
            assert await found.forecasting.round()
            assert found.forecasting.outlook(1) is before
            assert found.forecasting.status.failures == 1
            assert caplog.text.count("could not be made") == 1
            assert "outlook of organization 1 could not be made" in caplog.text

    run(claim)


def test_a_record_that_cannot_be_written_costs_the_scores_alone(
    given: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def claim() -> None:
        forecast_record = ForecastRecord(tmp_path)
        blocker = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        forecast_record._database.execute("pragma busy_timeout = 1")
        blocker.execute("begin exclusive")
        with scene(given, history(), forecast_record) as found:
            await found.forecasting.ready(1)
            outlook = found.forecasting.outlook(1)
            assert outlook is not None
            assert outlook.forecasts is not None
            assert "cannot be recorded" in caplog.text
        blocker.close()

    run(claim)


def test_the_event_loop_is_free_while_an_outlook_is_made(given: Settings) -> None:
    async def claim() -> None:
        with scene(given, history()) as found:
            entered, gate = threading.Event(), threading.Event()
            original = found.forecasting._make

            def gated(org: int) -> Any:
                entered.set()
                assert gate.wait(20)
                return original(org)

            found.forecasting._make = gated  # type: ignore[method-assign]
            waiting = asyncio.ensure_future(found.forecasting.ready(1))
            while not entered.is_set():
                await asyncio.sleep(0.001)
            publisher = Publisher(found.cache, fresh_board(), given, lambda: NOW, None, found.forecasting)
            assert (await publisher.get(ViewKey("trends", 1))).body
            assert not waiting.done()
            gate.set()
            await waiting
            assert b'"status":"active"' in (await publisher.get(ViewKey("predictive", 1))).body
            publisher.close()

    run(claim)


def test_after_close_nothing_is_made_and_nobody_waits(given: Settings) -> None:
    async def claim() -> None:
        with scene(given, history()) as found:
            found.forecasting.close()
            await found.forecasting.ready(1)
            assert found.forecasting.outlook(1) is None
            assert not await found.forecasting.round()

    run(claim)


def test_dos_02_a_hundred_thousand_agents_cost_bounded_time_and_the_busiest_are_right(given: Settings) -> None:
    async def claim() -> None:
        crowd = [action(n, ago=DAY * (1 + n % 20) + HOUR * (n % 10), agent_id=f"a{n}") for n in range(100_000)]
        busy = rows([30] * 20, agent="busy", first_id=200_000)
        with scene(given, crowd + busy) as found:
            await found.forecasting.ready(1)
            outlook = found.forecasting.outlook(1)
            assert outlook is not None
            assert outlook.forecasts is not None
            assert len(outlook.forecasts.workload) == 10
            assert outlook.forecasts.workload[0].agent_id == "busy"
            assert len([one for one in outlook.anomalies if one.type == "new_agent"]) <= 20

    run(claim)
