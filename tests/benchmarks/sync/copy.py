"""The initial copy beside its limits: `python -m tests.benchmarks.sync.copy [--rows 1000000]`.

Represents the first copy of a platform's actions that nobody writes to meanwhile; Postgres is on the same machine, so that no
network is in it.

In one run: psql's binary COPY of the mapped columns to /dev/null, our copy into a cache file, and DuckDB's own load of the same rows from
Parquet. Prints thousand rows a second, the ratio to COPY, and our peak memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import duckdb

from analytics.state.cache import Cache
from analytics.state.clock import utc_now
from analytics.state.sync_status import StatusBoard
from sync.loop import SyncLoop
from tests.benchmarks import represented
from tests.benchmarks.source import filled_source, psql_binary_copy_seconds
from tests.postgres import Database
from tests.sync.running import settings_for, wait_until


def our_copy_seconds(database: Database, folder: Path) -> float:
    """From the start of sync to a published cache: preflight and slot included."""
    settings = settings_for(database, folder)
    cache, board = Cache(settings.cache), StatusBoard()
    loop = SyncLoop(settings, cache, board, utc_now)
    started = time.monotonic()
    loop.start()
    wait_until(lambda: cache.ready, "the copy", 600)
    seconds = time.monotonic() - started
    loop.stop(10)
    cache.close()
    return seconds


def parquet_seconds(folder: Path) -> float:
    """DuckDB writes the copied rows to Parquet and loads them into an empty table of another file."""
    (cache_file,) = (folder / "cache").glob("cache-*.duckdb")
    parquet = folder / "actions.parquet"
    with duckdb.connect(str(cache_file), read_only=True) as source:
        source.execute(f"copy agent_actions to '{parquet}' (format parquet)")
    with duckdb.connect(str(folder / "loaded.duckdb")) as target:
        started = time.monotonic()
        target.execute(f"create table agent_actions as select * from read_parquet('{parquet}')")
        return time.monotonic() - started


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    rows = options.parse_args().rows
    represented.state(__doc__)
    with filled_source(rows) as (database, folder):
        plain = psql_binary_copy_seconds(database)
        ours = our_copy_seconds(database, folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        parquet = parquet_seconds(folder)
    for name, seconds in (
        ("psql binary COPY to /dev/null", plain),
        ("our copy", ours),
        ("DuckDB from Parquet", parquet),
    ):
        print(
            f"{name:30} {seconds:7.2f} s {rows / seconds / 1000:8.0f} thousand rows/s  {plain / seconds:5.2f} of COPY"
        )
    print(f"peak memory of our copy: {peak} MB")


if __name__ == "__main__":
    main()
