"""The rule for times, as SQL on the source: the value of a time column in the cache. `sync.values.wire` applies it to received values.

Every time is in UTC. A column without a zone holds local times of the zone in source.zones, UTC by default. Times that Python dates
do not support become infinite: -infinity before the year 1, infinity from the year 10000 on.
"""

from __future__ import annotations

from psycopg import sql

from sync.source.schema import SourceColumn
from sync.values import wire

FIRST, BEYOND = "0001-01-01", "10000-01-01"
# AT TIME ZONE fails at the ends of Postgres' own range, so times clearly outside our range are handled first.
SURELY_BEFORE, SURELY_BEYOND = "0002-01-01 BC", "10001-01-01"


def utc_time(column: SourceColumn) -> sql.Composed:
    """A time column in UTC, for comparisons in a session in UTC: timestamptz if the column has a zone of its own or from the settings,
    else unchanged. Times before `FIRST` and from `BEYOND` on are infinite in the cache."""
    name = sql.Identifier(column.name)
    if column.zone is None:
        return sql.SQL("{}").format(name)
    return sql.SQL(
        f"(CASE WHEN {{c}} >= '{SURELY_BEYOND}' THEN 'infinity' WHEN {{c}} < '{SURELY_BEFORE}' THEN '-infinity'"
        " ELSE {c}::timestamp AT TIME ZONE {zone} END)"
    ).format(c=name, zone=column.zone)


def utc_time_type(column: SourceColumn) -> int:
    """The type OID of `utc_time`."""
    return column.type_oid if column.zone is None else wire.TIMESTAMPTZ
