"""What the fixtures of conftest.py hand out: a database of its own for every test."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from owkai.demo.postgres import EmbeddedPostgres

TEMPLATE = "platform_template"
ORGANIZATIONS = 9


@dataclass
class Database:
    """A fresh database with the platform's tables, and organizations 1 to 9 in them.

    `connect` gives autocommit connections that the fixture closes; `execute` runs on one kept connection.
    """

    server: EmbeddedPostgres
    name: str
    _connections: list[psycopg.Connection[Any]] = field(default_factory=list)
    _kept: psycopg.Connection[Any] | None = None

    @property
    def dsn(self) -> str:
        """The superuser's DSN of this database; follows the server's port."""
        return self.server.dsn(self.name)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A new connection, autocommit unless `options` (psycopg.connect's) say otherwise."""
        connection = psycopg.connect(self.dsn, **{"autocommit": True, **options})
        self._connections.append(connection)
        return connection

    def execute(self, query: str, params: Sequence[Any] | dict[str, Any] | None = None) -> psycopg.Cursor[Any]:
        """Run a statement (several only without `params`) and return its cursor: `.fetchall()`, `.rowcount`."""
        if self._kept is None or self._kept.closed:
            self._kept = self.connect()
        return self._kept.execute(query, params)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._kept = None


def prepare_template(server: EmbeddedPostgres, platform: str) -> None:
    """Make the database that every test's database is copied from. `platform` is the text of platform.sql."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
    with psycopg.connect(server.dsn(TEMPLATE), autocommit=True) as template:
        template.execute(platform.encode())
        template.execute(
            "insert into public.organizations (id, name, slug) "
            "select n, 'Organization ' || n, 'organization-' || n from generate_series(1, %s) as n",
            (ORGANIZATIONS,),
        )
        template.execute("select setval('public.organizations_id_seq', %s)", (ORGANIZATIONS,))


def create_database(server: EmbeddedPostgres, name: str) -> Database:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        statement = sql.SQL("create database {} template {}")
        admin.execute(statement.format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
    return Database(server, name)


def drop_database(database: Database, *, patience_seconds: float = 20.0) -> None:
    """End every connection to the database, drop its slots, drop it. Starts a server that was stopped."""
    database.close()
    if not database.server.running:
        database.server.restart()
    deadline = time.monotonic() + patience_seconds
    with psycopg.connect(database.server.dsn(), autocommit=True) as admin:
        while True:
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (database.name,))
            try:
                admin.execute(
                    "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s",
                    (database.name,),
                )
                admin.execute(sql.SQL("drop database if exists {} (force)").format(sql.Identifier(database.name)))
                return
            except (psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
                # The walsender that was just told to end still holds its slot.
                if time.monotonic() > deadline:
                    raise
                admin.execute("select pg_sleep(0.02)")
