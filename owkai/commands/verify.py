"""`owkai verify`: asks the running server, or opens the cache itself when no server runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg

from analytics.state.cache import Cache, CacheBusyError
from analytics.state.clock import utc_now
from analytics.state.lsn import format_lsn
from analytics.state.store import CacheNotReadyError
from analytics.state.sync_status import Phase, StatusBoard
from config.secrets import masked
from config.settings import Settings
from owkai.control import SOCKET, ControlError, NoServerError, Say, Stopping, ask
from owkai.exits import Exit
from sync.comparison.common_snapshot import VerifyError
from sync.comparison.verify import BusyError, Scope, Verifier
from sync.copy.copy_stream import Stopped
from sync.loop import SyncLoop
from sync.source.connection_failure import diagnose
from sync.source.connections import SourceError, server_text

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = "verify"
RETRY_SECONDS = 15.0  # how long a source may be unreachable before the command gives up
SYNC_STOP_SECONDS = 10.0
CHECK_SECONDS = 0.05


@dataclass(frozen=True)
class VerifyOutcome:
    """The result of the command: its exit code, lines of text, the report as data."""

    code: int
    lines: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


def verify(settings: Settings, scope: Scope, repair: bool, say: Say) -> VerifyOutcome:
    """Compare, and repair if `repair` is set; in the running server if there is one."""
    request = {"command": COMMAND, "table": scope.table, "days": scope.days, "repair": repair}
    try:
        return VerifyOutcome(**ask(settings.cache.directory / SOCKET, request, say))
    except NoServerError:
        pass
    except ControlError as error:
        return failure(Exit.BUSY, str(error))
    return _without_server(settings, scope, repair, say)


def answer(verifier: Verifier, request: Mapping[str, Any], say: Say, stopping: Stopping) -> Mapping[str, Any]:
    """The server's side of the command."""
    table, days = request.get("table"), request.get("days")
    scope = Scope(None if table is None else str(table), None if days is None else int(days))
    return asdict(compare(verifier, scope, bool(request.get("repair")), say, stopping))


def compare(verifier: Verifier, scope: Scope, repair: bool, say: Say, stopping: Stopping) -> VerifyOutcome:
    """Compare, repair what differs, compare again; errors become outcomes."""
    try:
        report = verifier.verify(scope, stopping)
        lines, data = list(report.lines()), report.data()
        if report.equal:
            return VerifyOutcome(Exit.OK, lines, data)
        if not repair:
            return VerifyOutcome(Exit.FAILED, [*lines, "repair it with `owkai verify --repair`"], data)
        for line in lines:
            say(line)
        repaired = verifier.repair(report, stopping)
        after = verifier.verify(scope, stopping)
    except Stopped:
        return failure(Exit.BUSY, "the server is stopping")
    except (BusyError, CacheBusyError) as error:
        return failure(Exit.BUSY, str(error))
    except (VerifyError, SourceError) as error:
        return failure(Exit.SOURCE, str(error), error.remedy)
    except CacheNotReadyError as error:
        return failure(Exit.SOURCE, str(error), "verify again when the copy is complete")
    except psycopg.OperationalError as error:
        cause = diagnose(error)
        return failure(Exit.SOURCE, cause.message, cause.remedy)
    except psycopg.Error as error:
        return failure(Exit.SOURCE, server_text(str(error)))
    except duckdb.Error as error:
        return failure(Exit.FAILED, f"the cache cannot be read: {server_text(str(error))}")
    heading = f"repaired {repaired} keys; compared again:"
    return VerifyOutcome(
        Exit.OK if after.equal else Exit.FAILED,
        [heading, *after.lines()],
        {**after.data(), "repaired_rows": repaired, "before_repair": data},
    )


def failure(code: Exit, message: str, remedy: str = "") -> VerifyOutcome:
    """An outcome without a report."""
    message, remedy = masked(message), masked(remedy)
    return VerifyOutcome(code, [message + (f"; {remedy}" if remedy else "")], {"error": message, "remedy": remedy})


def _without_server(settings: Settings, scope: Scope, repair: bool, say: Say) -> VerifyOutcome:
    """No server runs: take the cache's lock, follow the source as the server would, compare."""
    from owkai.lifecycle import harden

    harden()
    try:
        with _syncing(settings, say) as verifier:
            return compare(verifier, scope, repair, say, lambda: False)
    except CacheBusyError as error:
        return failure(Exit.BUSY, str(error))
    except VerifyError as error:
        return failure(Exit.SOURCE, str(error), error.remedy)
    except OSError as error:
        return failure(
            Exit.SETTINGS, f"cache.directory: {error.filename or settings.cache.directory}: {error.strerror}"
        )


@contextmanager
def _syncing(settings: Settings, say: Say) -> Iterator[Verifier]:
    if settings.cache.in_memory:
        raise VerifyError("cache.in_memory is set, so without a server there is no cache", "start `owkai serve`")
    cache = Cache(settings.cache)
    try:
        if not cache.ready:
            raise VerifyError("there is no complete cache to compare", "`owkai serve` creates one")
        board = StatusBoard()
        loop = SyncLoop(settings, cache, board, utc_now)
        loop.start()
        try:
            _await_stream(loop, board)
            say(f"no server runs: bringing the cache up to date from {format_lsn(board.current.applied_lsn)}")
            yield Verifier(settings, cache, loop, board, utc_now)
        finally:
            loop.stop(SYNC_STOP_SECONDS)
    finally:
        cache.close()


def _await_stream(loop: SyncLoop, board: StatusBoard) -> None:
    """Wait until sync streams. Raises `VerifyError` with the reason if it cannot."""
    pause = threading.Event()
    last_success = time.monotonic()
    while board.current.phase is not Phase.STREAMING:
        now = board.current
        if loop.failed is not None:
            raise CacheBusyError(loop.failed)
        if now.phase is not Phase.RETRYING:
            last_success = time.monotonic()
        if now.phase in (Phase.PAUSED, Phase.POLLING) or time.monotonic() - last_success > RETRY_SECONDS:
            polls = "sync polls this source: source and cache have no common position to compare"
            raise VerifyError(now.error or polls, now.remedy or "")
        pause.wait(CHECK_SECONDS)
