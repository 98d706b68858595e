"""Checkpoints and retention, between batches, by our own clock: no commit ever stalls for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime

from analytics.state.cache import Cache
from analytics.state.store import Store
from analytics.state.sync_status import StatusBoard
from config.settings import Settings
from sync.retention import retention_horizon
from sync.source.future_rows import FutureRowsWatch

log = logging.getLogger(__name__)

EXPIRE_SECONDS = 3600.0
DEFERRED_SECONDS = 1.0  # a reader's open transaction puts a checkpoint off


class Housekeeping:
    """`run` between batches does what is due; it belongs to the sync thread."""

    def __init__(
        self, settings: Settings, cache: Cache, store: Store, clock: Callable[[], datetime], board: StatusBoard
    ) -> None:
        self._settings, self._cache, self._store, self._clock = settings, cache, store, clock
        self._checkpoint_due = time.monotonic() + settings.cache.checkpoint_seconds
        self._expire_due = time.monotonic() + EXPIRE_SECONDS
        self._future = FutureRowsWatch(settings, store, board, clock)
        self._log_limit_bytes = settings.cache.log_megabytes << 20
        self._not_before = 0.0

    def run(self, lsn: int) -> None:
        """`lsn` is the position the store stands at."""
        now = time.monotonic()
        if now >= self._checkpoint_due or (now >= self._not_before and self._store.log_bytes() > self._log_limit_bytes):
            done = self._store.checkpoint()
            self._not_before = now + DEFERRED_SECONDS
            self._checkpoint_due = now + self._settings.cache.checkpoint_seconds if done else self._not_before
        if now >= self._expire_due:
            self._expire_due = now + EXPIRE_SECONDS
            self._expire(lsn)
        self._future.run()

    def _expire(self, lsn: int) -> None:
        horizon = retention_horizon(self._settings, self._clock()).replace(tzinfo=None)
        self._store.begin()
        try:
            gone = self._store.expire("agent_actions", horizon, self._settings.meaning.pending_statuses)
            gone += self._store.expire("audit_logs", horizon)
            self._store.commit(lsn)
        except BaseException:
            self._store.rollback()
            raise
        if gone:
            self._cache.touched("agent_actions", "audit_logs")
            log.info("%d rows older than %d days left the cache", gone, self._settings.cache.keep_days)
