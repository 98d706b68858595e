"""Days of time zones: every zone, clock changes, a skipped date."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest

from analytics.calendar import QUARTER, counts_by_day, day_start, days_until, quarter_of

# Moments around which zones change their clocks or skip a date.
MOMENTS = (
    datetime(2025, 4, 25, 12, 20, tzinfo=UTC),
    datetime(2025, 11, 3, 1, 0, tzinfo=UTC),
    datetime(2012, 1, 2, 3, 4, tzinfo=UTC),
)


@pytest.mark.parametrize("now", MOMENTS, ids=str)
def test_in_04_every_zone_lists_each_date_once_and_holds_every_quarter_hour(now: datetime) -> None:
    for name in sorted(available_timezones() - {"localtime"}):
        zone = ZoneInfo(name)
        days = days_until(now, zone, 4)
        assert len(days) == 4
        assert days[-1].date == now.astimezone(zone).date()
        assert all(later.date - earlier.date == timedelta(days=1) for earlier, later in pairwise(days))

        quarters = range(quarter_of(days[0].start), quarter_of(now) + 1)
        expected = dict.fromkeys((day.date for day in days), 0)
        for quarter in quarters:
            moment = datetime(1970, 1, 1, tzinfo=UTC) + quarter * QUARTER
            expected[moment.astimezone(zone).date()] += quarter
        assert dict(counts_by_day([(quarter, quarter) for quarter in quarters], days)) == expected, name


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2025, 3, 30), 23),
        ("Europe/Berlin", date(2025, 10, 26), 25),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),  # midnight itself does not exist
        ("America/Sao_Paulo", date(2018, 2, 17), 25),  # the hour before midnight comes twice
        ("Africa/Cairo", date(2025, 4, 25), 23),
        ("Australia/Lord_Howe", date(2025, 4, 6), 24.5),
        ("Asia/Kathmandu", date(2025, 1, 1), 24),
        ("Pacific/Apia", date(2011, 12, 30), 0),
        ("Pacific/Apia", date(2011, 12, 31), 24),
    ],
)
def test_a_day_lasts_as_long_as_the_zone_says(zone: str, day: date, hours: float) -> None:
    start, end = (day_start(each, ZoneInfo(zone)) for each in (day, day + timedelta(days=1)))
    assert (end - start) == timedelta(hours=hours)


def test_a_day_that_begins_with_a_jump_over_midnight_begins_at_the_jump() -> None:
    assert day_start(date(2018, 11, 4), ZoneInfo("America/Sao_Paulo")) == datetime(2018, 11, 4, 3, tzinfo=UTC)
    # Half past eleven became half past twelve.
    assert day_start(date(1919, 3, 31), ZoneInfo("America/Toronto")) == datetime(1919, 3, 31, 4, 30, tzinfo=UTC)


def test_no_counts_at_all_give_zeros() -> None:
    days = days_until(MOMENTS[0], ZoneInfo("UTC"), 3)
    assert [count for _, count in counts_by_day([], days)] == [0, 0, 0]
