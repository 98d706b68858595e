"""Signs that a publication has changed in a way that the change stream does not show."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from config.settings import Settings
from sync.publication.publication import Publication
from sync.source.connections import COLUMN_LIST_SERVER
from sync.source.schema import Mapping


@dataclass(frozen=True)
class Membership:
    """The entry of each mapped table in pg_publication_rel, by table name.

    An owner who removes a table and adds it again has migrated it: its new shape is intended.
    """

    entries: tuple[tuple[str, int | None], ...] = ()

    @classmethod
    def of(cls, publication: Publication | None, mapping: Mapping) -> Membership:
        return cls(
            tuple(
                (table.qualified, member.membership)
                for table in mapping.tables
                if publication is not None and (member := publication.member(table)) is not None
            )
        )

    def renewed(self, before: Membership, table: str) -> bool:
        """Whether the table's entry differs from the one in `before`."""
        return dict(self.entries).get(table) != dict(before.entries).get(table)


# A truncated partition gets new storage; the stream reports only a TRUNCATE of the whole table.
_PARTITIONS = """
WITH RECURSIVE tree (oid) AS (
    SELECT %s::oid
    UNION ALL
    SELECT i.inhrelid FROM tree t JOIN pg_class c ON c.oid = t.oid AND c.relkind = 'p' JOIN pg_inherits i ON i.inhparent = t.oid)
SELECT md5(coalesce(string_agg(c.oid::text || ':' || c.relfilenode::text, ',' ORDER BY c.oid), ''))
FROM tree t JOIN pg_class c ON c.oid = t.oid WHERE c.relkind <> 'p'"""


def publication_fingerprint(settings: Settings, connection: psycopg.Connection, mapping: Mapping) -> str:
    """A text that changes with what the publication streams, even if the change is reverted: an option altered, a table or schema
    removed and added again, a partition attached, detached or truncated.

    None of these sends the affected rows through the stream.
    """
    schemas = (
        ", coalesce((SELECT string_agg(s.oid::text, ',' ORDER BY s.oid) FROM pg_publication_namespace s WHERE s.pnpubid = p.oid), '')"
        if connection.info.server_version >= COLUMN_LIST_SERVER
        else ""
    )
    # xmin changes with every ALTER PUBLICATION … SET.
    rows = connection.execute(
        "SELECT p.oid::text || '.' || p.xmin::text, coalesce((SELECT string_agg(r.oid::text, ',' ORDER BY r.oid)"  # noqa: S608
        f" FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = ANY (%s::oid[])), ''){schemas}"
        " FROM pg_publication p WHERE p.pubname = %s".encode(),
        [[table.oid for table in mapping.tables], settings.source.publication],
    ).fetchall()
    trees = [
        connection.execute(_PARTITIONS, [table.oid]).fetchone() or ("",)
        for table in mapping.tables
        if table.partitioned
    ]
    return "/".join((*(":".join(row) for row in rows), *(tree[0] for tree in trees)))
