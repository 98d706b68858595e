"""The three servers that are measured, one a process: `python -m tests.benchmarks.websocket.servers ours|bare|websockets`.

Each prints its port, then obeys lines on its standard input: `tick` sends one update to every client, `count` waits for
nothing and says how many clients there are, `lateness` says by how many ms the event loop came late since it was last asked,
looked at every ms. Each answer is one line of JSON; a tick's holds the moment it began (monotonic,
ns, comparable between processes of one machine) and the processor seconds the process used for it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import select
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
from tornado.ioloop import IOLoop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from analytics.state.cache import Cache
from analytics.state.clock import utc_now
from config.settings import Settings
from handlers.application import ApiServer
from handlers.live.frames import text_frame
from owkai.lifecycle import raise_descriptor_limit
from owkai.wiring import make_services
from tests.analytics.rows import ORIGIN, fill
from tests.handlers.fixtures import make_board
from tests.handlers.world import SECRET, Person, tables

USERS = 500
MAX_CLIENTS = 10_000
SAMPLE = json.dumps(
    {
        "type": "metrics_update",
        "timestamp": "2025-01-15T14:30:10Z",
        "metrics": {
            "active_websocket_connections": 10_000, "recent_actions_last_hour": 12, "high_risk_actions_last_hour": 12,
            "active_agents_last_hour": 1, "active_users": 0, "cpu_usage": None, "memory_usage": None, "response_time": None,
        },
        "system_metrics": {"status": "unavailable", "cpu_usage": None, "memory_usage": None, "response_time": None},
        "data_quality": {"source": "real_database", "mock_data": False, "has_activity": True},
    },
    separators=(",", ":"),
)  # fmt: skip


def person(number: int) -> Person:
    return Person(1000 + number, 1, f"user{number}@one.example", "user")


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


class Ledger:
    """What one tick cost."""

    def __init__(self) -> None:
        self.cpu = time.process_time()
        self.began = time.monotonic_ns()

    def close(self) -> None:
        say(began=self.began, ended=time.monotonic_ns(), cpu=time.process_time() - self.cpu)


def resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


class Lateness:
    """How late the event loop calls what is due; looked at every ms from the first time it is asked for."""

    def __init__(self) -> None:
        self._late: list[float] | None = None

    def take(self) -> list[float]:
        found, running = self._late or [], self._late is not None
        self._late = []
        if not running:
            self._again()
        return found

    def _again(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + 0.001

        def look() -> None:
            assert self._late is not None
            self._late.append((loop.time() - due) * 1000)
            self._again()

        loop.call_at(due, look)


async def obey(tick: Callable[[], Awaitable[None]], clients: Callable[[], int]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    lateness = Lateness()
    while line := await reader.readline():
        if line == b"tick\n":
            ledger = Ledger()
            await tick()
            ledger.close()
        elif line == b"lateness\n":
            say(milliseconds=lateness.take())
        else:
            say(clients=clients(), resident=resident_bytes())


async def ours() -> None:
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="owkai-live-") as folder:
        settings = Settings.model_validate(
            {
                "cache": {"directory": Path(folder), "in_memory": True, "memory_limit": "256MiB"},
                "server": {"port": 0, "requests_per_second": 0},
                "auth": {"jwt_secret": SECRET, "leeway_seconds": 300},
                "websocket": {"interval_seconds": 3600, "ping_seconds": 3600},
            }
        )
        cache = Cache(settings.cache)
        store = cache.build(ORIGIN)
        rows = tables()
        fill(store, {**rows, "users": [*rows["users"], *(person(number).row() for number in range(USERS))]})
        cache.publish(store)
        services = make_services(settings, cache, make_board(), utc_now)
        server = ApiServer(services)
        say(port=server.start())
        assert IOLoop.current() is not None
        await obey(server.broadcaster.tick, lambda: server.broadcaster.connections(1))
        await server.drain()
        services.close()
        cache.close()


async def library() -> None:
    clients: set[ServerConnection] = set()

    async def stay(connection: ServerConnection) -> None:
        clients.add(connection)
        await connection.wait_closed()

    async def tick() -> None:
        broadcast(clients, SAMPLE)

    async with serve(stay, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=1024) as server:
        say(port=next(iter(server.sockets)).getsockname()[1])
        await obey(tick, lambda: len(clients))


def bare() -> None:
    """A handshake, then a loop over sockets: what the machine allows."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    say(port=listener.getsockname()[1])
    frame = text_frame(SAMPLE.encode())
    clients: list[socket.socket] = []
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if listener in ready:
            clients.append(shake_hands(listener.accept()[0]))
            continue
        line = sys.stdin.readline()
        if not line:
            return
        if line == "tick\n":
            ledger = Ledger()
            for client in clients:
                try:
                    client.send(frame)
                except BlockingIOError:
                    continue
            ledger.close()
        else:
            say(clients=len(clients), resident=resident_bytes())


def shake_hands(client: socket.socket) -> socket.socket:
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(65536)
    key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")).split(b": ")[1]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


if __name__ == "__main__":
    raise_descriptor_limit(MAX_CLIENTS)
    if sys.argv[1] == "bare":
        bare()
    else:
        asyncio.run(ours() if sys.argv[1] == "ours" else library())
