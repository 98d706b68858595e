"""Time from `owkai serve` to ready on a large source: `python -m tests.benchmarks.start [--rows 1000000]`.

Prints the seconds of the first start (with the copy) and of a second one (cache kept), and the copy beside psql's binary COPY of the same
columns to /dev/null, in one run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

from analytics.tables import AGENT_ACTIONS
from owkai.demo.platform import platform_sql
from owkai.demo.postgres import EmbeddedPostgres
from tests.contract.platform_rows import ACTIONS
from tests.owkai.servers import serving, wait_for
from tests.postgres import create_database, prepare_template
from tests.sync.running import slot_name


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    rows = options.parse_args().rows
    folder = Path(tempfile.mkdtemp(prefix="owkai-start-"))
    with EmbeddedPostgres.start(folder / "postgres", options={"max_wal_size": "4GB"}) as server:
        prepare_template(server, platform_sql())
        database = create_database(server, "large")
        database.execute(ACTIONS, [rows])
        database.execute("vacuum analyze agent_actions")
        columns = ", ".join(f'"{name}"' for name in AGENT_ACTIONS.column_names)
        copy = f"\\copy (select {columns} from agent_actions) to /dev/null with (format binary)"
        psql = [server.tool("psql"), database.dsn, "-X", "-q", "-c", copy]
        plain = min(_seconds(psql) for _ in range(3))
        print(f"{rows} rows: psql binary COPY to /dev/null {plain:.2f} s ({rows / plain / 1000:.0f} thousand rows/s)")
        starts = []
        for _ in range(2):
            started = time.monotonic()
            with serving(folder, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database)) as ours:
                wait_for(lambda: ours.get("/readyz")[0] == 200, "readiness")
                starts.append(time.monotonic() - started)
                copied = [line for line in ours.messages().splitlines() if line.startswith("copied ")]
                print(f"serve to ready: {starts[-1]:.2f} s {copied[0] if copied else '(cache kept)'}")
        database.close()


def _seconds(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    return time.monotonic() - started


if __name__ == "__main__":
    main()
