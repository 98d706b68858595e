"""Our publication: what it has to stream, what it lacks, and what it does to the platform's writes.

Postgres rejects UPDATE and DELETE on a published table whose replica identity does not suit the publication (`RejectionCause`). No
publication of ours may ever do that, so `Publication.hazards` looks at every table it reaches, mapped or not. All is read from
the catalogue without touching a table: whoever holds a lock on one delays nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import psycopg
from psycopg import sql

from config.settings import Settings
from sync.publication.replica_identity import IDENTITY_COLUMNS, ReplicaIdentity, identity_of_row
from sync.source.connections import COLUMN_LIST_SERVER, GENERATED_SERVER, PARTITION_ROOT_SERVER
from sync.source.schema import Generated, Mapping, SourceTable

PUBLISHED = ("insert", "update", "delete", "truncate")
HARMLESS = ("insert", "truncate")  # what never makes Postgres reject a write


class RejectionCause(Enum):
    """Why Postgres rejects UPDATE and DELETE on a relation; the value completes the sentence "… of public.actions"."""

    NO_IDENTITY = "no usable replica identity"
    LIST_BESIDE_FULL = "the publication's column list beside REPLICA IDENTITY FULL"
    LIST_WITHOUT_KEY = "a column list that lacks columns of the replica identity"
    FILTER_BESIDE_KEY = "a row filter on columns outside the replica identity"
    GENERATED_KEY = "generated columns of the replica identity that are not published"


@dataclass(frozen=True)
class Member:
    """A table that a publication names, or reaches by its schema or by FOR ALL TABLES (then not `explicit`)."""

    oid: int
    explicit: bool
    membership: int | None  # oid in pg_publication_rel: another one after the table has left and come back
    columns: frozenset[str] | None  # of its column list; None: no list
    filtered: bool


@dataclass(frozen=True)
class Hazard:
    """A relation on which the publication makes, or would make, Postgres reject UPDATE and DELETE."""

    cause: RejectionCause
    identity: ReplicaIdentity
    member_oid: int
    member: str  # quoted, as a statement names it
    explicit: bool
    listed: frozenset[str] | None  # the member's column list
    virtual: bool = False  # the generated columns are virtual: nothing publishes those

    @property
    def message(self) -> str:
        return f"makes Postgres reject UPDATE and DELETE on {self.identity.qualified}: {self.cause.value}"


@dataclass(frozen=True)
class Publication:
    """One publication as the catalogue holds it."""

    name: str
    server_version: int
    publishes: tuple[str, ...]
    through_root: bool  # publish_via_partition_root
    all_tables: bool
    generated: bool  # stored generated columns of tables without a column list are published
    members: tuple[Member, ...]
    hazards: tuple[Hazard, ...]  # that there are, or would be if it published updates and deletes

    @property
    def quoted(self) -> str:
        return sql.Identifier(self.name).as_string(None)

    @property
    def rejected_writes(self) -> tuple[Hazard, ...]:
        """The hazards that hurt now."""
        return self.hazards if {"update", "delete"} & set(self.publishes) else ()

    def member(self, table: SourceTable) -> Member | None:
        """The table's entry; None where the publication does not name the table."""
        return next((member for member in self.members if member.oid == table.oid), None)

    def carries_generated(self, table: SourceTable) -> bool:
        """Whether it streams the table's stored generated columns; a list that names one or ought to does."""
        member = self.member(table)
        return self.generated or (member is not None and member.columns is not None)


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
    """The publication with the members that are mapped, and every hazard; None where there is none of that name."""
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


def rejection(
    identity: ReplicaIdentity,
    listed: frozenset[str] | None,
    filtered: frozenset[str],
    unpublished: frozenset[str],
    virtual: frozenset[str],
) -> tuple[RejectionCause | None, bool]:
    """Why Postgres would reject UPDATE and DELETE, and whether a virtual generated column is the reason.

    `listed` are the columns of the list that applies, `filtered` those its row filter reads, `unpublished` the stored generated
    columns that the publication leaves out, `virtual` the virtual ones. Before Postgres 18 neither of the last two matters.
    """
    if identity.full:
        if listed is not None:
            return RejectionCause.LIST_BESIDE_FULL, False
        return (RejectionCause.GENERATED_KEY, bool(virtual)) if unpublished or virtual else (None, False)
    if identity.key is None:
        return RejectionCause.NO_IDENTITY, False
    key = frozenset(identity.key)
    if filtered - key:
        return RejectionCause.FILTER_BESIDE_KEY, False
    if listed is not None:
        return (RejectionCause.LIST_WITHOUT_KEY, False) if key - listed else (None, False)
    return (RejectionCause.GENERATED_KEY, bool(key & virtual)) if key & (unpublished | virtual) else (None, False)


# -- statements ------------------------------------------------------------------------------------------------------


def publication_sql(settings: Settings, mapping: Mapping, server_version: int) -> list[str]:
    """The statements by which an owner of the tables makes our publication; column lists where the server knows them."""
    tables = ", ".join(published_table(table, server_version) for table in mapping.tables)
    options = f"publish = '{', '.join(PUBLISHED)}'"
    if server_version >= PARTITION_ROOT_SERVER:
        options += ", publish_via_partition_root = true"
    if server_version >= GENERATED_SERVER:
        # Tables without a list publish theirs too; REPLICA IDENTITY FULL would reject writes without them.
        options += ", publish_generated_columns = stored"
    name = sql.Identifier(settings.source.publication).as_string(None)
    return [f"CREATE PUBLICATION {name} FOR TABLE {tables} WITH ({options})"]


def published_table(table: SourceTable, server_version: int) -> str:
    """A table as our publication names it: with the mapped columns, or whole where a list would make Postgres reject writes."""
    lists = server_version >= COLUMN_LIST_SERVER and table.listable
    listed = listed_columns(table, server_version) if lists else None
    return _entry(table.identifier.as_string(None), listed)


def listed_columns(table: SourceTable, server_version: int) -> tuple[str, ...]:
    """The mapped columns and those of the replica identity; Postgres refuses a list with other generated columns."""
    allowed = {Generated.NO, Generated.STORED} if server_version >= GENERATED_SERVER else {Generated.NO}
    mapped = (column.name for column in table.columns if column.generated in allowed)
    return tuple(dict.fromkeys((*mapped, *table.key_columns)))


def _entry(name: str, listed: Sequence[str] | None) -> str:
    if listed is None:
        return name
    return f"{name} ({', '.join(sql.Identifier(column).as_string(None) for column in listed)})"


def republish(publication: Publication, table: SourceTable) -> tuple[str, ...]:
    """Statements that give a table the list it should have.

    Columns that are listed already stay: another server may stream them by the same publication.
    """
    name, member = table.identifier.as_string(None), publication.member(table)
    if not table.listable:
        return _put_again(publication, name, None)
    ours = listed_columns(table, publication.server_version)
    listed = frozenset() if member is None or member.columns is None else member.columns
    return _put_again(publication, name, (*ours, *sorted(listed.difference(ours))))


def _put_again(publication: Publication, name: str, listed: Sequence[str] | None) -> tuple[str, ...]:
    """In one transaction the stream misses nothing."""
    return (
        f"ALTER PUBLICATION {publication.quoted} DROP TABLE {name}",
        f"ALTER PUBLICATION {publication.quoted} ADD TABLE {_entry(name, listed)}",
    )


def publish_all(publication: Publication) -> str:
    return f"ALTER PUBLICATION {publication.quoted} SET (publish = '{', '.join(PUBLISHED)}')"


def stop_publishing_changes(publication: Publication) -> str:
    """The statement after which no table's identity can make Postgres reject a write, whatever it is."""
    return f"ALTER PUBLICATION {publication.quoted} SET (publish = '{', '.join(HARMLESS)}')"


def publish_generated(publication: Publication) -> str:
    return f"ALTER PUBLICATION {publication.quoted} SET (publish_generated_columns = stored)"


# -- what it lacks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shortcoming:
    """Something that keeps a publication from streaming what is mapped.

    `alters` are the oids of the tables that the statements publish again, which takes their owner; `automatic` tells whether the server
    may run the statements by itself. It never undoes what only an operator can have meant: a row filter, a list without a
    required column, a choice of operations. Nor does it add a table that is absent: its owner may be in the middle of a
    migration, for which the table has to be out of the publication.
    """

    message: str
    statements: tuple[str, ...]
    automatic: bool
    alters: tuple[int, ...] = ()


def shortcomings(publication: Publication, mapping: Mapping) -> list[Shortcoming]:
    """All of them, in the order in which they should be ended."""
    found = []
    if lacking := [what for what in PUBLISHED if what not in publication.publishes]:
        found.append(
            Shortcoming(
                f"does not publish {', '.join(lacking)}",
                (publish_all(publication),),
                # Another choice is the operator's; this one is how writes are protected, and ends with the danger.
                automatic=publication.publishes == HARMLESS and not publication.hazards,
            )
        )
    if not publication.through_root and (
        split := [table.qualified for table in mapping.tables if table.partitioned and publication.member(table)]
    ):
        found.append(
            Shortcoming(
                f"streams the partitions of {', '.join(split)} under their own names (publish_via_partition_root is off)",
                (f"ALTER PUBLICATION {publication.quoted} SET (publish_via_partition_root = true)",),
                True,
            )
        )
    found += [lack for table in mapping.tables if (lack := _table_shortcoming(publication, table)) is not None]
    ended = {shortcoming.statements for shortcoming in found}
    for hazard in publication.hazards:
        shortcoming = hazard_shortcoming(publication, hazard, mapping)
        if shortcoming.statements not in ended:
            ended.add(shortcoming.statements)
            found.append(shortcoming)
    return found


def hazard_shortcoming(publication: Publication, hazard: Hazard, mapping: Mapping) -> Shortcoming:
    """A hazard with the statements that end it for good."""

    def ended_by(*statements: str, automatic: bool, alters: tuple[int, ...] = ()) -> Shortcoming:
        return Shortcoming(hazard.message, statements, automatic, alters)

    table = next((table for table in mapping.tables if table.oid == hazard.member_oid), None)
    identity = hazard.identity
    match hazard.cause:
        case RejectionCause.LIST_BESIDE_FULL | RejectionCause.LIST_WITHOUT_KEY | RejectionCause.FILTER_BESIDE_KEY if (
            table is not None
        ):
            lists = hazard.cause is not RejectionCause.FILTER_BESIDE_KEY
            return ended_by(*republish(publication, table), automatic=lists, alters=(table.oid,))
        case RejectionCause.LIST_BESIDE_FULL:
            return ended_by(*_put_again(publication, hazard.member, None), automatic=True, alters=(hazard.member_oid,))
        case RejectionCause.LIST_WITHOUT_KEY:
            listed = sorted((hazard.listed or frozenset()).union(identity.key or ()))
            return ended_by(
                *_put_again(publication, hazard.member, listed), automatic=True, alters=(hazard.member_oid,)
            )
        case RejectionCause.NO_IDENTITY | RejectionCause.FILTER_BESIDE_KEY if table is None and hazard.explicit:
            return ended_by(f"ALTER PUBLICATION {publication.quoted} DROP TABLE {hazard.member}", automatic=True)
        case RejectionCause.GENERATED_KEY if not hazard.virtual:
            return ended_by(publish_generated(publication), automatic=True)
        case RejectionCause.GENERATED_KEY if identity.full and identity.primary:
            return ended_by(f"ALTER TABLE {identity.identifier} REPLICA IDENTITY DEFAULT", automatic=False)
        case RejectionCause.NO_IDENTITY if table is not None:
            return ended_by(identity.statement_that_identifies_by(table.source_key), automatic=False)
        case RejectionCause.NO_IDENTITY:
            letter = "DEFAULT" if identity.primary else "FULL"
            return ended_by(f"ALTER TABLE {identity.identifier} REPLICA IDENTITY {letter}", automatic=False)
        case _:
            return ended_by(stop_publishing_changes(publication), automatic=False)


def _table_shortcoming(publication: Publication, table: SourceTable) -> Shortcoming | None:
    member = publication.member(table)
    if member is None:
        add = f"ALTER PUBLICATION {publication.quoted} ADD TABLE {published_table(table, publication.server_version)}"
        return Shortcoming(f"does not contain table {table.qualified}", (add,), False, (table.oid,))
    again = republish(publication, table)
    if member.filtered:
        return Shortcoming(
            f"filters rows of table {table.qualified}, so the cache would miss some", again, False, (table.oid,)
        )
    listed = member.columns
    if absent := [column for column in table.columns if listed is not None and column.name not in listed]:
        names = ", ".join(column.name for column in absent)
        optional = not any(column.column.required for column in absent)
        return Shortcoming(f"leaves out {names} of table {table.qualified}", again, optional, (table.oid,))
    return None


@dataclass(frozen=True)
class Membership:
    """Since when each mapped table has been in the publication: its entry in pg_publication_rel by the table's name.

    An owner who takes a table out and puts it back has migrated it: its new shape is meant.
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
        """Whether the table's entry is another one than `before`."""
        return dict(self.entries).get(table) != dict(before.entries).get(table)


def may_run(connection: psycopg.Connection, publication: Publication, shortcoming: Shortcoming) -> bool:
    """Whether our role owns what the statements change."""
    owned = connection.execute(
        "SELECT bool_and(pg_has_role(owner, 'USAGE')) FROM ("
        " SELECT pubowner FROM pg_publication WHERE pubname = %s"
        " UNION ALL SELECT relowner FROM pg_class WHERE oid = ANY (%s::oid[])) owners (owner)",
        [publication.name, list(shortcoming.alters)],
    ).fetchone()
    return bool(owned and owned[0])


def run_together(connection: psycopg.Connection, statements: Sequence[str]) -> None:
    """In one transaction, so that no change of the platform falls between two of them."""
    with connection.transaction():
        for statement in statements:
            connection.execute(statement.encode())


# -- marks -----------------------------------------------------------------------------------------------------------

# A truncated partition gets new storage; the stream tells only of a TRUNCATE of the whole table.
_PARTITIONS = """
WITH RECURSIVE tree (oid) AS (
    SELECT %s::oid
    UNION ALL
    SELECT i.inhrelid FROM tree t JOIN pg_class c ON c.oid = t.oid AND c.relkind = 'p' JOIN pg_inherits i ON i.inhparent = t.oid)
SELECT md5(coalesce(string_agg(c.oid::text || ':' || c.relfilenode::text, ',' ORDER BY c.oid), ''))
FROM tree t JOIN pg_class c ON c.oid = t.oid WHERE c.relkind <> 'p'"""


def publication_mark(settings: Settings, connection: psycopg.Connection, mapping: Mapping) -> str:
    """Changes with what the publication streams, even where it is set back: an option altered, a table or a schema that left and
    came back, a partition attached, detached or emptied on its own.

    None of these sends the rows concerned through the stream.
    """
    schemas = (
        ", coalesce((SELECT string_agg(s.oid::text, ',' ORDER BY s.oid) FROM pg_publication_namespace s WHERE s.pnpubid = p.oid), '')"
        if connection.info.server_version >= COLUMN_LIST_SERVER
        else ""
    )
    # xmin is another one after every ALTER PUBLICATION … SET.
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
