"""Notifies the service manager while the server runs: ready, alive, stopping (sd_notify(3), without a library).

systemd names a datagram socket in NOTIFY_SOCKET, and in WATCHDOG_USEC how often it expects a message. Without a socket
every method does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

log = logging.getLogger(__name__)

STATUS_SECONDS = 10.0  # between two status lines where no watchdog asks for more


@dataclass(frozen=True)
class Supervisor:
    """`address` is a path, or a name of the abstract namespace with a leading @; empty: no service manager listens.

    `watchdog_seconds` is the longest silence before the service manager kills us; None: it does not watch.
    """

    address: str = ""
    watchdog_seconds: float | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> Self:
        """As in sd_notify(3) and sd_watchdog_enabled(3); a malformed value counts as none."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):
            address = ""
        meant_for = environment.get("WATCHDOG_PID", "")
        microseconds = environment.get("WATCHDOG_USEC", "")
        watched = microseconds.isdecimal() and int(microseconds) > 0 and meant_for in ("", str(pid))
        return cls(address, int(microseconds) / 1_000_000 if watched else None)

    def ready(self, status: str) -> None:
        """The port answers."""
        self._notify("READY=1", f"STATUS={_line(status)}")

    def alive(self, status: str) -> None:
        """The event loop runs."""
        self._notify("WATCHDOG=1", f"STATUS={_line(status)}")

    def stopping(self, reason: str) -> None:
        """The drain began."""
        self._notify("STOPPING=1", f"STATUS={_line(reason)}")

    async def keep_notifying(self, status: Callable[[], str]) -> None:
        """Notify twice per watchdog interval that the event loop runs; returns at once where no service manager listens."""
        if not self.address:
            return
        pause = STATUS_SECONDS if self.watchdog_seconds is None else min(STATUS_SECONDS, self.watchdog_seconds / 2)
        while True:
            self.alive(status())
            await asyncio.sleep(pause)

    def _notify(self, *lines: str) -> None:
        if not self.address:
            return
        target = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as channel:
            # A service manager that does not read must not hold up the server.
            channel.setblocking(False)
            try:
                channel.sendto("\n".join(lines).encode(), target)
            except OSError as error:
                log.debug("the service manager's socket: %s", error)


def _line(text: str) -> str:
    return " ".join(text.split())


def supervisor() -> Supervisor:
    """The one of this process."""
    return Supervisor.from_environment(os.environ, os.getpid())
