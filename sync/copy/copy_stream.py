"""COPY data from libpq without a Python layer per message: shared by the initial copy and the replication stream."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator

import psycopg
from psycopg import pq

from sync.source.connections import SourceError, server_text

END_SECONDS = 5.0  # how long the end of a command may take after its data
# SQLSTATEs raised as psycopg's own errors, because `sync.faults` treats them as it does on ordinary sessions: the connection broke
# (08), the server shuts down, crashes or ends our session (57P), it ended the statement (57014), a lock was not granted (55P03), a
# privilege is missing (42501).
TYPED_STATES = ("08", "57P", "57014", "55P03", "42501")
COPYING = (
    pq.ExecStatus.COPY_IN,
    pq.ExecStatus.COPY_OUT,
    pq.ExecStatus.COPY_BOTH,
)  # our side has not ended the copy yet
POLL_SECONDS = 0.2  # how soon a stop is noticed


class Stopped(Exception):
    """The server is stopping, so the wait was given up."""


class CommandRejectedError(SourceError):
    """The source rejected a command. `sqlstate` is the code it sent, empty where it sent none."""

    def __init__(self, message: str, remedy: str = "", sqlstate: str = "") -> None:
        super().__init__(message, remedy)
        self.sqlstate = sqlstate


Stopping = Callable[[], bool]


def await_result(connection: psycopg.Connection, command: str, stopping: Stopping) -> pq.abc.PGresult:
    """Run a command that may wait long on the server. Raises `Stopped`, `CommandRejectedError`, `psycopg.Error`."""
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
    """The server's error: psycopg's own class for `TYPED_STATES`, otherwise `CommandRejectedError` with the SQLSTATE."""
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    message = server_text(result.error_message)
    if not state.startswith(TYPED_STATES):
        return CommandRejectedError(message, sqlstate=state)
    try:
        return psycopg.errors.lookup(state)(message)
    except KeyError:
        return psycopg.OperationalError(message)


def drain_results(connection: psycopg.Connection) -> None:
    """Read the results that end a command, within `END_SECONDS`.

    Never calls a blocking function of libpq: that would hold the interpreter lock, and so stop the whole server, until the source
    responds. Raises `CommandRejectedError` when a result is an error, `psycopg.Error` when the source is going away or does not end
    the command.
    """
    pgconn = connection.pgconn
    deadline = time.monotonic() + END_SECONDS
    while True:
        while pgconn.is_busy():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise psycopg.OperationalError("the source did not end the command in time")
            if readable(pgconn, min(remaining, POLL_SECONDS)):
                pgconn.consume_input()
        result = pgconn.get_result()
        if result is None or result.status in COPYING:
            return
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise server_error(result)


def readable(pgconn: pq.abc.PGconn, timeout_seconds: float) -> bool:
    """Wait until the server has sent something; false when the time is over."""
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
    """The rows of a `COPY … TO STDOUT (FORMAT BINARY)`, each as its column count and columns, without header and trailer.

    Calls `probe` when nothing has come for `quiet_seconds`; `probe` raises when the source is unreachable.
    """
    await_result(connection, command, stopping)
    pgconn = connection.pgconn
    first = True
    received_at = time.monotonic()
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
                if time.monotonic() - received_at > quiet_seconds:
                    probe()
                    received_at = time.monotonic()
                continue
            pgconn.consume_input()
            received_at = time.monotonic()
        else:
            drain_results(connection)
            return
