"""The order of a change stream: raw messages in, a batch out. No I/O: it knows what may follow what, and where in the WAL it is."""

from __future__ import annotations

from collections.abc import Callable

from sync.stream.batch import Batch
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

MAXIMUM_MESSAGE_BYTES = 1 << 30
HUGE_BYTES = 32 << 20
ROW_DATA = ord("w")  # XLogData
KEEPALIVE, KEEPALIVE_BYTES = ord("k"), 18
BEGIN, COMMIT, ANNOUNCE, TRUNCATE = ord("B"), ord("C"), ord("R"), ord("T")
IGNORED = b"OYM"  # origin, type, logical message: not about our tables


class StreamProtocol:
    """Takes the messages of one stream in order and adds them to a batch. Raises `WireError` for anything out of order."""

    def __init__(self, start_lsn: int, long_values: Callable[[Relation], tuple[LongValue, ...]]) -> None:
        """Transactions that committed before `start_lsn` are in the cache: the source may send them again after a reconnect."""
        self._start_lsn = start_lsn
        self._long_values = long_values
        self.relations: dict[int, Relation] = {}
        self.processed = start_lsn  # everything before this is in a batch, or does not concern our tables
        self.barrier_lsn: int | None = None  # transactions that commit at or after this are not taken
        self.position_wanted = False  # the source waits for our position, perhaps in order to shut down
        self.huge_message_seen = False
        self._skipping = False
        self._postponed: bytes | None = None  # the begin message that met the barrier

    def resume(self, batch: Batch) -> None:
        """Take the begin message that met an earlier barrier, if there is one."""
        batch.at_barrier = False
        if self._postponed is not None:
            message, self._postponed = self._postponed, None
            self.take(message, batch)

    def take(self, message: bytes, batch: Batch) -> bool:
        """Add one message; returns whether the source wants our position at once, in the middle of a transaction."""
        if message[0] == ROW_DATA:
            if len(message) <= HEADER:
                raise WireError("an empty stream message")
            self._take_change(message, batch)
            return False
        if message[0] != KEEPALIVE or len(message) != KEEPALIVE_BYTES:
            raise WireError(f"unknown stream message {message[:1]!r}")
        reply_requested = bool(message[17])
        if not batch.in_transaction:
            self.processed = max(self.processed, int.from_bytes(message[1:9], "big"))
        if reply_requested and batch.in_transaction:
            return True
        self.position_wanted = reply_requested
        return False

    def shortened(self, message: memoryview) -> bytes:
        """The message with each value cut to what the cache keeps. Never copies the whole of a huge message."""
        if len(message) <= LONGEST_TEXT_BYTES:
            return bytes(message)
        if len(message) > MAXIMUM_MESSAGE_BYTES:
            raise WireError("a message of more than 1 GiB")
        self.huge_message_seen = self.huge_message_seen or len(message) > HUGE_BYTES
        if message[0] != ROW_DATA or message[HEADER] not in b"IUD":
            return bytes(message)
        try:
            return shortened(message, TUPLE_TAG, self._long_values(self._relation(message)))
        except ValueError as error:
            raise WireError(str(error)) from error

    def _relation(self, message: bytes | memoryview) -> Relation:
        relation = self.relations.get(int.from_bytes(message[RELATION:TUPLE_TAG], "big"))
        if relation is None:
            raise WireError("a change of a table the stream did not announce")
        return relation

    def _take_change(self, message: bytes, batch: Batch) -> None:
        tag = message[HEADER]
        if tag in b"IUD":
            if not batch.in_transaction:
                raise WireError("a change outside a transaction")
            if not self._skipping:
                batch.add(self._relation(message).oid, message)
            return
        payload = message[HEADER:]
        if tag == BEGIN:
            self._begin(parse_begin(payload), message, batch)
        elif tag == COMMIT:
            self._commit(parse_commit(payload)[1], batch)
        elif tag == ANNOUNCE:
            announced = parse_relation(payload)
            if batch.groups.get(announced.oid) and self.relations.get(announced.oid) != announced:
                batch.deferred = announced
            else:
                self.relations[announced.oid] = announced
        elif tag == TRUNCATE:
            if not self._skipping:
                batch.deferred = parse_truncate(payload)
        elif tag not in IGNORED:
            raise WireError(f"unknown change message {chr(tag)!r}")

    def _begin(self, commit_lsn: int, message: bytes, batch: Batch) -> None:
        if batch.in_transaction:
            raise WireError("a transaction begins inside another")
        if self.barrier_lsn is not None and commit_lsn >= self.barrier_lsn:
            batch.at_barrier, self._postponed = True, message
            return
        batch.in_transaction = True
        self._skipping = commit_lsn < self._start_lsn

    def _commit(self, end_lsn: int, batch: Batch) -> None:
        if not batch.in_transaction:
            raise WireError("a commit outside a transaction")
        batch.in_transaction = False
        self.processed = max(self.processed, end_lsn)
        if not self._skipping:
            if batch.end_lsn is not None and end_lsn < batch.end_lsn:
                raise WireError("the stream goes back")
            batch.complete(end_lsn)
