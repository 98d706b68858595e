"""What views may know of the machine and the application: samples, how old they are, and what that allows to say. Pure.

The collectors of `sync.telemetry` write the board; no request ever waits for them. Times are aware UTC, percent is 0–100,
rates are 0–1, durations are milliseconds. None is "not known": no constant ever stands in for a measurement.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from config.settings import Telemetry

Source = Literal["none", "host", "cloudwatch"]
State = Literal["live", "stale", "unavailable"]

LATE_PERIODS = 3  # a collector that has brought nothing for so many periods counts as failing
NOT_YET = "No sample has been collected yet"
TOO_OLD = "The newest sample is older than telemetry.max_age_seconds"


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
    the last good one; `failure` says in general words why the newest attempt brought none.
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
class Standing:
    """What may be said of one part at one moment.

    `sample` is None unless `state` is live or stale. `age_seconds` is that of the last good sample, also when it is too old
    to be shown. `reason` is None when live.
    """

    state: State
    source: str
    sample: TelemetrySample | None
    age_seconds: float | None
    reason: str | None


def standing(part: Part, settings: Telemetry, now: datetime) -> Standing:
    """Live, stale or unavailable: by the age of what was measured, and by whether the collector still delivers.

    Live: the newest attempt succeeded and is recent. Stale: it did not, and the last good sample is not older than
    `telemetry.max_age_seconds`. A sample from the future (a clock set back) has age 0.
    """
    sample = part.sample
    if sample is None:
        return Standing("unavailable", part.source, None, None, part.failure or NOT_YET)
    age = max(0.0, (now - sample.measured_at).total_seconds())
    if age > settings.max_age_seconds:
        return Standing("unavailable", part.source, None, age, part.failure or TOO_OLD)
    if part.failure is not None:
        return Standing("stale", part.source, sample, age, part.failure)
    silent = (now - sample.collected_at).total_seconds()
    if silent > LATE_PERIODS * settings.period_seconds:
        return Standing("stale", part.source, sample, age, f"Nothing has been collected for {int(silent)} s")
    return Standing("live", part.source, sample, age, None)


@dataclass(frozen=True, slots=True)
class TelemetryReport:
    """Both parts at one moment; only where telemetry is on."""

    source: Source
    system: Standing
    application: Standing

    @property
    def cloudwatch(self) -> bool:
        return self.source == "cloudwatch"

    @property
    def state(self) -> State:
        """That of both together: live when both are; unavailable when the system part is. A part not collected does not count."""
        if self.application.source == "none" or self.system.state == "unavailable":
            return self.system.state
        return "live" if self.system.state == self.application.state == "live" else "stale"

    @property
    def used(self) -> bool:
        """Whether an answer holds any value of ours."""
        return self.system.sample is not None or self.application.sample is not None


def report(status: TelemetryStatus, settings: Telemetry, now: datetime) -> TelemetryReport | None:
    """What an answer of `now` may say; None where telemetry is off."""
    if status.source == "none":
        return None
    return TelemetryReport(
        status.source, standing(status.system, settings, now), standing(status.application, settings, now)
    )


class TelemetryUnavailableError(RuntimeError):
    """Telemetry is on and has nothing recent enough: the documented 503. Its text names no host and no credential."""

    def __init__(self, text: str, retry_seconds: int) -> None:
        super().__init__(text)
        self.retry_seconds = retry_seconds


def require(found: TelemetryReport | None, settings: Telemetry) -> None:
    """Raise `TelemetryUnavailableError` when the system part is unavailable, or under `telemetry.strict` any collected part.

    Before the first attempt nothing has failed, so nothing is raised.
    """
    if found is None:
        return
    for name, part in (("System metrics", found.system), ("Application metrics", found.application)):
        failed = part.state == "unavailable" and part.source != "none" and part.reason != NOT_YET
        if failed and (part is found.system or settings.strict):
            kind = "CloudWatch connection failed" if found.cloudwatch else "Host metrics failed"
            age = "" if part.age_seconds is None else f" The last good sample is {int(part.age_seconds)} s old."
            text = f"{kind}. {name} are unavailable: {part.reason}.{age}"
            raise TelemetryUnavailableError(text, max(1, math.ceil(settings.period_seconds)))


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
