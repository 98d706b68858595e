"""What a server of so many actions takes: `python -m tests.benchmarks.sizing [--rows 100000 --rows 1000000]`.

Represents planning a machine: three organizations with actions of short texts over twenty days, defaults, one caller.

For each size: seconds of the first copy, bytes of the cache directory after a stop, the most memory the first start ever held, and
the memory of a second start ten seconds after its data are served and every view was asked once.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import psutil

from tests.benchmarks import represented
from tests.benchmarks.source import filled_source
from tests.contract.platform_rows import make_key
from tests.owkai.servers import FROM_THE_ENVIRONMENT, Server, serving, wait_for
from tests.sync.running import slot_name

PATIENCE_SECONDS = 900
SETTLE_SECONDS = 10.0
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


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, action="append")
    options.add_argument("--binary", type=Path)
    given = options.parse_args()
    represented.state(__doc__)
    program = (str(given.binary.absolute()),) if given.binary else FROM_THE_ENVIRONMENT
    print("actions    copy s  cache MB  most memory MB  later memory MB")
    for rows in given.rows or [100_000, 1_000_000]:
        with filled_source(rows) as (database, folder):
            key = make_key(database, 1, "admin", "sizing@example.com")
            variables = {"SOURCE_DSN": database.dsn, "SOURCE_SLOT": slot_name(database)}
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
                later = psutil.Process(server.process.pid).memory_info().rss
                stop(server)
        print(f"{rows:9,}  {copied:6.1f}  {kept / 1e6:8.1f}  {most / 1e6:14.0f}  {later / 1e6:15.0f}", flush=True)


if __name__ == "__main__":
    main()
