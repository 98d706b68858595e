"""What was gathered from the stream and is not in the cache yet, and when it must go there. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sync.stream.pgoutput import Relation, Truncate


@dataclass(frozen=True)
class BatchLimits:
    """Bounds on a batch: what is held in memory at once, and what may wait for a commit, in rows, bytes and seconds.

    A commit comes at the first end of a transaction after one of the three is reached, whether or not more is waiting.
    """

    rows: int
    size_bytes: int = 16 << 20
    seconds: float = 1.0


@dataclass
class Batch:
    """Row messages gathered from the stream, by relation, and where in the stream they end.

    `barrier` is a message that must wait until the rows before it are applied; `held` says that the next transaction lies
    behind the stream's `hold_at` and was left for later. `end_lsn` is the end of the last complete
    transaction; rows of an unfinished one may already be in `groups` (`in_transaction`).
    """

    groups: dict[int, list[bytes]] = field(default_factory=dict)
    rows: int = 0
    size_bytes: int = 0
    barrier: Truncate | Relation | None = None
    held: bool = False
    in_transaction: bool = False
    end_lsn: int | None = None
    transactions: int = 0
    uncommitted_rows: int = 0
    uncommitted_bytes: int = 0
    first_change_at: float | None = None  # monotonic seconds; None when nothing waits for a commit

    def add(self, relation: int, message: bytes) -> None:
        """Take in one row message."""
        self.groups.setdefault(relation, []).append(message)
        self.rows += 1
        self.size_bytes += len(message)
        self.uncommitted_rows += 1
        self.uncommitted_bytes += len(message)
        if self.first_change_at is None:
            self.first_change_at = time.monotonic()

    def complete(self, end_lsn: int) -> None:
        """A transaction that ends at `end_lsn` was gathered as a whole; it may hold no row of ours."""
        self.end_lsn = end_lsn
        self.transactions += 1
        if self.first_change_at is None:
            self.first_change_at = time.monotonic()

    def take_rows(self) -> dict[int, list[bytes]]:
        groups, self.groups, self.rows, self.size_bytes = self.groups, {}, 0, 0
        return groups

    def committed(self) -> None:
        """All complete transactions are in the cache."""
        self.end_lsn, self.transactions = None, 0
        self.uncommitted_rows = self.uncommitted_bytes = 0
        self.first_change_at = None

    def full(self, limits: BatchLimits) -> bool:
        """Whether the rows in memory must be applied now, inside a transaction too."""
        return self.rows >= limits.rows or self.size_bytes >= limits.size_bytes

    def due(self, limits: BatchLimits) -> bool:
        """Whether a commit must not wait any longer, at the end of a transaction."""
        if self.in_transaction or self.end_lsn is None or self.first_change_at is None:
            return False
        return (
            self.uncommitted_rows >= limits.rows
            or self.uncommitted_bytes >= limits.size_bytes
            or time.monotonic() - self.first_change_at >= limits.seconds
        )
