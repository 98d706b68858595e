"""One fault policy: what each kind of error means for sync, and what the operator can do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import duckdb
import psycopg

from analytics.state.cache import CacheBusyError
from analytics.state.store import CacheDamagedError, CacheNotReadyError
from sync.copy.copy_stream import Stopped
from sync.source.connection_failure import diagnose
from sync.source.connections import SourceError, server_text
from sync.source.schema import ShapeError
from sync.values.wire import WireError


class Action(Enum):
    """What sync does next. Whatever is not committed is undone first; the cache keeps answering in every case."""

    RETRY = "retry"  # the same position again, after a pause with jitter
    PAUSE = "pause"  # needs a person: looks again at the slowest pace until the source is fit
    COPY = (
        "copy"  # the stream cannot be continued, or the cache is damaged: a new copy beside the live cache, then a swap
    )
    REOPEN = (
        "reopen"  # the cache's file is opened again at its last commit, then as RETRY; a new copy where it cannot be
    )
    STOP = "stop"  # the server is stopping


@dataclass(frozen=True)
class FaultVerdict:
    action: Action
    message: str
    remedy: str = ""


class SlotGoneError(RuntimeError):
    """Our slot no longer leads on from the cache's position, or what it delivers does not tell which rows changed."""


class SlotBusyError(RuntimeError):
    """Another process reads our slot."""


class SourceChangedError(RuntimeError):
    """The periodic survey found another shape: examine the source anew, at once."""


PRIVILEGES = "`owkai check` names the statement that grants it, `owkai check --sql` prints all of them"
NETWORK = "the server tries again by itself; check the network and the source if it lasts"
DISK = "free space for cache.directory; the server tries again by itself"
# A commit that finds the disk full is no IOException to DuckDB.
NO_ROOM = ("No space left", "File too large", "Disk quota exceeded", "Could not write file", "Failed to commit")
COPIED = (
    "none needed: the source is copied again, and what can still be read is served; check the disk if it happens again"
)
SHAPE = (
    "undo the change; or accept the new shape, with a new copy: take the table out of the publication and add it again "
    "(docs/explanation/sync.md), or restart this server"
)


def judge(error: BaseException) -> FaultVerdict:
    """The policy. Unknown errors are retried: the cache is at its last committed position in any case."""
    match error:
        case Stopped():
            return FaultVerdict(Action.STOP, "stopping")
        case CacheDamagedError():
            return FaultVerdict(Action.COPY, str(error), COPIED)
        case SlotGoneError() | CacheNotReadyError():
            return FaultVerdict(Action.COPY, str(error))
        case SourceChangedError():
            return FaultVerdict(Action.RETRY, str(error), "none needed: the source is examined anew")
        case SlotBusyError() | CacheBusyError():
            return FaultVerdict(Action.RETRY, str(error), "stop the other server, or give this one its own source.slot")
        case ShapeError():
            return FaultVerdict(Action.PAUSE, str(error), SHAPE)
        case SourceError():
            return FaultVerdict(Action.PAUSE, str(error), error.remedy or "see `owkai check`")
        case psycopg.OperationalError():
            found = diagnose(error)
            return FaultVerdict(Action.RETRY, found.message, found.remedy)
        case psycopg.errors.InsufficientPrivilege():
            return FaultVerdict(
                Action.PAUSE, f"a right is missing on the source: {server_text(str(error))}", PRIVILEGES
            )
        case psycopg.Error():
            return FaultVerdict(Action.RETRY, server_text(str(error)), "see `owkai check`")
        case WireError():
            return FaultVerdict(Action.RETRY, f"the source sent what the protocol does not allow: {error}", NETWORK)
        case duckdb.FatalException() if _no_room(error):
            return FaultVerdict(Action.REOPEN, f"the cache cannot be written: {server_text(str(error))}", DISK)
        case duckdb.FatalException() | duckdb.InternalException():
            return FaultVerdict(Action.COPY, f"the cache failed and is rebuilt: {server_text(str(error))}", COPIED)
        case duckdb.IOException() | duckdb.OutOfMemoryException() | OSError():
            return FaultVerdict(Action.RETRY, f"the cache cannot be written: {server_text(str(error))}", DISK)
        case duckdb.Error() if _no_room(error):
            return FaultVerdict(Action.RETRY, f"the cache cannot be written: {server_text(str(error))}", DISK)
        case _:
            return FaultVerdict(Action.RETRY, f"{type(error).__name__}: {server_text(str(error))}", "see the log")


def _no_room(error: duckdb.Error) -> bool:
    return any(text in str(error) for text in NO_ROOM)
