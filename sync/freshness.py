"""When the cache was last known to equal the source, without comparing two machines' clocks.

Samples of the source's WAL end are taken with our own clock. Once everything before a sampled position has been applied, the
cache equalled the source at the time of that sample, or later.
"""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime, timedelta

# The WAL's end can be a page header past the last record, and no record is that short.
PAGE_HEADER_BYTES = 24


class Freshness:
    """Pairs samples with progress. Thread-safe: one thread samples, another applies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, datetime]] = deque(maxlen=100_000)
        self._processed = 0
        self._fresh_at: datetime | None = None

    def sampled(self, source_lsn: int, at: datetime) -> datetime | None:
        """The source's WAL ended at `source_lsn` at `at`. Returns the last time of known equality."""
        with self._lock:
            self._waiting.append((source_lsn, at))
            return self._settle()

    def processed(self, lsn: int) -> datetime | None:
        """Everything before `lsn` has been applied. Returns the last time of known equality."""
        with self._lock:
            self._processed = lsn
            return self._settle()

    def known(self, at: datetime) -> datetime | None:
        """A copy shows the source as it was at `at`. Returns the last time of known equality."""
        with self._lock:
            self._fresh_at = at
            return self._settle()

    def reset(self) -> None:
        """For another source or a new copy: forgets earlier samples."""
        with self._lock:
            self._waiting.clear()
            self._processed = 0

    def set_back(self, by: timedelta) -> datetime | None:
        """Our clock was set back, so recorded times are in its future. Returns the last time of known equality by the new clock."""
        with self._lock:
            self._waiting = deque(((lsn, at - by) for lsn, at in self._waiting), self._waiting.maxlen)
            if self._fresh_at is not None:
                self._fresh_at -= by
            return self._fresh_at

    def _settle(self) -> datetime | None:
        while self._waiting and self._waiting[0][0] <= self._processed + PAGE_HEADER_BYTES:
            self._fresh_at = self._waiting.popleft()[1]
        return self._fresh_at
