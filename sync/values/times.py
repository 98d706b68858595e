"""The one rule of times, as the source's SQL: what of a time column is in the cache. `sync.values.wire` applies it to what is received.

Every time is a moment in UTC. A column without a zone holds local times of the zone that source.zones names, UTC by default. What
no date of Python can hold becomes infinite: -infinity before the year 1, infinity from the year 10000 on.
"""

from __future__ import annotations

from psycopg import sql

from sync.source.schema import SourceColumn
from sync.values import wire

FIRST, BEYOND = "0001-01-01", "10000-01-01"
# AT TIME ZONE fails at the ends of Postgres' own range, so what is surely out of ours is sorted out before.
SURELY_BEFORE, SURELY_BEYOND = "0002-01-01 BC", "10001-01-01"


def moment(column: SourceColumn) -> sql.Composed:
    """A time of the source as a moment, for comparisons in a session in UTC: timestamptz where the column has a zone of its own or
    of the settings, else as it stands. Times before `FIRST` and from `BEYOND` on are infinite in the cache."""
    name = sql.Identifier(column.name)
    if column.zone is None:
        return sql.SQL("{}").format(name)
    return sql.SQL(
        f"(CASE WHEN {{c}} >= '{SURELY_BEYOND}' THEN 'infinity' WHEN {{c}} < '{SURELY_BEFORE}' THEN '-infinity'"
        " ELSE {c}::timestamp AT TIME ZONE {zone} END)"
    ).format(c=name, zone=column.zone)


def moment_type(column: SourceColumn) -> int:
    """The type of `moment`, by OID."""
    return column.type_oid if column.zone is None else wire.TIMESTAMPTZ
