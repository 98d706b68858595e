"""The organizations, roles and users of the source, read by an operator's command before it creates a credential."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from config.settings import Settings
from sync.source.connections import connect
from sync.source.schema import Mapping, SourceTable, read_mapping

# The platform's own roles, even if no user has them yet.
PLATFORM_ROLES = (
    "user", "viewer", "analyst", "operator", "manager", "admin", "org_admin", "owner", "super_admin", "platform_admin",
)  # fmt: skip
MOST_ORGANIZATIONS = 20


@dataclass(frozen=True)
class KnownUser:
    """The columns of a users row that a token must match."""

    organization_id: int | None
    email: str
    role: str
    active: bool


class Tenants:
    """Queries on the users table and the data tables. Each raises `psycopg.Error`, `SourceError`."""

    def __init__(self, connection: psycopg.Connection, mapping: Mapping) -> None:
        self._connection = connection
        self._by_organization = [table for table in mapping.tables if table.source_name("organization_id")]
        self._users = next((table for table in mapping.tables if table.table.name == "users"), None)

    def organization_exists(self, organization_id: int) -> bool:
        """Whether any row of the source belongs to it."""
        return any(self._has_rows(table, organization_id) for table in self._by_organization)

    def organizations(self) -> tuple[int, ...]:
        """Some existing organizations, ascending: from the users table, else from any other."""
        tables = sorted(self._by_organization, key=lambda table: table is not self._users)
        for table in tables:
            column = sql.Identifier(table.source_name("organization_id") or "")
            query = sql.SQL("SELECT DISTINCT {0} FROM {1} WHERE {0} IS NOT NULL ORDER BY {0} LIMIT {2}")
            rows = self._connection.execute(query.format(column, table.identifier, MOST_ORGANIZATIONS)).fetchall()
            if rows:
                return tuple(int(row[0]) for row in rows)
        return ()

    def roles(self) -> tuple[str, ...]:
        """The roles that users have."""
        if self._users is None:
            return ()
        column = sql.Identifier(self._users.source_name("role") or "role")
        query = sql.SQL("SELECT DISTINCT {0} FROM {1} WHERE {0} IS NOT NULL ORDER BY {0}")
        return tuple(str(row[0]) for row in self._connection.execute(query.format(column, self._users.identifier)))

    @property
    def has_users(self) -> bool:
        """Whether the users table has rows; without them the server trusts a token's claims."""
        if self._users is None:
            return False
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(self._users.identifier)
        return bool((self._connection.execute(query).fetchone() or (False,))[0])

    def user(self, user_id: int) -> KnownUser | None:
        """The user with this id."""
        users = self._users
        if users is None:
            return None

        def column(name: str, otherwise: str) -> sql.Composable:
            found = users.source_name(name)
            return sql.SQL(otherwise) if found is None else sql.Identifier(found)

        query = sql.SQL("SELECT {}, {}, {}, coalesce({}, true) AND NOT coalesce({}, false) FROM {} WHERE {} = %s").format(
            column("organization_id", "NULL"), column("email", "''"), column("role", "''"), column("is_active", "true"),
            column("is_suspended", "false"), users.identifier, column("id", "id"),
        )  # fmt: skip
        row = self._connection.execute(query, [user_id]).fetchone()
        return None if row is None else KnownUser(row[0], row[1] or "", row[2] or "", bool(row[3]))

    def _has_rows(self, table: SourceTable, organization_id: int) -> bool:
        column = sql.Identifier(table.source_name("organization_id") or "")
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} = %s)").format(table.identifier, column)
        return bool((self._connection.execute(query, [organization_id]).fetchone() or (False,))[0])


@contextmanager
def known_tenants(settings: Settings) -> Iterator[Tenants]:
    """Open a connection for these queries. Raises `psycopg.Error`, `SourceError`."""
    with connect(settings, all_organizations=True) as connection:
        mapping, _ = read_mapping(connection, settings)
        yield Tenants(connection, mapping)
