"""Does the stream lead on from exactly where the cache stands? Pure: what was observed in, the reason for a new copy out.

Invariant: a cache is continued only when every change after its position will still be delivered, of the same tables, in the same
shape, by the same database. Anything else is a new copy beside the live cache, never a merge of two histories.
"""

from __future__ import annotations

from analytics.store import Origin, Position
from sync.replication import Slot


def gap(
    position: Position | None, before: Origin | None, origin: Origin, slot: Slot | None, source_end: int
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
        return "the mapping of tables, the slot, the publication the shape or the timeline of the source has changed"
    if slot is None:
        return f"replication slot {origin.slot} is gone"
    if slot.lost or slot.plugin != "pgoutput":
        return f"replication slot {slot.name} was invalidated"
    if slot.confirmed_lsn is not None and slot.confirmed_lsn > position.lsn:
        return f"replication slot {slot.name} is ahead of the cache (an older cache was put back, or its log was cut)"
    if source_end < position.lsn:
        return "the source is behind the cache (failover to an older standby, or a restored backup)"
    return None


def same_database(one: Origin, other: Origin) -> bool:
    """Whether two generations tell of the same database of the same cluster."""
    return (one.system_identifier, one.database) == (other.system_identifier, other.database)
