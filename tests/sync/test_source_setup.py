"""What `owkai check --sql` prints is plain SQL that, run as it stands, gives exactly what is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from analytics.state.sync_status import Phase
from config.settings import Settings
from owkai.cli import main
from sync.source.connections import connect
from sync.source.preflight import inspect_source
from sync.source.setup_sql import least_privilege_sql, read_source_facts
from tests.postgres import Database
from tests.sync.prepared_source import prepare
from tests.sync.running import assert_equal, running_sync, settings_for

INSERT = "insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)"


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A name no role has yet; whatever the test makes of it is removed."""
    name = f"setup_{database.name}"
    yield name
    if database.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone():
        database.execute(f"drop owned by {name}; drop role {name}")


@pytest.mark.parametrize("mode", ["auto", "poll"])
def test_polling_works_with_the_printed_privileges(database: Database, role: str, tmp_path: Path, mode: str) -> None:
    """In auto mode the publication is missing and may not be made, so that the source is polled."""
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user=role)
    options = {"sync": {"mode": mode, "poll_seconds": 0.05}, "source": {"manage_publication": False}}
    text = least_privilege_sql(settings_for(database, tmp_path, dsn, **options))
    if mode == "auto":
        text = text.partition("-- 4.")[0]
    dsn = prepare(database, role, text)
    settings = settings_for(database, tmp_path, dsn, **options)
    assert [str(finding) for finding in inspect_source(settings) if finding.level == "error"] == []
    with running_sync(database, tmp_path, dsn=dsn, **options) as sync:
        sync.phase(Phase.POLLING)
        database.execute(INSERT)
        assert assert_equal(sync, database, "agent_actions") == 1
        with connect(settings) as reader, pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("select password from public.users")


def test_a_column_grant_without_the_transaction_id_is_named_and_pauses_with_its_remedy(
    database: Database, role: str, tmp_path: Path
) -> None:
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user=role)
    options = {"sync": {"mode": "poll", "poll_seconds": 0.05}}
    text = least_privilege_sql(settings_for(database, tmp_path, dsn, **options))
    dsn = prepare(database, role, text.replace(", xmin)", ")"))
    found = [f for f in inspect_source(settings_for(database, tmp_path, dsn, **options)) if f.level == "error"]
    assert len(found) == 4
    assert all("may not read xmin" in finding.message for finding in found)
    with running_sync(database, tmp_path, dsn=dsn, **options) as sync:
        sync.phase(Phase.PAUSED)
        assert "GRANT SELECT (xmin)" in (sync.board.current.remedy or "")
        for finding in found:
            database.execute(finding.remedy)
        sync.phase(Phase.POLLING)


def test_a_right_revoked_while_polling_pauses_and_a_grant_mends_it(
    database: Database, role: str, tmp_path: Path
) -> None:
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user=role)
    options = {"sync": {"mode": "poll", "poll_seconds": 0.05}}
    dsn = prepare(database, role, least_privilege_sql(settings_for(database, tmp_path, dsn, **options)))
    with running_sync(database, tmp_path, dsn=dsn, **options) as sync:
        sync.phase(Phase.POLLING)
        database.execute(f"revoke select (xmin) on agent_actions from {role}")
        sync.phase(Phase.PAUSED)
        database.execute(f"grant select (xmin) on agent_actions to {role}")
        sync.phase(Phase.POLLING)
        database.execute(INSERT)
        assert assert_equal(sync, database, "agent_actions") == 1


def test_the_recipe_fits_the_source_that_it_can_read(database: Database, role: str, tmp_path: Path) -> None:
    database.execute(
        "alter table agent_actions drop column mitre_technique; alter table audit_logs rename column created_at to timestamp;"
        " alter table users replica identity full; alter table users enable row level security"
    )
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user=role)
    settings = settings_for(database, tmp_path, dsn, source={"manage_publication": False})
    text = least_privilege_sql(settings, read_source_facts(database.connect(), settings))
    assert "mitre_technique" not in text
    assert "BYPASSRLS;" in text
    dsn = prepare(database, role, text)
    with running_sync(database, tmp_path, dsn=dsn, source={"manage_publication": False}) as sync:
        sync.streaming()
        database.execute(INSERT)
        assert assert_equal(sync, database, "agent_actions") == 1
    again = least_privilege_sql(settings, read_source_facts(database.connect(), settings))
    assert f"ALTER ROLE {role} LOGIN REPLICATION;" in again
    assert "CREATE PUBLICATION" not in again


def test_the_recipe_names_every_step_and_no_password(database: Database, role: str, tmp_path: Path) -> None:
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user=role, password="SECRET-PASSWORD")
    text = least_privilege_sql(settings_for(database, tmp_path, dsn))
    for step in (
        "ALTER SYSTEM SET wal_level = 'logical';", "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB';",
        "SELECT pg_reload_conf();", "Restart it", f"CREATE ROLE {role} LOGIN REPLICATION;", "xmin)",
        "CREATE PUBLICATION", f"GRANT CONNECT ON DATABASE {database.name}",
    ):  # fmt: skip
        assert step in text
    assert "SECRET-PASSWORD" not in text
    assert "DO $" not in text.upper()
    assert "key_hash" in text
    assert "password," not in text


def test_the_command_reads_the_source_as_an_administrator(database: Database, role: str, tmp_path: Path) -> None:
    """The role does not exist yet: source.dsn cannot be used, another connection can."""
    database.execute("alter table agent_actions drop column mitre_technique")
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user=role, password="none-yet")
    arguments = ["check", "--sql", "--set", f"cache.directory={tmp_path}"]
    environment = {"OWKAI_SOURCE_DSN": dsn}
    blind = CliRunner().invoke(main, arguments, env=environment)
    assert blind.exit_code == 0
    assert "mitre_technique" in blind.stdout
    assert "the source was not read" in blind.stderr
    assert "none-yet" not in blind.output
    fitting = CliRunner().invoke(main, [*arguments, "--admin", database.dsn], env=environment)
    assert fitting.exit_code == 0
    assert "mitre_technique" not in fitting.stdout
    assert "wal_level is logical already" in fitting.stdout
    assert f"CREATE ROLE {role} " in fitting.stdout


def test_a_table_without_statistics_is_not_analyzed_yet(database: Database, tmp_path: Path) -> None:
    def line() -> str:
        found = inspect_source(settings_for(database, tmp_path))
        return next(f.message for f in found if f.subject == "table public.agent_actions" and "mapped" in f.message)

    database.execute(f"alter table agent_actions set (autovacuum_enabled = off); {INSERT}")
    assert "not analyzed yet" in line()
    database.execute("analyze agent_actions")
    assert "about 1 row" in line()
    database.execute("truncate agent_actions; analyze agent_actions")
    assert "about 0 rows" in line()


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (
            "mitre_tactic",
            "has no column absent_here, which source.columns.agent_actions.mitre_tactic names for the optional",
        ),
        ("agent_id", "has no column absent_here, which source.columns.agent_actions.agent_id names"),
    ],
)
def test_a_renamed_column_that_is_missing_is_named_with_its_setting(
    database: Database, tmp_path: Path, column: str, expected: str
) -> None:
    source = {"columns": {"agent_actions": {column: "absent_here"}}}
    found = [str(f) for f in inspect_source(settings_for(database, tmp_path, source=source)) if f.level == "error"]
    assert [line for line in found if expected in line], found


def test_the_document_shows_what_the_command_prints() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/tasks/connect-postgres.md").read_text(encoding="utf-8")
    shown = page.split("```sql\n")[1].split("```")[0].replace("ALTER ROLE owkai PASSWORD '…';\n", "")
    printed = least_privilege_sql(Settings())
    assert shown.strip() == printed[printed.index("-- 1.") :].strip()
