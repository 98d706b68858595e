"""What a server of so many actions takes: `python -m tests.benchmarks.sizing [--rows 100000 --rows 1000000] [--clients 1000]`.

Represents planning a machine: three organizations with actions of short texts over twenty days, defaults, one caller.

For each size: seconds of the first copy, bytes of the cache directory after a stop, the most memory the first start ever held, and
the memory of a second start: after every view was asked once (and ten seconds), after 600 different questions while changes stream
in, and with live clients besides.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import os
import socket
import time
from pathlib import Path

import psutil

from tests.benchmarks import represented
from tests.benchmarks.source import filled_source
from tests.contract.platform_rows import make_key
from tests.owkai.servers import FROM_THE_ENVIRONMENT, Server, serving, wait_for
from tests.postgres import Database
from tests.sync.running import slot_name

PATIENCE_SECONDS = 900
SETTLE_SECONDS = 10.0
EMAIL = "sizing@example.com"
VIEWS = ("trends", "realtime/metrics", "performance", "predictive/trends", "executive/dashboard", "debug")


def most_memory(server: Server) -> int:
    """VmHWM, in bytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def ready(server: Server) -> None:
    wait_for(lambda: server.get("/readyz")[0] == 200, "the copy", PATIENCE_SECONDS)


def stop(server: Server) -> None:
    server.process.terminate()
    server.wait()


def ask_everything(server: Server, key: str, database: Database) -> None:
    """Different questions, so that nearly every answer is computed and kept, while rows change."""
    zones = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Asia/Tokyo", "Australia/Sydney")
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for number in range(600):
        line.request(
            "GET",
            f"/api/analytics/trends?days={1 + number * 7 % 365}&tz={zones[number % 6]}&limit={10 + number % 90}",
            headers={"X-API-Key": key},
        )
        line.getresponse().read()
        if number % 10 == 0:
            database.execute(
                "update agent_actions set status = 'failed' where id between %s and %s", [number, number + 500]
            )
    line.close()


def live_clients(server: Server, key: str, number: int) -> list[socket.socket]:
    """Open live connections; nobody reads them, as one who reads slowly would not."""
    found = []
    for _ in range(number):
        line = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        nonce = base64.b64encode(os.urandom(16)).decode()
        line.sendall(
            f"GET /api/analytics/ws/realtime/{EMAIL} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\nX-API-Key: {key}\r\n\r\n".encode()
        )
        assert b" 101 " in line.recv(4096), "the handshake was refused"
        found.append(line)
    return found


def resident(server: Server) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, action="append")
    options.add_argument("--binary", type=Path)
    options.add_argument("--clients", type=int, default=500)
    given = options.parse_args()
    represented.state(__doc__)
    program = (str(given.binary.absolute()),) if given.binary else FROM_THE_ENVIRONMENT
    print("actions    copy s  cache MB  most MB  later MB  600 questions MB  with clients MB")
    for rows in given.rows or [100_000, 1_000_000]:
        with filled_source(rows) as (database, folder):
            key = make_key(database, 1, "admin", EMAIL)
            variables = {"SOURCE_DSN": database.dsn, "SOURCE_SLOT": slot_name(database)}
            variables["WEBSOCKET_MAX_PER_USER"] = str(given.clients + 1)
            variables["RUNTIME_DIR"] = str(folder / "runtime")
            started = time.monotonic()
            with serving(folder, program=program, **variables) as server:
                ready(server)
                copied, most = time.monotonic() - started, most_memory(server)
                stop(server)
            kept = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
            with serving(folder, program=program, **variables) as server:
                ready(server)
                for view in VIEWS:
                    server.get(f"/api/analytics/{view}", {"X-API-Key": key})
                time.sleep(SETTLE_SECONDS)
                later = resident(server)
                ask_everything(server, key, database)
                asked = resident(server)
                lines = live_clients(server, key, given.clients)
                time.sleep(SETTLE_SECONDS)
                crowded = resident(server)
                for line in lines:
                    line.close()
                stop(server)
        megabytes = "  ".join(f"{size / 1e6:.0f}" for size in (most, later, asked, crowded))
        print(f"{rows:9,}  {copied:6.1f}  {kept / 1e6:8.1f}  {megabytes}", flush=True)


if __name__ == "__main__":
    main()
