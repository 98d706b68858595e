"""Transactions open on the source that a new replication slot must wait for: who holds them, and how to end them.

A slot's first snapshot is complete only when every transaction that was writing at its creation has ended, in any database of the
server, prepared ones among them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from analytics.state.sync_status import StatusBoard
from config.settings import Settings
from sync.copy.copy_stream import Stopping
from sync.source.connections import SourceError, connect

log = logging.getLogger(__name__)

MOST_LISTED = 3
QUIET_SECONDS = 2.0  # short transactions end by themselves
REPORT_SECONDS = 5.0

# Every role sees all of pg_locks; what pg_stat_activity hides without pg_read_all_stats stays unknown.
_WRITERS = """
SELECT l.pid, NULL, a.datname, a.usename, a.xact_start, a.state
FROM (SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted) l
JOIN pg_stat_activity a USING (pid)
WHERE l.pid <> pg_backend_pid()
UNION ALL
SELECT NULL, gid, database, owner, prepared, 'prepared' FROM pg_prepared_xacts
ORDER BY 5 NULLS LAST, 1 LIMIT %s"""


@dataclass(frozen=True)
class OpenTransaction:
    """A transaction that has written. `pid` is set, or `gid` for a prepared one. `since` is aware UTC, None where hidden."""

    pid: int | None
    gid: str | None
    database: str | None
    user: str | None
    since: datetime | None
    state: str | None

    def __str__(self) -> str:
        who = f"server process {self.pid}" if self.gid is None else f"prepared transaction {self._quoted_gid}"
        since = "an unknown time" if self.since is None else f"{self.since:%Y-%m-%d %H:%M:%S} UTC"
        state = f", {self.state}" if self.state and self.gid is None else ""
        return f"{who} (database {self.database}, user {self.user}, open since {since}{state})"

    @property
    def ending_statement(self) -> str:
        """The statement that ends it and rolls back its work."""
        if self.gid is None:
            return f"SELECT pg_terminate_backend({self.pid})"
        return f"in database {self.database}: ROLLBACK PREPARED {self._quoted_gid}"

    @property
    def _quoted_gid(self) -> str:
        return sql.Literal(self.gid).as_string(None)


def open_transactions(connection: psycopg.Connection, most: int = MOST_LISTED) -> tuple[OpenTransaction, ...]:
    """Open transactions that have written, oldest first."""
    return tuple(OpenTransaction(*row) for row in connection.execute(_WRITERS, [most]).fetchall())


def described(found: Sequence[OpenTransaction]) -> str:
    return ", ".join(map(str, found)) or "none visible"


def remedy_for_open(found: Sequence[OpenTransaction]) -> str:
    """What the operator can do about them."""
    if not found:
        return "wait, or see pg_locks and pg_prepared_xacts on the source"
    return "commit them, or roll them back: " + "; ".join(transaction.ending_statement for transaction in found)


class SlotWait:
    """Called repeatedly while a new slot is being created: reports what it waits for. Returns true when the wait must end."""

    def __init__(self, settings: Settings, board: StatusBoard, stopping: Stopping) -> None:
        self._settings, self._board, self._stopping = settings, board, stopping
        self._due = time.monotonic() + QUIET_SECONDS
        self._reported: str | None = None

    def __call__(self) -> bool:
        if self._stopping():
            return True
        if time.monotonic() >= self._due:
            self._report()
            self._due = time.monotonic() + REPORT_SECONDS
        return False

    def _report(self) -> None:
        try:
            with connect(self._settings) as connection:
                found = open_transactions(connection)
        except (psycopg.Error, SourceError) as error:
            log.debug("the transactions that the new slot waits for could not be read: %s", error)
            return
        message = f"the copy waits until open transactions on the source have ended: {described(found)}"
        remedy = remedy_for_open(found)
        if message != self._reported:
            log.warning("%s; %s", message, remedy)
        self._reported = message
        self._board.update(error=message, remedy=remedy)

    def over(self) -> None:
        """The slot exists: withdraw the report."""
        if self._reported is not None:
            log.info("the open transactions have ended; the copy begins")
            self._board.update(error=None, remedy=None)
