"""431 for a request whose line and headers are longer than the bound. The framework closes such a connection without an answer.

It does so inside the stream, before any application code runs, so the answer is written there: when the stream is about to
close because the end of a request's head was not found within the bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from asyncio import Future
from collections.abc import Awaitable, Mapping
from types import TracebackType

from tornado.iostream import IOStream, UnsatisfiableReadError

from handlers.problem import PROBLEM_TYPE, phrase, problem_body

STATUS = 431
DETAIL = "The request line and headers are longer than this server reads"
LINGER_SECONDS = 1.0
LINGER_BYTES = 1_000_000
PIECE_BYTES = 65_536


def overlong_answer(headers: Mapping[str, str]) -> bytes:
    """The whole response, with these headers."""
    body = problem_body(STATUS, DETAIL, "none")
    lines = {**headers, "Content-Type": PROBLEM_TYPE, "Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {STATUS} {phrase(STATUS)}\r\n{head}\r\n".encode("latin-1") + body


class OverlongGuard:
    """Watches one connection's stream; writes `answer` where it closes over an over-long head."""

    def __init__(self, stream: IOStream, answer: bytes) -> None:
        self._stream = stream
        self._answer = answer
        self._read_until_regex = stream.read_until_regex  # what the framework reads heads with, and nothing else
        self._close = stream.close
        self._asking = False
        self._head: Awaitable[bytes] | None = None
        stream.read_until_regex = self.read_head  # type: ignore[method-assign]
        stream.close = self.close  # type: ignore[method-assign]

    def read_head(self, regex: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        self._asking = True
        try:
            self._head = self._read_until_regex(regex, max_bytes)
        finally:
            self._asking = False
        return self._head

    def close(
        self,
        exc_info: bool
        | BaseException
        | tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
        | None = False,
    ) -> None:
        if isinstance(exc_info, UnsatisfiableReadError) and self._reading_head and not self._stream.closed():
            with contextlib.suppress(OSError):
                self._refuse()
        self._close(exc_info)

    @property
    def _reading_head(self) -> bool:
        return self._asking or (isinstance(self._head, Future) and not self._head.done())

    def _refuse(self) -> None:
        if self._stream.writing():
            return  # an earlier answer is still on its way; nothing may stand in the middle of it
        self._stream.socket.send(self._answer)
        linger(socket.socket(fileno=os.dup(self._stream.socket.fileno())))


def linger(rest: socket.socket) -> None:
    """Read for a while what the client still sends: closing over unread bytes would destroy the answer on its way."""
    loop = asyncio.get_running_loop()
    left = LINGER_BYTES

    def end() -> None:
        timer.cancel()
        loop.remove_reader(rest)
        rest.close()

    def drain() -> None:
        nonlocal left
        try:
            piece = rest.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        left -= len(piece)
        if not piece or left <= 0:
            end()

    rest.setblocking(False)
    timer = loop.call_later(LINGER_SECONDS, end)
    loop.add_reader(rest, drain)
    with contextlib.suppress(OSError):
        rest.shutdown(socket.SHUT_WR)
