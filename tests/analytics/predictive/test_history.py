"""Histories against a count made here, row by row."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from analytics.predictive.history import HOURLY_WINDOW, read_days, read_hours
from config.settings import Settings
from tests.analytics.rows import NOW, Row, action, filled_cache

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TODAY = datetime(2025, 1, 15, tzinfo=UTC)
ELEVATED = {"high", "critical"}


def scattered(seed: int, number: int = 3000) -> list[Row]:
    """Rows at odd moments: edges of days and hours, no time, other organizations, the future."""
    chance = random.Random(seed)
    edges = [timedelta(0), timedelta(microseconds=1), -timedelta(microseconds=1)]
    found = []
    for row in range(number):
        at = TODAY - chance.randrange(90) * DAY + chance.randrange(24) * HOUR + chance.choice(edges)
        if chance.random() < 0.5:
            at += chance.random() * HOUR
        found.append(
            action(
                row,
                org=chance.choice((1, 1, 1, 2)),
                agent_id=f"agent-{min(int(chance.expovariate(0.3)), 14):02}",
                risk_level=chance.choice(("low", "HIGH", " critical ", "medium", None, "urgent")),
                is_false_positive=chance.choice((None, False, True)),
                timestamp=None if chance.random() < 0.02 else at,
                created_at=at if chance.random() < 0.5 else None,
            )
        )
    return found


def time_of(row: Row) -> datetime | None:
    return row["timestamp"] or row["created_at"]


def first_complete(moments: Iterable[datetime]) -> date:
    """The first day of a series of which no more than the first hour may be missing."""
    first = min(moments)
    return first.date() if first.hour == 0 else first.date() + DAY


def is_elevated(row: Row) -> bool:
    return str(row["risk_level"]).strip().lower() in ELEVATED and row["is_false_positive"] is not True


def test_days_equal_a_count_row_by_row(given: Settings) -> None:
    rows = scattered(1)
    with filled_cache(given, agent_actions=rows) as cache, cache.read(30) as snapshot:
        days = read_days(snapshot.of(1), NOW, False, ["agent-13", "nobody"])
    assert days is not None
    own = [(at, row) for row in rows if row["organization_id"] == 1 and (at := time_of(row)) is not None and at < TODAY]
    first = first_complete(at for at, _ in own)
    assert days.organization.start == first
    counted = Counter(at.date() for at, _ in own)
    elevated = Counter(at.date() for at, row in own if is_elevated(row))
    dates = [first + n * DAY for n in range((TODAY.date() - first).days)]
    assert days.organization.actions.tolist() == [counted[day] for day in dates]
    assert days.organization.elevated.tolist() == [elevated[day] for day in dates]
    month = Counter(row["agent_id"] for at, row in own if at >= TODAY - 30 * DAY)
    assert list(days.busiest) == [name for name, _ in sorted(month.items(), key=lambda one: (-one[1], one[0]))[:10]]
    assert set(days.agents) == {*days.busiest, "agent-13", "nobody"}
    for name, counts in days.agents.items():
        of_agent = Counter(at.date() for at, row in own if row["agent_id"] == name)
        if of_agent:
            assert counts.start == first_complete(at for at, row in own if row["agent_id"] == name)
        assert counts.actions.sum() == sum(number for day, number in of_agent.items() if day >= counts.start)
        for day in dates:
            if day < counts.start:
                continue
            found = counts.on(day)
            assert (found[0] if found is not None else 0) == of_agent[day]
    assert days.agents["nobody"].actions.sum() == 0


def test_hours_equal_a_count_row_by_row(given: Settings) -> None:
    rows = scattered(2)
    end = NOW.replace(minute=0, second=0, microsecond=0)
    with filled_cache(given, agent_actions=rows) as cache, cache.read(30) as snapshot:
        hours = read_hours(snapshot.of(1), NOW, False)
    own = [(at, row) for row in rows if row["organization_id"] == 1 and (at := time_of(row)) is not None]
    inside = [(at, row) for at, row in own if end - HOURLY_WINDOW <= at < end]
    assert hours.end == end
    for name, counts in [(None, hours.organization), *hours.agents.items()]:
        expected = np.zeros(HOURLY_WINDOW // HOUR)
        risky = np.zeros_like(expected)
        for at, row in inside:
            if name is None or row["agent_id"] == name:
                place = (at - (end - HOURLY_WINDOW)) // HOUR
                expected[place] += 1
                risky[place] += is_elevated(row)
        assert counts.elevated is not None
        assert counts.actions.tolist() == expected.tolist(), name
        assert counts.elevated.tolist() == risky.tolist(), name
    assert hours.established == min(at for at, _ in own if at < NOW)
    first_seen: dict[str, datetime] = {}
    for at, row in own:
        if at < NOW:
            first_seen[row["agent_id"]] = min(at, first_seen.get(row["agent_id"], at))
    assert hours.first_seen == {name: at for name, at in first_seen.items() if at >= NOW - 7 * DAY}


def test_nothing_before_today_is_no_history(given: Settings) -> None:
    with (
        filled_cache(given, agent_actions=[action(1), action(2, org=2, ago=3 * DAY)]) as cache,
        cache.read(30) as snapshot,
    ):
        assert read_days(snapshot.of(1), NOW, False) is None
        hours = read_hours(snapshot.of(1), NOW, False)
        assert hours.organization.actions.sum() == 0
        assert list(hours.first_seen) == ["agent-1"]


def test_the_digest_tells_changed_counts_from_equal_ones(given: Settings) -> None:
    rows = scattered(3, 400)
    digests = []
    for changed in (rows, list(reversed(rows)), [*rows, action(9999, ago=5 * DAY)]):
        with filled_cache(given, agent_actions=changed) as cache, cache.read(30) as snapshot:
            days = read_days(snapshot.of(1), NOW, False)
            assert days is not None
            digests.append((days.digest, read_hours(snapshot.of(1), NOW, False).digest))
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]
    assert digests[0][1] != digests[2][1]


@pytest.mark.parametrize(
    ("began", "complete"), [(timedelta(minutes=59), 5), (timedelta(hours=1), 4), (timedelta(hours=23), 4)]
)
def test_the_day_on_which_a_history_began_is_no_full_day(given: Settings, began: timedelta, complete: int) -> None:
    start = TODAY - 5 * DAY
    rows = [action(1, timestamp=start + began)]
    rows += [action(10 * day + n, timestamp=start + day * DAY + n * HOUR) for day in range(1, 5) for n in range(8)]
    with filled_cache(given, agent_actions=rows) as cache, cache.read(30) as snapshot:
        days = read_days(snapshot.of(1), NOW, False)
    assert days is not None
    assert len(days.organization.actions) == complete
    assert days.organization.actions[-4:].tolist() == [8] * 4
    assert len(days.agents["agent-1"].actions) == complete


def test_an_agent_that_has_had_its_first_day_only_is_judged_by_it(given: Settings) -> None:
    rows = [action(day, timestamp=TODAY - day * DAY) for day in range(1, 10)]
    rows += [action(100 + n, agent_id="newcomer", timestamp=TODAY - 3 * HOUR) for n in range(6)]
    with filled_cache(given, agent_actions=rows) as cache, cache.read(30) as snapshot:
        days = read_days(snapshot.of(1), NOW, False)
    assert days is not None
    assert days.agents["newcomer"].actions.tolist() == [6]
