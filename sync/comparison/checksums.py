"""Row checksums that Postgres and DuckDB compute identically, summed by bucket.

A row's checksum is 60 bits of the md5 over all mapped columns in one canonical text: NULL as `~`, whole numbers in decimal,
text after its number of characters (so that a separator inside a text cannot shift a boundary), booleans as t and f, floats
as their 64-bit pattern, times as µs since 2000 in UTC. Of a text the first 65,536 characters count (`sync.values.long_text`). The
mapping rules of docs/explanation/sync.md are applied on the source's side, so that a value mapped by rule is equal. A bucket's checksum is
the sum of its rows': it does not depend on their order.

The source's expressions need the session of `sync.source.connections.connect` (time zone UTC).
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from analytics.state.tables import Column, ColumnKind, Table
from sync.retention import TIMED_TABLES
from sync.source.schema import SourceColumn, SourceTable
from sync.values import wire
from sync.values.long_text import LONGEST_TEXT_CHARACTERS
from sync.values.times import BEYOND, FIRST, utc_time, utc_time_type

NULL = "~"
UNDATED = "undated"
BEFORE, AFTER = "before 0001-01-01", "after 9999-12-31"
IDS_PER_BUCKET = 10_000

# A numeric of at least LARGEST becomes infinity as a double, one closer to zero than SMALLEST becomes zero; Postgres would raise an error.
LARGEST = 2**1024 - 2**970
SMALLEST = "0." + str(5**1075).rjust(1075, "0")  # 2 ** -1075


@dataclass(frozen=True)
class Bucket:
    """Rows of one table that share a key: how many, and the sum of their checksums."""

    key: str
    rows: int
    checksum: int


def row_hash_postgres(table: SourceTable) -> sql.Composed:
    """A bigint expression over the source's columns; columns it lacks count as NULL."""
    found = {column.column.name: column for column in table.columns}
    values = [
        _value_postgres(found[column.name]) if column.name in found else sql.Literal(NULL)
        for column in table.table.columns
    ]
    text = sql.SQL(" || '|' || ").join(values)
    # The source may use another encoding; the checksum is over UTF-8 on both sides.
    return sql.SQL("('x' || substr(md5(convert_to({}, 'UTF8')), 1, 15))::bit(60)::bigint").format(text)


def row_hash_duckdb(table: Table) -> str:
    """A BIGINT expression over the cache's columns. A derived column that does not match the mapped ones changes it too."""
    text = " || '|' || ".join(_value_duckdb(column) for column in table.columns)
    derived = " AND ".join(f'"{name}" IS NOT DISTINCT FROM ({value})' for name, _, value in table.derived) or "true"
    return f"('0x' || substr(md5({text}), 1, 15))::BIGINT + CASE WHEN {derived} THEN 0 ELSE 1 END"


def bucket_postgres(table: SourceTable) -> sql.Composed:
    """A text expression: the day of the event in UTC, or the range of ids for tables without an event time."""
    if table.table.name not in TIMED_TABLES:
        key = _column(table, table.table.key)
        assert key is not None  # noqa: S101 - the key is a required column
        return sql.SQL("div(trunc({}::numeric), {})::text").format(sql.Identifier(key.name), IDS_PER_BUCKET)
    days = [_day_postgres(column) for column in _times(table)]
    return sql.SQL("coalesce({})").format(sql.SQL(", ").join([*days, sql.Literal(UNDATED)]))


def bucket_duckdb(table: Table) -> str:
    """The same for the cache."""
    if table.name not in TIMED_TABLES:
        return f'("{table.key}" // {IDS_PER_BUCKET})::VARCHAR'
    days = ", ".join(_day_duckdb(name) for name in TIMED_TABLES[table.name])
    return f"coalesce({days}, '{UNDATED}')"


def since_postgres(table: SourceTable) -> sql.Composed | None:
    """A condition with the parameter `since` (aware): the event time is known and not before it. None: no event time."""
    times = _times(table)
    if not times:
        return None
    conditions = []
    for place, column in enumerate(times):
        earlier = [sql.SQL("{} IS NULL AND ").format(sql.Identifier(before.name)) for before in times[:place]]
        conditions.append(
            sql.SQL("({}{} >= %(since)s::timestamptz)").format(sql.SQL("").join(earlier), utc_time(column))
        )
    return sql.SQL("({})").format(sql.SQL(" OR ").join(conditions))


def event_duckdb(table: Table) -> str | None:
    """The event time of a row of the cache, from the mapped columns; None for tables without one."""
    names = TIMED_TABLES.get(table.name)
    return None if names is None else "coalesce({})".format(", ".join(f'"{name}"' for name in names))


def _column(table: SourceTable, name: str) -> SourceColumn | None:
    return next((column for column in table.columns if column.column.name == name), None)


def _times(table: SourceTable) -> list[SourceColumn]:
    found = [_column(table, name) for name in TIMED_TABLES.get(table.table.name, ())]
    return [column for column in found if column is not None]


def _value_postgres(column: SourceColumn) -> sql.Composed:
    name, oid = sql.Identifier(column.name), column.type_oid
    kind = column.column.kind
    if kind is ColumnKind.INTEGER:
        form = "trunc({c})::text" if oid == wire.NUMERIC else "{c}::text"
    elif kind is ColumnKind.TEXT:
        kept = f"CASE WHEN octet_length({{c}}::text) > {LONGEST_TEXT_CHARACTERS}"
        kept += f" THEN left({{c}}::text, {LONGEST_TEXT_CHARACTERS}) ELSE {{c}}::text END"
        form = f"char_length({kept}) || ':' || {kept}"
        if oid == wire.BPCHAR:
            # concat() prints by the type's output function: a cast would cut the blanks that bpchar pads with.
            kept = f"left(concat({{c}}), {LONGEST_TEXT_CHARACTERS})"
            form = f"CASE WHEN {{c}} IS NOT NULL THEN char_length({kept}) || ':' || {kept} END"
    elif kind is ColumnKind.BOOLEAN:
        form = "CASE WHEN {c} THEN 't' ELSE 'f' END" if oid == wire.BOOL else "CASE WHEN {c} <> 0 THEN 't' ELSE 'f' END"
        form = f"CASE WHEN {{c}} IS NOT NULL THEN {form} END"
    elif kind is ColumnKind.FLOAT:
        return _float_postgres(column)
    else:
        return _time_postgres(column)
    return sql.SQL("coalesce(" + form + ", {null})").format(c=name, null=NULL)


def _time_postgres(column: SourceColumn) -> sql.Composed:
    bits = {
        wire.TIMESTAMP: "('x' || encode(timestamp_send({m}), 'hex'))::bit(64)::bigint::text",
        wire.TIMESTAMPTZ: "('x' || encode(timestamptz_send({m}), 'hex'))::bit(64)::bigint::text",
        wire.DATE: "(({m} - '2000-01-01'::date)::bigint * 86400000000)::text",
    }[utc_time_type(column)]
    form = f"CASE WHEN {{m}} >= '{BEYOND}' THEN 'infinity' WHEN {{m}} < '{FIRST}' THEN '-infinity' ELSE {bits} END"
    return sql.SQL("coalesce(" + form + ", {null})").format(m=utc_time(column), null=NULL)


def _float_postgres(column: SourceColumn) -> sql.Composed:
    pattern = "('x' || encode(float8send({c}::float8), 'hex'))::bit(64)::text"
    form = f"CASE WHEN {{c}} = 'NaN' THEN 'NaN' ELSE {pattern} END"
    if column.type_oid in (wire.INT2, wire.INT4, wire.INT8):
        form = pattern
    elif column.type_oid == wire.NUMERIC:
        bounded = (
            f"CASE WHEN abs({{c}}) >= {LARGEST} THEN (CASE WHEN {{c}} > 0 THEN 'inf' ELSE '-inf' END)::float8"
            f" WHEN {{c}} <> 0 AND abs({{c}}) <= {SMALLEST} THEN (CASE WHEN {{c}} > 0 THEN '0' ELSE '-0' END)::float8"
            " ELSE {c}::float8 END"
        )
        form = (
            "CASE WHEN {c} = 'NaN' THEN 'NaN' ELSE ('x' || encode(float8send("
            + bounded
            + "), 'hex'))::bit(64)::text END"
        )
    return sql.SQL("coalesce(" + form + ", {null})").format(c=sql.Identifier(column.name), null=NULL)


def _value_duckdb(column: Column) -> str:
    c = f'"{column.name}"'
    form = {
        ColumnKind.INTEGER: f"{c}::VARCHAR",
        ColumnKind.TEXT: f"length({c})::VARCHAR || ':' || {c}",
        ColumnKind.BOOLEAN: f"CASE WHEN {c} THEN 't' WHEN NOT {c} THEN 'f' END",
        ColumnKind.FLOAT: f"CASE WHEN isnan({c}) THEN 'NaN' ELSE {c}::BIT::VARCHAR END",
        ColumnKind.TIME: f"CASE WHEN isfinite({c}) THEN (epoch_us({c}) - {wire.EPOCH_2000_MICROSECONDS})::VARCHAR ELSE {c}::VARCHAR END",
    }[column.kind]
    return f"coalesce({form}, '{NULL}')"


def _day_postgres(column: SourceColumn) -> sql.Composed:
    return sql.SQL(
        f"CASE WHEN {{m}} < '{FIRST}' THEN {{before}} WHEN {{m}} >= '{BEYOND}' THEN {{after}}"
        " ELSE to_char({m}::timestamp, 'YYYY-MM-DD') END"
    ).format(m=utc_time(column), before=BEFORE, after=AFTER)


def _day_duckdb(name: str) -> str:
    return (
        f"CASE WHEN \"{name}\" < '0001-01-01'::TIMESTAMP THEN '{BEFORE}'"
        f" WHEN \"{name}\" >= '10000-01-01'::TIMESTAMP THEN '{AFTER}' ELSE \"{name}\"::DATE::VARCHAR END"
    )
