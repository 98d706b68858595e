"""One request's latency beside a bare Tornado handler that writes the same bytes: `python -m tests.benchmarks.latency`.

Both servers run as processes of their own on this machine, over a 1-connection keep-alive client, asked in turn in one run, so
that the ratio holds when the machine's speed drifts. Prints median and 99th percentile in µs, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from owkai.demo.platform import platform_sql
from owkai.demo.postgres import EmbeddedPostgres
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


def timed(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> float:
    started = time.perf_counter()
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    assert response.status == 200
    return (time.perf_counter() - started) * 1e6


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=3000)
    requests = options.parse_args().requests
    folder = Path(tempfile.mkdtemp(prefix="owkai-latency-"))
    with EmbeddedPostgres.start(folder / "postgres") as server:
        prepare_template(server, platform_sql())
        database = create_database(server, "latency")
        fill(database, 20_000)
        key = make_key(database, 1, "user", "user@example.com")
        # Requests are counted as ever, but a fast machine is not to run into the bound of one user.
        plenty = {"SERVER_REQUESTS_PER_SECOND": "100000", "SERVER_REQUESTS_BURST": "100000"}
        with serving(folder, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database), **plenty) as ours:
            wait_for(lambda: ours.get("/readyz")[0] == 200, "readiness")
            headers = {"X-API-Key": key}
            mine = http.client.HTTPConnection("127.0.0.1", ours.port)
            mine.request("GET", "/api/analytics/trends", headers=headers)
            body = mine.getresponse().read()
            port = free_port()
            bare = subprocess.Popen([sys.executable, "-c", BARE, str(port)], stdin=subprocess.PIPE)
            try:
                assert bare.stdin is not None
                bare.stdin.write(body)
                bare.stdin.close()
                theirs = http.client.HTTPConnection("127.0.0.1", port)
                wait_for(lambda: _listens(port), "the bare server")
                times: dict[str, list[float]] = {"ours": [], "bare": []}
                for _ in range(requests):
                    times["ours"].append(timed(mine, "/api/analytics/trends", headers))
                    times["bare"].append(timed(theirs, "/bare", {}))
            finally:
                bare.kill()
                bare.wait()
        database.close()
    for name, values in times.items():
        values.sort()
        print(
            f"{name:5} {len(body)} bytes: median {statistics.median(values):7.0f} µs, p99 {values[int(len(values) * 0.99)]:7.0f} µs"
        )
    print(f"ratio of the medians: {statistics.median(times['ours']) / statistics.median(times['bare']):.2f}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
