"""Whose live numbers have changed: counts of every organization since one fixed moment, compared with themselves. Pure.

The moment stays while counts are compared. Were it moving, an action that leaves the last hour would look like a change, and
would be noticed just when another organization commits something: its clients could tell from that when others are active.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from analytics.calendar import naive_utc
from analytics.state.snapshot import Snapshot


class ActivityCounts(NamedTuple):
    """Counts of one organization, from which `realtime.metrics_update` is made."""

    actions: int
    high_risk: int
    agents: int
    people: int


NO_ACTIVITY = ActivityCounts(0, 0, 0, 0)


def count_activity(snapshot: Snapshot, since: datetime, *, count_false_positives: bool) -> dict[int, ActivityCounts]:
    """The counts from `since` (aware) on, by organization; one without any has no entry."""
    rows = snapshot.rows_across_organizations(
        "activity_by_organization", since=naive_utc(since), count_false_positives=count_false_positives
    )
    return {organization_id: ActivityCounts(*counts) for organization_id, *counts in rows}


def changed(before: Mapping[int, ActivityCounts], after: Mapping[int, ActivityCounts]) -> set[int]:
    """The organizations whose counts differ."""
    return {
        each for each in before.keys() | after.keys() if before.get(each, NO_ACTIVITY) != after.get(each, NO_ACTIVITY)
    }
