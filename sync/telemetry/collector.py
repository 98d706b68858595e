"""The thread that collects telemetry: once per period, one collection at a time, independent of the source."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from analytics.state.background import BackgroundThread, Jobs
from analytics.state.telemetry_board import Part, RequestTotals, TelemetryBoard
from config.settings import Settings

log = logging.getLogger(__name__)


FAULT = "The collector failed; see the log"


class TelemetryOrigin(Protocol):
    """Where telemetry comes from. `collect` returns the parts system and application, and never raises for its source."""

    warm_up_seconds: float

    def collect(self, now: datetime) -> tuple[Part, Part]: ...


class Collector:
    """Collects every `telemetry.period_seconds` until `stop`; does nothing where telemetry.source is "none".

    A collection that takes longer than the period delays the next one; samples then grow old, which their age shows.
    """

    def __init__(
        self,
        settings: Settings,
        board: TelemetryBoard,
        totals: Callable[[], RequestTotals],
        clock: Callable[[], datetime],
        jobs: Jobs,
    ) -> None:
        self._settings, self._board, self._totals, self._clock = settings, board, totals, clock
        self._stopping = threading.Event()
        self._reported: dict[str, str | None] = {}
        self._thread = BackgroundThread("owkai-telemetry", self._run, self._stopping, jobs)

    def start(self) -> None:
        if self._settings.telemetry.source != "none":
            self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Stop, and wait up to `timeout_seconds`: a running AWS call ends by its own timeout. Idempotent."""
        self._stopping.set()
        self._thread.join(timeout_seconds)

    def _origin(self) -> TelemetryOrigin:
        telemetry = self._settings.telemetry
        if telemetry.source == "cloudwatch":
            # botocore takes a while to load; loaded here, it does not delay the first responses.
            from sync.telemetry.cloudwatch import CloudWatch

            return CloudWatch(telemetry, self._stopping)
        from sync.telemetry.host import Host

        return Host(self._settings.cache.directory, telemetry.period_seconds, self._totals)

    def _run(self) -> None:
        origin = self._origin()
        pause = origin.warm_up_seconds
        while not self._stopping.wait(pause):
            begun = time.monotonic()
            system, application = self._collect(origin)
            if self._stopping.is_set():
                return
            self._board.collected(system, application)
            self._report("system", system)
            self._report("application", application)
            pause = max(0.0, self._settings.telemetry.period_seconds - (time.monotonic() - begun))

    def _collect(self, origin: TelemetryOrigin) -> tuple[Part, Part]:
        try:
            return origin.collect(self._clock())
        except Exception:
            # A bug must not end the thread, and must be reported.
            log.exception("collecting telemetry failed")
            before = self._board.current
            return tuple(Part(part.source, failure=FAULT) for part in (before.system, before.application))  # type: ignore[return-value]

    def _report(self, name: str, part: Part) -> None:
        """One line when a failure begins, changes or ends."""
        before, self._reported[name] = self._reported.get(name), part.failure
        if part.failure == before:
            return
        if part.failure is None:
            log.info("%s metrics are collected again", name)
        else:
            log.warning("%s metrics could not be collected: %s", name, part.failure)
