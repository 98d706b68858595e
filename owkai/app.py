"""The composition root: one process that reads a Postgres database and serves analytics of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial

from analytics.state.background import keep_running
from analytics.state.cache import Cache, CacheBusyError
from analytics.state.clock import utc_now
from analytics.state.lsn import format_lsn
from analytics.state.sync_status import StatusBoard, SyncStatus
from analytics.state.telemetry_board import TelemetryBoard
from config.load import Loaded
from config.secrets import secret_texts
from handlers.application import ApiServer
from handlers.audit.audit_log import AuditLog
from handlers.audit.files import AuditFileError
from handlers.auth.key_store import KeyStoreError
from handlers.auth.revocations import RevokedFileError
from handlers.auth.token_keys import KeyFileError
from handlers.connections.tls import CertificateError
from handlers.services import Services
from owkai import logs
from owkai.commands import audit as auditing
from owkai.commands import verify as verification
from owkai.control import SOCKET, ControlError, ControlServer
from owkai.exits import Exit
from owkai.lifecycle import Lifecycle, Stage, affordable_connections, harden, raise_descriptor_limit
from owkai.progress import show_copies
from owkai.reloading import Reloading
from owkai.standstill import Standstill
from owkai.supervisor import supervisor
from owkai.wiring import make_services
from sync.comparison.scheduled_check import ScheduledCheck
from sync.comparison.verify import Verifier
from sync.loop import SyncLoop
from sync.telemetry.collector import Collector

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.1
SYNC_STOP_SECONDS = 10.0
COLLECTOR_STOP_SECONDS = 1.0  # a call of AWS under way ends with the process


def run(
    loaded: Loaded, *, on_ready: Callable[[int], None] | None = None, again: Callable[[], Loaded] | None = None
) -> int:
    """Serve until a signal or a failure; returns the exit code (`owkai.exits.Exit`).

    `on_ready` gets the bound port once the server answers; data may still be on its way (see /readyz). `again` reads the
    settings again on SIGHUP; without it, only the files that they name are read again.
    """
    settings = loaded.settings
    harden()
    logs.set_up(settings.log, secret_texts(settings))
    threading.excepthook = report_thread
    for warning in loaded.warnings:
        log.warning("%s", warning)
    if os.geteuid() == 0:
        log.warning("the server runs as root; give it an account of its own")
    limit = raise_descriptor_limit(settings.server.max_connections)
    if limit:
        log.warning("%s", limit)
    try:
        cache = Cache(settings.cache)
    except CacheBusyError as error:
        return _refuse(Exit.BUSY, str(error))
    except OSError as error:
        place = error.filename or settings.cache.directory
        return _refuse(
            Exit.SETTINGS, f"cache.directory: {place}: {error.strerror}; name a directory that is ours to write"
        )
    try:
        return asyncio.run(_serve(loaded, cache, on_ready, again))
    finally:
        cache.close()


def report_thread(failure: threading.ExceptHookArgs) -> None:
    """The last resort for a thread that nothing supervises: its end belongs in the log, with the other lines."""
    error = failure.exc_value
    if error is not None:
        log.error("thread %s ended", failure.thread.name if failure.thread else "unknown", exc_info=error)


async def _serve(
    loaded: Loaded, cache: Cache, on_ready: Callable[[int], None] | None, again: Callable[[], Loaded] | None
) -> int:
    settings = loaded.settings
    lifecycle, board = Lifecycle(), StatusBoard()
    telemetry = TelemetryBoard(settings.telemetry.source)
    try:
        services = make_services(settings, cache, board, utc_now, telemetry)
    except (KeyFileError, KeyStoreError, RevokedFileError, AuditFileError) as error:
        return _refuse(Exit.SETTINGS, str(error))
    try:
        server = ApiServer(services, affordable_connections(settings.server.max_connections))
    except CertificateError as error:
        services.close()
        return _refuse(Exit.SETTINGS, str(error))
    sync = SyncLoop(settings, cache, board, utc_now)
    reloading = Reloading(loaded, again, services, server, sync.try_now)
    lifecycle.listen(lambda: _status_line(board, cache), reloading.reload)
    try:
        port = server.start()
    except OSError as error:
        code, reason = explain_bind(error, settings.server.host, settings.server.port)
        services.close()
        return _refuse(code, reason)
    collector = Collector(settings, telemetry, services.metrics.totals, utc_now, board.jobs)
    verifier = Verifier(settings, cache, sync, board, utc_now)
    check = ScheduledCheck(verifier, board, settings.sync.verify_seconds)
    control = ControlServer(
        settings.cache.directory / SOCKET,
        {
            verification.COMMAND: partial(verification.answer, verifier),
            auditing.COMMAND: partial(auditing.answer, services.audit),
        },
    )
    lifecycle.stage = Stage.SERVING
    log.info("listening on %s", address(settings.server.host, port), extra={"port": port, "pid": os.getpid()})
    services.audit.note("start", **auditing.process(settings, port))
    standstill = Standstill(board, settings.sync.stale_after_seconds)
    watch = asyncio.create_task(
        keep_running("owkai-watch", lambda: _watch(sync, lifecycle, board, services.audit, standstill), board.jobs)
    )
    bar = asyncio.create_task(show_copies(board, sys.stderr))
    manager = supervisor()
    telling = asyncio.create_task(manager.keep_notifying(lambda: _status_line(board, cache)))
    try:
        sync.start()
        check.start()
        collector.start()
        services.forecasting.start()
        await _listen_to_operator(control)
        manager.ready(_status_line(board, cache))
        if on_ready is not None:
            on_ready(port)
        await lifecycle.wait()
    finally:
        watch.cancel()
        bar.cancel()
        lifecycle.stage = Stage.DRAINING
        manager.stopping(f"stopping ({lifecycle.reason or 'error'})")
        await control.stop()
        await asyncio.to_thread(check.stop, SYNC_STOP_SECONDS)
        await asyncio.to_thread(collector.stop, COLLECTOR_STOP_SECONDS)
        await _drain(lifecycle, services, server, sync)
        telling.cancel()
        lifecycle.stage = Stage.STOPPED
        log.info("stopped, exit code %d", lifecycle.exit)
    return lifecycle.exit


async def _listen_to_operator(control: ControlServer) -> None:
    """A server without its socket still serves; only operator commands cannot reach it."""
    try:
        await control.start()
    except (ControlError, OSError) as error:
        log.warning("operator commands such as `owkai verify` cannot reach this server: %s", error)


async def _watch(
    sync: SyncLoop, lifecycle: Lifecycle, board: StatusBoard, journal: AuditLog, standstill: Standstill
) -> None:
    """Ends the server when sync has failed for good (`SyncLoop.failed`); records each change of sync's state."""
    role = auditing.sync_role(SyncStatus())  # sync may be further already
    while sync.failed is None:
        await asyncio.sleep(WATCH_SECONDS)
        standstill.look(utc_now())
        if (now := auditing.sync_role(board.current)) != role:
            journal.note("sync", before=role, now=now)
            role = now
    lifecycle.end(Exit.BUSY, sync.failed)
    await asyncio.Event().wait()  # until it is cancelled: the end is under way


async def _drain(lifecycle: Lifecycle, services: Services, server: ApiServer, sync: SyncLoop) -> None:
    bound = services.settings.server.drain_seconds
    log.info("stopping (%s): open requests have %g s", lifecycle.reason or "error", bound)
    # A margin, because the server keeps the bound itself; this one only guards against a fault in doing so.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.drain(), bound + 2)
    await asyncio.to_thread(sync.stop, SYNC_STOP_SECONDS)
    services.audit.note("stop", reason=lifecycle.reason or "error", exit_code=int(lifecycle.exit))
    services.close()


def explain_bind(error: OSError, host: str, port: int) -> tuple[Exit, str]:
    """Why the port could not be taken, and what to do."""
    where = address(host, port)
    if error.errno == errno.EADDRINUSE:
        return Exit.BUSY, f"{where} is in use by another process; stop it or choose another server.port"
    if error.errno == errno.EACCES:
        return Exit.SETTINGS, f"{where} needs a privilege (ports below 1024 do); choose server.port = 8480 or a proxy"
    return (
        Exit.SETTINGS,
        f"cannot listen on {where}: {error.strerror or 'unknown address'}; check server.host and server.port",
    )


def address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _status_line(board: StatusBoard, cache: Cache) -> str:
    now = board.current
    lag = now.lag_seconds(utc_now())
    return (
        f"sync {now.phase.value}, mode {now.mode}, at {format_lsn(now.applied_lsn) or 'no position'}, "
        f"lag {'unknown' if lag is None else f'{lag:.1f} s'}, cache version {cache.version}"
    )


def _refuse(code: Exit, reason: str) -> int:
    log.error("%s", reason)
    if not logging.getLogger().handlers:
        print(reason, file=sys.stderr)
    return code
