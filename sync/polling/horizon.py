"""How far polling has read: the source's snapshot in the last cycle, and cheap signs of what the next one must compare.

Why a snapshot and not a timestamp: a row version that the last snapshot did not show was written by a transaction that was
unfinished then, so its transaction id (`xmin`) is not below the snapshot's oldest unfinished one. Reading every row with such an xmin again
therefore misses no late commit, whatever `updated_at` contains; subtransactions have ids above their parent's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

import psycopg

from sync.source.connections import wal_position
from sync.source.schema import SourceTable

XIDS = 1 << 32
OLDEST_AGE = 1_500_000_000  # transaction ids wrap at 2³² and half of them are in the future; this leaves a margin


@dataclass(frozen=True)
class Signs:
    """What is cheap to read of one table.

    `files` changes with TRUNCATE, with a rewrite, and when a partition comes or goes. `deleted` counts deletes in the statistics,
    which may be late or lost: a hint to compare sooner, never a proof that nothing was deleted.
    """

    files: str
    deleted: int


@dataclass(frozen=True)
class SourceSnapshot:
    """One snapshot of the source. `oldest` and `next` are 64-bit transaction ids: all below `oldest` were committed and visible, or
    rolled back; none from `next` on was visible."""

    text: str
    oldest: int
    next: int
    in_recovery: bool
    timeline: int


@dataclass(frozen=True)
class Horizon:
    """Stored with the rows it belongs to. `reconciled`: seconds since 1970 by our clock; `signs`: the signs at that time; both by table."""

    oldest: int
    timeline: int
    reconciled: dict[str, float] = field(default_factory=dict)
    signs: dict[str, Signs] = field(default_factory=dict)

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def moved_to(self, snapshot: SourceSnapshot) -> Horizon:
        return replace(self, oldest=snapshot.oldest, timeline=snapshot.timeline)

    def reconciled_at(self, table: str, at: datetime, signs: Signs) -> Horizon:
        return replace(
            self,
            reconciled={**self.reconciled, table: at.timestamp()},
            signs={**self.signs, table: signs},
        )

    def pruned(self, table: str, signs: Signs) -> Horizon:
        """Only the ids were compared, not the rows."""
        return replace(self, signs={**self.signs, table: signs})

    def leads_to(self, snapshot: SourceSnapshot) -> bool:
        """Whether the rows changed since this horizon can be found by xmin in that snapshot; otherwise all rows are compared."""
        return (
            snapshot.timeline == self.timeline
            and self.oldest <= snapshot.oldest
            and snapshot.next - self.oldest < OLDEST_AGE
        )


def parse_horizon(text: str | None) -> Horizon | None:
    """A stored horizon; None if there is none, or if it cannot be read."""
    if text is None:
        return None
    try:
        found = json.loads(text)
        return Horizon(
            int(found["oldest"]),
            int(found["timeline"]),
            {str(table): float(at) for table, at in found["reconciled"].items()},
            {str(table): Signs(str(sign["files"]), int(sign["deleted"])) for table, sign in found["signs"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


# Every transaction id has its 32-bit form on the rows; the session's newest id bounds what can be visible.
CHANGED = "age(xmin) BETWEEN 0 AND (SELECT age('{xid}'::xid))"


def changed_since(horizon: Horizon) -> str:
    """The condition by which a row version may be newer than the horizon. Needs `Horizon.leads_to`.

    `age` counts modulo 2³² from an id that no visible row has passed, so a row is never missed; a frozen row that is 2³² ids old
    may be read once more.
    """
    return CHANGED.format(xid=horizon.oldest % XIDS)


_SNAPSHOT = """
SELECT s::text, txid_snapshot_xmin(s), txid_snapshot_xmax(s), pg_is_in_recovery(),
       CASE WHEN pg_is_in_recovery() THEN (pg_control_checkpoint()).timeline_id
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END
FROM txid_current_snapshot() s"""

_LEAVES = """
WITH RECURSIVE leaf (root, relid) AS (
    SELECT o, o FROM unnest(%s::oid[]) o
    UNION ALL
    SELECT l.root, i.inhrelid FROM leaf l JOIN pg_inherits i ON i.inhparent = l.relid)"""

_SIGNS = (
    _LEAVES
    + """
SELECT l.root, coalesce(md5(string_agg(concat_ws(':', c.oid, c.relfilenode), ',' ORDER BY c.oid)), ''),
       coalesce(sum(pg_stat_get_tuples_deleted(c.oid)), 0)::bigint
FROM leaf l JOIN pg_class c ON c.oid = l.relid GROUP BY l.root"""
)

_REWRITTEN = (
    _LEAVES
    + """
SELECT count(*) FROM leaf l JOIN pg_class c ON c.oid = l.relid
WHERE c.relkind = 'r' AND pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode"""
)


def begin_snapshot(connection: psycopg.Connection) -> SourceSnapshot:
    """Begin a REPEATABLE READ, READ ONLY transaction on `connection`; returns its snapshot."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    row = connection.execute(_SNAPSHOT).fetchone()
    assert row is not None  # noqa: S101 - the query always has one row
    return SourceSnapshot(*row)


def read_signs(connection: psycopg.Connection, tables: tuple[SourceTable, ...]) -> tuple[int, dict[str, Signs]]:
    """The WAL position, and the signs of each table by its name in the cache.

    Read before a snapshot is taken, which then shows every change that the signs count.
    """
    lsn = wal_position(connection)
    names = {table.oid: table.table.name for table in tables}
    rows = connection.execute(_SIGNS.encode(), [list(names)]).fetchall()
    return lsn, {names[oid]: Signs(files, deleted) for oid, files, deleted in rows}


def rewritten(connection: psycopg.Connection, tables: tuple[SourceTable, ...]) -> bool:
    """Whether a table was truncated or rewritten after the open transaction's snapshot, which then shows the table empty."""
    row = connection.execute(_REWRITTEN.encode(), [[table.oid for table in tables]]).fetchone()
    return bool(row and row[0])
