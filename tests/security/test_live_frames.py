"""What a client may send: nothing that costs, nothing that counts. The protocol's own rules are in tests/handlers."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib

import psutil
import pytest

from handlers.live.frames import FLOOD_FRAMES, may_be_sent
from tests.handlers.serving import Served, still_alive, until
from tests.handlers.sockets import frame, live, message, wire
from tests.handlers.world import ADMIN_1, USER_1

LONG = struct.pack("!BB", 0x81, 0xFF)
VIOLATIONS: dict[str, tuple[bytes, int]] = {
    "ws_08 unmasked text": (frame(1, b"hello", masked=False), 1002),
    "ws_08 unmasked ping": (frame(9, b"hello", masked=False), 1002),
    "ws_08 unmasked close": (frame(8, b"\x03\xe8", masked=False), 1002),
    "ws_09 reserved bit 1": (frame(1, b"a", bits=0x40), 1002),
    "ws_09 reserved bit 2": (frame(1, b"a", bits=0x20), 1002),
    "ws_09 reserved bit 3": (frame(1, b"a", bits=0x10), 1002),
    "ws_09 reserved opcode 3": (frame(3, b"a"), 1002),
    "ws_09 reserved opcode 11": (frame(11, b"a"), 1002),
    "ws_09 continuation of nothing": (frame(0, b"a"), 1002),
    "ws_09 text inside a message": (frame(1, b"a", final=False) + frame(1, b"b"), 1002),
    "ws_09 fragmented ping": (frame(9, b"a", final=False), 1002),
    "ws_09 long ping": (frame(9, b"a" * 126), 1002),
    "ws_10 bad text": (frame(1, b"\xff\xfe"), 1007),
    "ws_10 bad text in two": (frame(1, b"\xc3", final=False) + frame(0, b"\x28"), 1007),
    "ws_10 surrogate": (frame(1, b"\xed\xa0\x80"), 1007),
    "ws_10 overlong": (frame(1, b"\xc0\xaf"), 1007),
    "ws_11 11 MB": (LONG + struct.pack("!Q", 11_000_000), 1009),
    "ws_11 2^31": (LONG + struct.pack("!Q", 2**31), 1009),
    "ws_11 2^63-1": (LONG + struct.pack("!Q", 2**63 - 1), 1009),
    "ws_11 2^63": (LONG + struct.pack("!Q", 2**63), 1002),
    "ws_11 4097 bytes": (frame(2, b"a" * 4097), 1009),
    "ws_11 fragments beyond the bound": (frame(1, b"a" * 3000, final=False) + frame(0, b"a" * 3000, final=False), 1009),
    "ws_12 empty fragments without end": (frame(1, final=False) + frame(0, final=False) * 100_000, 1008),
    "ws_12 one-byte fragments without end": (frame(2, b"a", final=False) + frame(0, b"a", final=False) * 10_000, 1008),
    "ws_14 pings": (frame(9, b"p") * 5000, 1008),
    "ws_14 pongs nobody asked for": (frame(10) * 100_000, 1008),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("name", VIOLATIONS)
async def test_violation(served: Served, name: str) -> None:
    """WS-08 to WS-12 and WS-14: the connection ends with the code that says why, and nobody else notices."""
    data, code = VIOLATIONS[name]
    async with live(served, ADMIN_1) as bystander:
        assert [(await message(bystander))["type"] for _ in range(2)] == ["connection", "metrics_update"]
        async with wire(served, USER_1) as connection:
            connection.writer.write(data)
            assert await connection.ending() == code
        await until(lambda: served.server.broadcaster.total == 1)
        await asyncio.wait_for(await bystander.ping(), 30)
        await still_alive(served, USER_1)


@pytest.mark.gen_test
async def test_ws_11_an_announced_size_is_not_allocated(served: Served) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    for size in (11_000_000, 2**31, 2**63 - 1):
        async with wire(served, USER_1) as connection:
            connection.writer.write(LONG + struct.pack("!Q", size) + bytes(4))
            assert await connection.ending() == 1009
    assert process.memory_info().rss - before < 8_000_000


@pytest.mark.gen_test
async def test_ws_13_compression_is_declined_and_a_compressed_frame_is_a_violation(served: Served) -> None:
    async with live(served, USER_1, compression="deflate") as client:
        await message(client)
        assert client.protocol.extensions == []
    bomb = zlib.compress(bytes(10_000_000), 9)[:4000]
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    async with wire(served, USER_1, b"", offer) as connection:
        connection.writer.write(frame(1, bomb, bits=0x40))
        assert await connection.ending() == 1002


@pytest.mark.gen_test
async def test_ws_14_pings_are_answered_up_to_the_bound_even_when_pongs_are_not_read(served: Served) -> None:
    async with wire(served, USER_1) as connection:
        for _ in range(2):
            assert (await connection.frame())[0] == 1
        connection.writer.write(frame(9, b"x" * 125) * FLOOD_FRAMES)
        pongs = [await connection.frame() for _ in range(FLOOD_FRAMES)]
        assert pongs == [(10, b"x" * 125)] * FLOOD_FRAMES
        connection.writer.write(frame(9))
        assert await connection.ending() == 1008


@pytest.mark.gen_test
async def test_ws_15_what_clients_say_is_ignored(served: Served) -> None:
    async with live(served, USER_1) as client:
        assert (await message(client))["type"] == "connection"
        assert (await message(client))["type"] == "metrics_update"
        for text in ('{"type":"subscribe","organization_id":2}', b"\x00" * 4096, ""):
            await client.send(text)
        await asyncio.wait_for(await client.ping(), 30)
        await served.server.broadcaster.tick()
        assert (await message(client))["type"] == "metrics_update"


@pytest.mark.gen_test
async def test_ws_23_every_kind_of_close_frees_the_place(served: Served) -> None:
    for payload, expected in (
        (b"", 1005),
        (b"\x03\xe8", 1000),
        (struct.pack("!H", 1005), 1002),
        (struct.pack("!H", 1006), 1002),
        (struct.pack("!H", 999), 1002),
        (struct.pack("!H", 5000), 1002),
        (b"\x03", 1002),
        (b"\x03\xe8\xff\xfe", 1007),
        (b"\x03\xe8reason \r\n text", 1000),
    ):
        async with wire(served, USER_1) as connection:
            await connection.frame()
            connection.writer.write(frame(8, payload))
            code = await connection.ending()
            assert code == expected, payload
            assert code == 1005 or may_be_sent(code), payload
        await until(lambda: served.server.broadcaster.total == 0)
    async with wire(served, USER_1) as connection:
        await connection.frame()
        connection.writer.transport.abort()
    await until(lambda: served.server.broadcaster.total == 0)
    assert "reason" not in json.dumps([record for record in served.records() if record["event"] == "ws_closed"])
