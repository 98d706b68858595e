"""The change stream of our slot, batch by batch: the connection's messages through the protocol.

The confirmed position only moves to what `acknowledge` is given, and its caller gives it only positions that the cache has
committed: an LSN cannot be acknowledged before its batch is durable.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from analytics.state.lsn import format_lsn
from config.settings import Settings
from sync.copy.copy_stream import Stopping
from sync.source.connections import BINARY_SERVER, open_replication
from sync.stream.batch import Batch, BatchLimits
from sync.stream.pgoutput import Relation
from sync.stream.replication_connection import ReplicationConnection
from sync.stream.stream_protocol import StreamProtocol
from sync.values.long_text import LongValue

MESSAGES_BETWEEN_CHECKS = 2_000  # messages taken before clock and stop are checked


class ChangeStream:
    """An open stream from our slot. For one thread; `close` is idempotent.

    Construction raises `StreamRejectedError`, `psycopg.Error`, `Stopped`.
    """

    def __init__(
        self,
        settings: Settings,
        start_lsn: int,
        server_version: int,
        stopping: Stopping,
        long_values: Callable[[Relation], tuple[LongValue, ...]],
    ) -> None:
        self._stopping = stopping
        self._protocol = StreamProtocol(start_lsn, long_values)
        self._connection = ReplicationConnection(
            open_replication(settings),
            _start_command(settings, start_lsn, server_version),
            start_lsn,
            settings.sync.reply_timeout_seconds,
            stopping,
        )

    @property
    def relations(self) -> dict[int, Relation]:
        """The tables that the stream has announced, by OID."""
        return self._protocol.relations

    @property
    def processed(self) -> int:
        """Everything before this was handed over, or does not concern our tables."""
        return self._protocol.processed

    @property
    def acknowledged(self) -> int:
        return self._connection.confirmed_lsn

    @property
    def position_wanted(self) -> bool:
        """Whether the source waits for our position, perhaps in order to shut down."""
        return self._protocol.position_wanted

    @property
    def outgrown(self) -> bool:
        """Whether a huge row has passed: libpq keeps a buffer of its size for as long as the connection lives."""
        return self._protocol.huge_message_seen

    def gather(self, batch: Batch, limits: BatchLimits, wait_seconds: float, barrier_lsn: int | None = None) -> None:
        """Add messages to `batch` until none is waiting, or until a limit, a deferred message or the barrier is reached.

        Transactions that commit at or after `barrier_lsn` are not taken. Waits at most `wait_seconds` for the first message. Raises
        `psycopg.OperationalError` when the source is gone or silent for the reply timeout, `StreamRejectedError` when it ends the
        stream, `WireError` for malformed messages.
        """
        connection, protocol = self._connection, self._protocol
        deadline = time.monotonic() + wait_seconds
        taken = 0
        protocol.barrier_lsn = barrier_lsn
        protocol.resume(batch)
        while not (batch.closed(limits) or protocol.position_wanted):
            message = connection.read()
            if message is not None:
                if protocol.take(protocol.shortened(message), batch):
                    connection.send_position()
                taken += 1
                if taken % MESSAGES_BETWEEN_CHECKS == 0:
                    connection.received()
                    if self._stopping():
                        return
                continue
            if taken:
                connection.received()
            remaining = 0.0 if taken and not batch.in_transaction else max(0.0, deadline - time.monotonic())
            if connection.wait(remaining):
                continue
            connection.require_alive()
            if remaining <= 0 or self._stopping():
                return
        connection.received()

    def acknowledge(self, durable_lsn: int) -> None:
        """Confirm to the source that everything before `durable_lsn` is committed to the cache."""
        self._connection.confirmed_lsn = max(self._connection.confirmed_lsn, durable_lsn)
        self._protocol.position_wanted = False
        self._connection.send_position()

    def end(self) -> None:
        """End the stream in order, which frees the slot at once. Raises as `gather`."""
        self._connection.end()

    def close(self) -> None:
        self._connection.close()


def _start_command(settings: Settings, start_lsn: int, server_version: int) -> str:
    options = ["proto_version '1'", f"publication_names '\"{settings.source.publication}\"'"]
    if server_version >= BINARY_SERVER:
        options.append("binary 'true'")
    return f'START_REPLICATION SLOT "{settings.source.slot}" LOGICAL {format_lsn(start_lsn)} ({", ".join(options)})'
