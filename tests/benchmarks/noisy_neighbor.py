"""What other tenants notice of a noisy one: `python -m tests.benchmarks.noisy_neighbor [--seconds 10] [--connections 100]`.

Represents a server of several organizations, one of whose users asks for ever new year-long reports
(`days=365&tz=…&limit=…`) on 100 connections within the default limits, while users of two other organizations look at their
dashboards and callers authenticate with keys that are not known yet. The same measurements are taken without and with the
noise, in one run. The load comes from a process of its own, and every client is a raw socket.

Prints the median and the 95th percentile in ms of
- views: what an open dashboard asks for (mostly computed, since views are valid for a second);
- published: the same view again within the second, which is only looked up;
- authentication: a request with a key that was never presented before, refused for its parameters right after.
The target is a 95th percentile that at most doubles.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from tests.benchmarks import represented
from tests.benchmarks.rawhttp import RawConnection, request_bytes, timed, wait_until_settled
from tests.benchmarks.source import filled_source
from tests.contract.platform_rows import make_key
from tests.owkai.servers import Server, serving, wait_for
from tests.postgres import Database
from tests.sync.running import slot_name

VIEWS = ("/trends", "/realtime/metrics", "/performance", "/trends?days=30", "/predictive/trends")
KEYS = """
with added as (
    insert into users (email, password, role, is_active, organization_id)
    select 'newcomer' || i || '@example.com', 'x', 'user', true, 3 from generate_series(1, %s) i returning id
)
insert into api_keys (user_id, organization_id, key_hash, key_prefix, salt, name, is_active)
select id, 3, encode(sha256(convert_to(key || 'salt', 'UTF8')), 'hex'), left(key, 32), 'salt', 'benchmark', true
from (select id, 'owkai_user_' || md5(id::text) || md5((-id)::text) as key from added) keys"""


class Tenant(threading.Thread):
    """A user with an open dashboard; asks for one view about ten times a second, and at once for the same again."""

    def __init__(self, port: int, key: str, until: float) -> None:
        super().__init__()
        self._connection = RawConnection(port)
        self._headers = {"X-API-Key": key}
        self._until = until
        self.computed: list[float] = []
        self.published: list[float] = []

    def run(self) -> None:
        turn = 0
        while time.monotonic() < self._until:
            request = request_bytes(f"/api/analytics{VIEWS[turn % len(VIEWS)]}", self._headers)
            second = int(time.time())
            self.computed.append(timed(self._connection, request))
            if int(time.time()) == second:  # in the next second it would be computed again
                self.published.append(timed(self._connection, request))
            turn += 1
            time.sleep(0.09)
        self._connection.close()


class Newcomers(threading.Thread):
    """Callers whose keys the server has not seen; about twenty a second."""

    def __init__(self, port: int, keys: Iterator[str], until: float) -> None:
        super().__init__()
        self._connection = RawConnection(port)
        self._keys = keys
        self._until = until
        self.waited: list[float] = []

    def run(self) -> None:
        while time.monotonic() < self._until:
            request = request_bytes("/api/analytics/trends?days=0", {"X-API-Key": next(self._keys)})
            self.waited.append(timed(self._connection, request, 400))
            time.sleep(0.05)
        self._connection.close()


def new_keys(database: Database, count: int) -> Iterator[str]:
    first = database.execute("select max(id) + 1 from users").fetchone()
    database.execute(KEYS, [count])
    assert first is not None
    for number in range(first[0], first[0] + count):
        halves = (hashlib.md5(str(value).encode()).hexdigest() for value in (number, -number))  # noqa: S324 - no secret
        yield "owkai_user_" + "".join(halves)


def measure(server: Server, tenants: list[str], keys: Iterator[str], seconds: float) -> dict[str, list[float]]:
    until = time.monotonic() + seconds
    asking = [Tenant(server.port, key, until) for key in tenants]
    arriving = Newcomers(server.port, keys, until)
    for thread in (*asking, arriving):
        thread.start()
    for thread in (*asking, arriving):
        thread.join()
    return {
        "views": sorted(value for tenant in asking for value in tenant.computed),
        "published": sorted(value for tenant in asking for value in tenant.published),
        "authentication": sorted(arriving.waited),
    }


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=10, help="of each of the two measurements")
    options.add_argument("--connections", type=int, default=100)
    options.add_argument("--rows", type=int, default=300_000, help="actions of the three organizations together")
    chosen = options.parse_args()
    represented.state(__doc__)
    with filled_source(chosen.rows) as (database, folder):
        noisy = make_key(database, 1, "user", "noisy@example.com")
        tenants = [make_key(database, 2 + number % 2, "user", f"tenant{number}@example.com") for number in range(4)]
        keys = new_keys(database, int(chosen.seconds * 100))
        arriving = [next(keys) for _ in range(1)]  # the keys are written before the server copies
        with serving(folder, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database)) as server:
            wait_for(lambda: server.get("/readyz")[0] == 200, "readiness")
            wait_until_settled(server.port)
            measure(server, tenants, iter(arriving * 1000), 2)  # warms up; a key that is known by the end
            quiet = measure(server, tenants, keys, chosen.seconds)
            command = [sys.executable, "-m", "tests.benchmarks.noise", str(server.port), noisy]
            noise = subprocess.Popen(
                [*command, "--connections", str(chosen.connections)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            time.sleep(1)  # every connection is waiting by then
            began = time.monotonic()
            loud = measure(server, tenants, keys, chosen.seconds)
            seconds = time.monotonic() - began + 1
            statuses, _ = noise.communicate()
    print(
        f"{chosen.rows} actions of three organizations; one user on {chosen.connections} connections; other tenants' waits in ms"
    )
    for name, values in quiet.items():
        before, during = percentile(values, 0.95), percentile(loud[name], 0.95)
        print(
            f"{name:15} median {percentile(values, 0.5):6.1f} -> {percentile(loud[name], 0.5):6.1f}   "
            f"p95 {before:6.1f} -> {during:7.1f}  x {during / before:.2f}   ({len(values)} and {len(loud[name])} requests)"
        )
    answered = {int(status): count for status, count in json.loads(statuses).items()}
    print(
        f"the noisy user's responses a second, by status: { {status: round(count / seconds, 1) for status, count in answered.items()} }"
    )


if __name__ == "__main__":
    main()
