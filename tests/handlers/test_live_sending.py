"""The way of a frame to its clients: whole and in order whatever the socket takes at once, and in slices."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import pytest
from tornado.iostream import IOStream

from handlers.live.frames import Outlet, text_frame
from handlers.live.time_slices import SLICE_SECONDS, TimeSlices
from handlers.live.websocket import LiveHandler
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Served, until
from tests.handlers.sockets import raw, reading
from tests.handlers.world import USER_1, USER_2


def only_client(served: Served, organization_id: int = 1) -> LiveHandler:
    (client,) = served.server.broadcaster._clients[organization_id]
    assert isinstance(client, LiveHandler)
    return client


@pytest.mark.gen_test
async def test_frames_stay_whole_and_in_order_when_the_socket_takes_only_parts(serve: Serve) -> None:
    served = serve(websocket={"max_backlog_bytes": 10_000_000})
    connection = await raw(served, USER_1, receive_bytes=4096)
    broadcaster = served.server.broadcaster
    await until(lambda: broadcaster.connections(1) == 1 and not broadcaster._welcomes)
    client = only_client(served)
    assert client._wire is not None
    assert client._wire.outlet is not None
    outlet = client._wire.outlet
    frames = [text_frame(bytes([65 + n % 26]) * (1 + 7919 * n % 30_000)) for n in range(60)]
    unsent = [outlet.send(memoryview(each)) for each in frames]
    assert unsent[0] == 0, "straight to the socket"
    assert unsent[-1] > 100_000, "the socket is full, the rest waits"
    assert unsent[-1] == outlet.unsent_bytes == len(client._wire.stream._write_buffer)
    reader = await reading(connection)
    heard = []
    while len(heard) < len(frames):
        opcode, payload = await reader.frame()
        assert opcode == 1
        if not payload.startswith(b'{"type"'):
            heard.append(payload)
    assert [text_frame(each) for each in heard] == frames
    await until(lambda: not client._wire.stream.writing())
    assert outlet.send(memoryview(text_frame(b"again"))) == 0, "straight to the socket again"
    assert await reader.frame() == (1, b"again")
    reader.writer.close()


@pytest.mark.gen_test
async def test_a_client_that_reset_its_connection_costs_the_others_nothing(served: Served) -> None:
    gone = await raw(served, USER_1)
    there = await reading(await raw(served, USER_1))
    await until(lambda: served.server.broadcaster.connections(1) == 2)
    clients = list(served.server.broadcaster._clients[1])
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.close()
    for _ in range(3):
        await served.server.broadcaster.deliver(clients, text_frame(b"news"))
    heard = [await there.frame() for _ in range(5)]
    assert heard.count((1, b"news")) == 3
    await until(lambda: served.server.broadcaster.total == 1)
    outlets = [
        client._wire.outlet for client in clients if isinstance(client, LiveHandler) and client._wire is not None
    ]
    ended = [outlet for outlet in outlets if outlet is not None and not outlet.open]
    assert [outlet.send(memoryview(text_frame(b"late"))) for outlet in ended] == [0]
    there.writer.close()


@pytest.mark.gen_test
async def test_a_client_that_left_while_a_frame_is_on_its_way_is_passed_over(served: Served) -> None:
    connection = await reading(await raw(served, USER_2))
    await until(lambda: served.server.broadcaster.connections(2) == 1)
    client = only_client(served, 2)
    client.end(1001, "leaves", "ws_closed")
    await served.server.broadcaster.deliver([client], text_frame(b"too late"))
    heard = []
    while (each := await connection.frame())[0] != 8:
        heard.append(each)
    assert (1, b"too late") not in heard
    connection.writer.close()


@pytest.mark.gen_test
async def test_other_work_of_the_loop_waits_for_a_slice_and_never_for_a_round(served: Served) -> None:
    slices = TimeSlices()
    visited: list[int] = []
    turns = 0

    def visit(number: int) -> None:
        visited.append(number)
        ends = time.monotonic() + 0.0001
        while time.monotonic() < ends:
            pass

    round_over = asyncio.create_task(slices.each(range(1000), visit))
    while not round_over.done():
        await asyncio.sleep(0)
        turns += 1
    assert visited == list(range(1000))
    assert turns > 0.1 / (SLICE_SECONDS + 8 * 0.0001) / 4, "a hundred ms of work in slices"


@pytest.mark.gen_test
async def test_a_small_round_is_not_behind_a_large_one(served: Served) -> None:
    slices = TimeSlices()
    order: list[str] = []

    def slow(number: int) -> None:
        ends = time.monotonic() + 0.0002
        while time.monotonic() < ends:
            pass
        order.append("large")

    large = asyncio.create_task(slices.each(range(500), slow))
    await asyncio.sleep(0)
    await slices.each(range(3), lambda number: order.append("small"))
    assert order.count("small") == 3
    assert order.count("large") < 250, "it went between two slices"
    await large


@pytest.mark.gen_test
async def test_a_stream_that_codes_what_it_writes_writes_for_itself(served: Served) -> None:
    class Coded(IOStream):
        """As TLS would: what the socket carries is not what was written."""

        def write_to_fd(self, data: memoryview) -> int:
            self.socket.sendall(bytes(byte ^ 0xFF for byte in data))
            return len(data)

    ours, theirs = socket.socketpair()
    stream, news = Coded(ours), text_frame(b"news")
    assert Outlet(stream).send(memoryview(news)) == 0
    assert bytes(byte ^ 0xFF for byte in theirs.recv(100)) == news
    stream.close()
    theirs.close()
