"""Finds organizations whose numbers changed between two ticks, with one cheap query after each commit."""

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
WINDOW_MOVES_AFTER = timedelta(minutes=5)
CHECK_SECONDS = 0.2  # between two checks
CHECK_SHARE = 0.25  # of one thread: the most that checks take while commits keep arriving


class Counted(NamedTuple):
    """The counts of one snapshot, one mapping a window; `version` is that of the tables, or an earlier one."""

    version: int
    counts: list[Mapping[int, ActivityCounts]]


class ChangeDetector:
    """Compares each organization's counts with those of the last check. Belongs to the event loop; counting runs in a worker.

    The window of the counts starts at a fixed time, so the passing of time changes no count. To keep the window small, the
    start moves now and then; both windows are then counted in one snapshot, so that no change is missed.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._since: datetime | None = None
        self._counts: Mapping[int, ActivityCounts] = {}
        self._version = -1
        self._next_check = 0.0

    async def look(self) -> set[int]:
        """The organizations whose counts changed since the last check. Empty the first time, without a commit, and when
        the next check is not yet due."""
        began = time.monotonic()
        if began < self._next_check or self._services.cache.table_version(*TABLES) == self._version:
            return set()
        earliest = self._services.clock() - HOUR
        known = self._since
        since = earliest if known is None or earliest - known > WINDOW_MOVES_AFTER else known
        counted = await self._count([since] if known is None else [known, since] if known != since else [known])
        ended = time.monotonic()
        self._next_check = ended + max(CHECK_SECONDS, (ended - began) / CHECK_SHARE)
        if counted is None:
            return set()
        changed_organizations = set() if known is None else changed(self._counts, counted.counts[0])
        self._version, self._counts, self._since = counted.version, counted.counts[-1], since
        return changed_organizations

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
