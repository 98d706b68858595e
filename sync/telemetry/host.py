"""This machine, and the requests of this server: telemetry without AWS. Read in the collector's thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from analytics.state.telemetry_board import Part, RequestTotals, TelemetrySample, requests_between

HOUR_SECONDS = 3600.0
SOURCE = "host"
NOT_READ = "This machine's CPU and memory could not be read"


class CpuReading(NamedTuple):
    """CPU seconds since boot, over all cores, at a monotonic time."""

    at: float
    busy: float
    total: float


def cpu_reading(times: Any, at: float) -> CpuReading:
    """From `psutil.cpu_times()`. Waiting for disks counts as idle; guest time is part of user time and not counted twice."""
    fields = times._asdict()
    total = sum(seconds for name, seconds in fields.items() if not name.startswith("guest"))
    return CpuReading(at, total - fields.get("idle", 0.0) - fields.get("iowait", 0.0), total)


def percent_between(before: CpuReading, after: CpuReading) -> float | None:
    """Share of CPU time that was busy, 0–100; None where no time has passed."""
    total = after.total - before.total
    return min(100.0, max(0.0, 100 * (after.busy - before.busy) / total)) if total > 0 else None


class Host:
    """Collects from psutil and from `totals`, this server's request counts. Belongs to one thread."""

    def __init__(
        self,
        directory: Path,
        period_seconds: float,
        totals: Callable[[], RequestTotals],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.warm_up_seconds = min(1.0, period_seconds)  # CPU usage is measured over an interval
        self._directory, self._totals, self._monotonic = directory, totals, monotonic
        start = monotonic()
        self._readings = deque([cpu_reading(psutil.cpu_times(), start)])
        self._requests = (start, totals())

    def collect(self, now: datetime) -> tuple[Part, Part]:
        """Both parts at `now`: CPU and requests since the last collection, CPU of the last hour, memory and disk as they are."""
        at = self._monotonic()
        return self._system(now, at), self._application(now, at)

    def _system(self, now: datetime, at: float) -> Part:
        try:
            reading = cpu_reading(psutil.cpu_times(), at)
            memory = float(psutil.virtual_memory().percent)
        except (OSError, psutil.Error):
            return Part(SOURCE, failure=NOT_READ)
        current = percent_between(self._readings[-1], reading)
        self._readings.append(reading)
        # One reading from before the hour stays: the hour begins somewhere after it.
        while len(self._readings) > 2 and self._readings[1].at <= at - HOUR_SECONDS:
            self._readings.popleft()
        return Part(
            SOURCE,
            TelemetrySample(
                measured_at=now,
                collected_at=now,
                cpu_percent=current,
                cpu_average_percent=percent_between(self._readings[0], reading),
                memory_percent=memory,
                disk_percent=disk_percent(self._directory),
            ),
        )

    def _application(self, now: datetime, at: float) -> Part:
        before, counted = self._requests
        totals = self._totals()
        self._requests = (at, totals)
        fields = requests_between(counted, totals, at - before)
        return Part(SOURCE, TelemetrySample(measured_at=now, collected_at=now, **fields))


def disk_percent(directory: Path) -> float | None:
    """How full the file system of `directory` is; None where it cannot be read."""
    try:
        return float(psutil.disk_usage(str(directory)).percent)
    except OSError:
        return None
