"""The fault policy: what each error means for sync, what clears it, and what the operator can do.

`judge` is the only place that decides this. It goes by the error's type, and by SQLSTATE where the server sends one. DuckDB has no
error codes, so a full disk is recognized by the words of DuckDB's own messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import duckdb
import psycopg
from psycopg import errors

from analytics.state.cache import CacheBusyError
from analytics.state.store import CacheDamagedError, CacheNotReadyError
from sync.copy.copy_stream import CommandRejectedError, Stopped
from sync.source.connection_failure import diagnose
from sync.source.connections import SourceError, server_text
from sync.source.schema import ShapeError
from sync.values.wire import WireError


class Action(Enum):
    """What sync does next. It first undoes whatever is not committed; the cache serves reads in every case."""

    RETRY = "retry"  # start again from the committed position, after a pause with jitter
    PAUSE = "pause"  # the operator must act: try again at the slowest pace until the source is usable
    REOPEN = (
        "reopen"  # open the cache file again at its last commit, then RETRY; if it cannot be opened, make a new copy
    )
    STOP = "stop"  # the server is stopping


class ClearedBy(Enum):
    """What proves that a fault is over."""

    FOLLOWING = "following"  # sync follows the source again: the stream is open, or a poll has completed
    COMMIT = "commit"  # a commit to the cache; an open stream proves nothing about a full disk


@dataclass(frozen=True)
class Patience:
    """How long a fault may last, in seconds since it was first met, before it counts for more than a retry."""

    attention_seconds: float  # after this the operator must act: the phase is `paused`
    exit_seconds: float  # after this a server that has never followed its source exits


@dataclass(frozen=True)
class FaultVerdict:
    """What a fault means. `copy_reason` is set where the cache cannot be continued: the next attempt makes a new copy."""

    action: Action
    message: str
    remedy: str = ""
    cleared_by: ClearedBy = ClearedBy.FOLLOWING
    copy_reason: str | None = None
    patience: Patience | None = None
    unexpected: bool = False  # no rule covers it: the log gets the traceback


class SlotGoneError(RuntimeError):
    """Our slot no longer continues from the cache's position, or its changes do not identify the changed rows."""


class SlotBusyError(RuntimeError):
    """Another process uses our slot."""


class SourceChangedError(RuntimeError):
    """The periodic survey found another shape: examine the source again, at once."""


class StreamRejectedError(CommandRejectedError):
    """The source refused to start the change stream, or ended it with an error. `sqlstate` names the reason."""


PRIVILEGES = "`owkai check` names the statement that grants it, `owkai check --sql` prints all of them"
NETWORK = "the server retries automatically; if it lasts, check the network and the source"
DISK = "free space for cache.directory; the server retries automatically"
COPIED = (
    "none needed: the source is copied again, and readable data is still served; check the disk if it happens again"
)
SHAPE = (
    "undo the change; or accept the new shape, with a new copy: take the table out of the publication and add it again "
    "(docs/explanation/sync.md), or restart this server"
)
BUSY = "stop the other server, or give this one its own source.slot"
CHECK = "see `owkai check`"

# The connection of a server that was just killed can hold the slot for a short time; longer means another server.
SLOT_PATIENCE = Patience(attention_seconds=3.0, exit_seconds=20.0)

# DuckDB's words for a disk without space. A commit that finds the disk full is no IOException to DuckDB.
DISK_FULL = ("No space left", "File too large", "Disk quota exceeded", "Could not write file", "Failed to commit")

# The slot was invalidated or cannot be read from, or the WAL it needs has been removed.
_SLOT_LOST = (errors.ObjectNotInPrerequisiteState.sqlstate, errors.UndefinedFile.sqlstate)


def judge(error: BaseException) -> FaultVerdict:
    """The policy. Unknown errors are retried, which is safe because the cache is at its last committed position."""
    match error:
        case Stopped():
            return FaultVerdict(Action.STOP, "stopping")
        case CacheDamagedError():
            return FaultVerdict(Action.RETRY, str(error), COPIED, copy_reason=str(error))
        case SlotGoneError() | CacheNotReadyError():
            return FaultVerdict(Action.RETRY, str(error), copy_reason=str(error))
        case SourceChangedError():
            return _source_changed(str(error))
        case SlotBusyError():
            return _slot_busy(str(error))
        case CacheBusyError():
            return FaultVerdict(Action.RETRY, str(error), BUSY)
        case ShapeError():
            return FaultVerdict(Action.PAUSE, str(error), SHAPE, copy_reason="the shape of the source had changed")
        case StreamRejectedError():
            return _stream_rejected(error)
        case SourceError():
            return FaultVerdict(Action.PAUSE, str(error), error.remedy or CHECK)
        case psycopg.OperationalError():
            diagnosis = diagnose(error)
            return FaultVerdict(Action.RETRY, diagnosis.message, diagnosis.remedy)
        case errors.InsufficientPrivilege():
            return FaultVerdict(
                Action.PAUSE, f"a privilege is missing on the source: {server_text(str(error))}", PRIVILEGES
            )
        case psycopg.Error():
            return FaultVerdict(Action.RETRY, server_text(str(error)), CHECK)
        case WireError():
            return FaultVerdict(Action.RETRY, f"the source sent data that violates the protocol: {error}", NETWORK)
        case duckdb.Error() | OSError():
            return _cache_failed(error)
        case _:
            message = f"{type(error).__name__}: {server_text(str(error))}"
            return FaultVerdict(Action.RETRY, message, "see the log", unexpected=True)


def _source_changed(message: str) -> FaultVerdict:
    return FaultVerdict(Action.RETRY, message, "none needed: the source is examined again")


def _slot_busy(message: str) -> FaultVerdict:
    return FaultVerdict(Action.RETRY, message, BUSY, patience=SLOT_PATIENCE)


def _stream_rejected(error: StreamRejectedError) -> FaultVerdict:
    message = str(error)
    if error.sqlstate == errors.ObjectInUse.sqlstate:
        return _slot_busy(message)
    if error.sqlstate in _SLOT_LOST:
        return FaultVerdict(Action.RETRY, message, copy_reason=message)
    if error.sqlstate == errors.UndefinedObject.sqlstate:
        return _source_changed(message)  # the slot or the publication was dropped; the survey finds out which
    return FaultVerdict(Action.PAUSE, message, error.remedy or CHECK)


def _cache_failed(error: duckdb.Error | OSError) -> FaultVerdict:
    """The cache could not be written or read. After a fatal error, DuckDB refuses all work until the file is opened again."""
    text = server_text(str(error))
    disk_full = isinstance(error, duckdb.Error) and any(sign in str(error) for sign in DISK_FULL)
    unwritable = FaultVerdict(Action.RETRY, f"the cache cannot be written: {text}", DISK, ClearedBy.COMMIT)
    match error:
        case duckdb.FatalException() if disk_full:
            return FaultVerdict(Action.REOPEN, unwritable.message, DISK, ClearedBy.COMMIT)
        case duckdb.FatalException() | duckdb.InternalException():
            message = f"the cache failed and is rebuilt: {text}"
            return FaultVerdict(Action.REOPEN, message, COPIED, copy_reason=message)
        case duckdb.IOException() | duckdb.OutOfMemoryException() | OSError():
            return unwritable
        case _ if disk_full:
            return unwritable
        case _:
            message = f"{type(error).__name__}: {text}"
            return FaultVerdict(Action.RETRY, message, "see the log", unexpected=True)
