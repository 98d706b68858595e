"""Finds deletes and silent changes without a stream: compares a table of source and cache by buckets, and replaces differing rows.

The source is read at the snapshot of the caller's open transaction, the cache as the caller's open DuckDB transaction sees it.
After `reconcile` by `whole_rows` the table equals that snapshot, up to two texts with the same 60 bits of md5; by `keys_only` it
has the same ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from analytics.state.store import Store
from config.settings import Settings
from sync.comparison.checksums import (
    IDS_PER_BUCKET,
    Bucket,
    bucket_duckdb,
    bucket_postgres,
    row_hash_duckdb,
    row_hash_postgres,
)
from sync.comparison.differences import BucketDifference, differing_buckets
from sync.copy.copy_stream import Stopping, await_result, copy_rows, drain_results
from sync.copy.initial_copy import ROWS_PER_CHUNK, chunked, decode_rows, selected
from sync.retention import TIMED_TABLES, kept_rows, retention_horizon
from sync.source.schema import SourceTable
from sync.values import wire

Numbers = npt.NDArray[np.int64]

ROWS_COMPARED = 500_000  # differing buckets are read together up to this many rows, 32 bytes each in memory


@dataclass
class SourceReader:
    """Reads in the open transaction of a cycle. `now` determines the retention horizon."""

    connection: psycopg.Connection
    settings: Settings
    now: datetime
    stopping: Stopping
    mapped: wire.Mapped

    def numbers(self, query: sql.Composable, columns: int) -> list[Numbers]:
        """The bigint columns of a query."""
        parts: list[list[Numbers]] = [[] for _ in range(columns)]
        for chunk in self._chunks(query):
            buffer = wire.Buffer(chunk)
            fields = wire.walk_copy(buffer, buffer.starts + 2, columns)
            for part, found in zip(parts, fields, strict=True):
                part.append(wire.integers(buffer, found, wire.INT8))
        return [np.concatenate(part) if part else np.empty(0, np.int64) for part in parts]

    def texts(self, query: sql.Composable) -> list[tuple[str, ...]]:
        """The rows of a query without NULLs, as Postgres writes the values."""
        result = await_result(self.connection, query.as_string(self.connection), self.stopping)
        drain_results(self.connection)
        return [
            tuple((result.get_value(row, column) or b"").decode() for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    def rows(self, table: SourceTable, condition: sql.Composable) -> Iterator[wire.Rows]:
        """Kept rows of a table under a condition, mapped, as Arrow."""
        names = sql.SQL(", ").join(selected(column) for column in table.columns)
        query = sql.SQL("SELECT {} FROM {} WHERE {} AND {}").format(
            names, table.identifier, condition, self.kept(table)
        )
        for chunk in self._chunks(query):
            yield decode_rows(table, chunk, self.mapped)

    def rows_of(self, table: SourceTable, ids: Numbers) -> Iterator[wire.Rows]:
        """Kept rows by id."""
        name = sql.Identifier(table.source_name(table.table.key) or table.table.key)
        for start in range(0, len(ids), ROWS_PER_CHUNK):
            listed = "{" + ",".join(map(str, ids[start : start + ROWS_PER_CHUNK].tolist())) + "}"
            yield from self.rows(table, sql.SQL("{} = ANY ({}::bigint[])").format(name, listed))

    def kept(self, table: SourceTable) -> sql.Composable:
        """Retention as a condition."""
        clause = kept_rows(table, self.settings, self.now).as_string(self.connection).removeprefix(" WHERE ")
        return sql.SQL("({})").format(sql.SQL(clause or "true"))

    def _chunks(self, query: sql.Composable) -> Iterator[list[bytes]]:
        command = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(query).as_string(self.connection)
        yield from chunked(copy_rows(self.connection, command, self.stopping))


def source_key(table: SourceTable) -> sql.Composed:
    """The id as a bigint expression, as in the cache."""
    column = next(found for found in table.columns if found.column.name == table.table.key)
    form = "trunc({})::bigint" if column.type_oid == wire.NUMERIC else "{}::bigint"
    return sql.SQL(form).format(sql.Identifier(column.name))


@dataclass(frozen=True)
class Comparator:
    """How a table is compared: the bucket and the checksum of a row, as SQL for each side."""

    source_bucket: sql.Composable
    source_checksum: sql.Composable
    cache_bucket: str
    cache_checksum: str


def whole_rows(table: SourceTable) -> Comparator:
    """Every mapped column."""
    ours = table.table
    return Comparator(bucket_postgres(table), row_hash_postgres(table), bucket_duckdb(ours), row_hash_duckdb(ours))


def keys_only(table: SourceTable) -> Comparator:
    """Only the ids: a fraction of the work, and enough to find deletes."""
    key, name = source_key(table), f'"{table.table.key}"'
    return Comparator(
        sql.SQL("(({}) / {})::text").format(key, IDS_PER_BUCKET), key, f"({name} // {IDS_PER_BUCKET})::VARCHAR", name
    )


def reconcile(table: SourceTable, source: SourceReader, store: Store, by: Comparator) -> int:
    """Make the cache's table equal the source's; returns the number of rows removed, added or replaced.

    Raises `Stopped`, `SourceError`, `psycopg.Error`, `WireError`, `duckdb.Error`.
    """
    changed = expire(table, source, store)
    differing = differing_buckets(_source_buckets(table, source, by), _cache_buckets(table, store, by))
    if differing and not any(bucket.source_rows for bucket in differing) and _holds_only(table, store, differing):
        store.truncate(table.table.name)
        return changed + sum(bucket.cache_rows for bucket in differing)
    for keys in _together(differing):
        ids, present = _differing_ids(table, source, store, by, keys)
        replace_rows(table.table.name, ids, source.rows_of(table, ids[present]), store)
        changed += len(ids)
    return changed


def replace_rows(table: str, ids: Numbers, rows: Iterator[wire.Rows], store: Store) -> None:
    """Remove the rows with these ids, then append the new ones."""
    if len(ids):
        store.remove(table, wire.key_rows(ids), int(ids.min()), int(ids.max()))
    for chunk in rows:
        store.append(table, chunk)


def expire(table: SourceTable, source: SourceReader, store: Store) -> int:
    """Drop what retention no longer keeps, so that both sides are compared over the same rows."""
    name = table.table.name
    if name not in TIMED_TABLES:
        return 0
    before = retention_horizon(source.settings, source.now).replace(tzinfo=None)
    pending = source.settings.meaning.pending_statuses if name == "agent_actions" else ()
    return store.expire(name, before, pending)


def _source_buckets(table: SourceTable, source: SourceReader, by: Comparator) -> list[Bucket]:
    query = sql.SQL("SELECT {}, count(*), sum({}) FROM {} WHERE {} GROUP BY 1").format(
        by.source_bucket, by.source_checksum, table.identifier, source.kept(table)
    )
    return [Bucket(key, int(rows), int(total)) for key, rows, total in source.texts(query)]


def _cache_buckets(table: SourceTable, store: Store, by: Comparator) -> list[Bucket]:
    query = f'SELECT {by.cache_bucket}, count(*), sum({by.cache_checksum}) FROM "{table.table.name}" GROUP BY 1'  # noqa: S608
    return [Bucket(str(key), int(rows), int(total)) for key, rows, total in store.inquire(query, {}).fetchall()]


def _holds_only(table: SourceTable, store: Store, buckets: tuple[BucketDifference, ...]) -> bool:
    (rows,) = store.inquire(f'SELECT count(*) FROM "{table.table.name}"', {}).fetchone() or (0,)  # noqa: S608
    return int(rows) == sum(bucket.cache_rows for bucket in buckets)


def _together(buckets: tuple[BucketDifference, ...]) -> Iterator[list[str]]:
    keys: list[str] = []
    rows = 0
    for bucket in buckets:
        size = bucket.source_rows + bucket.cache_rows
        if keys and rows + size > ROWS_COMPARED:
            yield keys
            keys, rows = [], 0
        keys.append(bucket.key)
        rows += size
    if keys:
        yield keys


def _differing_ids(
    table: SourceTable, source: SourceReader, store: Store, by: Comparator, keys: list[str]
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Ids whose rows differ in these buckets, ascending, and which of them the source has."""
    theirs, their_sums = source.numbers(
        sql.SQL("SELECT {}, {} FROM {} WHERE {} AND {} = ANY ({})").format(
            source_key(table),
            by.source_checksum,
            table.identifier,
            source.kept(table),
            by.source_bucket,
            keys,
        ),
        2,
    )
    ours = table.table
    found: dict[str, Any] = store.inquire(
        f'SELECT "{ours.key}" AS id, {by.cache_checksum} AS checksum FROM "{ours.name}"'  # noqa: S608
        f" WHERE {by.cache_bucket} IN (SELECT unnest($keys))",
        {"keys": keys},
    ).fetchnumpy()
    return different(theirs, their_sums, np.asarray(found["id"]), np.asarray(found["checksum"]))


def different(
    theirs: Numbers, their_checksums: Numbers, ours: Numbers, our_checksums: Numbers
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Ids whose number of rows or sum of checksums differs between the two sides, ascending, and whether `theirs` has them."""
    ids, places = np.unique(np.concatenate([theirs, ours]), return_inverse=True)
    split = len(theirs)
    counts = np.bincount(places[:split], minlength=len(ids)), np.bincount(places[split:], minlength=len(ids))
    sums = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    np.add.at(sums[0], places[:split], their_checksums)
    np.add.at(sums[1], places[split:], our_checksums)
    wrong = (counts[0] != counts[1]) | (sums[0] != sums[1])
    return ids[wrong], counts[0][wrong] > 0
