"""How much live clients may cost, and how they leave."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from handlers.frames import text_frame
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Served, until
from tests.handlers.sockets import (
    handshake,
    live,
    message,
    path,
    refusal,
    wire,
)
from tests.handlers.world import (
    ADMIN_1,
    ADMIN_2,
    USER_1,
    USER_2,
)


@pytest.mark.gen_test(timeout=30)
async def test_ws_16_clients_that_do_not_read_are_dropped_and_others_never_wait(serve: Serve) -> None:
    served = serve(websocket={"max_backlog_bytes": 65_536, "max_per_user": 100})
    for listener in served.server.http._sockets.values():
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    broadcaster = served.server.broadcaster
    deaf = []
    for _ in range(10):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", served.port))
        request = handshake(path(USER_1), f"X-API-Key: {USER_1.key}")
        await asyncio.get_running_loop().sock_sendall(sock, request)
        deaf.append(sock)
    async with live(served, ADMIN_1, max_size=None) as one, live(served, ADMIN_1, max_size=None) as two:
        await until(lambda: broadcaster.connections(1) == 12)
        for client in (one, two):
            assert [(await message(client))["type"] for _ in range(2)] == ["connection", "metrics_update"]
        heavy = text_frame(json.dumps({"type": "metrics_update", "filler": "x" * 20_000}).encode())
        for number in range(30):
            broadcaster.deliver(list(broadcaster._clients[1]), heavy)
            for client in (one, two):
                assert (await asyncio.wait_for(message(client), 1.0))["type"] == "metrics_update", number
        await until(lambda: broadcaster.connections(1) == 2)
    assert served.services.metrics.websockets_dropped_slow == 10
    for sock in deaf:
        sock.close()
    assert "ws_slow" in {record["event"] for record in served.records()}


@pytest.mark.gen_test
async def test_ws_17_connections_are_limited_per_user_and_in_all(serve: Serve) -> None:
    served = serve(websocket={"max_per_user": 3, "max_total": 5})
    one = f"X-API-Key: {USER_1.key}"
    async with live(served, USER_1), live(served, USER_1), live(served, USER_1):
        answer = await refusal(served, path(USER_1), one)
        assert answer.status == 429
        assert answer.header("Retry-After")
        assert (await refusal(served, path(USER_1), f"Authorization: Bearer {USER_1.token()}")).status == 429
        async with live(served, ADMIN_1), live(served, USER_2):
            full = await refusal(served, path(ADMIN_2), f"X-API-Key: {ADMIN_2.key}")
            assert full.status == 503
            assert full.header("Retry-After")
    await until(lambda: served.server.broadcaster.total == 0)
    async with live(served, USER_1) as client:
        await message(client)


@pytest.mark.gen_test(timeout=20)
async def test_ws_19_counters_return_to_zero_however_clients_leave(served: Served) -> None:
    for round_number in range(20):
        async with wire(served, USER_1) as connection:
            await connection.frame()
            if round_number % 2:
                connection.writer.transport.abort()
    await until(lambda: served.server.broadcaster.total == 0)
    assert served.server.broadcaster.organizations == 0
    assert not served.server.broadcaster._per_user


@pytest.mark.gen_test(timeout=15)
async def test_ws_19_a_client_that_answers_no_ping_is_gone(serve: Serve) -> None:
    served = serve(websocket={"ping_seconds": 0.1})
    async with wire(served, USER_1) as connection:
        while (await connection.frame())[0] != 9:
            pass
        assert await connection.ending() == 1000
    async with live(served, USER_1) as client:
        await message(client)
        await message(client)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.6)
        assert client.close_code is None, "a client that answers stays"


@pytest.mark.gen_test(timeout=15)
async def test_ws_24_drain_closes_with_1001_even_when_half_never_answer(serve: Serve) -> None:
    served = serve(server={"drain_seconds": 1}, websocket={"max_per_user": 100})
    polite = [await live(served, USER_1) for _ in range(5)]
    async with wire(served, ADMIN_1), wire(served, ADMIN_1):
        await until(lambda: served.server.broadcaster.connections(1) == 7)
        began = asyncio.get_running_loop().time()
        await served.server.drain()
        assert asyncio.get_running_loop().time() - began < 2.5
        for client in polite:
            assert [kind async for kind in client if "metrics_update" not in str(kind)], (
                "it was told that it is connected"
            )
            await client.wait_closed()
            assert client.close_code == 1001
        await until(lambda: served.server.broadcaster.total == 0)
