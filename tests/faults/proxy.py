"""The line between the server and its Postgres, in our hands: a TCP proxy that can be cut, stalled, slowed and garbled."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType

LOOK_SECONDS = 0.05
CHUNK_BYTES = 65536
NO_LINGER = struct.pack("ii", 1, 0)  # close with a reset, as a host that went away answers


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`, which may be changed for later connections.

    `cut` resets every connection and every new one; `stall` is a half-open line: connections are accepted and kept, nothing
    passes; `delay` holds each piece back; `garble` inverts the bits of the next pieces that come from Postgres; `mend` ends
    all of that, and what a stalled line held back is delivered.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.accepted = 0
        self.garbled = 0
        self._cut = self._stalled = self._closing = False
        self._delay_seconds = 0.0
        self._garble = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    def dsn(self, dsn: str) -> str:
        """The same connection string through this proxy."""
        return dsn.replace(f":{self.target}/", f":{self.port}/")

    def cut(self) -> None:
        self._cut = True
        with self._lock:
            for end in self._open:
                _reset(end)
            self._open.clear()

    def stall(self) -> None:
        self._stalled = True

    def delay(self, seconds: float) -> None:
        self._delay_seconds = seconds

    def garble(self, pieces: int) -> None:
        self._garble = pieces

    def mend(self) -> None:
        self._cut = self._stalled = False
        self._delay_seconds, self._garble = 0.0, 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join()

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._cut:
                _reset(near)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                _reset(near)
                continue
            with self._lock:
                self._open |= {near, far}
            for source, sink, answers in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._forward, args=(source, sink, answers), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while piece := source.recv(CHUNK_BYTES):
                if self._delay_seconds:
                    time.sleep(self._delay_seconds)
                while self._stalled and not self._cut:
                    time.sleep(LOOK_SECONDS)
                if answers and self._garble:
                    self._garble -= 1
                    self.garbled += 1
                    piece = bytes(byte ^ 0xFF for byte in piece)
                sink.sendall(piece)
        except OSError:
            pass  # one end is gone: so is the other
        with self._lock:
            self._open -= {source, sink}
        for end in (source, sink):
            _reset(end)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        end.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        end.close()
