"""Replica identities: how Postgres names the old row of an UPDATE or DELETE in its change stream.

Postgres decides per relation that holds rows, so for a partitioned table every partition counts. The rules here are those of
`CheckCmdReplicaIdentity` and `RelationGetReplicaIndex` in Postgres: an index identifies rows only while it is valid, unique,
immediate and not partial, and only by its key columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

FULL, NOTHING = "f", "n"

# Catalogue columns of one identity; `relation` stands for the pg_class row of a relation that holds rows.
IDENTITY_COLUMNS = """
n.nspname::text, relation.relname::text, relation.relreplident::text,
(SELECT ARRAY(SELECT a.attname::text FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) k
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k)
   FROM pg_index i
  WHERE i.indrelid = relation.oid AND i.indisvalid AND i.indisunique AND i.indimmediate AND i.indpred IS NULL
    AND CASE relation.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
  LIMIT 1),
(SELECT i.indimmediate AND i.indisvalid FROM pg_index i WHERE i.indrelid = relation.oid AND i.indisprimary LIMIT 1)"""

# Partitions are found in the catalogue: pg_partition_tree() would wait for a lock on one of them.
_OF_TABLE = f"""
WITH RECURSIVE tree (oid) AS (
    SELECT %s::oid
    UNION ALL
    SELECT i.inhrelid FROM tree t JOIN pg_class c ON c.oid = t.oid AND c.relkind = 'p' JOIN pg_inherits i ON i.inhparent = t.oid)
SELECT {IDENTITY_COLUMNS}
FROM tree t JOIN pg_class relation ON relation.oid = t.oid AND relation.relkind = 'r'
JOIN pg_namespace n ON n.oid = relation.relnamespace
ORDER BY 1, 2"""  # noqa: S608 - our own text


@dataclass(frozen=True)
class ReplicaIdentity:
    """The identity of one relation that holds rows. `key` are the columns that identify a row; None if no index does.

    `primary`: whether the primary key could identify rows; None without a primary key.
    """

    schema: str
    name: str
    letter: str  # relreplident
    key: tuple[str, ...] | None
    primary: bool | None

    @property
    def full(self) -> bool:
        return self.letter == FULL

    @property
    def nothing(self) -> bool:
        return self.letter == NOTHING

    @property
    def identifier(self) -> str:
        return sql.Identifier(self.schema, self.name).as_string(None)

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"

    def identifies_by(self, column: str) -> bool:
        """Whether every old row in the stream carries this column."""
        return self.full or column in (self.key or ())

    def statement_that_identifies_by(self, column: str) -> str:
        """The statement with which the table's owner makes the column identify rows again."""
        quoted = sql.Identifier(column).as_string(None)
        if self.primary is None:
            return f"ALTER TABLE {self.identifier} ADD PRIMARY KEY ({quoted})"
        letter = "DEFAULT" if self.primary and not self._by_primary_key else "FULL"
        return f"ALTER TABLE {self.identifier} REPLICA IDENTITY {letter}"

    @property
    def _by_primary_key(self) -> bool:
        return self.letter == "d"


def read_identities(connection: psycopg.Connection, table_oid: int) -> tuple[ReplicaIdentity, ...]:
    """Of the table, or of all its partitions that hold rows."""
    return tuple(map(identity_of_row, connection.execute(_OF_TABLE.encode(), [table_oid]).fetchall()))


def identity_of_row(row: tuple[str, str, str, list[str] | None, bool | None]) -> ReplicaIdentity:
    """From `IDENTITY_COLUMNS`."""
    schema, name, letter, key, primary = row
    return ReplicaIdentity(schema, name, letter, None if key is None else tuple(key), primary)
