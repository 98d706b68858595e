"""The initial copy: all mapped tables at one exported snapshot, by binary COPY, into a new generation of the cache.

One thread receives chunks, one decodes them, and the caller's thread appends them: source, network and DuckDB work at the same time.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import TypeVar

import psycopg
from psycopg import sql

from analytics.state.store import Store
from analytics.state.sync_status import InitialCopyProgress, StatusBoard
from analytics.state.tables import ColumnKind
from config.settings import Settings
from sync.copy.copy_stream import copy_rows
from sync.retention import kept_rows
from sync.session import SyncSession
from sync.source.connections import connect
from sync.source.schema import LONG_TYPES, Mapping, SourceColumn, SourceTable
from sync.values import wire
from sync.values.long_text import LONGEST_TEXT_BYTES

log = logging.getLogger(__name__)

Item = TypeVar("Item")

ROWS_PER_CHUNK = 10_000
BYTES_PER_CHUNK = 16 << 20
CHUNKS_IN_FLIGHT = 2
LOG_SECONDS = 5


def copy_tables(
    session: SyncSession, connection: psycopg.Connection, snapshot: str, mapping: Mapping, store: Store
) -> int:
    """Copy every mapped table as the exported `snapshot` shows it; returns the number of rows. The caller commits.

    Raises `Stopped`, `SourceError`, `psycopg.Error`, `WireError`.
    """
    total = 0
    mapped = wire.Mapped()
    settings = session.settings
    started = session.clock()
    estimated = sum(table.rows_estimated or 0 for table in mapping.tables)
    reporter = _Reporter(session.board, started, estimated)
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
    connection.execute("SET LOCAL statement_timeout = 0")
    quiet_seconds = settings.sync.reply_timeout_seconds
    for table in mapping.tables:
        command = copy_command(table, settings, started).as_string(connection)
        chunks = ahead(
            chunked(copy_rows(connection, command, session.stopping, quiet_seconds, partial(_probe, settings))),
            "owkai-receive",
        )
        for rows in ahead((decode_rows(table, chunk, mapped) for chunk in chunks), "owkai-decode"):
            total += store.append(table.table.name, rows)
            reporter.report(table, total)
    connection.execute("COMMIT")
    session.board.add(values_mapped=mapped.values)
    if mapped.values:
        log.warning(
            "%d copied values are outside DuckDB's range and were mapped by rule (docs/explanation/sync.md)",
            mapped.values,
        )
    return total


def decode_rows(table: SourceTable, chunk: list[bytes], mapped: wire.Mapped) -> wire.Rows:
    """Rows of binary COPY as Arrow. Raises `WireError` for malformed bytes."""
    try:
        buffer = wire.Buffer(chunk)
        fields = iter(wire.walk_copy(buffer, buffer.starts + 2, len(table.columns)))
        columns = {}
        here = {column.column.name: column for column in table.columns}
        for column in table.table.columns:
            found = here.get(column.name)
            columns[column.name] = (
                wire.arrow_nulls(column.kind, len(chunk))
                if found is None
                else wire.arrow_column(buffer, next(fields), column.kind, found.type_oid, mapped, found.zone)
            )
    except IndexError as error:
        raise wire.WireError("a copied row ends early") from error
    return wire.Rows(columns, len(chunk))


def copy_command(table: SourceTable, settings: Settings, now: datetime) -> sql.Composed:
    """`COPY (SELECT mapped columns FROM table WHERE kept) TO STDOUT (FORMAT BINARY)`."""
    names = sql.SQL(", ").join(selected(column) for column in table.columns)
    return sql.SQL("COPY (SELECT {} FROM {}{}) TO STDOUT (FORMAT BINARY)").format(
        names, table.identifier, kept_rows(table, settings, now)
    )


def selected(column: SourceColumn) -> sql.Composable:
    """A column as a copy reads it: only the beginning of a long text, so that the rest never leaves the source."""
    name = sql.Identifier(column.name)
    if column.column.kind is not ColumnKind.TEXT or column.type_oid not in LONG_TYPES - {wire.BPCHAR}:
        return name
    # Four times what is kept, because a database without an encoding counts bytes as characters.
    return sql.SQL("CASE WHEN octet_length({0}::text) > {1} THEN left({0}::text, {1}) ELSE {0}::text END").format(
        name, LONGEST_TEXT_BYTES
    )


def _probe(settings: Settings) -> None:
    """Raises when the source is unreachable: a copy may be quiet while it skips old rows, or because its connection is half open."""
    with connect(settings) as connection:
        connection.execute("SELECT 1")


def chunked(rows: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Rows in chunks of at most `ROWS_PER_CHUNK` rows and about `BYTES_PER_CHUNK` bytes."""
    chunk: list[bytes] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row)
        if len(chunk) >= ROWS_PER_CHUNK or size >= BYTES_PER_CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def ahead(items: Iterator[Item], name: str) -> Iterator[Item]:
    """The same items, produced a little ahead of the consumer by a thread; its error is raised here.

    Closing the iterator early ends the thread before this returns.
    """
    produced: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(CHUNKS_IN_FLIGHT)
    abandoned = threading.Event()

    def hand_over(item: Item | None, error: BaseException | None) -> None:
        while not abandoned.is_set():
            with contextlib.suppress(queue.Full):
                produced.put((item, error), timeout=0.2)
                return

    def produce() -> None:
        try:
            for item in items:
                hand_over(item, None)
                if abandoned.is_set():
                    return
            hand_over(None, None)
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            hand_over(None, error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    producer = threading.Thread(target=produce, name=name, daemon=True)
    producer.start()
    try:
        while True:
            item, error = produced.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        abandoned.set()
        producer.join()


class _Reporter:
    def __init__(self, board: StatusBoard, started: datetime, estimated: int) -> None:
        self._board, self._started, self._estimated = board, started, estimated
        self._logged = time.monotonic()

    def report(self, table: SourceTable, copied: int) -> None:
        progress = InitialCopyProgress(table.table.name, copied, self._estimated, self._started)
        self._board.update(progress=progress)
        if time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            log.info(
                "copying %s: %d of about %d rows (%.1f %%)", table.qualified, copied, self._estimated, progress.percent
            )
