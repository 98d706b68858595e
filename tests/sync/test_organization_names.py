"""Names of organizations: read where a table provides them, and never a reason for anything else to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from sync.source.organization_names import read_organization_names
from tests.postgres import Database
from tests.sync.running import settings_for


def names(database: Database, tmp_path: Path, dsn: str | None = None, **tables: Any) -> dict[int, str]:
    settings = settings_for(database, tmp_path, source={"tables": tables})
    with psycopg.connect(dsn or database.dsn, autocommit=True) as connection:
        found = read_organization_names(connection, settings)
        assert connection.execute("select 1").fetchone() == (1,)  # the session goes on
        return found


def test_names_come_from_the_table_and_blank_ones_count_as_none(database: Database, tmp_path: Path) -> None:
    database.execute("update organizations set name = ' Müller & Söhne ' where id = 1")
    database.execute("update organizations set name = '   ' where id = 2")
    found = names(database, tmp_path)
    assert found[1] == "Müller & Söhne"
    assert 2 not in found
    assert len(found[3]) > 0


@pytest.mark.parametrize(
    "statement",
    [
        "drop table organizations cascade",
        "alter table organizations drop column name",
        "alter table organizations rename to tenants",
        "alter table organizations alter column name type jsonb using to_jsonb(name)",
        "drop table organizations cascade; create view organizations as select 1 / (id - id) as id, email::text as name from users",
    ],
)
def test_a_table_that_does_not_fit_gives_no_names(database: Database, tmp_path: Path, statement: str) -> None:
    database.execute(
        "insert into users (email, password, role, organization_id) values ('a@one.example', 'x', 'user', 1)"
    )
    database.execute(statement)
    assert names(database, tmp_path) == {}


def test_a_renamed_table_is_found_and_an_empty_name_reads_nothing(database: Database, tmp_path: Path) -> None:
    database.execute("alter table organizations rename to tenants")
    assert names(database, tmp_path, organizations="tenants")
    database.execute("alter table tenants rename to organizations")
    assert names(database, tmp_path, organizations="") == {}


def test_a_locked_table_holds_nobody_up(database: Database, tmp_path: Path) -> None:
    with psycopg.connect(database.dsn) as migration:
        migration.execute("lock table organizations in access exclusive mode")
        assert names(database, tmp_path) == {}
    assert names(database, tmp_path)
