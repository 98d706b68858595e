"""What is missing on a source is said in plain words with the statement that mends it, and that statement does mend it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from analytics.state.sync_status import Phase
from config.settings import Settings
from sync.source.preflight import inspect_source
from sync.source.setup_sql import least_privilege_sql, read_source_facts, source_role
from sync.stream.slot_removal import drop_replication
from tests.postgres import Database
from tests.sync.prepared_source import prepare
from tests.sync.running import assert_equal, running_sync, settings_for, wait_until

TABLES = ("agent_actions", "users", "audit_logs", "api_keys")


@pytest.fixture
def role(database: Database) -> str:
    """A login role without any right, removed with what it owns."""
    name = f"reader_{database.name}"
    database.execute(f"create role {name} login password 'reader-password'")
    yield name
    database.execute(f"drop owned by {name}; drop role {name}")


def reader_dsn(database: Database, role: str) -> str:
    return psycopg.conninfo.make_conninfo(database.dsn, user=role, password="reader-password")


def errors(database: Database, tmp_path: Path, dsn: str | None = None, **options: dict[str, object]) -> list[str]:
    return [str(f) for f in inspect_source(settings_for(database, tmp_path, dsn, **options)) if f.level == "error"]


def test_a_fit_source_has_no_errors(database: Database, tmp_path: Path) -> None:
    assert errors(database, tmp_path) == []


def test_each_remedy_mends_what_its_finding_says(database: Database, role: str, tmp_path: Path) -> None:
    """A role without rights becomes a least-privilege one by nothing but the statements of the report."""
    dsn = reader_dsn(database, role)
    ran = set()
    stream = {"mode": "stream"}
    for _ in range(20):
        found = [f for f in inspect_source(settings_for(database, tmp_path, dsn, sync=stream)) if f.level == "error"]
        if not found:
            break
        for finding in found:
            statement = finding.remedy.removeprefix("as the tables' owner run: ").partition("; or set sync.mode")[0]
            assert statement not in ran, f"{statement} did not mend: {finding}"
            ran.add(statement)
            database.execute(statement)
    assert errors(database, tmp_path, dsn, sync=stream) == []
    assert any("REPLICATION" in statement for statement in ran)
    assert any(statement.startswith("CREATE PUBLICATION") for statement in ran)
    assert not any("password" in statement for statement in ran)
    with running_sync(database, tmp_path, dsn=dsn) as sync:
        sync.streaming()
        database.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)")
        assert assert_equal(sync, database) >= 1


def test_rep_06_rights_to_write_are_warned_about(database: Database, role: str, tmp_path: Path) -> None:
    database.execute(f"grant select, insert, update on agent_actions to {role}")
    warnings = [
        str(f)
        for f in inspect_source(settings_for(database, tmp_path, reader_dsn(database, role)))
        if f.level == "warning"
    ]
    assert any("may write" in line and "REVOKE" in line for line in warnings)


def test_rep_06_the_printed_sql_gives_all_that_is_needed_and_nothing_else(database: Database, tmp_path: Path) -> None:
    """Exactly what `owkai check --sql` prints, run by psql's rules, and then the check, the copy and the stream."""
    name = f"least's 100%s {database.name}"[:63]
    quoted = sql.Identifier(name).as_string(None)
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user=name, password="least-password")
    settings = settings_for(database, tmp_path, dsn, source={"manage_publication": False})
    text = least_privilege_sql(settings)
    assert "least-password" not in text
    try:
        dsn = prepare(database, name, text)
        settings = settings_for(database, tmp_path, dsn, source={"manage_publication": False})
        found = inspect_source(settings)
        assert [str(finding) for finding in found if finding.level == "error"] == []
        assert not [str(finding) for finding in found if finding.level == "warning" and name in str(finding)]
        with running_sync(database, tmp_path, dsn=dsn, source={"manage_publication": False}) as sync:
            sync.streaming()
            database.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)")
            assert assert_equal(sync, database) >= 1
            names = dict(database.execute("select id, name from organizations").fetchall())
            wait_until(lambda: sync.board.current.organization_names == names, "the organizations' names")
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in (
                "select password from users", "select * from users", "select name from api_keys",
                "select extra_data from agent_actions", "delete from users", "update users set role = 'admin'",
                "insert into audit_logs (action) values ('x')", "truncate agent_actions",
                "select slug from organizations", "create table public.mine (id int)",
            ):  # fmt: skip
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
        row = database.execute(
            "select rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication from pg_roles where rolname = %s",
            [name],
        ).fetchone()
        assert row == (False, False, False, False, True)
    finally:
        database.execute(f"drop owned by {quoted}; drop role {quoted}")


def test_rep_06_the_printed_sql_follows_the_settings_and_the_tables(database: Database, tmp_path: Path) -> None:
    name = f"least_{database.name}"
    database.execute(
        "alter table agent_actions rename to actions; alter table actions rename column agent_id to agent;"
        " alter table actions drop column mitre_technique; alter table audit_logs rename column created_at to timestamp;"
        " alter table users enable row level security; alter table users replica identity full"
    )
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user=name, password="least-password")
    tables = {"agent_actions": "actions", "api_keys": ""}
    source = {"tables": tables, "columns": {"agent_actions": {"agent_id": "agent"}}, "publication": "owkai_least"}
    try:
        for mode in ("poll", "stream"):
            settings = settings_for(database, tmp_path / mode, dsn, source=source, sync={"mode": mode})
            dsn = prepare(
                database, name, least_privilege_sql(settings, read_source_facts(database.connect(), settings))
            )
            settings = settings_for(database, tmp_path / mode, dsn, source=source, sync={"mode": mode})
            row = database.execute(
                "select rolbypassrls, rolreplication from pg_roles where rolname = %s", [name]
            ).fetchone()
            assert row == (True, mode == "stream")
            assert [str(finding) for finding in inspect_source(settings) if finding.level == "error"] == []
    finally:
        database.execute(f"drop owned by {name}; drop role {name}")


def test_rep_06_the_role_is_that_of_the_connection_string_or_owkai() -> None:
    for dsn, role in (("postgresql://me@h/d", "me"), ("postgresql://h/d", "owkai"), ("", "owkai")):
        assert source_role(Settings.model_validate({"source": {"dsn": dsn}})) == role


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("alter table agent_actions rename to actions", "table public.agent_actions: does not exist"),
        ("alter table agent_actions drop column organization_id", "has no column organization_id, which is required"),
        ("alter table agent_actions alter column risk_score type text", "column risk_score has type text"),
        ("alter table agent_actions replica identity nothing", "REPLICA IDENTITY NOTHING"),
        ("alter table agent_actions drop constraint agent_actions_pkey cascade", "has no primary key on id"),
        (
            "create publication owkai for table agent_actions; alter publication owkai set (publish = 'insert')",
            "does not publish update, delete, truncate",
        ),
        (
            "create publication owkai for table users, audit_logs, api_keys",
            "does not contain table public.agent_actions",
        ),
        (
            "create publication owkai for table agent_actions where (organization_id = 1), users, audit_logs, api_keys",
            "filters rows of table public.agent_actions",
        ),
        (
            "create publication owkai for table agent_actions (id, agent_id), users, audit_logs, api_keys",
            "leaves out organization_id",
        ),
    ],
)
def test_rep_04_rep_07_each_unfit_source_is_named(
    database: Database, tmp_path: Path, statement: str, expected: str
) -> None:
    database.execute(statement)
    found = errors(database, tmp_path)
    assert any(expected in line for line in found), found
    assert all(";" in line for line in found), "each finding names its remedy"


def test_a_missing_optional_column_stays_empty(database: Database, tmp_path: Path) -> None:
    database.execute("alter table agent_actions drop column mitre_technique, drop column target_system")
    database.execute("alter table audit_logs rename column created_at to timestamp")
    assert errors(database, tmp_path) == []


def test_renamed_tables_and_columns_are_mapped_by_settings(database: Database, tmp_path: Path) -> None:
    database.execute("alter table agent_actions rename to actions; alter table actions rename column agent_id to agent")
    database.execute("insert into actions (agent, action_type, organization_id) values ('mapped', 'x', 1)")
    source = {
        "tables": {"agent_actions": "actions", "api_keys": ""},
        "columns": {"agent_actions": {"agent_id": "agent"}},
    }
    with running_sync(database, tmp_path, source=source) as sync:
        sync.streaming()
        with sync.cache.read() as snapshot:
            found = snapshot._connection.execute("select agent_id from agent_actions").fetchall()
        assert found == [("mapped",)]


def test_rep_01_rows_hidden_by_row_security_are_refused_never_read_as_none(
    database: Database, role: str, tmp_path: Path
) -> None:
    database.execute(f"grant select on all tables in schema public to {role}; alter role {role} replication")
    database.execute("create publication owkai for table agent_actions, users, audit_logs, api_keys")
    database.execute("alter table agent_actions enable row level security")
    database.execute(
        "insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1), ('b', 'x', 2)"
    )
    dsn = reader_dsn(database, role)
    (line,) = errors(database, tmp_path, dsn)
    assert "row-level security: hides rows of public.agent_actions" in line
    assert f'ALTER ROLE "{role}" BYPASSRLS' in line
    with running_sync(database, tmp_path, dsn=dsn) as sync:
        sync.phase(Phase.PAUSED)
        assert not sync.cache.ready
        assert "BYPASSRLS" in (sync.board.current.remedy or "")
        # The platform's own policies: organization 1 sees everything.
        database.execute(
            "create policy tenant on agent_actions using (organization_id = current_setting('app.current_organization_id')::int)"
        )
        database.execute(
            "create policy platform on agent_actions for select using (current_setting('app.current_organization_id', true) = '1')"
        )
        sync.streaming()
        assert assert_equal(sync, database, "agent_actions") == 2


def test_bypassrls_sees_all_rows(database: Database, role: str, tmp_path: Path) -> None:
    database.execute(f"grant select on all tables in schema public to {role}; alter role {role} replication bypassrls")
    database.execute("create publication owkai for table agent_actions, users, audit_logs, api_keys")
    database.execute("alter table agent_actions enable row level security")
    assert errors(database, tmp_path, reader_dsn(database, role)) == []


def test_rep_05_a_table_of_the_same_name_in_an_earlier_schema_is_not_read(database: Database, tmp_path: Path) -> None:
    database.execute(
        "create schema evil; create table evil.agent_actions (like public.agent_actions including all);"
        f"alter database {database.name} set search_path = evil, public;"
        "insert into evil.agent_actions (id, agent_id, action_type, organization_id) values (1, 'evil', 'x', 1)"
    )
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        with sync.cache.read() as snapshot:
            assert snapshot._connection.execute("select count(*) from agent_actions").fetchall() == [(0,)]


def test_an_unreachable_source_is_a_finding_without_its_password(database: Database, tmp_path: Path) -> None:
    dsn = psycopg.conninfo.make_conninfo(database.dsn, port="1", password="SECRET-PASSWORD")
    (line,) = errors(database, tmp_path, dsn)
    assert "cannot be reached" in line
    assert "SECRET-PASSWORD" not in line


def test_dropping_replication_leaves_nothing_on_the_source(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        settings = sync.settings
    wait_until(
        lambda: (
            database.execute(
                "select active from pg_replication_slots where slot_name = %s", [settings.source.slot]
            ).fetchone()
            == (False,)
        ),
        "the slot is free",
    )
    assert len(drop_replication(settings)) == 2
    assert database.execute(
        "select count(*) from pg_replication_slots where slot_name = %s", [settings.source.slot]
    ).fetchone() == (0,)
    assert database.execute("select count(*) from pg_publication").fetchone() == (0,)
