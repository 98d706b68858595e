"""Coalescing: similar records of a flood are counted together, exactly. Pure; the clock is passed in.

A flood of refused requests would fill the disk with identical lines. Beyond `limit` refused requests without a
caller in a second, records are gathered by what they have in common; each group leaves as one record with its exact count.
Nothing is dropped: single records and the counts of the gathered ones add up to what happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_GROUPS = 512
SINGLE_PER_SECOND = 200
COMMON = ("event", "outcome", "status", "reason", "route", "principal", "user_id", "organization_id", "credential")


@dataclass
class _Group:
    members: dict[str, Any]
    count: int
    first_time: Any
    last_time: Any


class RecordCoalescer:
    """Groups of similar records since the last `take_all`. Bounded: beyond `MAX_GROUPS`, addresses are no longer distinguished."""

    def __init__(self, limit: int = SINGLE_PER_SECOND) -> None:
        self._limit = limit
        self._second = -1
        self._in_second = 0
        self._groups: dict[tuple[Any, ...], _Group] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def is_flood(self, entry: Mapping[str, Any], moment: float) -> bool:
        """Whether this record belongs to a flood. `moment` is seconds of a steady clock. Counts the record."""
        if "principal" in entry or not isinstance(entry.get("status"), int) or entry["status"] < 400:
            return False
        if int(moment) != self._second:
            self._second, self._in_second = int(moment), 0
        self._in_second += 1
        return self._in_second > self._limit

    def add(self, entry: Mapping[str, Any]) -> None:
        members = {name: entry[name] for name in COMMON if entry.get(name) is not None}
        address = entry.get("address")
        key = (address, *members.items())
        if key not in self._groups and len(self._groups) >= MAX_GROUPS:
            address = "several"
            key = (address, *members.items())
            if key not in self._groups and len(self._groups) >= 2 * MAX_GROUPS:
                members = {name: members[name] for name in ("event", "outcome") if name in members}
                key = (address, *members.items())
        group = self._groups.get(key)
        if group is None:
            if address is not None:
                members["address"] = address
            group = self._groups[key] = _Group(members, 0, entry.get("time"), entry.get("time"))
        group.count += 1
        group.last_time = entry.get("time")

    def take_all(self) -> list[dict[str, Any]]:
        """One record per group, and an empty gathering. The record's `event` is similar, `of` is the event it stands for."""
        groups, self._groups = self._groups, {}
        return [
            {
                "time": group.last_time,
                "event": "similar",
                "of": group.members.get("event"),
                "count": group.count,
                "first_time": group.first_time,
                **{name: value for name, value in group.members.items() if name != "event"},
            }
            for group in groups.values()
        ]
