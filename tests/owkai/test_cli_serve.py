"""`owkai serve` as a process: start, signals, limits, exit codes."""

from __future__ import annotations

import re
import resource
import signal
import socket
import stat
import time
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from owkai.exits import Exit
from owkai.lifecycle import SAME_SIGNAL_SECONDS
from tests.owkai.servers import SECRET, Server, environment, owkai, serving, wait_for
from tests.postgres import Database


def ready(server: Server) -> bool:
    return server.get("/readyz")[0] == 200


def test_the_server_answers_although_the_source_is_out_of_reach(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.get("/healthz")[0] == 200
        wait_for(lambda: server.get("/readyz")[1]["state"] == "retrying", "sync to notice")
        assert server.get("/readyz")[0] == 503
        server.signal(signal.SIGTERM)
        assert server.wait() == Exit.OK


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_upg_06_a_signal_drains_and_ends_with_0_without_a_trace(
    tmp_path: Path, database: Database, number: signal.Signals
) -> None:
    with serving(tmp_path, SOURCE_DSN=database.dsn) as server:
        wait_for(lambda: ready(server), "the first copy")
        server.signal(number)
        assert server.wait() == Exit.OK
        assert "stopped, exit code 0" in server.messages()
        assert [record for record in server.log if "trace" in record or record["level"] == "error"] == []
        assert all(line.startswith("{") for line in server.log_path.read_text().splitlines())


def test_upg_06_other_signals_are_defined_and_do_not_end_the_server(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
            server.signal(number)
        wait_for(lambda: "cache version 0" in server.messages(), "SIGUSR1's report")
        wait_for(lambda: "SIGHUP: settings unchanged" in server.messages(), "SIGHUP's answer")
        assert server.get("/healthz")[0] == 200


def test_upg_06_a_second_signal_ends_at_once_by_that_signal(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/d"
        with serving(tmp_path, SOURCE_DSN=dsn, SOURCE_CONNECT_TIMEOUT_SECONDS="60") as server:
            with silent.accept()[0]:  # sync waits for an answer that never comes, and the drain for sync
                server.signal(signal.SIGTERM)
                wait_for(lambda: "stopping (SIGTERM)" in server.messages(), "the drain")
                again_at = time.monotonic() + SAME_SIGNAL_SECONDS
                wait_for(lambda: time.monotonic() > again_at, "the first signal to be over")
                server.signal(signal.SIGTERM)
                assert server.wait() == -signal.SIGTERM
            assert "stopped" not in server.messages()


def test_upg_06_signals_sent_twice_at_once_are_one(tmp_path: Path) -> None:
    """As a supervisor does that signals the process and its group, or a terminal beside it."""
    with serving(tmp_path) as server:
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGINT)
        server.signal(signal.SIGTERM)
        assert server.wait() == Exit.OK
        assert "stopped, exit code 0" in server.messages()


def test_sec_04_and_05_files_are_private_and_core_dumps_off(tmp_path: Path, database: Database) -> None:
    with serving(tmp_path, SOURCE_DSN=database.dsn) as server:
        wait_for(lambda: ready(server), "the first copy")
        server.get("/api/analytics/trends")
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_CORE)
        assert limits == (0, 0)
        umask = next(
            line for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines() if line[:5] == "Umask"
        )
        assert umask.split()[1] == "0077"
        found = [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]
        assert len(found) > 2
        for path in found:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_cfg_07_a_port_in_use_ends_with_4_and_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with serving(tmp_path, "--port", str(port)) as server:
            assert server.wait() == Exit.BUSY
            assert f"127.0.0.1:{port} is in use by another process" in server.messages()


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_cfg_07_a_foreign_address_ends_with_2_and_names_the_setting(tmp_path: Path, host: str) -> None:
    with serving(tmp_path, "--host", host) as server:
        assert server.wait() == Exit.SETTINGS
        assert f"cannot listen on {host}:0" in server.messages()
        assert "check server.host" in server.messages()


def test_upg_03_a_second_server_on_one_cache_refuses_with_the_holders_pid(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        with serving(tmp_path) as second:
            assert second.wait() == Exit.BUSY
            assert f"in use by process {first.process.pid}" in second.messages()
        assert first.get("/healthz")[0] == 200


def test_a_damaged_key_store_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache" / "keys.json").write_text("{")
    (tmp_path / "cache" / "keys.json").chmod(0o600)
    with serving(tmp_path) as server:
        assert server.wait() == Exit.SETTINGS
        assert "keys.json is damaged" in server.messages()


def test_sec_01_no_secret_reaches_the_log(tmp_path: Path) -> None:
    dsn = "postgresql://u:hidden-5c1f@127.0.0.1:1/d"
    with serving(tmp_path, SOURCE_DSN=dsn, LOG_LEVEL="debug") as server:
        wait_for(lambda: "retrying" in server.messages(), "a failed attempt")
        server.get(
            "/api/analytics/trends", {"X-API-Key": "owkai_admin_" + "c" * 43, "Cookie": f"access_token={SECRET}"}
        )
        text = server.log_path.read_text()
        assert "hidden-5c1f" not in text
        assert SECRET not in text
        assert "c" * 43 not in text


def test_cfg_04_an_unguarded_server_warns_at_its_start(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0", AUDIT_ENABLED="false", SERVR_PORT="1") as server:
        warnings = [record["message"] for record in server.log if record["level"] == "warning"]
        for words in ("plain HTTP", "accesses leave no record", "did you mean OWKAI_SERVER_PORT?"):
            assert sum(words in warning for warning in warnings) == 1


# -- check -------------------------------------------------------------------------------------------------------------


def check(folder: Path, **variables: str) -> tuple[int, str]:
    settings = {"AUTH_JWT_SECRET": SECRET, "SERVER_PORT": "0", "CACHE_DIRECTORY": str(folder / "cache"), **variables}
    result = owkai("check", cwd=folder, env=environment(**settings))
    assert "Traceback" not in result.stderr
    return result.returncode, result.stdout


def test_check_of_a_fit_source_says_so_and_changes_nothing(tmp_path: Path, database: Database) -> None:
    code, text = check(tmp_path, SOURCE_DSN=database.dsn)
    assert code == Exit.OK, text
    assert "ERROR" not in text
    assert f"{tmp_path / 'cache'} does not exist; the server creates it" in text
    assert not (tmp_path / "cache").exists()
    assert database.execute(
        "select count(*) from pg_replication_slots where database = current_database()"
    ).fetchone() == (0,)


def test_check_beside_a_running_server_names_it(tmp_path: Path, database: Database) -> None:
    with serving(tmp_path, SOURCE_DSN=database.dsn) as server:
        wait_for(lambda: ready(server), "the first copy")
        code, text = check(tmp_path, SOURCE_DSN=database.dsn, SERVER_PORT=str(server.port))
        assert code == Exit.OK, text
        assert f"a running server (process {server.process.pid}) holds it" in text
        assert "as expected" in text


def test_check_says_all_that_is_missing_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache" / "keys.json").write_text("{")
    (tmp_path / "cache" / "keys.json").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        dsn = "postgresql://u:hidden@127.0.0.1:1/d"
        code, text = check(tmp_path, SOURCE_DSN=dsn, SERVER_PORT=str(port))
    assert code == Exit.FAILED
    assert f"127.0.0.1:{port} is in use by another process" in text
    assert "keys.json is damaged" in text
    assert "The server cannot run yet: 3 errors." in text
    assert "hidden" not in text


def test_check_of_wrong_settings_ends_with_2(tmp_path: Path) -> None:
    result = owkai("check", cwd=tmp_path)
    assert result.returncode == Exit.SETTINGS
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["source.dsn", "auth.jwt_secret"]


def test_the_documented_statements_make_a_source_that_check_accepts(tmp_path: Path, database: Database) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/tasks/connect-postgres.md").read_text(encoding="utf-8")
    statements = re.sub(r"--.*", "", page.split("```sql")[1].split("```")[0]).replace("'…'", "'a password'").split(";")
    try:
        for statement in statements:
            if statement.strip() and "ALTER SYSTEM" not in statement:  # the whole server's
                database.execute(statement)
        dsn = make_conninfo(database.dsn, user="owkai", password="a password")
        code, text = check(tmp_path, SOURCE_DSN=dsn)
        assert code == Exit.OK, text
        assert "ERROR" not in text
    finally:
        database.execute("drop owned by owkai")
        database.execute("drop role owkai")
