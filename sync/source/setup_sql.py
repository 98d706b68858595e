"""The setup statements for the source's administrator, as plain SQL to review: `owkai check --sql`.

The statements grant the role the rights it needs and no others. If the source can be read, they fit its columns, its version and what
exists already. Otherwise (the role does not exist yet) they assume the platform's own tables.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import conninfo, sql

from analytics.state.tables import TABLES, Table
from config.settings import Settings
from sync.polling.pollable import TRANSACTION_ID
from sync.publication.publication import PUBLISHED
from sync.publication.statements import publication_sql
from sync.source.connections import COLUMN_LIST_SERVER
from sync.source.schema import Mapping, ShapeProblem, read_mapping

DEFAULT_ROLE = "owkai"
PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
# Postgres' reserved words, which must be quoted as identifiers.
_RESERVED_WORDS = """
all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case cast char
character check coalesce collate collation column concurrently constraint create cross current_catalog current_date
current_role current_schema current_time current_timestamp current_user dec decimal default deferrable desc distinct do else
end except exists extract false fetch float for foreign freeze from full grant greatest group grouping having ilike in
initially inner inout int integer intersect interval into is isnull join lateral leading least left like limit localtime
localtimestamp national natural nchar none normalize not notnull null nullif numeric offset on only or order out outer
overlaps overlay placing position precision primary real references returning right row select session_user setof similar
smallint some substring symmetric system_user table tablesample then time to trailing treat trim true union unique user using
values varchar variadic verbose when where window with
"""
RESERVED = frozenset(_RESERVED_WORDS.split())
KEPT_WAL = "10GB"
LINE_CHARACTERS = 100
STANDBY_DECODING_SERVER = 160_000


@dataclass(frozen=True)
class SourceFacts:
    """The facts about a source that the setup statements depend on."""

    version: int  # server_version_num
    in_recovery: bool
    wal_level: str
    kept_wal: str | None  # max_slot_wal_keep_size; None before Postgres 13
    role_exists: bool
    publication_exists: bool
    hides_rows: bool  # row-level security is on for a mapped table
    names_organizations: bool  # the organizations' table exists, with id and name
    mapping: Mapping
    problems: tuple[ShapeProblem, ...]


def read_source_facts(connection: psycopg.Connection, settings: Settings) -> SourceFacts:
    """Read the catalogue. Needs only the right to connect. Raises `psycopg.Error`."""
    mapping, problems = read_mapping(connection, settings)
    row = connection.execute(
        "SELECT pg_is_in_recovery(), current_setting('wal_level'), current_setting('max_slot_wal_keep_size', true),"
        " EXISTS (SELECT FROM pg_roles WHERE rolname = %s), EXISTS (SELECT FROM pg_publication WHERE pubname = %s),"
        " EXISTS (SELECT FROM pg_class WHERE oid = ANY (%s::oid[]) AND relrowsecurity),"
        " (SELECT count(*) = 2 FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname IN ('id', 'name'))",
        [
            source_role(settings),
            settings.source.publication,
            [table.oid for table in mapping.tables],
            sql.Identifier(settings.source.schema_, settings.source.tables.organizations or "-").as_string(None),
        ],
    ).fetchone()
    assert row is not None  # noqa: S101 - the query always has one row
    in_recovery, wal_level, kept_wal, role_exists, publication_exists, hides_rows, names_organizations = row
    return SourceFacts(
        connection.info.server_version, in_recovery, wal_level, kept_wal, role_exists, publication_exists, hides_rows,
        names_organizations, mapping, tuple(problems),
    )  # fmt: skip


def least_privilege_sql(settings: Settings, seen: SourceFacts | None = None) -> str:
    """Statements for psql in the source's database. `seen`: the source to fit; None assumes the platform's tables.

    With `sync.mode = "poll"` server settings, REPLICATION and a publication are left out. Never contains a password.
    """
    streams = settings.sync.mode != "poll"
    if seen is not None and seen.in_recovery and seen.version < STANDBY_DECODING_SERVER:
        streams = False
    parts = [_heading(settings, seen)]
    if streams:
        parts.append("\n".join(_server_settings(seen)))
    parts.append("\n".join(_role(settings, seen, streams)))
    parts.append("\n".join(_grants(settings, seen)))
    if streams:
        parts.append("\n".join(_publication(settings, seen)))
    return "\n\n".join(parts)


def source_role(settings: Settings) -> str:
    """The role of source.dsn; `owkai` where it names none."""
    return _of_dsn(settings, "user") or DEFAULT_ROLE


def source_name(settings: Settings, table: Table) -> str:
    """The source's name of a table; empty when the settings disable it."""
    return str(getattr(settings.source.tables, table.name))


def _of_dsn(settings: Settings, key: str) -> str:
    dsn = settings.source.dsn.get_secret_value()
    return str(conninfo.conninfo_to_dict(dsn).get(key) or "") if dsn else ""


def _heading(settings: Settings, seen: SourceFacts | None) -> str:
    lines = [
        "-- What OW-kai Analytics needs on the source. Review it, then run it with psql in the source's database,",
        "-- as a superuser; sections 3 and 4 need only the owner of the tables.",
    ]
    if seen is None:
        lines += [
            "-- The source was not read, so this assumes Postgres 15 or newer and the platform's own tables and columns.",
            "-- `owkai check --sql --admin DSN` reads the source as another role and prints what fits it.",
        ]
    elif seen.in_recovery:
        lines.append("-- This source is a read replica: run the statements on its primary.")
    for problem in () if seen is None else seen.problems:
        lines.append(
            f"-- NOT COVERED: {_comment(problem.subject)} {_comment(problem.message)}; {_comment(problem.remedy)}"
        )
    return "\n".join(lines)


def _server_settings(seen: SourceFacts | None) -> Iterator[str]:
    logical = seen is not None and seen.wal_level == "logical"
    bounded = seen is not None and seen.kept_wal != "-1"  # before Postgres 13 there is no such setting
    yield "-- 1. Server settings. A managed service has them in its parameter group, e.g. rds.logical_replication = 1."
    if logical:
        yield "-- wal_level is logical already."
    else:
        yield "ALTER SYSTEM SET wal_level = 'logical';"
    if not bounded:
        yield "-- So that a server that is away for long cannot fill the source's disk; a lost slot is replaced by a new copy."
        yield f"ALTER SYSTEM SET max_slot_wal_keep_size = '{KEPT_WAL}';"
    if not (logical and bounded):
        yield "SELECT pg_reload_conf();"
    if not logical:
        yield "-- wal_level takes effect when Postgres is restarted. Restart it before you start the server."


def _role(settings: Settings, seen: SourceFacts | None, streams: bool) -> Iterator[str]:
    role = source_role(settings)
    verb = "ALTER" if seen is not None and seen.role_exists else "CREATE"
    yield "-- 2. The role. Its password is not set here: in psql, \\password asks for it."
    if streams:
        yield "-- On Amazon RDS: without REPLICATION, but GRANT rds_replication."
    yield f"{verb} ROLE {_name(role)} LOGIN{' REPLICATION' if streams else ''};"
    yield "-- Optional: without it the numbers of active and idle connections stay unknown."
    yield f"GRANT pg_read_all_stats TO {_name(role)};"
    if seen is None:
        yield f"-- Only where row-level security is on for these tables: ALTER ROLE {_name(role)} BYPASSRLS;"
    elif seen.hides_rows:
        yield "-- Row-level security is on and would hide rows."
        yield f"ALTER ROLE {_name(role)} BYPASSRLS;"


def _grants(settings: Settings, seen: SourceFacts | None) -> Iterator[str]:
    role = _name(source_role(settings))
    yield "-- 3. Rights to read: the mapped columns only, never a password."
    if settings.sync.mode != "stream":
        yield f"-- {TRANSACTION_ID} tells which rows changed when the source is polled."
    database = _of_dsn(settings, "dbname")
    if database:
        yield f"GRANT CONNECT ON DATABASE {_name(database)} TO {role};"
    yield f"GRANT USAGE ON SCHEMA {_name(settings.source.schema_)} TO {role};"
    for table, columns in _readable(settings, seen):
        listed = [_name(column) for column in columns]
        if settings.sync.mode != "stream":
            listed.append(TRANSACTION_ID)
        yield f"GRANT SELECT ({_wrapped(listed)})\n    ON {table} TO {role};"
    organizations = settings.source.tables.organizations
    if organizations and (seen is None or seen.names_organizations):
        yield "-- The organizations' names, shown in reports."
        yield f"GRANT SELECT (id, name) ON {_qualified(settings, organizations)} TO {role};"


def _readable(settings: Settings, seen: SourceFacts | None) -> Iterator[tuple[str, Sequence[str]]]:
    """Each table with the columns to read, by their names on the source."""
    if seen is not None:
        for found in seen.mapping.tables:
            yield f"{_name(found.schema)}.{_name(found.name)}", [column.name for column in found.columns]
        return
    for table in TABLES:
        name = source_name(settings, table)
        if name:
            yield _qualified(settings, name), assumed_columns(settings, table)


def assumed_columns(settings: Settings, table: Table) -> tuple[str, ...]:
    """The mapped columns of a table by the names that the settings and the platform give them."""
    renamed = getattr(settings.source.columns, table.name)
    return tuple(renamed.get(name, name) for name in table.column_names)


def _publication(settings: Settings, seen: SourceFacts | None) -> Iterator[str]:
    yield "-- 4. What is streamed: the mapped columns only, so that no credential leaves the source."
    yield f"-- The server makes its replication slot {settings.source.slot} itself."
    if seen is not None and seen.publication_exists:
        yield f"-- Publication {settings.source.publication} exists already; `owkai check` tells whether it fits."
        return
    if seen is not None:
        for statement in publication_sql(settings, seen.mapping, seen.version) if seen.mapping.tables else ():
            yield f"{statement};"
        return
    tables = ",\n    ".join(
        f"{_qualified(settings, name)} ({_wrapped([_name(column) for column in assumed_columns(settings, table)])})"
        for table in TABLES
        if (name := source_name(settings, table))
    )
    yield f"-- Before Postgres {COLUMN_LIST_SERVER // 10_000}, and for tables with REPLICA IDENTITY FULL, without the lists of columns."
    yield (
        f"CREATE PUBLICATION {_name(settings.source.publication)} FOR TABLE\n    {tables}\n"
        f"    WITH (publish = '{', '.join(PUBLISHED)}', publish_via_partition_root = true);"
    )


def _qualified(settings: Settings, name: str) -> str:
    return f"{_name(settings.source.schema_)}.{_name(name)}"


def _name(text: str) -> str:
    """An identifier, quoted only where necessary, so that the statements are easy to review."""
    if PLAIN.fullmatch(text) and text not in RESERVED:
        return text
    return sql.Identifier(text).as_string(None)


def _wrapped(names: Sequence[str]) -> str:
    return "\n        ".join(textwrap.wrap(", ".join(names), LINE_CHARACTERS, break_long_words=False))


def _comment(text: str) -> str:
    return " ".join(text.split())
