"""Logs an error when data stops moving, whatever sync is trying to do."""

from __future__ import annotations

import logging
from datetime import datetime

from analytics.state.sync_status import StatusBoard

log = logging.getLogger(__name__)


class Standstill:
    """Logs the beginning and the end of each standstill once."""

    def __init__(self, board: StatusBoard, stale_after_seconds: float) -> None:
        self._board, self._stale_after = board, stale_after_seconds
        self._reported = False

    def look(self, now: datetime) -> None:
        """Call this regularly; `now` is aware UTC."""
        still = self._board.at_standstill(now, self._stale_after)
        if still and not self._reported:
            status = self._board.current
            log.error(
                "no data has come in for %.0f s; sync is %s: %s; %s",
                self._board.still_seconds,
                status.phase.value,
                status.error or "it reports no error",
                status.remedy or "see the log before this line, and `owkai check`",
            )
        elif self._reported and not still:
            log.info("data is coming in again")
        self._reported = still
