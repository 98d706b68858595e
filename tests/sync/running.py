"""The real sync loop against a test's database, and the comparison of cache and source row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analytics.state.cache import Cache
from analytics.state.clock import utc_now
from analytics.state.sync_status import Phase, StatusBoard
from analytics.state.tables import BY_NAME, ColumnKind
from config.settings import Settings
from sync.loop import SyncLoop
from sync.source.connections import wal_position
from tests.postgres import Database

WAIT_SECONDS = 60.0  # only a test that fails waits this long


def settings_for(database: Database, directory: Path, dsn: str | None = None, **sections: dict[str, Any]) -> Settings:
    source = {"dsn": dsn or database.dsn, "slot": slot_name(database), **sections.pop("source", {})}
    cache = {"directory": directory / "cache", **sections.pop("cache", {})}
    sync = {"backoff_max_seconds": 0.5, **sections.pop("sync", {})}
    return Settings.model_validate({"source": source, "cache": cache, "sync": sync, **sections})


def slot_name(database: Database) -> str:
    """Slots are the whole server's: one name a test database."""
    return f"owkai_{database.name}"[:63].lower()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.01)


class RunningSync:
    """A started sync loop with its cache and board."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cache = Cache(settings.cache)
        self.board = StatusBoard()
        self.loop = SyncLoop(settings, self.cache, self.board, utc_now)
        self.loop.start()

    def streaming(self) -> RunningSync:
        wait_until(lambda: self.board.current.phase is Phase.STREAMING, f"streaming; {self.board.current}")
        return self

    def phase(self, phase: Phase) -> None:
        wait_until(lambda: self.board.current.phase is phase, f"{phase}; {self.board.current}")

    def caught_up(self, database: Database) -> None:
        """Wait until everything the source has committed by now is applied."""
        with database.connect() as connection:
            connection.execute("select pg_logical_emit_message(true, 'owkai-test', 'mark')")
            end = wal_position(connection)
        wait_until(lambda: (self.board.current.applied_lsn or 0) >= end - 24, f"applied {end}; {self.board.current}")

    def close(self) -> None:
        self.loop.stop(10)
        self.cache.close()


@contextmanager
def running_sync(database: Database, directory: Path, **options: Any) -> Iterator[RunningSync]:
    sync = RunningSync(settings_for(database, directory, **options))
    try:
        yield sync
    finally:
        sync.close()


def cache_rows(cache: Cache, table: str) -> dict[int, tuple[Any, ...]]:
    """Every mapped column of every row by id; times as µs or as '±infinity', so that nothing is lost in Python."""
    names = [_duckdb_text(column.name, column.kind) for column in BY_NAME[table].columns]
    with cache.read() as snapshot:
        found = snapshot._connection.execute(f"select {', '.join(names)} from {table}").fetchall()
    rows = {int(row[0]): row for row in found}
    assert len(rows) == len(found), f"{len(found) - len(rows)} ids are twice in the cache's {table}"
    return rows


def source_rows(database: Database, table: str, missing: tuple[str, ...] = ()) -> dict[int, tuple[Any, ...]]:
    """The same of the source, by SQL of its own."""
    names = [
        "null" if column.name in missing else _postgres_text(column.name, column.kind)
        for column in BY_NAME[table].columns
    ]
    found = database.execute(f"select {', '.join(names)} from public.{table}").fetchall()
    return {int(row[0]): row for row in found}


def assert_equal(sync: RunningSync, database: Database, *tables: str) -> int:
    """The cache equals the source, row by row and column by column; returns the number of rows compared."""
    sync.caught_up(database)
    compared = 0
    for table in tables or tuple(BY_NAME):
        source, cache = source_rows(database, table, _missing(database, table)), cache_rows(sync.cache, table)
        assert cache.keys() == source.keys(), f"{table}: ids differ: {sorted(cache.keys() ^ source.keys())[:10]}"
        different = [(source[key], cache[key]) for key in source if _plain(source[key]) != _plain(cache[key])]
        assert not different, f"{table}: {len(different)} rows differ, e.g. {different[0]}"
        compared += len(source)
    return compared


def _missing(database: Database, table: str) -> tuple[str, ...]:
    found = database.execute(
        "select attname from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
        [f"public.{table}"],
    ).fetchall()
    here = {row[0] for row in found}
    return tuple(name for name in BY_NAME[table].column_names if name not in here)


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple("NaN" if value != value else value for value in row)


def _postgres_text(name: str, kind: ColumnKind) -> str:
    if kind is ColumnKind.TIME:
        return (
            f"case when \"{name}\" < '0001-01-01' then '-infinity' when \"{name}\" >= '10000-01-01' then 'infinity'"
            f' else trunc(extract(epoch from "{name}") * 1000000)::text end'
        )
    return f'"{name}"::text' if kind is ColumnKind.TEXT else f'"{name}"'


def _duckdb_text(name: str, kind: ColumnKind) -> str:
    if kind is ColumnKind.TIME:
        return f'case when isfinite("{name}") then epoch_us("{name}")::varchar else "{name}"::varchar end'
    return f'"{name}"'
