"""What the benchmarks share: a Postgres of their own, filled, and removed at the end."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analytics.state.tables import AGENT_ACTIONS
from owkai.demo.platform import platform_sql
from owkai.demo.postgres import EmbeddedPostgres
from tests.contract.platform_rows import ACTIONS
from tests.postgres import Database, create_database, prepare_template

COLUMNS = ", ".join(f'"{name}"' for name in AGENT_ACTIONS.column_names)


@contextmanager
def filled_source(rows: int) -> Iterator[tuple[Database, Path]]:
    """A database with that many actions, and a folder for whatever else is needed."""
    with tempfile.TemporaryDirectory(prefix="owkai-benchmark-") as name:
        folder = Path(name)
        with EmbeddedPostgres.start(folder / "postgres", options={"max_wal_size": "8GB"}) as server:
            prepare_template(server, platform_sql())
            database = create_database(server, "benchmark")
            if rows:
                database.execute(ACTIONS, [rows])
                database.execute("vacuum analyze agent_actions")
            yield database, folder
            database.close()


def psql_binary_copy_seconds(database: Database) -> float:
    """psql's binary COPY of the mapped columns to /dev/null; the best of three."""
    copy = f"\\copy (select {COLUMNS} from agent_actions) to /dev/null with (format binary)"
    command = [database.server.tool("psql"), database.dsn, "-X", "-q", "-c", copy]
    return min(_seconds(command) for _ in range(3))


def _seconds(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    return time.monotonic() - started
