"""Rows of the source's tables as a cache holds them: made here, put in through the cache's own writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from analytics.state.cache import Cache
from analytics.state.store import CacheOrigin, Store
from analytics.state.sync_status import StatusBoard
from analytics.state.tables import BY_NAME, ColumnKind
from config.settings import Settings

NOW = datetime(2025, 1, 15, 14, 30, 0, 250_000, tzinfo=UTC)
ORIGIN = CacheOrigin(system_identifier="7000000000000000001", database="platform", slot="owkai", mapping="test")

DTYPES: Mapping[ColumnKind, Any] = {
    ColumnKind.INTEGER: pl.Int64,
    ColumnKind.FLOAT: pl.Float64,
    ColumnKind.TEXT: pl.String,
    ColumnKind.BOOLEAN: pl.Boolean,
    ColumnKind.TIME: pl.Datetime("us"),
}

Row = dict[str, Any]


class ArrowFrame:
    """A frame as nothing but an Arrow stream: DuckDB takes a Polars frame itself only with a further package."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def arrow(table: str, rows: Sequence[Row]) -> ArrowFrame:
    """Rows of a table; what a row leaves out is NULL. Times may be aware."""
    columns = BY_NAME[table].columns
    unknown = {name for row in rows for name in row} - {column.name for column in columns}
    assert not unknown, f"{table} has no columns {unknown}"
    return ArrowFrame(
        pl.DataFrame(
            {column.name: [_naive(row.get(column.name)) for row in rows] for column in columns},
            schema={column.name: DTYPES[column.kind] for column in columns},
            strict=True,
        )
    )


def ids(keys: Sequence[int]) -> ArrowFrame:
    return ArrowFrame(pl.DataFrame({"id": list(keys)}, schema={"id": pl.Int64}))


def action(
    number: int, *, org: int = 1, ago: timedelta = timedelta(minutes=10), now: datetime = NOW, **columns: Any
) -> Row:
    """An ordinary low-risk action of agent "agent-1", `ago` before `now`."""
    return {
        "id": number,
        "organization_id": org,
        "agent_id": "agent-1",
        "action_type": "email_send",
        "risk_level": "low",
        "status": "completed",
        "timestamp": now - ago,
        **columns,
    }


def settings(directory: Path, **sections: Mapping[str, Any]) -> Settings:
    """Settings with a cache in `directory`; sections replace single keys."""
    cache = {"directory": directory, "memory_limit": "256MiB", "threads": 1, **sections.pop("cache", {})}
    return Settings.model_validate({"cache": cache, **sections})


def fill(store: Store, tables: Mapping[str, Sequence[Row]], lsn: int = 100) -> None:
    """Append rows in one transaction that reaches `lsn`."""
    store.begin()
    for table, rows in tables.items():
        if rows:
            store.append(table, arrow(table, rows))
    store.commit(lsn)


@contextmanager
def filled_cache(given: Settings, **tables: Sequence[Row]) -> Iterator[Cache]:
    """A cache whose first copy is `tables`."""
    cache = Cache(given.cache)
    try:
        store = cache.build(ORIGIN)
        fill(store, tables)
        cache.publish(store)
        yield cache
    finally:
        cache.close()


def fresh_board(now: datetime = NOW) -> StatusBoard:
    """A board that says the cache equals the source at `now`."""
    board = StatusBoard()
    board.update(fresh_at=now)
    return board


def _naive(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) and value.tzinfo else value
