"""Preflight checks of the mapped tables: the role's rights, replica identities, row-level security."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from config.settings import Settings
from sync.polling.pollable import TRANSACTION_ID, without_transaction_ids
from sync.source.connections import (
    PARTITION_ROOT_SERVER,
    RLS_SETTING,
    query_bool,
)
from sync.source.findings import Survey
from sync.source.schema import SourceTable


@dataclass(frozen=True)
class SourceRole:
    name: str
    superuser: bool
    replication: bool
    may_create: bool
    server_version: int

    @property
    def quoted(self) -> str:
        return sql.Identifier(self.name).as_string(None)


def read_role(connection: psycopg.Connection) -> SourceRole:
    row = connection.execute(
        "SELECT rolname, rolsuper,"
        " rolreplication OR EXISTS (SELECT 1 FROM pg_roles g WHERE g.rolname IN ('rds_replication', 'rds_superuser')"
        "                           AND pg_has_role(r.oid, g.oid, 'USAGE')),"
        " has_database_privilege(current_database(), 'CREATE')"
        " FROM pg_roles r WHERE rolname = current_user"
    ).fetchone()
    assert row is not None  # noqa: S101 - the current role exists
    name, superuser, replication, may_create = row
    return SourceRole(name, superuser, replication, may_create, connection.info.server_version)


def check_privileges(connection: psycopg.Connection, table: SourceTable, role: SourceRole, found: Survey) -> None:
    hidden = [
        column.name
        for column in table.columns
        if not query_bool(connection, "SELECT has_column_privilege(%s::oid, %s, 'SELECT')", table.oid, column.name)
    ]
    if hidden:
        listed = ", ".join(sql.Identifier(column.name).as_string(None) for column in table.columns)
        found.add(
            "error",
            f"table {table.qualified}",
            f"the role {role.name} may not read {', '.join(hidden)}",
            f"GRANT SELECT ({listed}) ON {table.identifier.as_string(None)} TO {role.quoted}",
        )
        return
    number = table.rows_estimated
    rows = "not analyzed yet" if number is None else f"about {number} {'row' if number == 1 else 'rows'}"
    found.add("ok", f"table {table.qualified}", f"{len(table.columns)} columns mapped, {rows}")
    if table.missing:
        found.add(
            "ok",
            f"table {table.qualified}",
            f"optional columns it does not have stay empty: {', '.join(table.missing)}",
        )
    if not role.superuser and query_bool(
        connection, "SELECT has_table_privilege(%s::oid, 'INSERT, UPDATE, DELETE, TRUNCATE')", table.oid
    ):
        found.add(
            "warning",
            f"table {table.qualified}",
            f"the role {role.name} may write to it, which this server never does",
            f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {table.identifier.as_string(None)} FROM {role.quoted}",
        )


def check_transaction_ids(connection: psycopg.Connection, role: SourceRole, found: Survey) -> None:
    """Polling finds changed rows by their transaction id, which a grant on columns does not cover."""
    for table in without_transaction_ids(connection, found.mapping):
        found.add(
            "error",
            f"table {table.qualified}",
            f"the role {role.name} may not read {TRANSACTION_ID}, by which polling finds changed rows",
            f"GRANT SELECT ({TRANSACTION_ID}) ON {table.identifier.as_string(None)} TO {role.quoted}",
        )


def check_replica_identity(table: SourceTable, found: Survey, server_version: int) -> None:
    """Updates and deletes must identify their row by the key that the cache uses."""
    if table.partitioned and server_version < PARTITION_ROOT_SERVER:
        found.prevent_streaming(
            f"table {table.qualified}", "is partitioned, and Postgres 12 publishes no partitioned table",
            "upgrade the source to Postgres 13 or later",
        )  # fmt: skip
    key = table.source_key
    for identity in table.identities:
        if identity.identifies_by(key):
            continue
        found.unidentified = True
        has = "has REPLICA IDENTITY NOTHING" if identity.nothing else f"has no replica identity with {key}"
        if identity.letter == "d":
            has = f"has no primary key on {key}" + (" that is checked at once" if identity.primary is False else "")
        found.add("error", f"table {identity.qualified}", f"{has}, so updates and deletes cannot be followed",
                  identity.statement_that_identifies_by(key))  # fmt: skip


def check_row_security(settings: Settings, connection: psycopg.Connection, found: Survey, role: SourceRole) -> None:
    """Row-level security hides rows silently; the server must see every row."""
    bound = [
        table
        for table in found.mapping.tables
        if query_bool(connection, "SELECT row_security_active(%s::oid)", table.oid)
    ]
    if not bound:
        return
    names = ", ".join(table.qualified for table in bound)
    if all(_policy_opens_all(connection, table) for table in bound):
        found.all_organizations = True
        found.add("ok", "row-level security", f"on {names}: opened by the platform's own setting for all organizations")
        return
    found.add(
        "error",
        "row-level security",
        f"hides rows of {names} from the role {role.name}",
        f"ALTER ROLE {role.quoted} BYPASSRLS",
    )


_POLICIES = """
SELECT polpermissive, pg_get_expr(polqual, polrelid) FROM pg_policy
WHERE polrelid = %s AND polcmd IN ('r', '*')
  AND (0 = ANY (polroles) OR EXISTS (SELECT 1 FROM unnest(polroles) m WHERE m <> 0 AND pg_has_role(m, 'USAGE')))"""


def _policy_opens_all(connection: psycopg.Connection, table: SourceTable) -> bool:
    """Whether a policy shows every row once the platform's setting is '1': one that is true without looking at a row."""
    policies = connection.execute(_POLICIES, [table.oid]).fetchall()
    if not policies or not all(permissive for permissive, _ in policies):
        return False
    return any(_true_for_every_row(connection, expression) for _, expression in policies if expression)


def _true_for_every_row(connection: psycopg.Connection, expression: str) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET TRANSACTION READ ONLY")
            connection.execute("SELECT set_config(%s, '1', true)", [RLS_SETTING])
            return query_bool(connection, f"SELECT ({expression})")  # the catalogue's own expression, unchanged
    except psycopg.Error:
        return False  # it names a column, or our role may not evaluate it
