"""A service manager hears of readiness, of a turning event loop, and of the drain, over a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from owkai.supervisor import Supervisor
from tests.owkai.servers import FROM_THE_ENVIRONMENT, serving


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket as systemd's, and what NOTIFY_SOCKET says of it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@owkai-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1))
        listener.settimeout(30)
        yield listener, name


def test_each_word_is_one_datagram_with_a_status_line(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    supervisor = Supervisor(name)
    supervisor.ready("sync starting,\nlag unknown")
    supervisor.alive("well")
    supervisor.stopping("SIGTERM")
    assert [listener.recv(4096) for _ in range(3)] == [
        b"READY=1\nSTATUS=sync starting, lag unknown", b"WATCHDOG=1\nSTATUS=well", b"STOPPING=1\nSTATUS=SIGTERM",
    ]  # fmt: skip


def test_a_turning_loop_is_told_twice_per_watchdog_interval(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager

    async def turn() -> None:
        telling = asyncio.create_task(Supervisor(name, watchdog_seconds=0.02).keep_notifying(lambda: "well"))
        for _ in range(3):
            assert await asyncio.to_thread(listener.recv, 4096) == b"WATCHDOG=1\nSTATUS=well"
        telling.cancel()

    asyncio.run(turn())


def test_without_a_manager_nothing_is_told_and_nothing_waits() -> None:
    asyncio.run(asyncio.wait_for(Supervisor().keep_notifying(lambda: "well"), 30))
    Supervisor().ready("well")


def test_a_manager_that_is_gone_or_does_not_read_holds_nothing_up(tmp_path: Path) -> None:
    Supervisor(str(tmp_path / "nobody")).ready("well")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "deaf"))
        for _ in range(2000):
            Supervisor(str(tmp_path / "deaf")).alive("well")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Supervisor("", None)),
        ({"NOTIFY_SOCKET": "/run/systemd/notify"}, Supervisor("/run/systemd/notify", None)),
        ({"NOTIFY_SOCKET": "relative"}, Supervisor("", None)),
        ({"WATCHDOG_USEC": "60000000"}, Supervisor("", 60.0)),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "42"}, Supervisor("", 60.0)),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "43"}, Supervisor("", None)),
        ({"WATCHDOG_USEC": "-1"}, Supervisor("", None)),
        ({"WATCHDOG_USEC": "0"}, Supervisor("", None)),
    ],
)
def test_the_environment_is_read_as_systemd_writes_it(environment: dict[str, str], expected: Supervisor) -> None:
    assert Supervisor.from_environment(environment, 42) == expected


def test_a_server_tells_when_it_listens_that_it_lives_and_when_it_drains(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        heard: list[str] = []

        def until(word: str) -> None:
            while not heard or not heard[-1].startswith(word):
                heard.append(listener.recv(4096).decode())

        program = ["env", f"NOTIFY_SOCKET={tmp_path / 'notify'}", "WATCHDOG_USEC=100000"]
        with serving(tmp_path, program=[*program, *FROM_THE_ENVIRONMENT]) as server:
            until("READY=1\nSTATUS=sync ")
            assert server.get("/healthz")[0] == 200
            until("WATCHDOG=1\nSTATUS=sync ")
            server.signal(signal.SIGTERM)
            until("STOPPING=1\nSTATUS=stopping (SIGTERM)")
            assert server.wait() == 0
        assert sum(one.startswith("READY=1") for one in heard) == 1
