"""WebSocket frames: one encoding for all clients, and a protocol stricter with clients than the framework's.

Tornado 6.6 accepts unmasked client frames (RFC 6455 §5.1 has the connection failed), echoes close codes that must never be
sent, ends most violations without saying why, and bounds neither pings nor fragments. This module therefore
receives frames itself; Tornado does the handshake, the replies to pings and the closing handshake. Frames from clients are
checked and ignored, and the limits are small.
"""

from __future__ import annotations

import asyncio
import codecs
import struct
from collections.abc import Callable
from typing import Any

from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, StreamClosedError
from tornado.util import _websocket_mask
from tornado.websocket import WebSocketProtocol13

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
FINAL = 0x80
RESERVED_BITS = 0x70
MASK_BIT = 0x80
CONTROL_BIT = 0x8
CONTROL_BYTES = 125
FLOOD_FRAMES = 100
FLOOD_SECONDS = 10.0
LINGER_SECONDS = 1.0
LINGER_BYTES = 1_000_000
LINGER_PIECE = 65_536

GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
NOT_TEXT = 1007
POLICY_VIOLATION = 1008
TOO_BIG = 1009
TRY_AGAIN_LATER = 1013
CREDENTIAL_ENDED = 4401

PING_FRAME = memoryview(bytes((FINAL | PING, 0)))

Utf8 = codecs.getincrementaldecoder("utf-8")


class FrameError(Exception):
    """A client's frame violates the protocol or a limit; `code` is the close code to send."""

    def __init__(self, code: int) -> None:
        super().__init__(f"close code {code}")
        self.code = code


def text_frame(payload: bytes) -> bytes:
    """A final, unmasked, uncompressed text frame (RFC 6455 §5.2), ready for any number of clients."""
    size = len(payload)
    if size <= CONTROL_BYTES:
        return struct.pack("!BB", FINAL | TEXT, size) + payload
    if size <= 0xFFFF:
        return struct.pack("!BBH", FINAL | TEXT, 126, size) + payload
    return struct.pack("!BBQ", FINAL | TEXT, 127, size) + payload


def may_be_sent(code: int) -> bool:
    """Close codes that may stand in a close frame (RFC 6455 §7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


class StrictProtocol(WebSocketProtocol13):
    """The connection to one client. Every frame that arrives sets `heard`; the sender of pings clears it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard = True
        self.outlet: Outlet | None = None
        self._window_ends = 0.0
        self._window_frames = 0
        self._in_message = False
        self._message_bytes = 0
        self._decoder: codecs.IncrementalDecoder | None = None
        self._time: Callable[[], float] = IOLoop.current().time

    # -- receiving -------------------------------------------------------------------------------------------------

    async def _receive_frame_loop(self) -> None:
        try:
            while not self.client_terminated:
                await self._receive_frame()
        except FrameError as error:
            await self._fail(error.code)
        except StreamClosedError:
            self._abort()
        finally:
            self.handler.on_ws_connection_close(self.close_code, self.close_reason)

    async def _receive_frame(self) -> None:
        """One frame, checked before its payload is read (RFC 6455 §5.2, 5.4, 5.5)."""
        first, second = await self._read_bytes(2)
        self.heard = True
        self._count_frame()
        opcode, final, size = first & 0x0F, bool(first & FINAL), second & 0x7F
        control = bool(opcode & CONTROL_BIT)
        if opcode not in OPCODES or first & RESERVED_BITS or not second & MASK_BIT:
            raise FrameError(PROTOCOL_ERROR)
        if control and (size > CONTROL_BYTES or not final):
            raise FrameError(PROTOCOL_ERROR)
        if not control and (opcode == CONTINUATION) is not self._in_message:
            raise FrameError(PROTOCOL_ERROR)
        if size == 126:
            (size,) = struct.unpack("!H", await self._read_bytes(2))
            _refuse_unless(size > CONTROL_BYTES)
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._read_bytes(8))
            _refuse_unless(0xFFFF < size < 1 << 63)
        if not control and self._message_bytes + size > self.params.max_message_size:
            raise FrameError(TOO_BIG)
        masked = await self._read_bytes(4 + size)
        payload = _websocket_mask(masked[:4], masked[4:])
        if control:
            self._take_control(opcode, payload)
        else:
            self._take_data(opcode, payload, final)

    def _count_frame(self) -> None:
        self._window_frames += 1
        now = self._time()
        if now >= self._window_ends:
            self._window_ends = now + FLOOD_SECONDS
            self._window_frames = 1
        if self._window_frames > FLOOD_FRAMES:
            raise FrameError(POLICY_VIOLATION)

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._send_pong(payload)
        elif opcode == CLOSE:
            self.close_code = close_code_of(payload)
            self.client_terminated = True
            self.close(self.close_code)

    def _take_data(self, opcode: int, payload: bytes, final: bool) -> None:
        if opcode != CONTINUATION:
            self._decoder = Utf8() if opcode == TEXT else None
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, final)
            except UnicodeDecodeError as error:
                raise FrameError(NOT_TEXT) from error
        self._in_message = not final
        self._message_bytes = 0 if final else self._message_bytes + len(payload)

    async def _fail(self, code: int) -> None:
        """Send the close code and end. Data that still arrives is read and dropped briefly: closing a socket over unread bytes resets
        the connection, and the close frame could be lost with it."""
        self.close(code)
        left = LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0:
                    left -= len(await self.stream.read_bytes(LINGER_PIECE, partial=True))
        except (StreamClosedError, TimeoutError):
            pass
        self._abort()

    # -- sending ---------------------------------------------------------------------------------------------------

    def open_outlet(self) -> Outlet:
        """Where frames go from now on, until either side closes."""
        self.outlet = Outlet(self.stream)
        return self.outlet

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        if self.outlet is not None:
            self.outlet.open = False  # no frame follows a close
        super().close(code, reason)

    def abort(self) -> None:
        """End the connection at once, without a close frame."""
        self._abort()


class Outlet:
    """Writes frames to one client. Small, because with thousands of clients the memory that a round touches matters.

    Straight to the socket while nothing waits before a frame: the stream would copy it and create an unused future. What
    the socket does not take goes to the stream's buffer, as does everything behind it.
    """

    __slots__ = ("_socket", "_stream", "_waiting", "open")

    def __init__(self, stream: IOStream) -> None:
        self.open = not stream.closed()
        self._stream = stream
        # Under TLS only the stream can write.
        self._socket = stream.socket if type(stream) is IOStream else None
        self._waiting = stream._write_buffer  # the stream keeps no public count (pinned by a test)

    def send(self, frame: memoryview) -> int:
        """Write an encoded frame that all clients share; returns the bytes this client has not taken yet. A connection
        that is closing or closed takes none and owes none."""
        if not self.open:
            return 0
        if self._waiting or self._socket is None:
            return self._queue(frame)
        try:
            sent = self._socket.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.open = False
            self._stream.close(exc_info=error)
            return 0
        return 0 if sent == len(frame) else self._queue(frame[sent:])

    @property
    def unsent_bytes(self) -> int:
        return len(self._waiting)

    def _queue(self, data: memoryview) -> int:
        if self._stream.closed():
            self.open = False
            return 0
        self._stream.write(data)
        return self.unsent_bytes


def close_code_of(payload: bytes) -> int | None:
    """The code of a close frame's payload, None where there is none; raises `FrameError` for one that must not be sent."""
    if not payload:
        return None
    _refuse_unless(len(payload) >= 2)
    code = int.from_bytes(payload[:2], "big")
    _refuse_unless(may_be_sent(code))
    try:
        payload[2:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise FrameError(NOT_TEXT) from error
    return code


def _refuse_unless(condition: bool) -> None:
    if not condition:
        raise FrameError(PROTOCOL_ERROR)
