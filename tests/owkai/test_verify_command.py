"""`owkai verify` as a command: against a running server, against none, as text and as data."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from analytics.state.cache import Cache
from owkai.control import SOCKET, ControlServer, NoServerError, ask
from owkai.exits import Exit
from tests.owkai.servers import Server, environment, owkai, serving, wait_for
from tests.postgres import Database
from tests.sync.running import settings_for, slot_name
from tests.sync.test_exactness import fill


def variables(database: Database) -> dict[str, str]:
    return {"SOURCE_DSN": database.dsn, "SOURCE_SLOT": slot_name(database)}


def run_verify(folder: Path, database: Database, *options: str) -> Any:
    given = environment(**variables(database), CACHE_DIRECTORY=str(folder / "cache"), SYNC_BACKOFF_MAX_SECONDS="0.5")
    return owkai("verify", *options, cwd=folder, env=given)


def await_ready(server: Server) -> None:
    wait_for(lambda: server.get("/readyz")[1]["state"] == "streaming", f"streaming; {server.messages()[-2000:]}")


def tamper(folder: Path, database: Database, statement: str) -> None:
    """Change the cache of a stopped server."""
    cache = Cache(settings_for(database, folder).cache)
    try:
        store = cache.live
        assert store is not None
        store._writer.execute(statement)
        store.checkpoint()
    finally:
        cache.close()


def test_a_running_server_is_asked_and_shows_the_result(database: Database, tmp_path: Path) -> None:
    fill(database, 100)
    with serving(tmp_path, **variables(database)) as server:
        await_ready(server)
        assert server.get("/readyz")[1]["verify"] is None
        done = run_verify(tmp_path, database)
        assert done.returncode == Exit.OK, done.stderr
        assert done.stdout.startswith("equal at LSN ")
        assert "350 rows in" in done.stdout
        assert "4 tables" in done.stdout
        seen = server.get("/readyz")[1]["verify"]
        assert seen["equal"] is True
        assert seen["lsn"] in done.stdout
        assert seen["scope"] == "all"
        assert stat.S_IMODE((tmp_path / "cache" / SOCKET).stat().st_mode) == 0o600
        server.signal(signal.SIGTERM)
        assert server.wait() == Exit.OK
        assert not (tmp_path / "cache" / SOCKET).exists()


def test_a_difference_ends_with_1_and_its_key_and_repair_mends_it(database: Database, tmp_path: Path) -> None:
    fill(database, 100)
    with serving(tmp_path, **variables(database)) as server:
        await_ready(server)
        server.signal(signal.SIGTERM)
        server.wait()
    tamper(tmp_path, database, "DELETE FROM agent_actions WHERE id = 42")
    with serving(tmp_path, **variables(database)) as server:
        await_ready(server)
        found = run_verify(tmp_path, database)
        assert found.returncode == Exit.FAILED
        assert found.stdout.startswith("DIFFERENT at LSN ")
        assert "1 missing in the cache: id 42" in found.stdout
        assert "owkai verify --repair" in found.stdout
        wait_for(lambda: "agent_actions differs" in server.messages(), "the error in the log")
        data = json.loads(run_verify(tmp_path, database, "--json").stdout)
        assert data["equal"] is False
        assert data["tables"][0]["keys"]["missing"] == [42]
        assert server.get("/readyz")[1]["verify"]["differing_buckets"] == 1
        mended = run_verify(tmp_path, database, "--repair")
        assert mended.returncode == Exit.OK, mended.stderr
        assert "repaired 1 keys; compared again:" in mended.stdout
        assert "equal at LSN " in mended.stdout
        assert server.get("/readyz")[1]["verify"]["equal"] is True


def test_without_a_server_the_cache_is_brought_up_to_date_and_compared(database: Database, tmp_path: Path) -> None:
    fill(database, 100)
    with serving(tmp_path, **variables(database)) as server:
        await_ready(server)
        server.signal(signal.SIGKILL)  # leaves its socket behind
        server.wait()
    assert (tmp_path / "cache" / SOCKET).exists()
    database.execute("update agent_actions set status = 'failed' where id % 2 = 0")
    done = run_verify(tmp_path, database, "--json")
    assert done.returncode == Exit.OK, done.stderr
    assert json.loads(done.stdout)["equal"] is True
    assert "no server runs" in done.stderr
    tamper(tmp_path, database, "UPDATE users SET role = 'admin' WHERE id = (SELECT min(id) FROM users)")
    assert run_verify(tmp_path, database, "--table", "agent_actions", "--days", "3").returncode == Exit.OK
    assert run_verify(tmp_path, database).returncode == Exit.FAILED
    assert run_verify(tmp_path, database, "--repair").returncode == Exit.OK


def test_what_cannot_be_compared_is_an_error_with_its_own_exit_code(database: Database, tmp_path: Path) -> None:
    nothing = run_verify(tmp_path, database)
    assert nothing.returncode == Exit.SOURCE
    assert "no complete cache" in nothing.stderr
    assert nothing.stdout == ""
    assert run_verify(tmp_path, database, "--table", "orders").returncode == Exit.SETTINGS
    without_source = owkai("verify", cwd=tmp_path, env=environment(CACHE_DIRECTORY=str(tmp_path / "cache")))
    assert without_source.returncode == Exit.SETTINGS
    cache = Cache(settings_for(database, tmp_path).cache)  # another process has it, without a socket
    try:
        assert run_verify(tmp_path, database).returncode == Exit.BUSY
    finally:
        cache.close()


def test_a_source_out_of_reach_is_said_with_its_exit_code(tmp_path: Path, database: Database) -> None:
    with serving(tmp_path) as server:
        wait_for(lambda: server.get("/readyz")[1]["state"] == "retrying", "sync to notice")
        done = run_verify(tmp_path, database, "--json")
        assert done.returncode == Exit.SOURCE
        assert "sync is retrying" in json.loads(done.stdout)["error"]


def test_metrics_tell_of_the_last_comparison(database: Database, tmp_path: Path) -> None:
    with serving(tmp_path, **variables(database), SYNC_VERIFY_SECONDS="0.2") as server:
        wait_for(lambda: server.get("/readyz")[1]["verify"] is not None, "the light check")
        assert server.get("/readyz")[1]["verify"]["scope"] == "last 2 days"
        connection = socket.create_connection(("127.0.0.1", server.port))
        with connection, connection.makefile("rb") as answer:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = answer.read().decode()
        assert "owkai_verify_differing_buckets 0" in text
        assert "owkai_verify_runs_total " in text
        assert "owkai_verify_last_timestamp_seconds 1" in text


# -- the socket itself -------------------------------------------------------------------------------------------------


class Listening:
    """A control server on a loop of its own thread."""

    def __init__(self, path: Path) -> None:
        self.stopped = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.server = ControlServer(path, {"echo": self.echo, "wait": self.wait, "break": self.broken})
        self.thread = threading.Thread(target=self.loop.run_forever)

    def echo(self, request: Mapping[str, Any], say: Any, stopping: Any) -> Mapping[str, Any]:
        say("working")
        return {"heard": request["text"]}

    def wait(self, request: Mapping[str, Any], say: Any, stopping: Any) -> Mapping[str, Any]:
        say("waiting")
        wait_for(stopping, "the end")
        self.stopped.set()
        return {}

    def broken(self, request: Mapping[str, Any], say: Any, stopping: Any) -> Mapping[str, Any]:
        raise ValueError("a secret detail")

    def __enter__(self) -> Listening:
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self.loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


def test_a_path_longer_than_a_sockets_address_works_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    said: list[str] = []
    with Listening(deep / SOCKET):
        assert ask(deep / SOCKET, {"command": "echo", "text": "é\n"}, said.append) == {"heard": "é\n"}
        assert said == ["working"]
        assert (deep / SOCKET).is_socket()
    with pytest.raises(NoServerError):
        ask(deep / SOCKET, {"command": "echo", "text": ""}, said.append)


def test_a_client_that_goes_away_stops_its_command(tmp_path: Path) -> None:
    with Listening(tmp_path / SOCKET) as listening:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / SOCKET))
            client.sendall(b'{"command": "wait"}\n')
            assert b"waiting" in client.recv(100)
        assert listening.stopped.wait(10)


def test_unknown_commands_and_failures_are_answered_without_details(tmp_path: Path) -> None:
    from owkai.control import ControlError

    with Listening(tmp_path / SOCKET):
        with pytest.raises(ControlError, match="knows the commands echo, wait, break"):
            ask(tmp_path / SOCKET, {"command": "reboot"}, print)
        with pytest.raises(ControlError, match="its log has the details") as caught:
            ask(tmp_path / SOCKET, {"command": "break"}, print)
        assert "secret" not in str(caught.value)
        for nonsense in (b"\n", b"[]\n", b"\xff\xfe\n", b'"verify"\n'):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / SOCKET))
                client.sendall(nonsense)
                assert b"error" in client.recv(1000)
