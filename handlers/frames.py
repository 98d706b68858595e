"""WebSocket frames: one encoding for all clients, and a protocol stricter with clients than the framework's.

Tornado 6.6 accepts unmasked client frames (RFC 6455 §5.1 has the connection failed), echoes close codes that must never be
sent, and bounds neither pings nor fragments. Clients of ours have nothing to say, so the bounds are small.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketProtocol13

FINAL_TEXT = 0x81
MASK_BIT = 0x80
CLOSE = 0x8
FLOOD_FRAMES = 100
FLOOD_SECONDS = 10.0
POLICY_VIOLATION = 1008
PROTOCOL_ERROR = 1002


def text_frame(payload: bytes) -> bytes:
    """A final, unmasked, uncompressed text frame (RFC 6455 §5.2), ready for any number of clients."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", FINAL_TEXT, size) + payload
    if size <= 0xFFFF:
        return struct.pack("!BBH", FINAL_TEXT, 126, size) + payload
    return struct.pack("!BBQ", FINAL_TEXT, 127, size) + payload


def may_be_sent(code: int) -> bool:
    """Close codes that may stand in a close frame (RFC 6455 §7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


class StrictProtocol(WebSocketProtocol13):
    """Fails the connection on an unmasked frame, a flood of frames or a malformed close."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._at_frame_start = False
        self._window_ends = 0.0
        self._window_frames = 0
        self._time: Callable[[], float] = IOLoop.current().time

    async def _receive_frame(self) -> None:
        self._at_frame_start = True
        self._window_frames += 1
        moment = self._time()
        if moment >= self._window_ends:
            self._window_ends = moment + FLOOD_SECONDS
            self._window_frames = 1
        await super()._receive_frame()

    async def _read_bytes(self, n: int) -> bytes:
        data = await super()._read_bytes(n)
        if self._at_frame_start:
            self._at_frame_start = False
            if not data[1] & MASK_BIT:
                self.fail(PROTOCOL_ERROR)
            if self._window_frames > FLOOD_FRAMES:
                self.fail(POLICY_VIOLATION)
        return data

    def _handle_message(self, opcode: int, data: bytes) -> Any:
        if opcode == CLOSE and len(data) == 1:
            self.fail(PROTOCOL_ERROR)
        return super()._handle_message(opcode, data)

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        super().close(PROTOCOL_ERROR if code is not None and not may_be_sent(code) else code, reason)

    def fail(self, code: int) -> None:
        """Say why, end the connection at once, and leave the receiving loop."""
        self.close(code)
        self._abort()
        raise StreamClosedError

    def abort(self) -> None:
        """End the connection at once, without a word: the peer does not read."""
        self._abort()

    def send_frame(self, frame: bytes) -> None:
        """Queue an encoded frame; one object serves all clients."""
        self.stream.write(frame)

    @property
    def unsent_bytes(self) -> int:
        """Bytes this client has not taken yet. The stream keeps no public count (pinned by a test)."""
        return len(self.stream._write_buffer)
