"""Checkpoints and retention, between batches and by our own clock, so that no commit stalls for them."""

from __future__ import annotations

import logging
import time

from analytics.state.store import Store
from sync.retention import retention_horizon
from sync.session import SyncSession
from sync.source.future_rows import FutureRowsWatch

log = logging.getLogger(__name__)

EXPIRE_SECONDS = 3600.0
DEFERRED_SECONDS = 1.0  # a reader's open transaction defers a checkpoint


class Housekeeping:
    """Keeps one store tidy. `run` does what is due; call it between batches, from the sync thread."""

    def __init__(self, session: SyncSession, store: Store) -> None:
        self._settings, self._cache, self._clock, self._store = session.settings, session.cache, session.clock, store
        self._checkpoint_due = time.monotonic() + self._settings.cache.checkpoint_seconds
        self._expire_due = time.monotonic() + EXPIRE_SECONDS
        self._future_rows = FutureRowsWatch(self._settings, store, session.board, session.clock)
        self._log_limit_bytes = self._settings.cache.log_megabytes << 20
        self._not_before = 0.0

    def run(self, lsn: int) -> None:
        """`lsn` is the store's position."""
        now = time.monotonic()
        if now >= self._checkpoint_due or (now >= self._not_before and self._store.log_bytes() > self._log_limit_bytes):
            done = self._store.checkpoint()
            self._not_before = now + DEFERRED_SECONDS
            self._checkpoint_due = now + self._settings.cache.checkpoint_seconds if done else self._not_before
        if now >= self._expire_due:
            self._expire_due = now + EXPIRE_SECONDS
            self._expire(lsn)
        self._future_rows.run()

    def _expire(self, lsn: int) -> None:
        horizon = retention_horizon(self._settings, self._clock()).replace(tzinfo=None)
        self._store.begin()
        try:
            removed = self._store.expire("agent_actions", horizon, self._settings.meaning.pending_statuses)
            removed += self._store.expire("audit_logs", horizon)
            self._store.commit(lsn)
        except BaseException:
            self._store.rollback()
            raise
        if removed:
            self._cache.touched("agent_actions", "audit_logs")
            log.info("removed %d rows older than %d days from the cache", removed, self._settings.cache.keep_days)
