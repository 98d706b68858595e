"""Which organizations have news between two ticks: one cheap question for all of them, asked only after a commit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

from analytics.cache import CacheNotReadyError
from analytics.pulse import Pulse, changed, take_pulse
from handlers.services import Services

log = logging.getLogger(__name__)

TABLES = ("agent_actions", "audit_logs", "users")
HOUR = timedelta(hours=1)
LOOK_SECONDS = 0.2  # between two questions
LOOK_SHARE = 0.25  # of one thread, that questions may take under a steady stream of commits


class Changes:
    """Compares each organization's counts with those of the last look. Belongs to the event loop; counting runs in a worker.

    The window of the counts begins at a fixed moment, an hour before the last `rebase`: time passing changes nothing.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._since: datetime | None = None
        self._pulses: Mapping[int, Pulse] = {}
        self._version = -1
        self._next_look = 0.0

    @property
    def based(self) -> bool:
        """Whether `rebase` has been called."""
        return self._since is not None

    async def rebase(self) -> None:
        """Count anew from an hour ago; what `look` finds from now on is news since this moment."""
        self._since = self._services.clock() - HOUR
        self._version, self._pulses = await self._count(self._since)

    async def look(self, *, at_once: bool = False) -> set[int]:
        """The organizations with news since the last look; none when nothing was committed or, unless `at_once`, it is too
        soon to ask again."""
        if self._since is None or self._services.cache.table_version(*TABLES) == self._version:
            return set()
        began = time.monotonic()
        if began < self._next_look and not at_once:
            return set()
        before = self._pulses
        self._version, self._pulses = await self._count(self._since)
        ended = time.monotonic()
        self._next_look = ended + max(LOOK_SECONDS, (ended - began) / LOOK_SHARE)
        return changed(before, self._pulses)

    async def _count(self, since: datetime) -> tuple[int, Mapping[int, Pulse]]:
        services = self._services
        count_false_positives = services.settings.meaning.count_false_positives
        bound = services.settings.server.query_timeout_seconds

        def count() -> tuple[int, Mapping[int, Pulse]]:
            version = services.cache.table_version(*TABLES)  # read first: the snapshot holds it or more
            with services.cache.read(bound) as snapshot:
                return version, take_pulse(snapshot, since, count_false_positives=count_false_positives)

        try:
            return await asyncio.get_running_loop().run_in_executor(services.publisher.workers, count)
        except CacheNotReadyError:
            pass
        except Exception:
            log.exception("live changes could not be counted")
        return self._version, self._pulses
