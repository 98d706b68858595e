"""Latency of an answer while outlooks are being made beside the same server at rest: `python -m tests.benchmarks.forecasting`.

Represents a user of an organization with many agents who looks at the dashboard while forecasts are made in the background.

One organization with `--agents` agents over ten weeks. Requests run in blocks, in turn at rest and while a change of the past
has just set off a new outlook. Prints what an outlook takes, and median, 99th percentile and maximum of both.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from owkai.demo.platform import platform_sql
from owkai.demo.postgres import EmbeddedPostgres
from tests.benchmarks import represented
from tests.benchmarks.rawhttp import RawConnection, request_bytes, timed
from tests.contract.platform_rows import make_key
from tests.owkai.servers import Server, serving, wait_for
from tests.postgres import Database, create_database, prepare_template
from tests.sync.running import slot_name

HISTORY = """
insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, timestamp)
select 'agent-' || (random() * %s)::int, 'query', 1, case when random() < 0.1 then 'high' else 'low' end, 'completed',
    date_trunc('day', now() at time zone 'UTC') - random() * interval '70 days'
from generate_series(1, %s)
"""
CHANGE = """
insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, timestamp)
select 'agent-1', 'query', 1, 'high', 'completed', date_trunc('day', now() at time zone 'UTC') - interval '30 hours'
"""


def made(server: Server) -> tuple[int, float]:
    """Outlooks made so far, and how long the newest took."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as response:
        text = response.read().decode()
    values = {
        name: re.search(rf"^{name} (\S+)$", text, re.M)
        for name in ("owkai_forecast_made_total", "owkai_forecast_last_seconds")
    }
    number, seconds = (float(found[1]) if found else 0.0 for found in values.values())
    return int(number), seconds


def block(connection: RawConnection, headers: dict[str, str], seconds: float) -> list[float]:
    request = request_bytes("/api/analytics/realtime/metrics", headers)
    times, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        times.append(timed(connection, request) * 1000)
        time.sleep(0.001)
    return times


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--agents", type=int, default=200)
    options.add_argument("--rows", type=int, default=300_000)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    represented.state(__doc__)
    folder = Path(tempfile.mkdtemp(prefix="owkai-forecasting-"))
    with EmbeddedPostgres.start(folder / "postgres") as postgres:
        prepare_template(postgres, platform_sql())
        database = create_database(postgres, "forecasting")
        database.execute(HISTORY, [given.agents - 1, given.rows])
        key = make_key(database, 1, "user", "user@example.com")
        with serving(
            folder, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database), PREDICTIVE_REFRESH_SECONDS="0.01"
        ) as server:
            wait_for(lambda: made(server)[0] > 0, "the first outlook")
            measure(server, database, {"X-API-Key": key}, given.rounds)
        database.close()


def measure(server: Server, database: Database, headers: dict[str, str], rounds: int) -> None:
    asking = RawConnection(server.port)
    times: dict[str, list[float]] = {"at rest": [], "while making": []}
    outlooks = []
    for _ in range(rounds):
        times["at rest"] += block(asking, headers, 1.0)
        before, _seconds = made(server)
        database.execute(CHANGE)
        time.sleep(0.3)
        timed(asking, request_bytes("/api/analytics/predictive/trends", headers))  # sees that the past has changed
        while made(server)[0] == before:
            times["while making"] += block(asking, headers, 0.2)
        outlooks.append(made(server)[1])
    print(f"an outlook: median {statistics.median(outlooks):.2f} s")
    for name, values in times.items():
        values.sort()
        print(
            f"{name:12} {len(values):6} requests: median {statistics.median(values):7.0f} µs, "
            f"p99 {values[int(len(values) * 0.99)]:7.0f} µs, most {values[-1]:7.0f} µs"
        )


if __name__ == "__main__":
    main()
