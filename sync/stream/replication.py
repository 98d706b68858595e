"""Slots and the change stream of logical replication, over psycopg's own libpq connection.

The stream's confirmed position only ever moves to what `acknowledge` is given, and its caller gives it only positions the
cache has committed: an LSN acknowledged before its batch is durable cannot happen here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from analytics.state.lsn import format_lsn, parse_lsn
from config.settings import Settings
from sync.copy.copy_stream import END_SECONDS, POLL_SECONDS, Stopping, await_result, drain_results, readable
from sync.source.connections import BINARY_SERVER, open_replication
from sync.stream.batch import Batch, BatchLimits
from sync.stream.pgoutput import (
    HEADER,
    RELATION,
    TUPLE_TAG,
    Relation,
    parse_begin,
    parse_commit,
    parse_relation,
    parse_truncate,
)
from sync.values.long_text import LONGEST_TEXT_BYTES, LongValue, shortened
from sync.values.wire import WireError

EPOCH_2000_SECONDS = 946_684_800
MESSAGES_BETWEEN_LOOKS = 2_000  # how many messages are taken before the clock is looked at
STATUS_SECONDS = 0.5  # the source ends a connection that is silent for wal_sender_timeout, whatever we are busy with
MAXIMUM_MESSAGE_BYTES = 1 << 30
HUGE_BYTES = 32 << 20
ROW_DATA = ord("w")  # XLogData


@dataclass(frozen=True)
class Slot:
    """A replication slot as pg_replication_slots shows it."""

    name: str
    plugin: str
    database: str
    active_pid: int | None
    confirmed_lsn: int | None
    lost: bool


def find_slot(connection: psycopg.Connection, name: str) -> Slot | None:
    lost = "wal_status = 'lost'" if connection.info.server_version >= 130_000 else "false"
    row = connection.execute(
        sql.SQL(
            "SELECT slot_name, plugin, database, active_pid, confirmed_flush_lsn - '0/0'::pg_lsn, coalesce({}, false)"
            " FROM pg_replication_slots WHERE slot_name = %s"
        ).format(sql.SQL(lost)),
        [name],
    ).fetchone()
    if row is None:
        return None
    return Slot(row[0], row[1] or "", row[2] or "", row[3], None if row[4] is None else int(row[4]), bool(row[5]))


@dataclass(frozen=True)
class ExportedSlot:
    """A new slot with the snapshot that shows exactly what was committed before its first change.

    The snapshot lives as long as `connection` runs no other command.
    """

    connection: psycopg.Connection
    consistent_lsn: int
    snapshot: str


def create_slot(settings: Settings, stopping: Stopping, temporary_name: str | None = None) -> ExportedSlot:
    """Create our slot, or a temporary one that ends with its connection, and export its snapshot.

    Waits for transactions that are open on the source; raises `Stopped` when `stopping` says so meanwhile.
    """
    connection = open_replication(settings)
    kind = f'"{temporary_name}" TEMPORARY' if temporary_name else f'"{settings.source.slot}"'
    try:
        result = await_result(connection, f"CREATE_REPLICATION_SLOT {kind} LOGICAL pgoutput EXPORT_SNAPSHOT", stopping)
        values = [(result.get_value(0, column) or b"").decode() for column in range(result.nfields)]
        drain_results(connection)
    except BaseException:
        connection.close()
        raise
    return ExportedSlot(connection, parse_lsn(values[1]), values[2])


class ChangeStream:
    """An open stream from the slot. For one thread; `close` is idempotent.

    A thread of its own sends the confirmed position by the clock: a large transaction, a backlog, a checkpoint or a held
    position never makes the source believe that we are gone.
    """

    def __init__(
        self,
        settings: Settings,
        start_lsn: int,
        server_version: int,
        stopping: Stopping,
        long_values: Callable[[Relation], tuple[LongValue, ...]],
    ) -> None:
        self._connection = open_replication(settings)
        self._stopping = stopping
        self._long_values = long_values
        self._reply_timeout = settings.sync.reply_timeout_seconds
        self.relations: dict[int, Relation] = {}
        self.acknowledged = start_lsn
        self.processed = start_lsn  # everything before this was handed over or concerns no table of ours
        self._skip_until = start_lsn
        self._skipping = False
        self.hold_at: int | None = None  # transactions that commit at or after this are not taken
        self._left: bytes | None = None  # the begin message of the one that was left
        self.position_wanted = False  # the source waits for our position, perhaps in order to shut down
        self._heard = time.monotonic()
        self._asked = 0.0
        self._line = threading.RLock()  # libpq's connection is not thread-safe
        self._closing = threading.Event()
        self._status_error: Exception | None = None
        self._largest_bytes = 0
        options = ["proto_version '1'", f"publication_names '\"{settings.source.publication}\"'"]
        if server_version >= BINARY_SERVER:
            options.append("binary 'true'")
        command = (
            f'START_REPLICATION SLOT "{settings.source.slot}" LOGICAL {format_lsn(start_lsn)} ({", ".join(options)})'
        )
        try:
            await_result(self._connection, command, stopping)
            # A status update to a peer that does not read must never block: it would hold the interpreter.
            self._connection.pgconn.nonblocking = 1
        except BaseException:
            self._connection.close()
            raise
        self._status = threading.Thread(target=self._send_status, name="owkai-status-updates", daemon=True)
        self._status.start()

    def gather(self, batch: Batch, limits: BatchLimits, wait_seconds: float) -> None:
        """Add what the stream has to `batch`: until nothing more is waiting, a limit or a barrier is reached.

        Waits at most `wait_seconds` for the first message. Raises `psycopg.OperationalError` when the source is gone or
        silent for the reply timeout, `SourceError` when it ends the stream, `WireError` for malformed messages.
        """
        pgconn = self._connection.pgconn
        deadline = time.monotonic() + wait_seconds
        taken = 0
        batch.held = False
        if self._left is not None:
            message, self._left = self._left, None
            self._take(message, batch)
        while not (batch.full(limits) or batch.due(limits) or batch.barrier or batch.held or self.position_wanted):
            with self._line:
                size, data = pgconn.get_copy_data(1)
            if size > 0:
                self._take(bytes(data) if size <= LONGEST_TEXT_BYTES else self._shortened(data), batch)
                taken += 1
                if taken % MESSAGES_BETWEEN_LOOKS == 0:
                    self._heard = time.monotonic()
                    if self._stopping():
                        return
            elif size == 0:
                if taken:
                    self._heard = time.monotonic()
                remaining = 0.0 if taken and not batch.in_transaction else max(0.0, deadline - time.monotonic())
                if readable(pgconn, min(remaining, POLL_SECONDS)):
                    with self._line:
                        pgconn.consume_input()
                    continue
                self._watch()
                if remaining <= 0 or self._stopping():
                    return
            else:
                drain_results(self._connection)
                raise psycopg.OperationalError("the source ended the stream")
        self._heard = time.monotonic()

    def _shortened(self, message: memoryview) -> bytes:
        """The message without what is too long to keep; never a copy of all of it."""
        if len(message) > MAXIMUM_MESSAGE_BYTES:
            raise WireError("a message of more than 1 GiB")
        self._largest_bytes = max(self._largest_bytes, len(message))
        if message[0] != ROW_DATA or message[HEADER] not in b"IUD":
            return bytes(message)
        relation = self.relations.get(int.from_bytes(message[RELATION:TUPLE_TAG], "big"))
        if relation is None:
            raise WireError("a change of a table the stream did not announce")
        try:
            return shortened(message, TUPLE_TAG, self._long_values(relation))
        except ValueError as error:
            raise WireError(str(error)) from error

    def acknowledge(self, durable_lsn: int) -> None:
        """Tell the source that everything before `durable_lsn` is safe in the cache."""
        self.acknowledged = max(self.acknowledged, durable_lsn)
        self.position_wanted = False
        self._send()

    def _send(self, *, ask: bool = False) -> None:
        """Send the confirmed position; `ask` for a sign of life. From any thread."""
        now = round((time.time() - EPOCH_2000_SECONDS) * 1_000_000)
        position = self.acknowledged.to_bytes(8, "big")
        message = b"r" + 3 * position + now.to_bytes(8, "big", signed=True) + bytes([ask])
        with self._line:
            if self._closing.is_set():
                return
            self._connection.pgconn.put_copy_data(message)
            self._connection.pgconn.flush()

    @property
    def outgrown(self) -> bool:
        """Whether a huge row passed: libpq keeps a buffer of its size for as long as the connection lives."""
        return self._largest_bytes > HUGE_BYTES

    def end(self) -> None:
        """End the stream in order, which frees the slot at once; what is still on its way comes again. Raises as `gather`."""
        pgconn = self._connection.pgconn
        deadline = time.monotonic() + END_SECONDS
        with self._line:
            pgconn.put_copy_end()
            pgconn.flush()
            self._closing.set()  # no status update may follow the end
        while time.monotonic() < deadline:
            size, _ = pgconn.get_copy_data(1)
            if size < 0:
                drain_results(self._connection)
                return
            if size == 0 and readable(pgconn, POLL_SECONDS):
                pgconn.consume_input()

    def close(self) -> None:
        self._closing.set()
        self._status.join()
        self._connection.close()

    def _send_status(self) -> None:
        while not self._closing.wait(STATUS_SECONDS):
            try:
                self._send()
            except Exception as error:  # noqa: BLE001 - raised again by the thread that reads
                self._status_error = error
                return

    def _watch(self) -> None:
        """Ask for a sign of life each second; a peer that stays silent is gone (a half-open connection says nothing)."""
        now = time.monotonic()
        if self._status_error is not None:
            raise psycopg.OperationalError("the source takes no status updates") from self._status_error
        if now - self._heard > self._reply_timeout:
            raise psycopg.OperationalError(f"the source has been silent for {self._reply_timeout:g} s")
        if now - self._asked >= 1:
            self._asked = now
            self._send(ask=True)

    def _take(self, message: bytes, batch: Batch) -> None:
        if message[0] == ROW_DATA:
            if len(message) <= HEADER:
                raise WireError("an empty stream message")
            self._take_change(message, batch)
        elif message[0] == 0x6B and len(message) == 18:  # k: keepalive
            if not batch.in_transaction:
                self.processed = max(self.processed, int.from_bytes(message[1:9], "big"))
            if message[17] and batch.in_transaction:
                self._send()
            else:
                self.position_wanted = bool(message[17])
        else:
            raise WireError(f"unknown stream message {message[:1]!r}")

    def _take_change(self, message: bytes, batch: Batch) -> None:
        tag = message[HEADER]
        if tag in b"IUD":
            if not batch.in_transaction:
                raise WireError("a change outside a transaction")
            if self._skipping:
                return
            relation = int.from_bytes(message[HEADER + 1 : HEADER + 5], "big")
            if relation not in self.relations:
                raise WireError("a change of a table the stream did not announce")
            batch.add(relation, message)
            return
        payload = message[HEADER:]
        if tag == 0x42:  # B(egin)
            if batch.in_transaction:
                raise WireError("a transaction begins inside another")
            commit_lsn = parse_begin(payload)
            if self.hold_at is not None and commit_lsn >= self.hold_at:
                batch.held, self._left = True, message
                return
            batch.in_transaction = True
            # A transaction the cache already holds may come again after a reconnect: it is passed over.
            self._skipping = commit_lsn < self._skip_until
        elif tag == 0x43:  # C(ommit)
            if not batch.in_transaction:
                raise WireError("a commit outside a transaction")
            _, end_lsn = parse_commit(payload)
            batch.in_transaction = False
            self.processed = max(self.processed, end_lsn)
            if not self._skipping:
                if batch.end_lsn is not None and end_lsn < batch.end_lsn:
                    raise WireError("the stream goes back")
                batch.complete(end_lsn)
        elif tag == 0x52:  # R(elation)
            announced = parse_relation(payload)
            if batch.groups.get(announced.oid) and self.relations.get(announced.oid) != announced:
                batch.barrier = announced
            else:
                self.relations[announced.oid] = announced
        elif tag == 0x54:  # T(runcate)
            if not self._skipping:
                batch.barrier = parse_truncate(payload)
        elif tag not in b"OYM":  # origin, type, logical message: nothing of ours
            raise WireError(f"unknown change message {chr(tag)!r}")
