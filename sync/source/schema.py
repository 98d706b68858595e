"""The mapping from the source's tables to the cache's: read from the catalogue, checked against the readable types, fingerprinted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import psycopg
from psycopg import sql

from analytics.state.tables import TABLES, Column, ColumnKind, Table
from config.settings import Settings
from sync.publication.replica_identity import ReplicaIdentity, read_identities
from sync.stream.pgoutput import Relation, Target
from sync.values import wire
from sync.values.long_text import LONGEST_TEXT_CHARACTERS, LongValue

UTC = "UTC"
READABLE: dict[ColumnKind, frozenset[int]] = {
    ColumnKind.INTEGER: frozenset({wire.INT2, wire.INT4, wire.INT8, wire.NUMERIC}),
    ColumnKind.FLOAT: frozenset({wire.FLOAT4, wire.FLOAT8, wire.NUMERIC, wire.INT2, wire.INT4, wire.INT8}),
    ColumnKind.TEXT: frozenset(
        {wire.TEXT_TYPE, wire.VARCHAR, wire.BPCHAR, wire.NAME, wire.JSON, wire.UUID, wire.INT2, wire.INT4, wire.INT8}
        | {wire.NUMERIC, wire.BOOL, wire.LIKE_TEXT}
    ),
    ColumnKind.BOOLEAN: frozenset({wire.BOOL, wire.INT2, wire.INT4}),
    ColumnKind.TIME: frozenset({wire.TIMESTAMP, wire.TIMESTAMPTZ, wire.DATE}),
}
LONG_TYPES = frozenset(
    {wire.TEXT_TYPE, wire.VARCHAR, wire.BPCHAR, wire.JSON, wire.LIKE_TEXT}
)  # their wire form is text


class Generated(Enum):
    """Whether Postgres computes a column's values from other columns; the value is `attgenerated`."""

    NO = ""
    STORED = "s"
    VIRTUAL = "v"


@dataclass(frozen=True)
class SourceColumn:
    """One mapped column: where the source keeps it and as what type."""

    column: Column
    name: str
    number: int  # attnum: a column dropped and added again under the same name has another number
    declared_oid: int  # as the table declares it, perhaps a domain
    type_oid: int  # what the wire carries: the domain's base, or LIKE_TEXT
    type_name: str
    generated: Generated = Generated.NO
    zone: str | None = None  # of a time that carries none; None: it does, or holds UTC


@dataclass(frozen=True)
class SourceTable:
    """One mapped table of the source."""

    table: Table
    schema: str
    name: str
    oid: int
    columns: tuple[SourceColumn, ...]
    partitioned: bool
    identities: tuple[ReplicaIdentity, ...]  # of the table, or of all its partitions
    rows_estimated: int | None  # None: not analyzed yet

    @property
    def missing(self) -> tuple[str, ...]:
        """Optional columns the source does not have; NULL in the cache."""
        here = {column.column.name for column in self.columns}
        return tuple(name for name in self.table.column_names if name not in here)

    @property
    def source_key(self) -> str:
        """The source's name of the key column."""
        name = self.source_name(self.table.key)
        assert name is not None  # noqa: S101 - the key is a required column
        return name

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Every column of a replica identity; old rows in the stream carry them."""
        return tuple(dict.fromkeys(column for identity in self.identities for column in identity.key or ()))

    @property
    def listable(self) -> bool:
        """Whether a publication may list columns of it: beside REPLICA IDENTITY FULL Postgres would reject writes."""
        return not any(identity.full for identity in self.identities)

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"

    def long_values(self, relation: Relation) -> tuple[LongValue, ...]:
        """What happens to long values of a streamed relation's columns."""
        mapped = {column.name: column for column in self.columns}
        return tuple(
            LongValue.DROP
            if (found := mapped.get(column.name)) is None
            else LongValue.SHORTEN
            if found.column.kind is ColumnKind.TEXT and found.type_oid in LONG_TYPES
            else LongValue.KEEP
            for column in relation.columns
        )

    def source_name(self, column: str) -> str | None:
        return next((found.name for found in self.columns if found.column.name == column), None)

    def target(self, relation: Relation) -> Target:
        """Where the columns of a streamed relation go. Raises `ShapeError` when a mapped column is gone or has another type."""
        places = {column.name: place for place, column in enumerate(relation.columns)}
        sources: list[int | None] = []
        types: list[int] = []
        zones: list[str | None] = []
        for column in self.table.columns:
            found = next((mine for mine in self.columns if mine.column.name == column.name), None)
            if found is None:
                sources.append(None)
                types.append(0)
                zones.append(None)
                continue
            if found.name not in places:
                raise ShapeError(self.qualified, found.name, "is no longer part of the stream (dropped or renamed)")
            if relation.columns[places[found.name]].type_oid != found.declared_oid:
                raise ShapeError(self.qualified, found.name, f"no longer has the type {found.type_name}")
            sources.append(places[found.name])
            types.append(found.type_oid)
            zones.append(found.zone)
        key = next(
            place for place, column in zip(sources, self.table.columns, strict=True) if column.name == self.table.key
        )
        assert key is not None  # noqa: S101 - the key is a required column
        return Target(
            relation,
            self.table.column_names,
            tuple(column.kind for column in self.table.columns),
            tuple(sources),
            tuple(types),
            key,
            types[self.table.column_names.index(self.table.key)],
            tuple(zones),
        )


class ShapeError(RuntimeError):
    """The source's table no longer has the shape the cache was copied from. It needs an operator, or a new copy."""

    def __init__(self, table: str, column: str, what: str) -> None:
        super().__init__(f"column {column} of table {table} {what}")
        self.table, self.column = table, column


@dataclass(frozen=True)
class Mapping:
    """All mapped tables. A table the settings switch off is absent and stays empty in the cache."""

    tables: tuple[SourceTable, ...]

    @property
    def fingerprint(self) -> str:
        """Changes whenever a cache copied under one mapping would be wrong under another."""
        parts = [
            (
                table.table.name,
                table.qualified,
                table.oid,
                column.column.name,
                column.name,
                column.number,
                column.type_oid,
                column.zone,
            )
            for table in self.tables
            for column in table.columns
        ]
        return hashlib.sha256(repr((parts, LONGEST_TEXT_CHARACTERS)).encode()).hexdigest()[:16]

    def lost_in(self, later: Mapping) -> ShapeError | None:
        """The first table or column of this mapping that `later` no longer has, or has as another type."""
        for table in self.tables:
            now = later.find(table.schema, table.name)
            if now is None:
                return ShapeError(table.qualified, table.table.key, "is gone with its table")
            names = {column.column.name: column for column in now.columns}
            for column in table.columns:
                found = names.get(column.column.name)
                if found is None or found.name != column.name:
                    return ShapeError(table.qualified, column.name, "was dropped or renamed")
                if found.declared_oid != column.declared_oid:
                    return ShapeError(table.qualified, column.name, f"no longer has the type {column.type_name}")
        return None

    def long_values(self, relation: Relation) -> tuple[LongValue, ...]:
        """See `SourceTable.long_values`; nothing of a table that is not mapped is read."""
        table = self.find(relation.schema, relation.name)
        return (LongValue.DROP,) * len(relation.columns) if table is None else table.long_values(relation)

    def find(self, schema: str, name: str) -> SourceTable | None:
        return next((table for table in self.tables if (table.schema, table.name) == (schema, name)), None)


@dataclass(frozen=True)
class ShapeProblem:
    """Something in the catalogue that prevents correct reading."""

    subject: str
    message: str
    remedy: str


def read_mapping(connection: psycopg.Connection, settings: Settings) -> tuple[Mapping, list[ShapeProblem]]:
    """The mapping that the catalogue allows, and every problem found."""
    tables: list[SourceTable] = []
    problems: list[ShapeProblem] = []
    for table in TABLES:
        name = getattr(settings.source.tables, table.name)
        if not name:
            continue
        found = _read_table(connection, settings, table, name, problems)
        if found is not None:
            tables.append(found)
    return Mapping(tuple(tables)), problems


_TABLE_QUERY = """
SELECT c.oid, c.relkind,
       CASE WHEN c.reltuples > 0 OR (c.reltuples = 0 AND (c.relpages > 0 OR pg_stat_get_last_analyze_time(c.oid) IS NOT NULL
            OR pg_stat_get_last_autoanalyze_time(c.oid) IS NOT NULL)) THEN c.reltuples END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s"""

_COLUMN_QUERY = """
WITH RECURSIVE base (attnum, attname, generated, declared, oid) AS (
    SELECT attnum, attname, attgenerated::text, atttypid, atttypid FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT b.attnum, b.attname, b.generated, b.declared, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd')
SELECT b.attname, b.attnum, b.declared, b.oid, t.typtype, t.typcategory, format_type(b.declared, NULL), b.generated
FROM base b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype <> 'd' ORDER BY b.attnum"""

_PARTITION_ROWS = """
SELECT sum(c.reltuples) FILTER (WHERE c.reltuples > 0 OR c.relpages > 0)
FROM pg_partition_tree(%s) t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf"""


def _read_table(
    connection: psycopg.Connection, settings: Settings, table: Table, name: str, problems: list[ShapeProblem]
) -> SourceTable | None:
    schema = settings.source.schema_
    qualified = f"{schema}.{name}"
    row = connection.execute(_TABLE_QUERY, [schema, name]).fetchone()
    if row is None:
        remedy = f"set source.tables.{table.name} or source.schema, or GRANT USAGE ON SCHEMA {schema} to the role"
        problems.append(ShapeProblem(f"table {qualified}", "does not exist, or the role cannot see it", remedy))
        return None
    oid, relkind, reltuples = row
    if relkind not in ("r", "p"):
        what = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}.get(relkind, "not a table")
        problems.append(
            ShapeProblem(
                f"table {qualified}",
                f"is {what}; changes can be followed on tables only",
                f"name the table itself in source.tables.{table.name}",
            )
        )
        return None
    estimate = reltuples
    if relkind == "p":
        estimate = (connection.execute(_PARTITION_ROWS, [oid]).fetchone() or (0,))[0]
    catalogue = {found[0]: found[1:] for found in connection.execute(_COLUMN_QUERY, [oid]).fetchall()}
    renamed: dict[str, str] = getattr(settings.source.columns, table.name)
    for ours in renamed:
        if ours not in table.column_names:
            known = ", ".join(table.column_names)
            problems.append(
                ShapeProblem(
                    f"source.columns.{table.name}.{ours}", "is not a column of the cache", f"use one of {known}"
                )
            )
    columns = []
    for column in table.columns:
        found = _find_column(column, renamed, catalogue)
        if found is None:
            if column.required or column.name in renamed:
                problems.append(_absent(table, qualified, column, renamed))
            continue
        source_name, (number, declared, type_oid, typtype, category, type_name, generated) = found
        readable = (
            type_oid if type_oid in READABLE[column.kind] else wire.LIKE_TEXT if _like_text(typtype, category) else 0
        )
        if readable not in READABLE[column.kind]:
            problems.append(
                ShapeProblem(
                    f"table {qualified}",
                    f"column {source_name} has type {type_name}, which cannot be read as {column.kind.name.lower()}",
                    f'map another column: [source.columns] {table.name} = {{ {column.name} = "its name" }}',
                )
            )
            continue
        zone = str(getattr(settings.source.zones, table.name))
        local = column.kind is ColumnKind.TIME and readable != wire.TIMESTAMPTZ and zone != UTC
        columns.append(
            SourceColumn(
                column,
                source_name,
                number,
                declared,
                readable,
                type_name,
                Generated(generated),
                zone if local else None,
            )
        )
    return SourceTable(
        table, schema, name, oid, tuple(columns), relkind == "p", read_identities(connection, oid), _rows(estimate)
    )


def _rows(estimate: float | None) -> int | None:
    return None if estimate is None else max(0, int(estimate))


_Found = tuple[
    int, int, int, str, str, str, str
]  # attnum, declared type, base type, typtype, typcategory, type, generated


def _find_column(column: Column, renamed: dict[str, str], catalogue: dict[str, _Found]) -> tuple[str, _Found] | None:
    names: Iterable[str] = (renamed[column.name],) if column.name in renamed else (column.name, *column.alternatives)
    return next(((name, catalogue[name]) for name in names if name in catalogue), None)


def _absent(table: Table, qualified: str, column: Column, renamed: dict[str, str]) -> ShapeProblem:
    """A required column, or one that the settings name, is not there."""
    mapped = f'[source.columns] {table.name} = {{ {column.name} = "its name" }}'
    if column.name not in renamed:
        return ShapeProblem(
            f"table {qualified}", f"has no column {column.name}, which is required", f"map it: {mapped}"
        )
    setting = f"source.columns.{table.name}.{column.name}"
    if column.required:
        return ShapeProblem(
            f"table {qualified}",
            f"has no column {renamed[column.name]}, which {setting} names",
            f"correct it: {mapped}",
        )
    return ShapeProblem(
        f"table {qualified}",
        f"has no column {renamed[column.name]}, which {setting} names for the optional column {column.name}",
        f"correct it: {mapped}, or remove it to leave {column.name} empty",
    )


def _like_text(typtype: str, category: str) -> bool:
    """Enums and text-like extension types: their binary form is their text."""
    return typtype == "e" or category == "S"
