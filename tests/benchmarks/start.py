"""Time from `owkai serve` to ready on a large source: `python -m tests.benchmarks.start [--rows 1000000]`.

Represents an operator's first start on a platform with history, and a restart of the service. Nothing is asked of the server
before it is ready.

Prints the seconds of the first start (with the copy) and of a second one (cache kept), beside psql's binary COPY of the same columns
to /dev/null, in one run.
"""

from __future__ import annotations

import argparse
import time

from tests.benchmarks import represented
from tests.benchmarks.source import filled_source, psql_binary_copy_seconds
from tests.owkai.servers import serving, wait_for
from tests.sync.running import slot_name


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    rows = options.parse_args().rows
    represented.state(__doc__)
    with filled_source(rows) as (database, folder):
        plain = psql_binary_copy_seconds(database)
        print(f"{rows} rows: psql binary COPY to /dev/null {plain:.2f} s ({rows / plain / 1000:.0f} thousand rows/s)")
        for _ in range(2):
            started = time.monotonic()
            with serving(folder, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database)) as ours:
                wait_for(lambda: ours.get("/readyz")[0] == 200, "readiness")
                seconds = time.monotonic() - started
                copied = [line for line in ours.messages().splitlines() if line.startswith("copied ")]
                print(f"serve to ready: {seconds:.2f} s {copied[0] if copied else '(cache kept)'}")


if __name__ == "__main__":
    main()
