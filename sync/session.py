"""What all parts of sync work with: settings, cache, status, the state, and the ways in and out of the sync thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from analytics.state.cache import Cache
from analytics.state.sync_status import Phase, StatusBoard
from config.settings import Settings
from sync.freshness import Freshness
from sync.position_barrier import PositionBarrier
from sync.publication.changes import Membership
from sync.source.connections import server_text
from sync.source.sampler import Sampler
from sync.source.schema import Mapping
from sync.state import CopyRequired, Event, FaultMet, Followed, SyncState, next_state

log = logging.getLogger(__name__)


@dataclass
class SyncSession:
    """One per sync loop, from its start to its end. Except for `stop`, only the sync thread uses it."""

    settings: Settings
    cache: Cache
    board: StatusBoard
    clock: Callable[[], datetime]
    stop: threading.Event
    freshness: Freshness
    sampler: Sampler
    barrier: PositionBarrier = field(default_factory=PositionBarrier)
    state: SyncState = field(default_factory=SyncState)
    mapping: Mapping | None = None  # the tables as this process last followed them
    membership: Membership = field(default_factory=Membership)  # of these tables in the publication
    _logged: tuple[str, Phase] | None = field(default=None, init=False)  # the fault that the log has reported

    def stopping(self) -> bool:
        """Whether the server is stopping."""
        return self.stop.is_set()

    def apply(self, event: Event) -> None:
        """Move to the next state, publish it, and log what an operator wants to know of the change."""
        before, self.state = self.state, next_state(self.state, event)
        if (before.phase, before.reason) != (self.state.phase, self.state.reason):
            self.publish()
        match event:
            case CopyRequired(reason):
                log.warning("making a new copy of the source: %s", reason)
            case FaultMet():
                self._log_fault()
            case Followed() if before.reason is not None and self.state.reason is None:
                log.info("sync resumed after: %s", server_text(before.reason.message))
                self.board.add(reconnects=1)
                self._logged = None

    def publish(self) -> None:
        """Show the state on the board."""
        reason = self.state.reason
        self.board.update(
            phase=self.state.phase,
            error=None if reason is None else reason.message,
            remedy=None if reason is None else reason.remedy or None,
        )

    def followed(self, phase: Phase, lsn: int, *, committed: bool) -> None:
        """Everything before `lsn` is in the cache, and sync follows the source in `phase`."""
        self.apply(Followed(phase, lsn, committed, time.monotonic()))

    def _log_fault(self) -> None:
        phase, reason = self.state.phase, self.state.reason
        if phase is Phase.STOPPED or reason is None:
            return
        if self._logged != (reason.message, phase):
            self._logged = (reason.message, phase)
            log.error("sync is %s: %s; %s", phase.value, reason.message, reason.remedy or "it resumes automatically")
