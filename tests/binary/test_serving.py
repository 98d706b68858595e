"""The one file as a server: in a bare Debian, as an account that is not root, on a Postgres outside."""

from __future__ import annotations

import ctypes
import http.client
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from tests.binary import running
from tests.binary.bundles import Bundle
from tests.binary.chroot import ENVIRONMENT, HOME, Chroot
from tests.owkai.servers import wait_for
from tests.postgres import Database

DENY_WRITE_AND_EXECUTE = 65, 1  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN


@pytest.fixture
def environment(database: Database) -> dict[str, str]:
    return {**ENVIRONMENT, **running.settings(database)}


@pytest.fixture
def next_version(bundle: Bundle) -> Iterator[Bundle]:
    """The same program as a later release."""
    with tempfile.TemporaryDirectory() as name:
        tree = bundle.unpack(Path(name) / "runtime")
        yield bundle.as_version("99.0.0", tree, Path(name) / "owkai")


def test_it_serves_what_the_source_holds_and_drains_on_sigterm(
    installed: Chroot, environment: dict[str, str], database: Database, tmp_path: Path
) -> None:
    key = running.filled(database)
    with running.serving(installed, "owkai", "serve", log=tmp_path / "log", env=environment) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")
        running.assert_answers_are_those_of_the_source(server, key, database)
        database.execute(
            "insert into agent_actions (agent_id, action_type, risk_level, status, organization_id, timestamp)"
            " values ('late', 'query', 'critical', 'completed', 1, now())"
        )
        running.assert_answers_are_those_of_the_source(server, key, database)
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert f"\nUid:\t{installed.inside(HOME).stat().st_uid}\t" in status

        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as idle:
            idle.request("GET", "/healthz")
            assert idle.getresponse().read()
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
        assert "stopping (SIGTERM)" in server.messages()
        assert "stopped, exit code 0" in server.messages()


def test_every_view_answers_from_the_packed_program(
    installed: Chroot, environment: dict[str, str], database: Database, tmp_path: Path
) -> None:
    key = running.filled(database)
    paths = ["trends", "realtime/metrics", "performance", "predictive/trends", "executive/dashboard", "debug"]
    with running.serving(installed, "owkai", "serve", log=tmp_path / "log", env=environment) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")
        for path in paths:
            wait_for(lambda path=path: server.get(f"/api/analytics/{path}", {"X-API-Key": key})[0] == 200, path)  # type: ignore[misc]
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            report = "/api/analytics/executive/dashboard?format=pdf&tz=Europe/Berlin"
            connection.request("GET", report, headers={"X-API-Key": key})
            response = connection.getresponse()
            assert (response.status, response.read()[:5]) == (200, b"%PDF-")
        verified = installed.run("owkai", "verify", env=environment)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "equal at LSN" in " ".join(verified.stdout.split())


def test_a_new_release_goes_on_with_the_cache_and_keys_of_the_older_one(
    installed: Chroot, environment: dict[str, str], database: Database, next_version: Bundle, tmp_path: Path
) -> None:
    running.filled(database)
    made = installed.run(
        "owkai", "keys", "create", "--org", "1", "--role", "user", "--email", "k@example.com", env=environment
    )
    key = made.stdout.strip()
    with running.serving(installed, "owkai", "serve", log=tmp_path / "old.log", env=environment) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    before = [path.name for path in installed.inside(f"{HOME}/data").glob("cache-*.duckdb")]
    shutil.copy(next_version.path, installed.inside("/usr/local/bin/owkai"))
    with running.serving(installed, "owkai", "serve", log=tmp_path / "new.log", env=environment) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "readiness")
        running.assert_answers_are_those_of_the_source(server, key, database)
        assert "copied" not in server.messages()
    assert [path.name for path in installed.inside(f"{HOME}/data").glob("cache-*.duckdb")] == before
    unpacked = sorted(path.name for path in installed.inside(f"{HOME}/.cache/owkai").iterdir() if path.name[0] != ".")
    assert unpacked == [next_version.folder_name]
    assert installed.run("owkai", "version").stdout.startswith("owkai 99.0.0\n")


def test_a_cache_of_an_older_schema_is_copied_anew(
    installed: Chroot, environment: dict[str, str], database: Database, tmp_path: Path
) -> None:
    key = running.filled(database)
    for number in range(2):
        with running.serving(installed, "owkai", "serve", log=tmp_path / f"{number}.log", env=environment) as server:
            wait_for(lambda server=server: server.get("/readyz")[0] == 200, "readiness")  # type: ignore[misc]
            assert "copied" in server.messages()
            running.assert_answers_are_those_of_the_source(server, key, database)
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
        (file,) = installed.inside(f"{HOME}/data").glob("cache-*.duckdb")
        owner = file.stat()
        with duckdb.connect(str(file)) as cache:
            cache.execute("update owkai_state set schema_version = 1")
        assert file.stat().st_uid == owner.st_uid


def test_it_needs_no_memory_that_is_both_written_and_run(
    installed: Chroot, environment: dict[str, str], database: Database, tmp_path: Path
) -> None:
    """As the unit's MemoryDenyWriteExecute demands of it; the kernel's own switch, kept across exec."""
    key = running.filled(database)
    prctl = f"import ctypes, os, sys; ctypes.CDLL(None).prctl({DENY_WRITE_AND_EXECUTE[0]}, {DENY_WRITE_AND_EXECUTE[1]}, 0, 0, 0)"
    assert ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) >= 0, "this kernel is older than 6.3 and has no such switch"
    wrapped = [sys.executable, "-c", f"{prctl}; os.execvp(sys.argv[1], sys.argv[1:])"]
    with running.serving(installed, "owkai", "serve", log=tmp_path / "log", env=environment, before=wrapped) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")
        running.assert_answers_are_those_of_the_source(server, key, database)
        wait_for(lambda: server.get("/api/analytics/predictive/trends", {"X-API-Key": key})[0] == 200, "forecasts")


def test_the_demo_runs_with_nothing_else_on_the_machine(installed: Chroot, tmp_path: Path) -> None:
    with running.serving(
        installed, "owkai", "demo", "--port", "0", "--state", f"{HOME}/demo", log=tmp_path / "log"
    ) as server:
        wait_for(lambda: "The demo is ready" in server.log_path.read_text(), "the demo", 120)
        assert server.get("/readyz")[0] == 200
        server.signal(signal.SIGINT)
        assert server.wait() == 0
    assert not installed.inside(f"{HOME}/demo").exists()


def test_check_says_what_is_missing(installed: Chroot) -> None:
    refused = installed.run("owkai", "serve")
    assert refused.returncode == 2
    assert "source.dsn" in refused.stderr
    assert installed.run("owkai", "config", "sample").stdout.startswith("# Settings of OW-kai Analytics")
