"""COPY data from libpq without a Python layer per message: shared by the initial copy and the replication stream."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator

import psycopg
from psycopg import pq

from sync.source import SourceError, server_text

POLL_SECONDS = 0.2  # how soon a stop is noticed


class Stopped(Exception):
    """The server is stopping; whoever waits gives up."""


Stopping = Callable[[], bool]


def await_result(connection: psycopg.Connection, command: str, stopping: Stopping) -> pq.abc.PGresult:
    """Run a command that may wait long on the server. Raises `Stopped`, `SourceError`, `psycopg.OperationalError`."""
    pgconn = connection.pgconn
    pgconn.send_query(command.encode())
    while pgconn.is_busy():
        if not readable(pgconn, POLL_SECONDS):
            if stopping():
                raise Stopped
            continue
        pgconn.consume_input()
    result = pgconn.get_result()
    if result is None:
        raise psycopg.OperationalError("the source closed the connection")
    if result.status not in (
        pq.ExecStatus.TUPLES_OK,
        pq.ExecStatus.COMMAND_OK,
        pq.ExecStatus.COPY_OUT,
        pq.ExecStatus.COPY_BOTH,
    ):
        raise SourceError(server_text(result.error_message))
    return result


def drain_results(connection: psycopg.Connection) -> None:
    """Read the results that end a command. Raises `SourceError` when one of them is an error."""
    while (result := connection.pgconn.get_result()) is not None:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise SourceError(server_text(result.error_message))


def readable(pgconn: pq.abc.PGconn, timeout_seconds: float) -> bool:
    """Wait until the server sent something."""
    poller = select.poll()
    poller.register(pgconn.socket, select.POLLIN)
    return bool(poller.poll(timeout_seconds * 1000))


def copy_rows(
    connection: psycopg.Connection,
    command: str,
    stopping: Stopping,
    quiet_seconds: float = float("inf"),
    probe: Callable[[], None] = lambda: None,
) -> Iterator[bytes]:
    """The rows of a `COPY … TO STDOUT (FORMAT BINARY)`, each as its column count and columns; header and end left out.

    `probe` is called when nothing came for `quiet_seconds`, and raises when the source is out of reach.
    """
    await_result(connection, command, stopping)
    pgconn = connection.pgconn
    first = True
    heard = time.monotonic()
    while True:
        size, data = pgconn.get_copy_data(1)
        if size > 0:
            row = bytes(data)
            if first:
                first = False
                row = row[19 + int.from_bytes(row[15:19], "big") :]
            if len(row) > 2:
                yield row
        elif size == 0:
            if not readable(pgconn, POLL_SECONDS):
                if stopping():
                    raise Stopped
                if time.monotonic() - heard > quiet_seconds:
                    probe()
                    heard = time.monotonic()
                continue
            pgconn.consume_input()
            heard = time.monotonic()
        else:
            drain_results(connection)
            return
