"""What was gathered from the stream and is not in the cache yet, and when it must be applied and committed. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sync.stream.pgoutput import Relation, Truncate


@dataclass(frozen=True)
class BatchLimits:
    """Bounds on a batch, in rows, bytes and seconds: what is in memory at once, and what may wait for a commit.

    A commit follows the first end of a transaction after one of the three is reached, whether or not more is waiting.
    """

    rows: int
    size_bytes: int = 16 << 20
    seconds: float = 1.0


@dataclass
class Batch:
    """Row messages gathered from the stream, by relation, and where in the stream they end.

    `deferred` is a message that must wait until the rows before it are applied. `at_barrier`: the next transaction is past the
    position barrier and was left for later. `end_lsn` is the end of the last complete transaction; rows of an unfinished one may
    already be in `groups` (`in_transaction`).
    """

    groups: dict[int, list[bytes]] = field(default_factory=dict)
    rows: int = 0
    size_bytes: int = 0
    deferred: Truncate | Relation | None = None
    at_barrier: bool = False
    in_transaction: bool = False
    end_lsn: int | None = None
    transactions: int = 0
    uncommitted_rows: int = 0
    uncommitted_bytes: int = 0
    first_change_at: float | None = None  # monotonic seconds; None when nothing waits for a commit

    def add(self, relation: int, message: bytes) -> None:
        """Add one row message."""
        self.groups.setdefault(relation, []).append(message)
        self.rows += 1
        self.size_bytes += len(message)
        self.uncommitted_rows += 1
        self.uncommitted_bytes += len(message)
        if self.first_change_at is None:
            self.first_change_at = time.monotonic()

    def complete(self, end_lsn: int) -> None:
        """A whole transaction, which ends at `end_lsn`, was gathered; it may contain no row of our tables."""
        self.end_lsn = end_lsn
        self.transactions += 1
        if self.first_change_at is None:
            self.first_change_at = time.monotonic()

    def closed(self, limits: BatchLimits) -> bool:
        """Whether nothing more may be added until the batch is applied or committed."""
        return self.full(limits) or self.due(limits) or self.deferred is not None or self.at_barrier

    def take_rows(self) -> dict[int, list[bytes]]:
        """Remove and return the gathered row messages, by relation."""
        groups, self.groups, self.rows, self.size_bytes = self.groups, {}, 0, 0
        return groups

    def committed(self) -> None:
        """All complete transactions are in the cache."""
        self.end_lsn, self.transactions = None, 0
        self.uncommitted_rows = self.uncommitted_bytes = 0
        self.first_change_at = None

    def full(self, limits: BatchLimits) -> bool:
        """Whether the rows in memory must be applied now, even inside a transaction."""
        return self.rows >= limits.rows or self.size_bytes >= limits.size_bytes

    def due(self, limits: BatchLimits) -> bool:
        """Whether a commit must wait no longer; only at the end of a transaction."""
        if self.in_transaction or self.end_lsn is None or self.first_change_at is None:
            return False
        return (
            self.uncommitted_rows >= limits.rows
            or self.uncommitted_bytes >= limits.size_bytes
            or time.monotonic() - self.first_change_at >= limits.seconds
        )
