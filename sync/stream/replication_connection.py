"""The connection of a change stream: raw messages in, confirmed positions out, over psycopg's own libpq connection.

A thread of its own sends the confirmed position by the clock: whatever sync is busy with (a large transaction, a backlog, a checkpoint),
the source never takes us for gone.
"""

from __future__ import annotations

import threading
import time

import psycopg

from sync.copy.copy_stream import (
    END_SECONDS,
    POLL_SECONDS,
    CommandRejectedError,
    Stopping,
    await_result,
    drain_results,
    readable,
)
from sync.faults import StreamRejectedError

EPOCH_2000_SECONDS = 946_684_800
STATUS_SECONDS = 0.5  # the source ends a connection that is silent for wal_sender_timeout


class ReplicationConnection:
    """An open stream of raw messages, for one reading thread. `close` is idempotent.

    `confirmed_lsn` is the position that the source may forget everything before.
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        command: str,
        confirmed_lsn: int,
        reply_timeout_seconds: float,
        stopping: Stopping,
    ) -> None:
        """Starts the stream by `command`. Raises `StreamRejectedError`, `psycopg.Error`, `Stopped`; closes `connection` then."""
        self._connection = connection
        self._reply_timeout = reply_timeout_seconds
        self.confirmed_lsn = confirmed_lsn
        self._received_at = time.monotonic()
        self._requested_at = 0.0
        self._lock = threading.RLock()  # libpq's connection is not thread-safe
        self._closing = threading.Event()
        self._status_error: Exception | None = None
        try:
            await_result(connection, command, stopping)
            # A status update to a peer that does not read must never block: it would hold the interpreter lock.
            connection.pgconn.nonblocking = 1
        except CommandRejectedError as error:
            connection.close()
            raise StreamRejectedError(str(error), error.remedy, error.sqlstate) from error
        except BaseException:
            connection.close()
            raise
        self._status = threading.Thread(target=self._send_status, name="owkai-status-updates", daemon=True)
        self._status.start()

    def read(self) -> memoryview | None:
        """The next message, valid until the next call; None when none is complete yet.

        Raises `psycopg.OperationalError` when the stream has ended, `StreamRejectedError` when the source ended it with an error.
        """
        with self._lock:
            size, data = self._connection.pgconn.get_copy_data(1)
        if size > 0:
            return data
        if size == 0:
            return None
        self._drain()
        raise psycopg.OperationalError("the source ended the stream")

    def wait(self, seconds: float) -> bool:
        """Wait until the source has sent something, and take it from the socket; false when nothing came."""
        pgconn = self._connection.pgconn
        if not readable(pgconn, min(seconds, POLL_SECONDS)):
            return False
        with self._lock:
            pgconn.consume_input()
        return True

    def received(self) -> None:
        """Note that the source has just been heard from."""
        self._received_at = time.monotonic()

    def require_alive(self) -> None:
        """Request a reply each second. Raises `psycopg.OperationalError` when the source is silent for the reply timeout.

        A half-open connection shows no error of its own.
        """
        now = time.monotonic()
        if self._status_error is not None:
            raise psycopg.OperationalError("the source takes no status updates") from self._status_error
        if now - self._received_at > self._reply_timeout:
            raise psycopg.OperationalError(f"the source has been silent for {self._reply_timeout:g} s")
        if now - self._requested_at >= 1:
            self._requested_at = now
            self.send_position(request_reply=True)

    def send_position(self, *, request_reply: bool = False) -> None:
        """Send the confirmed position, as a standby status update. From any thread."""
        now = round((time.time() - EPOCH_2000_SECONDS) * 1_000_000)
        position = self.confirmed_lsn.to_bytes(8, "big")
        message = b"r" + 3 * position + now.to_bytes(8, "big", signed=True) + bytes([request_reply])
        with self._lock:
            if self._closing.is_set():
                return
            self._connection.pgconn.put_copy_data(message)
            self._connection.pgconn.flush()

    def end(self) -> None:
        """End the stream in order, which frees the slot at once; what is still on its way is sent again. Raises as `read`."""
        pgconn = self._connection.pgconn
        deadline = time.monotonic() + END_SECONDS
        with self._lock:
            pgconn.put_copy_end()
            pgconn.flush()
            self._closing.set()  # no status update may follow the end
        while time.monotonic() < deadline:
            size, _ = pgconn.get_copy_data(1)
            if size < 0:
                self._drain()
                return
            if size == 0 and readable(pgconn, POLL_SECONDS):
                pgconn.consume_input()

    def close(self) -> None:
        self._closing.set()
        self._status.join()
        self._connection.close()

    def _drain(self) -> None:
        try:
            drain_results(self._connection)
        except CommandRejectedError as error:
            raise StreamRejectedError(str(error), error.remedy, error.sqlstate) from error

    def _send_status(self) -> None:
        while not self._closing.wait(STATUS_SECONDS):
            try:
                self.send_position()
            except Exception as error:  # noqa: BLE001 - raised again by the thread that reads
                self._status_error = error
                return
