"""The platform's database: its tables, and the publication and least-privilege role that a sync gets in it."""

from __future__ import annotations

from importlib import resources
from typing import Any

import psycopg
from psycopg import sql

from analytics.state.tables import TABLES


def platform_sql() -> str:
    """The text of platform.sql; it runs in one execute."""
    return resources.files("owkai.demo").joinpath("platform.sql").read_text(encoding="utf-8")


def load_platform(connection: psycopg.Connection[Any]) -> None:
    """Create the platform's tables, indexes and triggers in an empty database."""
    connection.execute(platform_sql().encode())


def create_publication(connection: psycopg.Connection[Any], name: str) -> None:
    """Publish the mapped tables as their owner; from Postgres 15 on, only the mapped columns."""
    tables = []
    for table in TABLES:
        clause: sql.Composable = sql.SQL("public.{}").format(sql.Identifier(table.name))
        if connection.info.server_version >= 150000:
            clause += sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, table.column_names)))
        tables.append(clause)
    connection.execute(
        sql.SQL("create publication {} for table {}").format(sql.Identifier(name), sql.SQL(", ").join(tables))
    )


def create_sync_role(connection: psycopg.Connection[Any], name: str, password: str) -> None:
    """A role that may replicate and read the mapped columns, and nothing else of the platform's data.

    No table-wide right on `users`: it holds password hashes. pg_read_all_stats shows the states of other sessions,
    which /performance counts.
    """
    role = sql.Identifier(name)
    connection.execute(sql.SQL("create role {} login replication password {}").format(role, sql.Literal(password)))
    for table in TABLES:
        rights: sql.Composable = sql.SQL("select")
        if table.name == "users":
            rights += sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, table.column_names)))
        connection.execute(sql.SQL("grant {} on public.{} to {}").format(rights, sql.Identifier(table.name), role))
    connection.execute(sql.SQL("grant select (id, name) on public.organizations to {}").format(role))
    connection.execute(sql.SQL("grant pg_read_all_stats to {}").format(role))
