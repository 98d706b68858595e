"""Damage of the cache's file: distinguished from a full disk by reading every block after a read or a write has failed."""

from __future__ import annotations

import logging

import duckdb

from analytics.state.store import UNREADABLE, CacheDamagedError, Store
from sync.source.connections import server_text

log = logging.getLogger(__name__)


def require_readable(store: Store) -> None:
    """After a failed read, raise `CacheDamagedError` unless every block of the store can be read."""
    if not store.suspect:
        return
    store.suspect = False
    reason = store.unreadable()
    if reason is not None:
        raise CacheDamagedError(f"the cache is damaged: {server_text(reason)}")
    log.warning("a read of the cache failed, but every block of it can be read: no new copy is needed")


def with_damage_found(error: BaseException, store: Store | None) -> BaseException:
    """The error itself, or `CacheDamagedError` where it was caused by a damaged file and not by a full disk."""
    if isinstance(error, UNREADABLE) and not isinstance(error, duckdb.FatalException) and store is not None:
        store.suspect = True
        try:
            require_readable(store)
        except CacheDamagedError as damage:
            damage.__cause__ = error
            return damage
    return error
