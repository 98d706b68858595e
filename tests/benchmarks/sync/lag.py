"""From insert to visible in an answer at 1,000 rows a second: `python -m tests.benchmarks.sync.lag [--rows 2000000]`.

Represents a platform in steady use whose cache is well filled: two million actions of three organizations, a writer that inserts
1,000 rows a second in single-row transactions, and a page of one of these organizations that asks /trends until a high-risk
action shows, which was inserted about five times a second. Each question is computed over all of the organization's week.

`owkai serve` runs as a process; the page is a raw socket. Prints p50, p99 and the largest wait in ms, and what one answer
takes to compute, which is part of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time

from tests.benchmarks import represented
from tests.benchmarks.rawhttp import RawConnection, request_bytes, wait_until_settled
from tests.benchmarks.source import filled_source
from tests.contract.platform_rows import make_key
from tests.owkai.servers import serving, wait_for
from tests.sync.running import slot_name

ROW = "insert into agent_actions (agent_id, action_type, organization_id, risk_level, \"timestamp\") values (%s, 'x', %s, %s, now())"
COPY_SECONDS = 900
UNLIMITED = {"SERVER_REQUESTS_PER_SECOND": "0", "SERVER_COMPUTATIONS_PER_SECOND": "0"}


class Page:
    """Asks for the trends of the probed organization."""

    def __init__(self, port: int, key: str) -> None:
        self._connection = RawConnection(port)
        self._request = request_bytes("/api/analytics/trends", {"X-API-Key": key})
        self.waits: list[float] = []

    def high_risk_actions(self) -> int:
        """Of the whole window, as the answer tells them."""
        started = time.monotonic()
        response = self._connection.ask(self._request)
        self.waits.append((time.monotonic() - started) * 1000)
        assert response.status == 200, response.body
        return sum(day["count"] for day in json.loads(response.body)["high_risk_actions_by_day"])

    def close(self) -> None:
        self._connection.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--rate", type=int, default=1000)
    options.add_argument("--rows", type=int, default=2_000_000)
    chosen = options.parse_args()
    represented.state(__doc__)
    with filled_source(chosen.rows) as (database, folder):
        key = make_key(database, 1, "user", "user@example.com")
        stop, written = threading.Event(), [0]

        def load() -> None:
            connection = database.connect()
            begun = time.monotonic()
            while not stop.is_set():
                due = int((time.monotonic() - begun) * chosen.rate)
                while written[0] < due and not stop.is_set():
                    connection.execute(ROW, ["load", 1 + written[0] % 3, "low"])
                    written[0] += 1
                stop.wait(0.002)

        with serving(folder, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database), **UNLIMITED) as server:
            wait_for(lambda: server.get("/readyz")[0] == 200, "readiness", COPY_SECONDS)
            wait_until_settled(server.port)
            page = Page(server.port, key)
            shown = page.high_risk_actions()
            writer = threading.Thread(target=load)
            writer.start()
            lags = []
            probe = database.connect()
            deadline = time.monotonic() + chosen.seconds
            while time.monotonic() < deadline:
                probe.execute(ROW, ["probe", 1, "high"])
                started = time.monotonic()
                while (found := page.high_risk_actions()) == shown:
                    time.sleep(0.003)
                shown = found
                lags.append((time.monotonic() - started) * 1000)
                time.sleep(0.15)
            stop.set()
            writer.join()
            page.close()
    lags.sort()
    print(
        f"{chosen.rows} actions kept, {written[0] / chosen.seconds:.0f} rows/s, {len(lags)} probes: p50 {lags[len(lags) // 2]:.0f} ms,"
        f" p99 {lags[int(len(lags) * 0.99)]:.0f} ms, largest {lags[-1]:.0f} ms; one answer {statistics.median(page.waits):.0f} ms"
    )


if __name__ == "__main__":
    main()
