"""A server process from start to stop: hardening, signals, and one event that ends it."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from enum import Enum

from owkai.exits import Exit

log = logging.getLogger(__name__)

PR_SET_DUMPABLE = 4
SAME_SIGNAL_SECONDS = 1.0
SPARE_DESCRIPTORS = 100  # cache, log, source, and what the interpreter has open


class Stage(Enum):
    """Where the process stands. Moves forward only."""

    STARTING = "starting"  # settings are read; nothing listens yet
    SERVING = "serving"  # the port answers; /readyz shows whether data is ready
    DRAINING = "draining"  # no new work; open requests end, bounded by server.drain_seconds
    STOPPED = "stopped"


class Lifecycle:
    """Ends the server once, for the first reason given: a signal (exit 0) or a failure (its exit code).

    A second SIGTERM or SIGINT ends the process at once, by that signal; the cache is safe against that. One that comes within
    `SAME_SIGNAL_SECONDS` of the first counts as the same request, because supervisors and terminals signal both a process and its group.
    """

    def __init__(self) -> None:
        self.stage = Stage.STARTING
        self.exit = Exit.OK
        self.reason = ""
        self._ended = asyncio.Event()
        self._signaled_at: float | None = None

    def end(self, code: Exit, reason: str) -> None:
        """Ask for the end; later calls change nothing."""
        if not self._ended.is_set():
            self.exit, self.reason = code, reason
            self._ended.set()

    @property
    def ending(self) -> bool:
        return self._ended.is_set()

    async def wait(self) -> None:
        """Wait until `end` is called."""
        await self._ended.wait()

    def listen(self, report: Callable[[], str], reload: Callable[[], None]) -> None:
        """Take over the signals on the running loop. SIGUSR1 logs `report()`; SIGHUP calls `reload()`, on a terminal it
        ends the server."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_signal, number)
        on_terminal = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
        loop.add_signal_handler(signal.SIGHUP, self._hang_up, on_terminal, reload)
        loop.add_signal_handler(signal.SIGUSR1, lambda: log.info("%s", report()))
        loop.add_signal_handler(signal.SIGUSR2, lambda: log.info("SIGUSR2 has no meaning here"))

    def _stop_signal(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if self._signaled_at is None:
            self._signaled_at = now
        elif now - self._signaled_at < SAME_SIGNAL_SECONDS:
            return
        if self.ending:
            log.warning("%s came a second time: stopping at once", number.name)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.end(Exit.OK, number.name)

    def _hang_up(self, on_terminal: bool, reload: Callable[[], None]) -> None:
        if on_terminal:
            self.end(Exit.OK, "SIGHUP")
        elif not self.ending:
            reload()


def harden() -> None:
    """Files of this process are private, and neither a core dump nor another process of this account shows its memory."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # Also closes /proc/PID/environ, where secrets given by the environment could be read.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def raise_descriptor_limit(connections: int) -> str | None:
    """Raise the soft limit of open files as far as allowed; a warning where it still caps the connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < reachable:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
        soft = reachable
    affordable = affordable_connections(connections)
    if affordable >= connections:
        return None
    return (
        f"the limit of open files ({soft}) allows {affordable} connections, additional ones are closed; "
        f"server.max_connections is {connections}; raise LimitNOFILE or `ulimit -n`"
    )


def affordable_connections(connections: int) -> int:
    """As many of these as the limit of open files allows beside what else the process has open; at least 1."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, max(soft - SPARE_DESCRIPTORS, soft // 4)))
