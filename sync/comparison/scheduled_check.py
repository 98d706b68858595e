"""The scheduled check compares the last two days and the tables of users and keys with the source."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

from analytics.state.background import BackgroundThread
from analytics.state.sync_status import Phase, StatusBoard, Verification
from sync.comparison.verify import COMPARISON_ERRORS, BusyError, Scope, Verifier
from sync.copy.copy_stream import Stopped
from sync.source.connections import server_text

log = logging.getLogger(__name__)

DAYS = 2
FIRST_SECONDS = 60.0  # the first check runs soon after the start, so that short-lived servers are checked too


class ScheduledCheck:
    """Runs in a thread until `stop`. `interval_seconds` 0: never."""

    def __init__(self, verifier: Verifier, board: StatusBoard, interval_seconds: float) -> None:
        self._verifier, self._board, self._interval = verifier, board, interval_seconds
        self._stop = threading.Event()
        self._thread = BackgroundThread("owkai-lightcheck", self._run, self._stop, board.jobs)

    def start(self) -> None:
        if self._interval > 0:
            self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Abort a running check. Idempotent."""
        self._stop.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        pause = min(FIRST_SECONDS, self._interval)
        while not self._stop.wait(pause):
            pause = self._interval
            # While sync does not stream, it reports the reason itself; while it polls, it reconciles.
            if self._board.current.phase is Phase.STREAMING:
                self._check()

    def _check(self) -> None:
        try:
            self._verifier.verify(Scope(days=DAYS), self._stop.is_set)
        except (Stopped, BusyError):
            return
        except Exception as error:  # noqa: BLE001 - reported with its traceback
            if self._stop.is_set():
                return
            self._report_failure(error)

    def _report_failure(self, error: Exception) -> None:
        """Report a check that failed for any reason; the next one runs as scheduled."""
        remedy = getattr(error, "remedy", "")
        reason = server_text(str(error)) if str(error) else type(error).__name__
        expected = isinstance(error, COMPARISON_ERRORS)
        log.warning(
            "the cache could not be compared with the source: %s%s",
            reason,
            f"; {remedy}" if remedy else "",
            exc_info=None if expected else error,
        )
        last = self._board.current.verification or Verification()
        self._board.update(verification=replace(last, error=reason))
        self._board.add(verify_failures=1)
