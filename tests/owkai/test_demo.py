"""`owkai demo` from outside: a process, its files, its port, and nothing when it is over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from owkai.demo.catalog import ORGANIZATIONS
from owkai.demo.processes import alive, children, wait_until

READY_SECONDS = 90
STOP_SECONDS = 40
ROLES = [(organization, role) for organization in (1, 2, 3) for role in ("admin", "user")]


@dataclass
class Demo:
    """A running `owkai demo`; `home` is its --state, `temporary` the only folder for its temporary files."""

    process: subprocess.Popen[bytes]
    home: Path
    temporary: Path
    output: Path

    @property
    def index(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "demo.json").read_text())
        return found

    def key(self, organization_id: int, role: str = "admin") -> str:
        wanted = (organization_id, role)
        return str(next(key["key"] for key in self.index["keys"] if (key["organization_id"], key["role"]) == wanted))

    def get(self, path: str, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self.index['base_url']}{path}", headers=named)  # noqa: S310
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return json.load(answer)

    def wait_until_ready(self) -> None:
        wait_until(lambda: (self.home / "demo.json").exists() or self.process.poll() is not None, READY_SECONDS)
        assert (self.home / "demo.json").exists(), self.output.read_text()

    def processes(self) -> list[int]:
        """Ids of the demo's process, of its Postgres and of the latter's children."""
        servers = children(self.process.pid)
        return [self.process.pid, *servers, *(child for server in servers for child in children(server))]

    def stop(self, order: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(order)
        return self.process.wait(STOP_SECONDS)


def start(home: Path, temporary: Path) -> Demo:
    output = temporary.parent / "output.txt"
    environment = {**os.environ, "TMPDIR": str(temporary), "OWKAI_SOURCE_DSN": "postgresql://nobody@192.0.2.1/wrong"}
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "owkai", "demo", "--port", "0", "--state", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    return Demo(process, home, temporary, output)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="owkai-tests-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def demo(folder: Path) -> Iterator[Demo]:
    """One demo for the tests that only look at it."""
    (folder / "looked-at" / "temporary").mkdir(parents=True, mode=0o711)
    running = start(folder / "looked-at" / "demo", folder / "looked-at" / "temporary")
    try:
        running.wait_until_ready()
        yield running
    finally:
        if running.stop():
            running.process.kill()


def test_index_names_everything_a_script_needs(demo: Demo) -> None:
    index = demo.index
    assert [(key["organization_id"], key["role"]) for key in index["keys"]] == ROLES
    assert set(index) == {"base_url", "dsn", "config", "keys", "organizations"}
    for file in (demo.home / "demo.json", Path(index["config"])):
        assert file.stat().st_mode & 0o777 == 0o600
    with psycopg.connect(index["dsn"]) as connection:
        assert connection.execute("select count(*) > 50000 from agent_actions").fetchone() == (True,)


@pytest.mark.parametrize(
    "path", ["trends", "realtime/metrics", "performance", "performance/system", "predictive/trends"]
)
def test_every_answer_says_that_its_data_is_invented(demo: Demo, path: str) -> None:
    for organization, role in ROLES:
        answer = demo.get(f"/api/analytics/{path}", X_API_Key=demo.key(organization, role))
        assert answer["meta"]["mock_data"] is True
    assert demo.get("/readyz")["mock_data"] is True


def test_each_key_sees_the_agents_of_its_own_organization_alone(demo: Demo) -> None:
    for organization in ORGANIZATIONS:
        for role in ("admin", "user"):
            answer = demo.get("/api/analytics/trends?days=90", X_API_Key=demo.key(organization.id, role))
            seen = {row["agent"] for row in answer["top_agents"]} | {
                row["agent_id"] for row in answer["enriched_actions"]
            }
            assert len(answer["top_agents"]) > 5
            assert seen - {"an-inserted-agent"} <= {agent.name for agent in organization.agents}
            assert len(answer["high_risk_actions_by_day"]) == 90


def test_row_inserted_through_the_dsn_is_seen_by_its_organization_alone(demo: Demo) -> None:
    def newest(organization: int) -> set[str]:
        answer = demo.get("/api/analytics/trends", X_API_Key=demo.key(organization))
        return {row["agent_id"] for row in answer["enriched_actions"]}

    with psycopg.connect(demo.index["dsn"], autocommit=True) as connection:
        connection.execute(
            'insert into agent_actions (organization_id, agent_id, action_type, "timestamp") '
            "values (2, 'an-inserted-agent', 'file_read', now())"
        )
        assert wait_until(lambda: "an-inserted-agent" in newest(2), 10)
        assert "an-inserted-agent" not in newest(1)
        connection.execute("delete from agent_actions where agent_id = 'an-inserted-agent'")
        assert wait_until(lambda: "an-inserted-agent" not in newest(2), 10)


def test_activity_goes_on_and_sync_follows_exactly(demo: Demo) -> None:
    first = demo.get("/readyz")
    assert (first["mode"], first["ready"]) == ("stream", True)
    assert first["guarantee"].startswith("exact")
    assert wait_until(lambda: bool(demo.get("/readyz")["cache_version"] > first["cache_version"]), 90)


def test_dashboard_page_of_the_demo_may_open_the_socket_and_others_may_not(demo: Demo) -> None:
    key = next(key for key in demo.index["keys"] if key["organization_id"] == 1)
    base = demo.index["base_url"]
    url = f"{base.replace('http', 'ws', 1)}/api/analytics/ws/realtime/{key['email']}"
    with connect(url, origin=Origin(base), additional_headers={"X-API-Key": key["key"]}) as socket:
        assert json.loads(socket.recv(timeout=30))["type"] == "connection"
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(url, origin=Origin("http://elsewhere.example"), additional_headers={"X-API-Key": key["key"]}),
    ):
        pass


def test_settings_file_serves_the_other_commands(demo: Demo) -> None:
    def owkai(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "owkai", *arguments, "--config", demo.index["config"]]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    checked = owkai("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "error" not in checked.stdout
    with psycopg.connect(demo.index["dsn"]) as connection:
        admin = next(key["email"] for key in demo.index["keys"] if key["organization_id"] == 3)
        row = connection.execute("select id from users where email = %s", (admin,)).fetchone()
    assert row is not None
    made = owkai("token", "--org", "3", "--user", str(row[0]), "--email", admin, "--role", "admin")
    assert made.returncode == 0, made.stderr
    answer = demo.get("/api/analytics/trends", Authorization=f"Bearer {made.stdout.strip()}")
    assert {row["agent"] for row in answer["top_agents"]} <= {agent.name for agent in ORGANIZATIONS[2].agents}
    assert answer["top_agents"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        demo.get("/api/analytics/trends", Authorization="Bearer nothing")


def test_source_role_of_the_demo_has_least_privilege(demo: Demo) -> None:
    with psycopg.connect(demo.index["dsn"]) as connection:
        row = connection.execute(
            "select rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication from pg_roles "
            "where rolname = (select usename from pg_stat_activity where backend_type = 'walsender')"
        ).fetchone()
    assert row == (False, False, False, False, True)


def test_killed_demo_leaves_no_process_and_the_next_in_its_folder_leaves_nothing(folder: Path) -> None:
    (folder / "killed" / "temporary").mkdir(parents=True, mode=0o711)
    home, temporary = folder / "killed" / "demo", folder / "killed" / "temporary"
    killed = start(home, temporary)
    killed.wait_until_ready()
    processes, first_key = killed.processes(), killed.key(1)
    assert len(processes) > 3
    killed.process.kill()
    killed.process.wait(STOP_SECONDS)
    assert wait_until(lambda: not any(map(alive, processes)), STOP_SECONDS)
    assert (home / "demo.json").exists()

    again = start(home, temporary)
    try:
        assert wait_until(lambda: not (home / "demo.json").exists(), READY_SECONDS)
        again.wait_until_ready()
        assert again.key(1) != first_key
        assert "mock_data: true" in again.output.read_text()
        processes = again.processes()
        assert again.stop() == 0, again.output.read_text()
        assert not any(map(alive, processes))
        assert not home.exists()
        assert list(temporary.iterdir()) == []
    finally:
        again.process.kill()
        again.process.wait(STOP_SECONDS)


def test_interrupt_before_it_is_ready_stops_the_demo_and_leaves_nothing(folder: Path) -> None:
    (folder / "interrupted" / "temporary").mkdir(parents=True, mode=0o711)
    demo = start(folder / "interrupted" / "demo", folder / "interrupted" / "temporary")
    try:
        assert wait_until(lambda: "Starting Postgres" in demo.output.read_text(), READY_SECONDS)
        assert demo.stop(signal.SIGINT) == 0, demo.output.read_text()
        assert not demo.home.exists()
        assert list(demo.temporary.iterdir()) == []
    finally:
        demo.process.kill()
        demo.process.wait(STOP_SECONDS)
