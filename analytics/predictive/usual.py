"""What is usual for a day, and whether a forecast lies above or below it. Pure."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

from analytics.predictive.classical import Counts

Trend = Literal["increasing", "stable", "decreasing"]

WEEK = 7
WEEKS = 4
WEEKDAYS_FROM_DAYS = 14  # with fewer days a weekday was seen once at the most
NOTICEABLE_SHARE = 0.10
NOTICEABLE_COUNT = 1.0


def usual(values: Counts, day: date, start: date) -> float:
    """Mean count of the weekday of `day` in the last four weeks of a history that begins on `start`.

    Of all of the last 14 days where the history has fewer than 14.
    """
    if len(values) < WEEKDAYS_FROM_DAYS:
        return float(values[-WEEKDAYS_FROM_DAYS:].mean())
    recent = values[-WEEK * WEEKS :]
    first = start + timedelta(days=len(values) - len(recent))
    return float(recent[(day - first).days % WEEK :: WEEK].mean())


def trend(point: float, usual_count: float) -> Trend:
    """Whether a forecast differs from what is usual by at least a tenth and at least one action."""
    difference = point - usual_count
    if abs(difference) < max(NOTICEABLE_COUNT, NOTICEABLE_SHARE * usual_count):
        return "stable"
    return "increasing" if difference > 0 else "decreasing"


def factors(values: Counts, day: date, start: date) -> tuple[str, ...]:
    """What a forecast for `day` rests on, in words with figures: level, weekday, season."""
    week = values[-WEEK:]
    found = [f"level: {week.mean():,.1f} a day over the last {len(week)} days"]
    month = values[-WEEK * WEEKS :]
    if len(values) >= WEEKDAYS_FROM_DAYS and month.mean() > 0:
        ratio = usual(values, day, start) / month.mean() - 1
        if abs(ratio) >= NOTICEABLE_SHARE:
            side = "above" if ratio > 0 else "below"
            found.append(f"weekday: {day:%A}s run {abs(ratio):.0%} {side} the mean of the last {len(month)} days")
    place = (day - start).days - 364  # the same weekday a year ago
    if place >= 3:
        season = values[place - 3 : place + 4]
        if len(season) == WEEK:
            found.append(f"season: {season.mean():,.1f} a day at this time last year")
    return tuple(found)
