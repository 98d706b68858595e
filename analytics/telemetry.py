"""What views may know of the machine and the application: samples, how old they are, and what that allows to say. Pure.

The collectors of `sync.telemetry` write the board; no request ever waits for them. Times are aware UTC, percent is 0–100,
rates are 0–1, durations are milliseconds. None is "not known": no constant ever stands in for a measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from analytics.state.telemetry_board import Part, Source, TelemetrySample, TelemetryStatus
from config.settings import TelemetrySettings

State = Literal["live", "stale", "unavailable"]

LATE_PERIODS = 3  # a collector that has brought nothing for so many periods counts as failing
NOT_YET = "No sample has been collected yet"
TOO_OLD = "The newest sample is older than telemetry.max_age_seconds"


@dataclass(frozen=True, slots=True)
class TelemetryCondition:
    """The condition of one part at one point in time.

    `sample` is None unless `state` is live or stale. `age_seconds` is that of the last good sample, also when it is too old
    to be shown. `reason` is None when live.
    """

    state: State
    source: str
    sample: TelemetrySample | None
    age_seconds: float | None
    reason: str | None


def telemetry_condition(part: Part, settings: TelemetrySettings, now: datetime) -> TelemetryCondition:
    """Live, stale or unavailable: by the age of what was measured, and by whether the collector still delivers.

    Live: the newest attempt succeeded and is recent. Stale: it did not, and the last good sample is not older than
    `telemetry.max_age_seconds`. A sample from the future (a clock set back) has age 0.
    """
    sample = part.sample
    if sample is None:
        return TelemetryCondition("unavailable", part.source, None, None, part.failure or NOT_YET)
    age = max(0.0, (now - sample.measured_at).total_seconds())
    if age > settings.max_age_seconds:
        return TelemetryCondition("unavailable", part.source, None, age, part.failure or TOO_OLD)
    if part.failure is not None:
        return TelemetryCondition("stale", part.source, sample, age, part.failure)
    silent = (now - sample.collected_at).total_seconds()
    if silent > LATE_PERIODS * settings.period_seconds:
        return TelemetryCondition("stale", part.source, sample, age, f"Nothing has been collected for {int(silent)} s")
    return TelemetryCondition("live", part.source, sample, age, None)


@dataclass(frozen=True, slots=True)
class TelemetryReport:
    """Both parts at one moment; only where telemetry is on."""

    source: Source
    system: TelemetryCondition
    application: TelemetryCondition

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


def report(status: TelemetryStatus, settings: TelemetrySettings, now: datetime) -> TelemetryReport | None:
    """What an answer of `now` may say; None where telemetry is off."""
    if status.source == "none":
        return None
    return TelemetryReport(
        status.source,
        telemetry_condition(status.system, settings, now),
        telemetry_condition(status.application, settings, now),
    )


class TelemetryUnavailableError(RuntimeError):
    """Telemetry is on and has nothing recent enough: the documented 503. Its text names no host and no credential."""

    def __init__(self, text: str, retry_seconds: int) -> None:
        super().__init__(text)
        self.retry_seconds = retry_seconds


def require(found: TelemetryReport | None, settings: TelemetrySettings) -> None:
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
