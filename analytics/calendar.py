"""Days in a time zone: where they begin, and counts per quarter of an hour assigned to them. Pure.

A zone's offset has been a multiple of 15 minutes everywhere since 1972, so a quarter of an hour in UTC belongs to one
local day in every zone; days of 23, 24, 25 hours and a date that a zone skipped (zero hours) come out right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import polars as pl

QUARTER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Day:
    """A date of a zone and the UTC instant at which it begins. A skipped date begins where the next one does."""

    date: date
    start: datetime


def days_until(now: datetime, zone: ZoneInfo, days: int) -> tuple[Day, ...]:
    """The `days` dates of `zone` that end with the date of `now` (aware) there, ascending; none is left out."""
    today = now.astimezone(zone).date()
    dates = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
    return tuple(Day(day, day_start(day, zone)) for day in dates)


def day_start(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of `day` in `zone`, aware UTC."""
    start = datetime.combine(day, time(), zone).astimezone(UTC)
    # Where clocks jump over midnight, the day begins at the jump.
    while (start - QUARTER).astimezone(zone).date() >= day:
        start -= QUARTER
    return start


def counts_by_day(counts: Sequence[tuple[int, int]], days: Sequence[Day]) -> list[tuple[date, int]]:
    """Sum (quarter, count) pairs by day; quarters count from 1970-01-01 UTC. Every day is listed, empty ones with 0."""
    dates = pl.DataFrame(
        {"date": [day.date for day in days], "quarter": [quarter_of(day.start) for day in days]},
        schema={"date": pl.Date, "quarter": pl.Int64},
    )
    counted = (
        pl.DataFrame(counts, schema={"quarter": pl.Int64, "count": pl.Int64}, orient="row")
        .sort("quarter")
        .join_asof(dates.unique("quarter", keep="last", maintain_order=True), on="quarter", strategy="backward")
        .group_by("date")
        .agg(pl.col("count").sum())
    )
    filled = dates.join(counted, on="date", how="left", maintain_order="left").with_columns(
        pl.col("count").fill_null(0)
    )
    return list(zip(filled["date"].to_list(), filled["count"].to_list(), strict=True))


def quarter_of(instant: datetime) -> int:
    """The quarter of an hour that holds `moment` (aware), counted from 1970-01-01 UTC."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // QUARTER


def naive_utc(instant: datetime) -> datetime:
    """As the cache keeps times: UTC without a zone."""
    return instant.astimezone(UTC).replace(tzinfo=None)


def midnight(instant: datetime) -> datetime:
    """When the UTC day of `moment` (aware) began, as the cache keeps times."""
    return naive_utc(instant).replace(hour=0, minute=0, second=0, microsecond=0)


def aware_utc(instant: datetime | None) -> datetime | None:
    """A time of the cache as an aware one."""
    return None if instant is None else instant.replace(tzinfo=UTC)
