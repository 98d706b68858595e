"""How much one caller may request: requests of any kind, and responses that have to be computed for them.

Two allowances per caller, each a bucket that `burst` calls fill and `per_second` calls a second drain: one for all requests,
one for computations (a view that is not published costs 1, a document more). A published view costs a look-up, so a limited
caller still gets it. A caller is an organization and a user, so that a second key of the same user gives no second
allowance. Refusals are paced (`Allowances.refusal_pause`).

The state of a bucket is one number: when it will be empty. Belongs to the event loop; not thread-safe. `now` is in seconds
of a monotonic clock. The number of callers is bounded; the least recently seen one is dropped first.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

from cachetools import LRUCache

from config.settings import ServerSettings

REQUESTS = "requests"
COMPUTATIONS = "computations"
DOCUMENT_COST = 20
MAX_CALLERS = 20_000
REFUSALS_PER_SECOND = 20  # to one caller
LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class Limit:
    """A bucket's size. `per_second` 0: no limit."""

    name: str
    per_second: float
    burst: int

    @property
    def policy(self) -> str:
        """The limit as an item of RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers): quota and window in seconds."""
        return f'"{self.name}";q={self.burst};w={max(1, math.ceil(self.burst / self.per_second))}'


class Exceeded(Exception):
    """The caller has used up an allowance; `wait_seconds` (at least 1) until the next call of this kind is served."""

    def __init__(self, name: str, wait_seconds: int) -> None:
        super().__init__(name)
        self.name = name
        self.wait_seconds = wait_seconds


class Caller:
    """What one caller has used: for each allowance when its bucket will be empty, and when the next refusal is due."""

    __slots__ = ("computations_empty_at", "next_refusal_at", "requests_empty_at")

    def __init__(self) -> None:
        self.requests_empty_at = 0.0
        self.computations_empty_at = 0.0
        self.next_refusal_at = 0.0


class Allowances:
    """The allowances of all callers. `policy` is the value of RateLimit-Policy; empty when nothing is limited."""

    def __init__(self, server: ServerSettings, max_callers: int = MAX_CALLERS) -> None:
        self._requests = Limit(REQUESTS, server.requests_per_second, server.requests_burst)
        self._computations = Limit(COMPUTATIONS, server.computations_per_second, server.computations_burst)
        self._callers: LRUCache[Hashable, Caller] = LRUCache(max_callers)
        self.policy = ", ".join(limit.policy for limit in (self._requests, self._computations) if limit.per_second)

    def __len__(self) -> int:
        return len(self._callers)

    def request(self, who: Hashable, now: float) -> str:
        """Count a request; returns the value of RateLimit, empty without a limit. Raises `Exceeded`."""
        limit = self._requests
        if not limit.per_second:
            return ""
        caller = self._caller(who)
        caller.requests_empty_at, left = taken(limit, caller.requests_empty_at, 1, now)
        return f'"{REQUESTS}";r={left};t={math.ceil(caller.requests_empty_at - now)}'

    def computation(self, who: Hashable, cost: int, now: float) -> None:
        """Count a computation. Raises `Exceeded`."""
        limit = self._computations
        if limit.per_second:
            caller = self._caller(who)
            caller.computations_empty_at, _ = taken(limit, caller.computations_empty_at, cost, now)

    def refusal_pause(self, who: Hashable, now: float) -> float:
        """Seconds to delay a refusal, so that a caller who does not wait gets `REFUSALS_PER_SECOND` of them."""
        caller = self._caller(who)
        due = min(max(caller.next_refusal_at, now), now + LONGEST_PAUSE_SECONDS)
        caller.next_refusal_at = due + 1 / REFUSALS_PER_SECOND
        return due - now

    def _caller(self, who: Hashable) -> Caller:
        caller = self._callers.get(who)
        if caller is None:
            caller = self._callers[who] = Caller()
        return caller


def taken(limit: Limit, empty_at: float, cost: int, now: float) -> tuple[float, int]:
    """When the bucket is empty after a call of this cost, and how many calls of cost 1 still fit. Raises `Exceeded`.

    A call that costs more than the whole bucket is served from an empty one.
    """
    used = max(0.0, empty_at - now) * limit.per_second
    left = limit.burst - used - min(cost, limit.burst)
    if left < -1e-6:
        raise Exceeded(limit.name, max(1, math.ceil(-left / limit.per_second)))
    return max(empty_at, now) + cost / limit.per_second, max(0, int(left + 1e-6))
