"""Rows dated in the future: their writer's clock is wrong, or a column without a zone holds another zone's local times.

Numbers count only what happened up to now, so such rows are not counted until their time comes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg import sql

from analytics.state.store import Store
from analytics.state.sync_status import StatusBoard
from config.settings import Settings
from sync.retention import TIMED_TABLES
from sync.source.schema import SourceTable
from sync.values import wire
from sync.values.times import BEYOND, utc_time

log = logging.getLogger(__name__)

CACHED_TIMES = {"agent_actions": "event_at", "audit_logs": "created_at"}
NEWEST_ROWS = 1000
CHECK_SECONDS = 60.0
QUARTER_MINUTES = 15  # offsets of zones are multiples of it


@dataclass(frozen=True)
class RowsAhead:
    """Of the newest `rows` of a table, `ahead` are dated in the future, by up to `minutes`. `naive`: the column has no zone."""

    rows: int
    ahead: int
    minutes: int
    naive: bool

    @property
    def message(self) -> str:
        return f"{self.ahead} of the newest {self.rows} rows are dated up to {self.minutes} minutes ahead"

    def remedy(self, table: str) -> str:
        if not self.naive:
            return "correct the clock of whatever writes these rows"
        quarters = QUARTER_MINUTES * round(self.minutes / QUARTER_MINUTES)
        offset = f"UTC+{quarters // 60:02}:{quarters % 60:02}"
        return (
            f"if its writers use local time, name their zone (now {offset}), for example [source.zones] {table} = "
            f'"Asia/Kolkata"; otherwise correct their clock'
        )


def rows_ahead(connection: psycopg.Connection, table: SourceTable, tolerance_seconds: float) -> RowsAhead | None:
    """The newest rows of the source by id; None when none is dated in the future. Raises `psycopg.Error`."""
    names = TIMED_TABLES.get(table.table.name, ())
    times = [column for name in names for column in table.columns if column.column.name == name]
    key = table.source_name(table.table.key)
    if not times or key is None:
        return None
    listed = sql.SQL(", ").join(sql.SQL("({})::timestamptz").format(utc_time(column)) for column in times)
    query = sql.SQL(
        "SELECT count(*), count(*) FILTER (WHERE ahead), max(extract(epoch FROM at - now())) FILTER (WHERE ahead)"
        " FROM (SELECT at, at > now() + %s * interval '1 second' AND at < {beyond} AS ahead"
        "       FROM (SELECT coalesce({times}) AS at FROM {table} ORDER BY {key} DESC LIMIT {limit}) newest) dated"
    ).format(
        beyond=f"{BEYOND} 00:00+00", times=listed, table=table.identifier, key=sql.Identifier(key), limit=NEWEST_ROWS
    )
    rows, ahead, seconds = connection.execute(query, [tolerance_seconds]).fetchone() or (0, 0, None)
    if not ahead:
        return None
    naive = any(column.type_oid != wire.TIMESTAMPTZ and column.zone is None for column in times)
    return RowsAhead(rows, ahead, max(1, round(float(seconds) / 60)), naive)


class FutureRowsWatch:
    """Checks the cache once a minute, in the sync thread. The board shows how far ahead the newest row is; the log reports it once."""

    def __init__(self, settings: Settings, store: Store, board: StatusBoard, clock: Callable[[], datetime]) -> None:
        self._settings, self._store, self._board, self._clock = settings, store, board, clock
        self._due = time.monotonic()
        self._warned: set[str] = set()

    def run(self) -> None:
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + CHECK_SECONDS
        now = self._clock().replace(tzinfo=None)
        latest = now + timedelta(seconds=self._settings.meaning.future_tolerance_seconds)
        furthest = 0.0
        for table, column in CACHED_TIMES.items():
            query = f'SELECT count(*), max({column}) FROM "{table}" WHERE {column} > $latest AND isfinite({column})'  # noqa: S608
            count, newest = self._store.inquire(query, {"latest": latest}).fetchone() or (0, None)
            if not count:
                self._warned.discard(table)
                continue
            seconds = (newest - now).total_seconds()
            furthest = max(furthest, seconds)
            if table not in self._warned:
                self._warned.add(table)
                log.warning(
                    "%d rows of %s are dated up to %d minutes ahead, and are not counted until then; if the source's"
                    " columns without a zone hold local time, set source.zones.%s (see `owkai check`)",
                    count,
                    table,
                    max(1, round(seconds / 60)),
                    table,
                )
        self._board.update(newest_ahead_seconds=furthest)
