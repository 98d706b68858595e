"""Failed authentications per address: a bounded table of fixed windows.

Rules. A window opens with the first failure of an address and lasts `window_seconds`; refused attempts do not extend it.
An attempt takes one of the window's `limit` slots before it is verified and returns it on success, so parallel attempts
never get more than `limit` guesses: attempts beyond the free slots wait for those in progress. A credential that was
verified before, from any address, needs no slot: an attacker behind the same address cannot lock out sessions and keys in
use, and only delays new ones until the window ends. Failures with one key prefix are counted too, across all addresses;
beyond that limit only addresses with a failure of their own are refused, so that guessing at an administrator's key from
many addresses never locks out the administrator. When the table is full, additional addresses share a fixed set of
entries; no counter is evicted before its window ends. That is why the windows are not a cache that evicts.

Belongs to the event loop; not thread-safe.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from cachetools import FIFOCache

SHARED_ENTRIES = 1024


@dataclass
class _Window:
    ends_at: float
    failures: int = 0
    in_progress: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    def wake(self, all_waiters: bool) -> None:
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                if not all_waiters:
                    return


class Attempt:
    """A slot taken by one authentication in progress; ends exactly once."""

    def __init__(self, window: _Window, limit: int) -> None:
        self._window = window
        self._limit = limit
        self._open = True

    def end(self, *, failed: bool) -> None:
        if not self._open:
            return
        self._open = False
        self._window.in_progress -= 1
        if failed:
            self._window.failures += 1
            if self._window.failures >= self._limit:
                self._window.wake(all_waiters=True)
        else:
            self._window.wake(all_waiters=False)


class FailureLimiter:
    """`limit` failures per address and `window_seconds`. Times are seconds of one clock, passed as `now`."""

    def __init__(self, limit: int, window_seconds: float, max_entries: int = 50_000, max_known: int = 20_000) -> None:
        self.limit = limit
        self.window_seconds = window_seconds
        self._max_entries = max_entries
        self._windows: OrderedDict[str, _Window] = OrderedDict()  # by opening time: the oldest end first
        self._shared: OrderedDict[str, _Window] = OrderedDict()
        self._known: FIFOCache[bytes, None] = FIFOCache(max_known)
        self._salt = secrets.token_hex(8)

    def __len__(self) -> int:
        return len(self._windows) + len(self._shared)

    async def enter(self, bucket: str, now: float) -> Attempt | None:
        """Take a slot; None when the address is limited."""
        window = self._window(bucket, now)
        while window.failures < self.limit and window.failures + window.in_progress >= self.limit:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            window.waiting.append(waiter)
            await waiter
        if window.failures >= self.limit:
            return None
        window.in_progress += 1
        return Attempt(window, self.limit)

    def failures(self, bucket: str, now: float) -> int:
        """Failures in the current window; opens none."""
        window = self._windows.get(bucket)
        return 0 if window is None or not now < window.ends_at <= now + self.window_seconds else window.failures

    def count(self, bucket: str, now: float) -> None:
        """Count one failure that took no slot."""
        self._window(bucket, now).failures += 1

    def exhausted(self, bucket: str, now: float) -> bool:
        """Whether the limit is reached, in the shared entries too; opens a window."""
        return self._window(bucket, now).failures >= self.limit

    def retry_after(self, bucket: str, now: float) -> int:
        """ReadBody seconds until the window of an address ends, at least 1."""
        return max(1, int(self._window(bucket, now).ends_at - now + 0.999))

    def knows(self, fingerprint: bytes) -> bool:
        """Whether a credential was verified before (by its fingerprint, never its text)."""
        return fingerprint in self._known

    def remember(self, fingerprint: bytes) -> None:
        self._known[fingerprint] = None

    def forget(self, fingerprint: bytes) -> None:
        self._known.pop(fingerprint, None)

    def _window(self, bucket: str, now: float) -> _Window:
        for table in (self._windows, self._shared):
            self._drop_ended(table, now)
        table = self._windows
        if bucket not in table and len(table) >= self._max_entries:
            table = self._shared
            bucket = str(hash((self._salt, bucket)) % SHARED_ENTRIES)
        window = table.get(bucket)
        if window is None:
            window = table[bucket] = _Window(now + self.window_seconds)
        return window

    def _drop_ended(self, table: OrderedDict[str, _Window], now: float) -> None:
        while table:
            bucket, window = next(iter(table.items()))
            # A window that ends later than one opened now was opened before the clock was set back.
            if now < window.ends_at <= now + self.window_seconds:
                return
            del table[bucket]
            window.wake(all_waiters=True)
