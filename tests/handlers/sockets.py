"""Live connections for tests: raw ones that send exactly the bytes a test writes, and those of the `websockets` library."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from websockets.asyncio.client import ClientConnection, connect

from tests.handlers.serving import API, Answer, Served, parse_answers
from tests.handlers.world import Person

GOOD = "https://good.example"
DESCRIPTORS = 12_000


def path(person: Person) -> str:
    return f"{API}/ws/realtime/{person.email}"


def handshake(target: str, *lines: str, key: str | None = None) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode() if key is None else key
    head = [
        f"GET {target} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}", *lines,
    ]  # fmt: skip
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n"


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, masked: bool = True, bits: int = 0) -> bytes:
    """A client frame, also wrong ones."""
    first = (0x80 if final else 0) | bits | opcode
    flag = 0x80 if masked else 0
    head = struct.pack("!BB", first, flag | min(len(payload), 126))
    if len(payload) >= 126:
        head += struct.pack("!H", len(payload))
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))


async def refusal(served: Served, target: str, *lines: str, body: bytes = b"", **how: Any) -> Answer:
    """The HTTP answer to a handshake that must not lead to an upgrade."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(handshake(target, *lines, **how) + body)
    block = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    length = [line for line in block.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    content = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
    writer.close()
    (answer,) = parse_answers(block + content)
    assert answer.status != 101
    return answer


class Wire:
    """A raw WebSocket connection after a successful handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def frame(self) -> tuple[int, bytes]:
        first, second = await asyncio.wait_for(self.reader.readexactly(2), 30)
        assert not second & 0x80, "a server frame is never masked"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(length)

    async def ending(self) -> int | None:
        """The close code, or None for an abort; whatever else arrives before is passed over."""
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == 8:
                    return struct.unpack("!H", payload[:2])[0] if payload else 1005
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None


@asynccontextmanager
async def wire(served: Served, person: Person, extra: bytes = b"", *lines: str) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(handshake(path(person), f"X-API-Key: {person.key}", *lines) + extra)
    block = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert block.startswith(b"HTTP/1.1 101 "), block
    assert b"sec-websocket-extensions" not in block.lower()
    assert b"sec-websocket-protocol" not in block.lower()
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def live(served: Served, person: Person, *, token: str | None = None, **how: Any) -> connect:
    headers = {"Authorization": f"Bearer {token}"} if token else {"X-API-Key": person.key}
    return connect(f"ws://127.0.0.1:{served.port}{path(person)}", additional_headers=headers, **how)


async def message(client: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(await asyncio.wait_for(client.recv(), 30)))


async def unread(client: ClientConnection) -> NoReturn:
    """Pass over whatever still comes; raises ConnectionClosed when the server has closed. A tick may come in between."""
    while True:
        await client.recv()


async def raw(served: Served, person: Person, *lines: str, receive_bytes: int | None = None) -> socket.socket:
    """A socket after a successful handshake that nobody reads any further."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", served.port))
    await loop.sock_sendall(sock, handshake(path(person), *(lines or (f"X-API-Key: {person.key}",))))
    head = b""
    while b"\r\n\r\n" not in head:
        await asyncio.wait_for(readable(sock), 30)
        head = sock.recv(65_536, socket.MSG_PEEK)
        assert head, "closed without an answer"
    assert head.startswith(b"HTTP/1.1 101 "), head
    sock.recv(head.index(b"\r\n\r\n") + 4)
    return sock


async def readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    loop.add_reader(sock, lambda: waiter.done() or waiter.set_result(None))
    try:
        await waiter
    finally:
        loop.remove_reader(sock)


async def reading(sock: socket.socket) -> Wire:
    """Begin to read what a raw socket has been sent."""
    return Wire(*await asyncio.open_connection(sock=sock))


def raise_descriptors() -> None:
    """Room for thousands of sockets, both ends of which are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))
