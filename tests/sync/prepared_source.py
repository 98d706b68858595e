"""A source prepared by exactly what `owkai check --sql` prints."""

from __future__ import annotations

import psycopg
from psycopg import sql

from tests.postgres import Database

SYSTEM = ("ALTER SYSTEM", "SELECT pg_reload_conf")


def statements(text: str) -> list[str]:
    """As psql splits them: comments dropped, a statement ends with a semicolon at the end of a line."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [statement.strip() for statement in "\n".join(lines).split(";\n") if statement.strip()]


def prepare(database: Database, role: str, text: str) -> str:
    """Run the recipe, but for the settings of the server that all tests share; the role's DSN."""
    for statement in statements(text + "\n"):
        if not statement.startswith(SYSTEM):
            database.execute(statement)
    name = sql.Identifier(role).as_string(None)
    database.execute(f"alter role {name} password 'setup-password'")
    return psycopg.conninfo.make_conninfo(database.dsn, user=role, password="setup-password")
