"""Reads a publication from the catalogue, with every table it reaches, mapped or not.

No query touches a table itself, so a lock on a table delays nothing here.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from sync.publication.hazards import Hazard, rejection
from sync.publication.publication import PUBLISHED, Member, Publication
from sync.publication.replica_identity import IDENTITY_COLUMNS, identity_of_row
from sync.source.connections import COLUMN_LIST_SERVER, GENERATED_SERVER, PARTITION_ROOT_SERVER
from sync.source.schema import Mapping

_EXTRA_MEMBERS = """
    UNION
    SELECT c.oid, NULL::oid, NULL::int2[], NULL::text
      FROM publication p JOIN pg_publication_namespace s ON s.pnpubid = p.oid JOIN pg_class c ON c.relnamespace = s.pnnspid
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
       AND NOT EXISTS (SELECT 1 FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid)"""

_FIRST_USER_OID = 16384

_MEMBERS = f"""
WITH RECURSIVE publication AS (
    SELECT p.oid, p.puballtables, {{through_root}} AS through_root, {{generated}} AS generated
      FROM pg_publication p WHERE p.pubname = %(name)s
), member (oid, membership, attributes, filter) AS (
    SELECT r.prrelid, r.oid, {{attributes}}, {{filter}}
      FROM publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
    {{extra}}
    UNION
    SELECT c.oid, NULL::oid, NULL::int2[], NULL::text FROM publication p JOIN pg_class c ON p.puballtables
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= {_FIRST_USER_OID}
)"""  # noqa: S608 - our own text

_MEMBER_QUERY = """
SELECT m.oid, m.membership, m.filter IS NOT NULL,
       CASE WHEN m.attributes IS NOT NULL THEN
            ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = m.oid AND a.attnum = ANY (m.attributes)) END
  FROM member m WHERE m.oid = ANY (%(mapped)s::oid[])"""

# The entry whose column list and row filter Postgres applies to a relation: its own, or that of the topmost ancestor where
# changes are published through the root.
_RELATION_QUERY = f""", reach (member, relation, depth) AS (
    SELECT m.oid, m.oid, 0 FROM member m
    UNION ALL
    SELECT r.member, i.inhrelid, r.depth + 1
      FROM reach r JOIN pg_class c ON c.oid = r.relation AND c.relkind = 'p' JOIN pg_inherits i ON i.inhparent = r.relation
), applied AS (
    SELECT DISTINCT ON (r.relation) r.relation, r.member, r.depth = 0 OR p.through_root AS own, p.generated
      FROM reach r CROSS JOIN publication p
     ORDER BY r.relation, CASE WHEN p.through_root THEN -r.depth ELSE r.depth END
)
SELECT {IDENTITY_COLUMNS},
       m.oid, mn.nspname::text, mc.relname::text, m.membership IS NOT NULL,
       CASE WHEN x.own AND m.attributes IS NOT NULL THEN
            ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = m.oid AND a.attnum = ANY (m.attributes)) END,
       CASE WHEN x.own THEN
            ARRAY(SELECT coalesce(a.attname::text, '*') FROM regexp_matches(m.filter, ':varattno (-?\\d+)', 'g') v
                    LEFT JOIN pg_attribute a ON a.attrelid = m.oid AND a.attnum = v[1]::int AND a.attnum > 0)
            ELSE '{{}}' END,
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = relation.oid AND NOT a.attisdropped AND a.attgenerated = 's'),
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = relation.oid AND NOT a.attisdropped AND a.attgenerated = 'v')
  FROM applied x
  JOIN pg_class relation ON relation.oid = x.relation AND relation.relkind = 'r'
  JOIN pg_namespace n ON n.oid = relation.relnamespace
  JOIN member m ON m.oid = x.member JOIN pg_class mc ON mc.oid = m.oid JOIN pg_namespace mn ON mn.oid = mc.relnamespace
 ORDER BY 1, 2"""  # noqa: S608 - our own text


def read_publication(connection: psycopg.Connection, name: str, mapping: Mapping) -> Publication | None:
    """The publication with the members that are mapped, and every hazard; None if no publication has that name."""
    version = connection.info.server_version
    root = "pubviaroot" if version >= PARTITION_ROOT_SERVER else "false"
    generated = "pubgencols = 's'" if version >= GENERATED_SERVER else "false"
    row = connection.execute(
        f"SELECT pubinsert, pubupdate, pubdelete, pubtruncate, {root}, puballtables, {generated}"  # noqa: S608 - our own text
        " FROM pg_publication WHERE pubname = %s".encode(),
        [name],
    ).fetchone()
    if row is None:
        return None
    lists = version >= COLUMN_LIST_SERVER
    members = _MEMBERS.format(
        through_root=root,
        generated=generated,
        attributes="r.prattrs::int2[]" if lists else "NULL::int2[]",
        filter="r.prqual::text" if lists else "NULL::text",
        extra=_EXTRA_MEMBERS if lists else "",
    )
    found = connection.execute(
        (members + _MEMBER_QUERY).encode(), {"name": name, "mapped": [table.oid for table in mapping.tables]}
    ).fetchall()
    relations = connection.execute((members + _RELATION_QUERY).encode(), {"name": name}).fetchall()
    return Publication(
        name,
        version,
        tuple(what for what, there in zip(PUBLISHED, row[:4], strict=True) if there),
        row[4],
        row[5],
        row[6],
        tuple(
            Member(oid, membership is not None, membership, None if listed is None else frozenset(listed), filtered)
            for oid, membership, filtered, listed in found
        ),
        tuple(
            hazard for relation in relations if (hazard := _hazard(relation, row[6], version)) is not None
        ),
    )  # fmt: skip


def _hazard(row: tuple[object, ...], publishes_generated: bool, version: int) -> Hazard | None:
    identity = identity_of_row(row[:5])  # type: ignore[arg-type]
    oid, schema, name, explicit, listed, filtered, stored, virtual = row[5:]
    cause, is_virtual = rejection(
        identity,
        None if listed is None else frozenset(listed),  # type: ignore[call-overload]
        frozenset(filtered),  # type: ignore[call-overload]
        frozenset() if publishes_generated or version < GENERATED_SERVER else frozenset(stored),  # type: ignore[call-overload]
        frozenset(virtual),  # type: ignore[call-overload]
    )
    if cause is None:
        return None
    member = sql.Identifier(str(schema), str(name)).as_string(None)
    columns = None if listed is None else frozenset(listed)  # type: ignore[call-overload]
    return Hazard(cause, identity, int(oid), member, bool(explicit), columns, is_virtual)  # type: ignore[call-overload]
