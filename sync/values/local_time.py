"""Local times without a zone as moments in UTC, in bulk, by the rule that Postgres' AT TIME ZONE follows.

A time that a zone skipped counts by the offset before the change, one that it had twice by the offset after it: standard time in
both cases. Stream and copy must come to the same moment as the source's own SQL, which comparisons use.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Microseconds = npt.NDArray[np.int64]

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
FIRST_YEAR = 1800  # before it, every zone has the mean time of its place
CYCLE_YEARS = 400  # the calendar and the rules of clock changes repeat after it
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
        """The moments of local times; the caller keeps them within the years that a date of Python can have."""
        beyond = np.maximum(0, -(-(local - self._last) // CYCLE_MICROSECONDS)) * CYCLE_MICROSECONDS
        place = np.searchsorted(self._begins, local - beyond, side="right")
        moments: Microseconds = local - self._offsets[place]
        return moments


@lru_cache(maxsize=16)
def local_time(zone: str) -> LocalTime:
    """The zone's changes, found once."""
    return LocalTime(zone)


def _changes(zone: ZoneInfo) -> list[tuple[int, int]]:
    """(moment, offset from then on) in µs; the first entry holds from the beginning of time."""

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(zone).utcoffset() or timedelta()

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
