"""Converts local times without a zone to UTC, in bulk, by the rule of Postgres' AT TIME ZONE.

A skipped local time uses the offset before the change, a repeated one the offset after it: standard time in both cases. Stream
and copy must give the same result as the source's own SQL, which comparisons use.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Microseconds = npt.NDArray[np.int64]

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
FIRST_YEAR = 1800  # earlier, every zone uses local mean time
CYCLE_YEARS = 400  # the calendar and the rules of clock changes repeat after this many years
LAST_YEAR = 2100 + CYCLE_YEARS  # from 2100 on, zones have rules only
CYCLE_MICROSECONDS = 146_097 * 86_400_000_000
DAY = timedelta(days=1)


class LocalTime:
    """One zone's changes of offset. Times are µs since 2000."""

    def __init__(self, zone: str) -> None:
        changes = list(_changes(ZoneInfo(zone)))
        self._offsets = np.array([offset for _, offset in changes], np.int64)
        # From which local time on each offset but the first holds.
        self._begins = np.array([at + offset for at, offset in changes[1:]], np.int64)
        self._last = (datetime(LAST_YEAR, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)

    def to_utc(self, local: Microseconds) -> Microseconds:
        """Local times as UTC; the caller keeps them within the years that Python dates support."""
        beyond = np.maximum(0, -(-(local - self._last) // CYCLE_MICROSECONDS)) * CYCLE_MICROSECONDS
        place = np.searchsorted(self._begins, local - beyond, side="right")
        utc: Microseconds = local - self._offsets[place]
        return utc


@lru_cache(maxsize=16)
def local_time(zone: str) -> LocalTime:
    """The zone's changes, computed once."""
    return LocalTime(zone)


def _changes(zone: ZoneInfo) -> list[tuple[int, int]]:
    """(time, offset from then on) in µs; the first entry applies to all earlier times."""

    def offset(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta()

    def microseconds(span: timedelta) -> int:
        return span // timedelta(microseconds=1)

    day = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    end = datetime(LAST_YEAR, 1, 1, tzinfo=UTC)
    before = offset(day)
    found = [(microseconds(day - EPOCH), microseconds(before))]
    while day < end:
        following = day + DAY
        after = offset(following)
        if after != before:
            low, high = 0, 86_400  # seconds into the day: the old offset holds at `low`, the new one at `high`
            while high - low > 1:
                middle = (low + high) // 2
                if offset(day + timedelta(seconds=middle)) == before:
                    low = middle
                else:
                    high = middle
            found.append((microseconds(day + timedelta(seconds=high) - EPOCH), microseconds(after)))
        day, before = following, after
    return found
