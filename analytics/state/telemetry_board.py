"""The telemetry board: samples of the machine and the application that collectors write and views read."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

Source = Literal["none", "host", "cloudwatch"]


@dataclass(frozen=True, slots=True)
class TelemetrySample:
    """One collection of one part. `measured_at` is the end of the newest measured interval, `collected_at` when we got it.

    A sample of the system holds machine values, one of the application request values; the others are None.
    """

    measured_at: datetime
    collected_at: datetime
    cpu_percent: float | None = None
    cpu_average_percent: float | None = None  # mean of the last hour, or of what there is of it
    memory_percent: float | None = None
    disk_percent: float | None = None
    network_milliseconds: float | None = None
    requests_per_second: float | None = None
    mean_milliseconds: float | None = None
    p95_milliseconds: float | None = None
    error_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two parts of telemetry as its collector left it.

    `source` is the documented word for where values come from, "none" where this part is not collected at all. `sample` is
    the last good one; `failure` states in general words why the newest attempt brought none.
    """

    source: str = "none"
    sample: TelemetrySample | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class TelemetryStatus:
    """One moment of telemetry."""

    source: Source = "none"
    system: Part = Part()
    application: Part = Part()
    collections: int = 0  # attempts since the start
    failures: int = 0  # those in which a part failed


OFF = TelemetryStatus()


class TelemetryBoard:
    """Holds the newest `TelemetryStatus`. The collector's thread replaces it; `current` is an immutable value."""

    def __init__(self, source: Source = "none") -> None:
        self._lock = threading.Lock()
        part = Part(source)
        self._current = TelemetryStatus(source, part, part if source == "host" else Part())

    @property
    def current(self) -> TelemetryStatus:
        return self._current

    def collected(self, system: Part, application: Part) -> None:
        """Replace both parts after an attempt. A part that failed (without a sample) keeps its last good one."""
        with self._lock:
            before = self._current
            failed = system.failure is not None or application.failure is not None
            self._current = replace(
                before,
                system=_kept(before.system, system),
                application=_kept(before.application, application),
                collections=before.collections + 1,
                failures=before.failures + failed,
            )


def _kept(before: Part, after: Part) -> Part:
    return replace(after, sample=before.sample) if after.sample is None and after.failure is not None else after


@dataclass(frozen=True, slots=True)
class RequestTotals:
    """What a server has answered since its start. `buckets` counts durations up to each of `bounds_seconds`, then the rest."""

    requests: int
    errors: int  # 5xx
    seconds: float
    bounds_seconds: tuple[float, ...]
    buckets: tuple[int, ...]


def requests_between(before: RequestTotals, after: RequestTotals, seconds: float) -> dict[str, float | None]:
    """The request fields of a sample for the interval between two totals; without a request only the rate is known."""
    requests = after.requests - before.requests
    if seconds <= 0 or requests <= 0:
        return {"requests_per_second": 0.0 if seconds > 0 else None}
    counts = [late - early for early, late in zip(before.buckets, after.buckets, strict=True)]
    return {
        "requests_per_second": requests / seconds,
        "mean_milliseconds": 1000 * (after.seconds - before.seconds) / requests,
        "p95_milliseconds": quantile(after.bounds_seconds, counts, 0.95),
        "error_rate": (after.errors - before.errors) / requests,
    }


def quantile(bounds_seconds: tuple[float, ...], counts: list[int], share: float) -> float | None:
    """Milliseconds below which `share` of the counted durations lie, straight within a bucket; the last bound beyond it."""
    rank = share * sum(counts)
    passed = 0.0
    lower = 0.0
    for bound, count in zip(bounds_seconds, counts[:-1], strict=True):
        if count and passed + count >= rank:
            return 1000 * (lower + (bound - lower) * max(0.0, rank - passed) / count)
        passed += count
        lower = bound
    return 1000 * lower if counts[-1] else None
