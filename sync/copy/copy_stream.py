"""COPY data from libpq without a Python layer per message: shared by the initial copy and the replication stream."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator

import psycopg
from psycopg import pq

from sync.source.connections import SourceError, server_text

END_SECONDS = 5.0  # how long the end of a command may take after its data
# SQLSTATEs that have a rule of their own in `sync.faults`: the line broke (08), the server shuts down, crashes or ends our session
# (57P), it ended the statement (57014), a lock was not granted (55P03), a right is missing (42501).
TYPED_STATES = ("08", "57P", "57014", "55P03", "42501")
COPYING = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)  # our side of the copy is still open
POLL_SECONDS = 0.2  # how soon a stop is noticed


class Stopped(Exception):
    """The server is stopping; whoever waits gives up."""


Stopping = Callable[[], bool]


def await_result(connection: psycopg.Connection, command: str, stopping: Stopping) -> pq.abc.PGresult:
    """Run a command that may wait long on the server. Raises `Stopped`, `SourceError`, `psycopg.Error`."""
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
        raise server_error(result)
    return result


def server_error(result: pq.abc.PGresult) -> Exception:
    """The server's error: psycopg's own class where the fault policy tells it apart, `SourceError` otherwise."""
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    message = server_text(result.error_message)
    if not state.startswith(TYPED_STATES):
        return SourceError(message)
    try:
        return psycopg.errors.lookup(state)(message)
    except KeyError:
        return psycopg.OperationalError(message)


def drain_results(connection: psycopg.Connection) -> None:
    """Read the results that end a command, for `END_SECONDS` at most.

    Never by a blocking call of libpq: that would hold the interpreter, and with it the whole server, until the source answers. Raises
    `SourceError` when a result is an error, `psycopg.Error` when the source is going away or does not end the command.
    """
    pgconn = connection.pgconn
    deadline = time.monotonic() + END_SECONDS
    while True:
        while pgconn.is_busy():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise psycopg.OperationalError("the source did not end the command it was given")
            if readable(pgconn, min(remaining, POLL_SECONDS)):
                pgconn.consume_input()
        result = pgconn.get_result()
        if result is None or result.status in COPYING:
            return
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise server_error(result)


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
