"""Data that stops moving is reported in the log, whatever sync tries meanwhile."""

from __future__ import annotations

import logging
from datetime import datetime

from analytics.state.sync_status import StatusBoard

log = logging.getLogger(__name__)


class Standstill:
    """Looks at the board now and then; logs the beginning and the end of each standstill once."""

    def __init__(self, board: StatusBoard, stale_after_seconds: float) -> None:
        self._board, self._stale_after = board, stale_after_seconds
        self._standing = False

    def look(self, now: datetime) -> None:
        standing = self._board.at_standstill(now, self._stale_after)
        if standing and not self._standing:
            status = self._board.current
            log.error(
                "no data has come in for %.0f s; sync is %s: %s; %s",
                self._board.still_seconds,
                status.phase.value,
                status.error or "it reports no error",
                status.remedy or "see the log before this line, and `owkai check`",
            )
        elif self._standing and not standing:
            log.info("data comes in again")
        self._standing = standing
