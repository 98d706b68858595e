"""Accepting connections without spinning: a process that has no descriptor left pauses, logs it once, and goes on by itself.

The framework's own loop lets the error of `accept` pass; the socket stays readable, so that it would fail again at once, for
ever, with a line in the log each time.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

from tornado.ioloop import IOLoop

log = logging.getLogger(__name__)

CONNECTIONS_PER_ROUND = 128  # then others have their turn
PAUSE_SECONDS = 0.5
SECONDS_BETWEEN_LINES = 60.0
# What the machine lacks at the moment; the connection keeps waiting in the kernel's queue.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts on one listening socket and hands connections to `taken`. Belongs to the current event loop."""

    def __init__(self, listening: socket.socket, taken: Callable[[socket.socket, Any], None]) -> None:
        self._listening = listening
        self._taken = taken
        self._loop = IOLoop.current()
        self._resumption: object | None = None
        self._next_line = 0.0
        self._stopped = False
        self._listen()

    def stop(self) -> None:
        """Accept nothing more. The socket belongs to the caller. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        if self._resumption is None:
            self._loop.remove_handler(self._listening)
        else:
            self._loop.remove_timeout(self._resumption)
            self._resumption = None

    def _listen(self) -> None:
        self._resumption = None
        self._loop.add_handler(self._listening, self._accept, IOLoop.READ)

    def _accept(self, _: object, events: int) -> None:
        for _ in range(CONNECTIONS_PER_ROUND):
            if self._stopped:
                return
            try:
                connection, address = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._pause(error)
                    return
                continue  # the client went before it was accepted (accept(2) lists what may be reported of that)
            self._taken(connection, address)

    def _pause(self, error: OSError) -> None:
        self._loop.remove_handler(self._listening)
        self._resumption = self._loop.call_later(PAUSE_SECONDS, self._listen)
        now = self._loop.time()
        if now >= self._next_line:
            self._next_line = now + SECONDS_BETWEEN_LINES
            log.error(
                "no connection can be accepted (%s); new ones wait until others close; raise LimitNOFILE or `ulimit -n`, or "
                "lower server.max_connections",
                error.strerror,
            )
