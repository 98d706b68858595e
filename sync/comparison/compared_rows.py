"""The two sides of a comparison: a table of the source and the same table of the cache, by bucket and by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from analytics.state.snapshot import Snapshot
from config.settings import Settings
from sync.comparison.checksums import (
    Bucket,
    bucket_duckdb,
    bucket_postgres,
    event_duckdb,
    row_hash_duckdb,
    row_hash_postgres,
    since_postgres,
)
from sync.copy.initial_copy import selected
from sync.retention import kept_rows, retention_horizon
from sync.source.schema import SourceTable

ROWS_PER_READ = 5_000


@dataclass(frozen=True)
class SourceSide:
    """Buckets and rows of a table of the source, in an open transaction."""

    table: SourceTable
    kept: sql.Composable
    since: datetime | None

    @classmethod
    def of(cls, table: SourceTable, settings: Settings, now: datetime, since: datetime | None) -> SourceSide:
        """The rows that retention keeps at `now`, with an event time from `since` on if that is given."""
        return cls(table, kept_rows(table, settings, now), since)

    def _select(self) -> sql.Composed:
        """Every compared row as (key, bucket, checksum)."""
        columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in self.table.columns)
        within = since_postgres(self.table) if self.since is not None else None
        key = self.table.source_name(self.table.table.key)
        assert key is not None  # noqa: S101 - the key is a required column
        return sql.SQL(
            "SELECT {key} AS owkai_key, {bucket} AS owkai_bucket, {checksum} AS owkai_checksum"
            " FROM (SELECT {columns} FROM {table}{kept}) kept{within}"
        ).format(
            key=sql.Identifier(key),
            bucket=bucket_postgres(self.table),
            checksum=row_hash_postgres(self.table),
            columns=columns,
            table=self.table.identifier,
            kept=self.kept,
            within=sql.SQL(" WHERE {}").format(within) if within is not None else sql.SQL(""),
        )

    def buckets(self, source: psycopg.Connection) -> Iterator[Bucket]:
        query = sql.SQL(
            "SELECT owkai_bucket, count(*), sum(owkai_checksum) FROM ({}) rows GROUP BY owkai_bucket"
        ).format(self._select())
        for key, rows, checksum in source.execute(query, {"since": self.since}):
            yield Bucket(key, rows, int(checksum))

    def rows(self, source: psycopg.Connection, buckets: list[str]) -> Iterator[tuple[int, int]]:
        query = sql.SQL(
            "SELECT owkai_key, owkai_checksum FROM ({}) rows WHERE owkai_bucket = ANY (%(buckets)s::text[])"
            " ORDER BY owkai_key"
        ).format(self._select())
        with source.cursor(name="owkai_verify") as cursor:
            cursor.itersize = ROWS_PER_READ
            for key, checksum in cursor.execute(query, {"since": self.since, "buckets": buckets}):
                yield int(key), checksum


@dataclass(frozen=True)
class CacheSide:
    """Buckets and rows of a table of the cache, in an open read."""

    table: SourceTable
    condition: str
    parameters: dict[str, Any]

    @classmethod
    def of(cls, table: SourceTable, settings: Settings, now: datetime, since: datetime | None) -> CacheSide:
        """The same rule as `SourceSide.of`, in DuckDB's SQL."""
        event = event_duckdb(table.table)
        if event is None:
            return cls(table, "true", {})
        condition = f"coalesce(NOT ({event} < $horizon), true)"
        parameters: dict[str, Any] = {"horizon": retention_horizon(settings, now).replace(tzinfo=None)}
        if table.source_name("status") is not None:
            condition += " OR coalesce(normal_status IN (SELECT unnest($pending::VARCHAR[])), false)"
            parameters["pending"] = list(settings.meaning.pending_statuses)
        condition = f"({condition})"
        if since is not None:
            condition += f" AND {event} >= $since"
            parameters["since"] = since.replace(tzinfo=None)
        return cls(table, condition, parameters)

    def buckets(self, cache: Snapshot) -> Iterator[Bucket]:
        ours = self.table.table
        query = (
            f"SELECT {bucket_duckdb(ours)} AS bucket, count(*), sum({row_hash_duckdb(ours)})"  # noqa: S608 - our own names
            f' FROM "{ours.name}" WHERE {self.condition} GROUP BY bucket'
        )
        for key, rows, checksum in cache.stream(query, self.parameters):
            yield Bucket(key, rows, int(checksum))

    def rows(self, cache: Snapshot, buckets: list[str]) -> Iterator[tuple[int, int]]:
        ours = self.table.table
        query = (
            f'SELECT "{ours.key}", {row_hash_duckdb(ours)} FROM "{ours.name}" WHERE {self.condition}'  # noqa: S608
            f' AND {bucket_duckdb(ours)} IN (SELECT unnest($buckets::VARCHAR[])) ORDER BY "{ours.key}"'
        )
        for key, checksum in cache.stream(query, {**self.parameters, "buckets": buckets}):
            yield int(key), int(checksum)


def rows_by_key(table: SourceTable, settings: Settings, now: datetime, keys: list[int]) -> sql.Composed:
    """The COPY command for some rows, if retention keeps them."""
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    key = table.source_name(table.table.key)
    assert key is not None  # noqa: S101 - the key is a required column
    return sql.SQL(
        "COPY (SELECT {values} FROM (SELECT {names} FROM {table} WHERE {key} = ANY ({keys}::bigint[])) wanted{kept})"
        " TO STDOUT (FORMAT BINARY)"
    ).format(
        values=sql.SQL(", ").join(selected(column) for column in table.columns),
        names=names,
        table=table.identifier,
        key=sql.Identifier(key),
        keys=keys,
        kept=kept_rows(table, settings, now),
    )
