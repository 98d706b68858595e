"""A published answer beside a bare Tornado handler that writes the same bytes: `python -m tests.benchmarks.latency`.

Represents a dashboard that asks for a view which is published already, over a connection that stays open: authentication,
limits, look-up, headers, audit record. Nothing is computed but once a second. It does not represent computing a view
(tests.benchmarks.noisy_neighbor) or many callers.

Both servers are processes of their own on this machine, asked in turn in short rounds, so that the ratio holds when the
machine's speed drifts. The load comes from wrk where it is installed (Debian: apt-get install wrk), else from a raw socket;
its processor time per request is printed, so that it can be seen not to be the bottleneck.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from owkai.demo.platform import platform_sql
from owkai.demo.postgres import EmbeddedPostgres
from tests.benchmarks import represented
from tests.benchmarks.rawhttp import RawConnection, request_bytes, wait_until_settled
from tests.contract.platform_rows import fill, make_key
from tests.owkai.servers import serving, wait_for
from tests.postgres import create_database, prepare_template
from tests.sync.running import slot_name

BARE = """
import asyncio, sys, tornado.web
body = sys.stdin.buffer.read()
class Bare(tornado.web.RequestHandler):
    def get(self):
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(body)
async def main():
    tornado.web.Application([("/bare", Bare)], log_function=lambda handler: None).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()
asyncio.run(main())
"""
MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6}
ROUND_SECONDS = 2


@dataclass(frozen=True)
class Target:
    """What is asked."""

    name: str
    port: int
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Round:
    """One round of requests. Waits in µs; `client` is the load generator's processor time per request, in µs."""

    median: float
    p99: float
    per_second: float
    client: float


def wrk_round(target: Target, connections: int) -> Round:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    headers = [part for name, value in target.headers.items() for part in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{ROUND_SECONDS}s", "--latency", *headers]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{target.port}{target.path}"], check=True, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Non-2xx" not in done.stdout, done.stdout
    assert "Socket errors" not in done.stdout, done.stdout
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = re.search(r"(\d+) requests in", done.stdout)
    assert found is not None, done.stdout
    requests = int(found.group(1))
    return Round(
        percentile(done.stdout, 50), percentile(done.stdout, 99), requests / ROUND_SECONDS, spent / requests * 1e6
    )


def percentile(printed: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s)$", printed, re.MULTILINE)
    assert found is not None, printed
    return float(found.group(1)) * MICROSECONDS[found.group(2)]


def raw_round(target: Target, connections: int) -> Round:
    """One connection only: a second one in this process would wait for the first."""
    assert connections == 1
    connection = RawConnection(target.port)
    request = request_bytes(target.path, target.headers)
    waits: list[float] = []
    cpu, deadline = time.process_time(), time.monotonic() + ROUND_SECONDS
    while time.monotonic() < deadline:
        started = time.perf_counter()
        assert connection.ask(request).status == 200
        waits.append((time.perf_counter() - started) * 1e6)
    spent = time.process_time() - cpu
    connection.close()
    waits.sort()
    return Round(
        statistics.median(waits), waits[int(len(waits) * 0.99)], len(waits) / ROUND_SECONDS, spent / len(waits) * 1e6
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compare(targets: tuple[Target, Target], connections: int, rounds: int, *, wrk: bool) -> None:
    take = wrk_round if wrk else raw_round
    taken: dict[str, list[Round]] = {target.name: [] for target in targets}
    for _ in range(rounds):
        for target in targets:
            taken[target.name].append(take(target, connections))
    rates = {}
    for name, found in taken.items():
        rates[name] = statistics.median(one.per_second for one in found)
        print(
            f"{connections:3} connections, {name:5}: median {statistics.median(one.median for one in found):7.0f} µs,"
            f" p99 {statistics.median(one.p99 for one in found):7.0f} µs, {rates[name]:7.0f} requests/s"
            f" (load generator {statistics.median(one.client for one in found):.0f} µs of processor time each)"
        )
    ours, bare = taken.values()
    ratio = statistics.median(one.median for one in ours) / statistics.median(one.median for one in bare)
    print(
        f"{connections:3} connections: ratio of the medians {ratio:.2f}, of the rates {rates['bare'] / rates['ours']:.2f}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--rounds", type=int, default=5, help=f"of {ROUND_SECONDS} s, for each server and number of connections"
    )
    options.add_argument("--raw", action="store_true", help="use the raw socket although wrk is installed")
    chosen = options.parse_args()
    represented.state(__doc__)
    wrk = not chosen.raw and shutil.which("wrk") is not None
    print(f"load generator: {'wrk, one thread' if wrk else 'a raw socket in Python (wrk is not installed)'}")
    with tempfile.TemporaryDirectory(prefix="owkai-latency-") as name:
        folder = Path(name)
        with EmbeddedPostgres.start(folder / "postgres") as server:
            prepare_template(server, platform_sql())
            database = create_database(server, "latency")
            fill(database, 20_000)
            key = make_key(database, 1, "user", "user@example.com")
            # Requests are counted as ever, but a fast machine is not to run into the bound of one user.
            plenty = {"SERVER_REQUESTS_PER_SECOND": "1000000", "SERVER_REQUESTS_BURST": "1000000"}
            with serving(folder, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database), **plenty) as running:
                wait_for(lambda: running.get("/readyz")[0] == 200, "readiness")
                wait_until_settled(running.port)
                ours = Target("ours", running.port, "/api/analytics/trends", {"X-API-Key": key})
                first = RawConnection(ours.port)
                body = first.ask(request_bytes(ours.path, ours.headers)).body
                first.close()
                bare = Target("bare", free_port(), "/bare", {})
                process = subprocess.Popen([sys.executable, "-c", BARE, str(bare.port)], stdin=subprocess.PIPE)
                try:
                    assert process.stdin is not None
                    process.stdin.write(body)
                    process.stdin.close()
                    wait_for(lambda: _listens(bare.port), "the bare server")
                    print(f"an answer of {len(body)} bytes")
                    for connections in (1, 16) if wrk else (1,):
                        compare((ours, bare), connections, chosen.rounds, wrk=wrk)
                finally:
                    process.kill()
                    process.wait()
            database.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
