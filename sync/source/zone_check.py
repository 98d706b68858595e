"""Checks that the source knows the configured time zones and has the same rules for them as this machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import psycopg

from sync.source.schema import Mapping
from sync.values.local_time import EPOCH, local_time

COMPARED = timedelta(days=3 * 366)  # up to a year ahead: the range that the numbers cover
STEP = timedelta(minutes=30)
AHEAD = timedelta(days=366)


def zones_of(mapping: Mapping) -> tuple[str, ...]:
    """The configured zones of columns that carry none, without UTC."""
    found = {column.zone for table in mapping.tables for column in table.columns if column.zone is not None}
    return tuple(sorted(found))


def zone_problems(connection: psycopg.Connection, mapping: Mapping, now: datetime) -> Iterator[tuple[str, str]]:
    """(problem, remedy) of each zone that copy and comparison would read differently. `now`: aware."""
    for zone in zones_of(mapping):
        try:
            # A transaction of its own, so that an unknown zone aborts nothing else.
            with connection.transaction():
                same = _same_rules(connection, zone, now)
        except psycopg.errors.InvalidParameterValue:
            yield (
                f"the source does not know the time zone {zone}",
                "name another zone in source.zones, or update its time zone data",
            )
            continue
        if not same:
            yield (
                f"the rules of the time zone {zone} on the source differ from those on this machine",
                "update the time zone data (tzdata) on the older machine",
            )


def _same_rules(connection: psycopg.Connection, zone: str, now: datetime) -> bool:
    end = (now + AHEAD).replace(minute=0, second=0, microsecond=0)
    steps = COMPARED // STEP
    local = np.array([(end - step * STEP - EPOCH) // timedelta(microseconds=1) for step in range(steps)], np.int64)
    ours = local_time(zone).to_utc(local)
    rows = connection.execute(
        "SELECT (extract(epoch FROM t AT TIME ZONE %(zone)s) * 1000000)::bigint - 946684800000000"
        " FROM generate_series(%(end)s::timestamp, %(end)s::timestamp - %(steps)s * interval '30 minutes', interval '-30 minutes')"
        " WITH ORDINALITY s (t, n) WHERE n <= %(steps)s ORDER BY n",
        {"zone": zone, "end": end.replace(tzinfo=None), "steps": steps},
    ).fetchall()
    theirs = np.array([row[0] for row in rows], np.int64)
    return bool(np.array_equal(ours, theirs))
