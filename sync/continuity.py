"""Can the cache be continued? Pure: takes what was observed, returns the reason for a new copy.

Invariant: a cache is continued only if the same database will deliver every change after its position, for the same tables in the
same shape. Otherwise a new copy is made beside the live cache; two histories are never merged.
"""

from __future__ import annotations

from analytics.state.store import CacheOrigin, Position
from sync.stream.slots import Slot

POLLED = "poll"  # the last part of a polled origin


def stream_shape(fingerprint: str, publication: str, retention: str, timeline: int) -> str:
    """What must not change on a streamed source, as stored in the cache's origin."""
    return f"{fingerprint}/{publication}/{retention}/{timeline}"


def polled_shape(fingerprint: str) -> str:
    """The same for a polled source."""
    return f"{fingerprint}/{POLLED}"


def gap(
    position: Position | None, before: CacheOrigin | None, origin: CacheOrigin, slot: Slot | None, source_end: int
) -> str | None:
    """Why the cache cannot be continued; None if it can.

    `before` and `position` are the cache's, `origin` is the origin that a copy would have now, `slot` is ours on the source, and
    `source_end` is the end of the source's WAL.
    """
    if position is None or before is None:
        return "the cache is incomplete"
    if not same_database(before, origin):
        return "the source is another database than the cache was copied from"
    if before != origin:
        return what_changed(before, origin)
    if slot is None:
        return f"replication slot {origin.slot} is gone"
    if slot.lost or slot.plugin != "pgoutput":
        return f"replication slot {slot.name} was invalidated"
    if slot.confirmed_lsn is not None and slot.confirmed_lsn > position.lsn:
        return f"replication slot {slot.name} is ahead of the cache (an older cache was put back, or its log was cut)"
    if source_end < position.lsn:
        return "the source is behind the cache (failover to an older standby, or a restored backup)"
    return None


def what_changed(before: CacheOrigin, origin: CacheOrigin) -> str:
    """Which parts of a cache's origin have changed, for people."""
    was, now = before.mapping.split("/"), origin.mapping.split("/")
    if (POLLED in was) != (POLLED in now):
        return (
            "the source is now streamed, the cache was polled"
            if POLLED in was
            else "the source is now polled, the cache was streamed"
        )
    parts = [
        ("the slot", (before.slot,), (origin.slot,)),
        ("the shape of the tables or their mapping", was[:1], now[:1]),
        ("the publication or a partition", was[1:-2], now[1:-2]),
        ("the retention rule (cache.keep_days, meaning.pending_statuses)", was[-2:-1], now[-2:-1]),
        ("the timeline of the source (a failover or a restore)", was[-1:], now[-1:]),
    ]
    if POLLED in now:
        parts = parts[:2]
    changed = [name for name, one, other in parts if tuple(one) != tuple(other)]
    return f"{' and '.join(changed)} {'has' if len(changed) == 1 else 'have'} changed"


def same_database(one: CacheOrigin, other: CacheOrigin) -> bool:
    """Whether two generations were copied from the same database of the same cluster."""
    return (one.system_identifier, one.database) == (other.system_identifier, other.database)
