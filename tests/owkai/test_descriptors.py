"""A server whose limit of open files is low or reached: it refuses or waits, says so once, and goes on by itself."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.owkai.servers import Server, serving, wait_for

LIMITED = ("/bin/sh", "-c", 'ulimit -n 256; exec "$0" "$@"', sys.executable, "-m", "owkai")
ALLOWED = 156
PAUSED = "no connection can be accepted"


@contextlib.contextmanager
def connected(server: Server, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30)) for _ in range(count)]


def closed_by_server(sockets: list[socket.socket]) -> int:
    """How many the server has closed; does not wait."""
    closed = 0
    for connection in sockets:
        connection.setblocking(False)
        try:
            closed += connection.recv(1) == b""
        except BlockingIOError:
            pass
        except ConnectionResetError:
            closed += 1
    return closed


def lines(server: Server, text: str) -> list[str]:
    return [record["message"] for record in server.log if text in record["message"]]


def test_dos_idle_connections_beyond_the_limit_of_open_files_are_closed_and_the_others_served(tmp_path: Path) -> None:
    with serving(tmp_path, program=LIMITED, SERVER_IDLE_TIMEOUT_SECONDS="300") as server:
        assert len(lines(server, f"allows {ALLOWED} connections")) == 1
        with connected(server, 400) as sockets:
            wait_for(lambda: closed_by_server(sockets) >= 400 - ALLOWED, "connections beyond the bound to be closed")
            assert closed_by_server(sockets) == 400 - ALLOWED
            held = next(connection for connection in sockets if not closed_by_server([connection]))
            held.settimeout(30)
            held.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert held.recv(65536).startswith(b"HTTP/1.1 200")
        wait_for(lambda: _answers(server), "an answer after the others have gone")
        assert not lines(server, PAUSED)
        assert len(server.log) < 60


def test_dos_a_server_out_of_descriptors_pauses_says_so_once_and_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, program=LIMITED, SERVER_IDLE_TIMEOUT_SECONDS="300") as server:
        process = psutil.Process(server.process.pid)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (64, 256))
        with connected(server, 100) as sockets:
            wait_for(lambda: bool(lines(server, PAUSED)), "the server to notice")
            used, began = process.cpu_times(), time.monotonic()
            time.sleep(2)  # four pauses
            now = process.cpu_times()
            spent = now.user + now.system - used.user - used.system
            assert spent < 0.5 * (time.monotonic() - began), "accept must not spin"
            assert len(lines(server, PAUSED)) == 1
            assert len(server.log) < 60
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (256, 256))
            last = sockets[-1]
            last.settimeout(30)
            last.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert last.recv(65536).startswith(b"HTTP/1.1 200"), "one that had waited is accepted"
        assert len(lines(server, PAUSED)) == 1


def _answers(server: Server) -> bool:
    with contextlib.suppress(OSError):
        return server.get("/healthz")[0] == 200
    return False
