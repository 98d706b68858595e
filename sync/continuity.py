"""Does the stream lead on from exactly where the cache stands? Pure: what was observed in, the reason for a new copy out.

Invariant: a cache is continued only when every change after its position will still be delivered, of the same tables, in the same
shape, by the same database. Anything else is a new copy beside the live cache, never a merge of two histories.
"""

from __future__ import annotations

from analytics.state.store import CacheOrigin, Position
from sync.stream.slots import Slot

POLLED = "poll"  # the last part of a polled origin


def stream_shape(fingerprint: str, publication: str, retention: str, timeline: int) -> str:
    """What of a streamed source must stay as it is, as the cache's origin keeps it."""
    return f"{fingerprint}/{publication}/{retention}/{timeline}"


def polled_shape(fingerprint: str) -> str:
    """The same of a polled source."""
    return f"{fingerprint}/{POLLED}"


def gap(
    position: Position | None, before: CacheOrigin | None, origin: CacheOrigin, slot: Slot | None, source_end: int
) -> str | None:
    """Why the cache cannot be continued; None when it can.

    `before` and `position` are the cache's, `origin` is what the source would be copied as now, `slot` is ours on the source, and
    `source_end` the end of the source's WAL.
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
    """Which parts of what a cache was copied from are others now, for people. `stream_origin` made both, or polling did."""
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
        ("the rule of what is kept (cache.keep_days, meaning.pending_statuses)", was[-2:-1], now[-2:-1]),
        ("the timeline of the source (a failover or a restore)", was[-1:], now[-1:]),
    ]
    if POLLED in now:
        parts = parts[:2]
    changed = [name for name, one, other in parts if tuple(one) != tuple(other)]
    return f"{' and '.join(changed)} {'has' if len(changed) == 1 else 'have'} changed"


def same_database(one: CacheOrigin, other: CacheOrigin) -> bool:
    """Whether two generations tell of the same database of the same cluster."""
    return (one.system_identifier, one.database) == (other.system_identifier, other.database)
