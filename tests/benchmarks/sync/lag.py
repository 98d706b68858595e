"""From insert to visible in an answer at 1,000 rows a second: `python -m tests.benchmarks.sync.lag [--seconds 20]`.

`owkai serve` runs as a process; a writer inserts 1,000 rows a second in single-row transactions; a prober inserts a marked row about five
times a second and asks /trends until it shows. Prints p50, p99 and the largest in ms.
"""

from __future__ import annotations

import argparse
import http.client
import threading
import time

from tests.benchmarks.source import filled_source
from tests.contract.platform_rows import make_key
from tests.owkai.servers import serving, wait_for
from tests.sync.running import slot_name

ROW = "insert into agent_actions (agent_id, action_type, organization_id, risk_level, \"timestamp\") values (%s, 'x', %s, 'low', now())"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--rate", type=int, default=1000)
    chosen = options.parse_args()
    with filled_source(100_000) as (database, folder):
        key = make_key(database, 9, "user", "user@example.com")
        stop, written = threading.Event(), [0]

        def load() -> None:
            connection = database.connect()
            begun = time.monotonic()
            while not stop.is_set():
                due = int((time.monotonic() - begun) * chosen.rate)
                while written[0] < due and not stop.is_set():
                    connection.execute(ROW, ["load", 1 + written[0] % 3])
                    written[0] += 1
                stop.wait(0.002)

        with serving(folder, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database)) as server:
            wait_for(lambda: server.get("/readyz")[0] == 200, "readiness")
            writer = threading.Thread(target=load)
            writer.start()
            lags = []
            probe = database.connect()
            port, headers = server.port, {"X-API-Key": key}
            client = http.client.HTTPConnection("127.0.0.1", port)
            deadline = time.monotonic() + chosen.seconds
            count = 0
            while time.monotonic() < deadline:
                probe.execute(ROW, ["probe", 9])
                started = time.monotonic()
                count += 1
                while True:
                    client.request("GET", "/api/analytics/trends", headers=headers)
                    body = client.getresponse().read()
                    if b'{"agent":"probe","count":%d}' % count in body:
                        break
                    time.sleep(0.003)
                lags.append((time.monotonic() - started) * 1000)
                time.sleep(0.15)
            stop.set()
            writer.join()
    lags.sort()
    print(
        f"{written[0] / chosen.seconds:.0f} rows/s, {len(lags)} probes: p50 {lags[len(lags) // 2]:.0f} ms,"
        f" p99 {lags[int(len(lags) * 0.99)]:.0f} ms, largest {lags[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
