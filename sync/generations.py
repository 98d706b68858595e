"""Generations of the cache: may the live one be continued, and how a new one replaces it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from analytics.state.store import CacheOrigin, Store
from sync.continuity import same_database
from sync.session import SyncSession
from sync.state import CopyCompleted, CopyRequired, CopyStarted

log = logging.getLogger(__name__)


def continued(session: SyncSession, origin: CacheOrigin, gap: Callable[[Store], str | None]) -> Store | None:
    """The live generation if it can be continued, None if a copy is needed.

    `gap` returns why the source does not lead on from a store, None if it does. Rows of another database are no longer served.
    """
    store = session.cache.live
    if store is None:
        return None
    reason = session.state.copy_reason or gap(store)
    if reason is None:
        return store
    session.apply(CopyRequired(reason))
    before = store.origin()
    if before is None or not same_database(before, origin):
        session.cache.forget()
    return None


def start_copy(session: SyncSession, mode: str) -> None:
    """Show that a copy begins. The live generation is served meanwhile."""
    session.board.update(mode=mode, progress=None)
    session.apply(CopyStarted(time.monotonic()))
    session.freshness.reset()


@contextmanager
def new_generation(session: SyncSession, origin: CacheOrigin) -> Iterator[Store]:
    """A generation beside the live one, inside one transaction that the caller commits; then it is published.

    Any error discards it.
    """
    store = session.cache.build(origin)
    try:
        store.begin()
        yield store
        store.checkpoint()
    except BaseException:
        store.rollback()
        session.cache.discard(store)
        raise
    session.cache.publish(store)
    session.board.add(copies=1)
    position = store.position()
    assert position is not None  # noqa: S101 - the caller has committed one
    session.apply(CopyCompleted(position.lsn))
