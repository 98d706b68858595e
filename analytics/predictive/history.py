"""What the cache holds of one organization's past: daily and hourly counts as arrays, empty days and hours filled. Pure.

Days and hours are UTC and complete: today and the current hour are never part of a history, nor is the day on which a
series began, unless it began within the day's first hour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np

from analytics.calendar import aware_utc, midnight, naive_utc
from analytics.predictive.anomalies.detection import HourlyCounts
from analytics.predictive.forecasting.classical import Counts
from analytics.state.snapshot import ScopedSnapshot

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
HISTORY = 1096 * DAY  # three years, for the season
BUSIEST_WINDOW = 30 * DAY
BUSIEST = 10
HOURLY_WINDOW = 70 * DAY  # a week reported, eight weeks of spread before it, and a margin
WATCHED = 200  # agents whose hours are watched, the busiest of the hourly window
NEW_WINDOW = 7 * DAY
MOST_NEW = 20


@dataclass(frozen=True, slots=True)
class DailyCounts:
    """Counts of consecutive UTC days, `start` the first; `elevated` are those of high or critical risk."""

    start: date
    actions: Counts
    elevated: Counts

    def on(self, day: date) -> tuple[float, float] | None:
        """(actions, elevated) of a day; None where the history does not reach it."""
        place = (day - self.start).days
        return (float(self.actions[place]), float(self.elevated[place])) if 0 <= place < len(self.actions) else None


@dataclass(frozen=True, slots=True)
class Days:
    """Complete days before `today`. `agents` by name: the busiest ten first, then those that were asked for beside."""

    today: date
    organization: DailyCounts
    agents: dict[str, DailyCounts]
    busiest: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Equal for equal counts."""
        parts: list[object] = [
            self.today,
            self.organization.start,
            self.organization.actions,
            self.organization.elevated,
        ]
        for name in self.busiest:
            counts = self.agents[name]
            parts += [name, counts.start, counts.actions, counts.elevated]
        return digest(parts)


@dataclass(frozen=True, slots=True)
class Hours:
    """Complete hours before `end` (aware UTC) and the agents that are new; `established`: the organization's first action."""

    end: datetime
    organization: HourlyCounts
    agents: dict[str, HourlyCounts]
    first_seen: dict[str, datetime]
    established: datetime | None

    @property
    def digest(self) -> str:
        """Equal for equal counts."""
        parts: list[object] = [self.end, self.organization.actions, self.organization.elevated, self.established]
        for name, counts in self.agents.items():
            parts += [name, counts.actions, counts.elevated]
        return digest([*parts, *self.first_seen.items()])


def read_days(snapshot: ScopedSnapshot, now: datetime, counting: bool, also: Sequence[str] = ()) -> Days | None:
    """The daily counts up to yesterday; None where no complete day has an action.

    `counting`: whether false positives count as elevated risk. `also`: agents to read beside the ten busiest of the last
    30 days.
    """
    today = midnight(now)
    rows = snapshot.rows("organization_days", start=today - HISTORY, end=today, count_false_positives=counting)
    ((first,),) = snapshot.rows("first_action", end=today)
    if not rows or first is None or complete_from(first) >= today.date():
        return None
    organization = daily(rows, max(complete_from(first), (today - HISTORY).date()), today.date())
    names = snapshot.rows("top_agents", start=today - BUSIEST_WINDOW, end=today, size=BUSIEST)
    busiest = tuple(str(name) for name, _ in names)
    wanted = list(dict.fromkeys([*busiest, *also]))
    by_agent: dict[str, list[tuple[date, int, int]]] = {name: [] for name in wanted}
    for name, day, actions, elevated in snapshot.rows(
        "agent_days", start=today - HISTORY, end=today, agents=wanted, count_false_positives=counting
    ):
        by_agent[name].append((day, actions, elevated))
    began = {
        str(name): complete_from(first)
        for name, first in snapshot.rows("agents_first_action", end=today, agents=wanted)
    }
    yesterday = (today - DAY).date()
    agents = {
        # What an agent did on its only day is all there is to go by, complete or not.
        name: daily(
            found, min(max(began.get(name, organization.start), (today - HISTORY).date()), yesterday), today.date()
        )
        for name, found in by_agent.items()
    }
    return Days(today.date(), organization, agents, busiest)


def read_hours(snapshot: ScopedSnapshot, now: datetime, counting: bool) -> Hours:
    """The hourly counts up to the last complete hour of the organization and its 200 busiest agents."""
    end = naive_utc(now).replace(minute=0, second=0, microsecond=0)
    start = end - HOURLY_WINDOW
    window = {"start": start, "end": end}
    ((first,),) = snapshot.rows("first_action", end=naive_utc(now))
    names = [str(name) for name, _ in snapshot.rows("top_agents", **window, size=WATCHED)]
    new = snapshot.rows("new_agents", start=naive_utc(now) - NEW_WINDOW, end=naive_utc(now), size=MOST_NEW)
    names = list(dict.fromkeys([*names, *(str(name) for name, _ in new)]))
    by_agent: dict[str, list[tuple[int, int, int]]] = {name: [] for name in names}
    for name, hour, actions, elevated in snapshot.rows(
        "agent_hours", **window, agents=names, count_false_positives=counting
    ):
        by_agent[name].append((hour, actions, elevated))
    whole = snapshot.rows("organization_hours", **window, count_false_positives=counting)
    return Hours(
        end.replace(tzinfo=UTC),
        hourly(whole, start),
        {name: hourly(rows, start) for name, rows in by_agent.items()},
        {str(name): seen.replace(tzinfo=UTC) for name, seen in new},
        aware_utc(first),
    )


def complete_from(first: datetime) -> date:
    """The first complete day of a series whose first action is `first` (naive UTC)."""
    day = first.date()
    return day if first - datetime.combine(day, time()) < HOUR else day + DAY


def daily(rows: Sequence[tuple[date, int, int]], start: date, today: date) -> DailyCounts:
    """(day, actions, elevated) rows as consecutive days from `start` to the day before `today`; earlier ones are left out."""
    actions = np.zeros((today - start).days)
    elevated = np.zeros_like(actions)
    for day, number, risky in rows:
        if day < start:
            continue
        actions[(day - start).days] = number
        elevated[(day - start).days] = risky
    return DailyCounts(start, actions, elevated)


def hourly(rows: Sequence[tuple[int, int, int]], start: datetime) -> HourlyCounts:
    """(hour since 1970, actions, elevated) rows as the consecutive hours of the hourly window from `start` (naive UTC)."""
    first = (start - datetime(1970, 1, 1)) // HOUR  # noqa: DTZ001 - the cache's own times
    actions = np.zeros(HOURLY_WINDOW // HOUR)
    elevated = np.zeros_like(actions)
    for hour, number, risky in rows:
        actions[hour - first] = number
        elevated[hour - first] = risky
    return HourlyCounts(actions, elevated)


def digest(parts: Iterable[object]) -> str:
    """A fingerprint of arrays and plain values in their order."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()
