"""Which organizations have news between two ticks: one cheap question for all of them, asked only after a commit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from analytics.activity_counts import ActivityCounts, changed, count_activity
from analytics.state.store import CacheNotReadyError
from handlers.services import Services

log = logging.getLogger(__name__)

TABLES = ("agent_actions", "audit_logs", "users")
HOUR = timedelta(hours=1)
MOVED_AFTER = timedelta(minutes=5)
LOOK_SECONDS = 0.2  # between two questions
LOOK_SHARE = 0.25  # of one thread, that questions may take under a steady stream of commits


class Counted(NamedTuple):
    """The counts of one snapshot, one mapping a window; `version` is that of the tables, or an earlier one."""

    version: int
    pulses: list[Mapping[int, ActivityCounts]]


class ChangeDetector:
    """Compares each organization's counts with those of the last look. Belongs to the event loop; counting runs in a worker.

    The window of the counts begins at a fixed moment, so that time passing changes nothing. The moment is moved at times, to
    keep the window small; both windows are then counted in one snapshot, so no change falls between them.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._since: datetime | None = None
        self._pulses: Mapping[int, ActivityCounts] = {}
        self._version = -1
        self._next_look = 0.0

    async def look(self) -> set[int]:
        """The organizations with news since the last look; none the first time, when nothing was committed, or when it is
        too soon to ask again."""
        began = time.monotonic()
        if began < self._next_look or self._services.cache.table_version(*TABLES) == self._version:
            return set()
        earliest = self._services.clock() - HOUR
        known = self._since
        since = earliest if known is None or earliest - known > MOVED_AFTER else known
        counted = await self._count([since] if known is None else [known, since] if known != since else [known])
        ended = time.monotonic()
        self._next_look = ended + max(LOOK_SECONDS, (ended - began) / LOOK_SHARE)
        if counted is None:
            return set()
        news = set() if known is None else changed(self._pulses, counted.pulses[0])
        self._version, self._pulses, self._since = counted.version, counted.pulses[-1], since
        return news

    async def _count(self, windows: Sequence[datetime]) -> Counted | None:
        services = self._services
        count_false_positives = services.settings.meaning.count_false_positives
        bound = services.settings.server.query_timeout_seconds

        def count() -> Counted:
            version = services.cache.table_version(*TABLES)  # read first: the snapshot holds it or more
            with services.cache.read(bound) as snapshot:
                return Counted(
                    version,
                    [count_activity(snapshot, since, count_false_positives=count_false_positives) for since in windows],
                )

        try:
            return await asyncio.get_running_loop().run_in_executor(services.publisher.lookups, count)
        except CacheNotReadyError:
            return None
        except Exception:
            log.exception("live changes could not be counted")
            return None
