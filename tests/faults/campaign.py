"""The crash campaign: kill -9 at chosen and random moments under a writing load; after every restart the cache converges.

`python -m tests.faults.campaign --kills 200` runs it fully on a Postgres of its own and prints a tally; the suite runs 20 kills
(tests/faults/test_crash.py). Moments are aimed at (a copy, the swap of generations, a checkpoint, a large batch, any time of
streaming) and told apart afterwards by what the killed process left behind.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from analytics.state.cache import CURRENT, Cache
from analytics.state.lsn import parse_lsn
from analytics.state.tables import BY_NAME
from sync.source.connections import wal_position
from tests.faults.stories import INSERT, insert, own_database
from tests.faults.writing import WritingLoad
from tests.owkai.servers import PATIENCE_SECONDS, Server, serving, wait_for
from tests.postgres import Database
from tests.sync.running import cache_rows, settings_for, slot_name, source_rows

ROWS_KEPT = 8000
POLL_SECONDS = 0.0002
AIM_SECONDS = 10.0
MOMENTS = {"copy": 4, "swap": 3, "stream": 4, "apply": 4, "checkpoint": 3, "start": 2}  # weights


def _written(path: Path) -> int | None:
    """When the file was last written, in ns; None once it is gone."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def caught_up(server: Server, database: Database) -> None:
    """Wait until the server holds everything that the source has committed by now."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("select pg_logical_emit_message(true, 'owkai-test', 'mark')")
        end = wal_position(connection)
    wait_for(
        lambda: parse_lsn(server.get("/readyz")[1].get("lsn") or "0/0") >= end - 24,
        f"position {end}; {server.messages()[-2000:]}",
    )


def assert_stopped_cache_equals_source(database: Database, folder: Path) -> int:
    """Open the cache the stopped server left and compare every row; returns their number."""
    cache = Cache(settings_for(database, folder).cache)
    try:
        compared = 0
        for table in BY_NAME:
            source, cached = source_rows(database, table), cache_rows(cache, table)
            assert cached == source, (
                f"{table}: {len(cached)} cached, {len(source)} in the source, "
                f"ids that differ: {sorted(dict(cached.items() ^ source.items()))[:10]}"
            )
            compared += len(source)
        return compared
    finally:
        cache.close()


@dataclass
class Tally:
    """What was done and found."""

    seed: int
    aimed: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    converged: int = 0
    comparisons: int = 0
    rows_compared: int = 0
    copies: int = 0
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        return self.aimed.total()

    def __str__(self) -> str:
        def told(counts: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in counts.most_common())

        return (
            f"seed {self.seed}: {self.kills} kills in {self.seconds:.0f} s (aimed at: {told(self.aimed)}; "
            f"found in: {told(self.found)}); {self.converged} restarts converged, {self.copies} copies, "
            f"{self.comparisons} comparisons of {self.rows_compared} rows: all equal"
        )


class Campaign:
    """Kills one server again and again. `run` raises AssertionError at the first cache that does not converge or differs."""

    def __init__(self, database: Database, folder: Path, seed: int) -> None:
        self.database, self.folder = database, folder
        self.tally = Tally(seed)
        self._random = random.Random(seed)
        self._owed = self._random.sample(
            [*MOMENTS], len(MOMENTS)
        )  # every moment has one turn, however slow the machine
        self._directory = folder / "cache"
        self._options = {
            "SOURCE_DSN": database.dsn,
            "SOURCE_SLOT": slot_name(database),
            "SYNC_BATCH_ROWS": "200",
            "SYNC_BACKOFF_MAX_SECONDS": "0.2",
            "CACHE_CHECKPOINT_SECONDS": "0.1",
        }

    def run(self, kills: int, *, compare_every: int, bound_seconds: float, say: Callable[[str], None]) -> Tally:
        """Kill and compare until `kills` are reached, or until the bound has passed and every moment has had its turn."""
        started = time.monotonic()

        def enough() -> bool:
            return self.tally.kills >= kills or (not self._owed and time.monotonic() - started > bound_seconds)

        insert(self.database, 3000)
        while not enough():
            with WritingLoad(self.database, seed=self._random.randrange(1 << 30), largest=150):
                for _ in range(compare_every):
                    if enough():
                        break
                    self._turn()
            self._compare()
            self.tally.seconds = time.monotonic() - started
            say(str(self.tally))
        return self.tally

    def _turn(self) -> None:
        """Start, converge, provoke a moment, kill in it."""
        moment = self._owed.pop() if self._owed else self._random.choices([*MOMENTS], [*MOMENTS.values()])[0]
        if moment == "copy":
            self._lose_slot()
        with serving(self.folder, **self._options) as server:
            if moment == "start":
                time.sleep(self._random.uniform(0.0, 0.3))
            elif moment == "copy":
                self._await(lambda: "creating replication slot" in server.log_path.read_text())
                time.sleep(self._random.uniform(0.0, 0.25))
            else:
                self._converge(server)
                getattr(self, f"_{moment}")()
            server.signal(signal.SIGKILL)
            server.wait()
            self.tally.copies += server.messages().count("copied ")
        self.tally.aimed[moment] += 1
        self.tally.found[self._left_behind()] += 1
        if moment in ("copy", "start"):
            with serving(self.folder, **self._options) as server:
                self._converge(server)
                server.signal(signal.SIGKILL)
                server.wait()
                self.tally.copies += server.messages().count("copied ")
            self.tally.aimed["streaming, just converged"] += 1
            self.tally.found[self._left_behind()] += 1

    def _converge(self, server: Server) -> None:
        try:
            wait_for(lambda: server.get("/readyz")[0] == 200, "readiness")
            caught_up(server, self.database)
        except (AssertionError, OSError) as error:
            log = server.log_path.read_text(encoding="utf-8")[-4000:]
            raise AssertionError(f"exit code {server.process.poll()} after {self.tally}: {error}\n{log}") from error
        self.tally.converged += 1

    # -- moments -------------------------------------------------------------------------------------------------

    def _stream(self) -> None:
        time.sleep(self._random.uniform(0.0, 0.4))

    def _apply(self) -> None:
        with psycopg.connect(self.database.dsn, autocommit=True) as connection:
            connection.execute(INSERT.format(self._random.choice((500, 3000))).encode())
        time.sleep(self._random.uniform(0.0, 0.2))

    def _checkpoint(self) -> None:
        """Only a checkpoint writes the database file: kill as soon as it changes."""
        path = self._directory / (self._directory / CURRENT).read_text().strip()
        before = _written(path)
        self._await(lambda: _written(path) != before)
        time.sleep(self._random.choice((0.0, 0.001, 0.005)))

    def _swap(self) -> None:
        """A new copy beside the live cache, killed as the pointer moves."""
        self._lose_slot()
        pointer = self._directory / CURRENT
        before = pointer.stat().st_ino
        coming = pointer.with_suffix(".new")
        self._await(lambda: coming.exists() or pointer.stat().st_ino != before)
        time.sleep(self._random.choice((0.0, 0.0, 0.0005, 0.002)))

    def _lose_slot(self) -> None:
        with psycopg.connect(self.database.dsn, autocommit=True) as connection:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < deadline:
                connection.execute(
                    "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s and active",
                    [self._options["SOURCE_SLOT"]],
                )
                try:
                    connection.execute(
                        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s",
                        [self._options["SOURCE_SLOT"]],
                    )
                    return
                except psycopg.errors.ObjectInUse:
                    time.sleep(0.005)
        raise AssertionError("the slot stayed in use")

    def _await(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + AIM_SECONDS
        while not condition() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def _left_behind(self) -> str:
        """In what the process was, by its files."""
        generations = sorted(path.name for path in self._directory.glob("cache-*.duckdb"))
        pointer = self._directory / CURRENT
        if pointer.with_suffix(".new").exists():
            return "swap (pointer half written)"
        live = pointer.read_text().strip() if pointer.exists() else ""
        if len(generations) > 1:
            return "swap (old generation not yet gone)" if live == generations[-1] else "copy beside a live cache"
        if generations and live != generations[0]:
            return "first copy"
        if not generations:
            return "before the first copy"
        wal = self._directory / (live + ".wal")
        if any(path.name not in (wal.name, live) for path in self._directory.glob(f"{live}*")):
            return "checkpoint"
        return "stream or apply, log not empty" if wal.exists() and wal.stat().st_size else "just after a checkpoint"

    # -- the proof -----------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        self.database.execute(
            f"delete from agent_actions where id <= (select max(id) - {ROWS_KEPT} from agent_actions)"
        )
        with serving(self.folder, **self._options) as server:
            self._converge(server)
            server.signal(signal.SIGTERM)
            assert server.wait() in (0, 143)
        self.tally.rows_compared += assert_stopped_cache_equals_source(self.database, self.folder)
        self.tally.comparisons += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--minutes", type=float, default=30.0, help="ends after this in any case")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with own_database() as database, tempfile.TemporaryDirectory(prefix="owkai-campaign-") as folder:
        campaign = Campaign(database, Path(folder), arguments.seed)
        tally = campaign.run(
            arguments.kills,
            compare_every=10,
            bound_seconds=arguments.minutes * 60,
            say=lambda line: print(line, flush=True),
        )
    return 0 if tally.kills >= arguments.kills else 1


if __name__ == "__main__":
    sys.exit(main())
