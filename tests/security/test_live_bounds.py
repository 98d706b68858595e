"""How much live clients may cost, and how they leave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections import Counter

import pytest

from handlers.live.frames import text_frame
from handlers.live.websocket import LiveHandler
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Served, still_alive, until
from tests.handlers.sockets import (
    Wire,
    handshake,
    live,
    message,
    path,
    raise_descriptors,
    raw,
    reading,
    refusal,
    wire,
)
from tests.handlers.world import ADMIN_1, ADMIN_2, NOW, USER_1, USER_2

BOUND_BYTES = 65_536
HEAVY = text_frame(json.dumps({"type": "metrics_update", "filler": "x" * 20_000}).encode())
BORN_TO_DIE = """
import socket, sys
request = sys.stdin.buffer.read()
held = []
for _ in range(20):
    client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    client.sendall(request)
    client.recv(65536)
    held.append(client)
print("open", flush=True)
held[0].recv(1 << 20, socket.MSG_WAITALL)
"""


@pytest.mark.gen_test(timeout=60)
async def test_ws_16_fifty_that_do_not_read_are_closed_and_two_hundred_never_wait(serve: Serve) -> None:
    served = serve(websocket={"max_backlog_bytes": BOUND_BYTES, "max_per_user": 200})
    broadcaster = served.server.broadcaster
    deaf = [await raw(served, USER_1, receive_bytes=4096) for _ in range(50)]
    readers = [await reading(await raw(served, ADMIN_1)) for _ in range(200)]
    await until(lambda: broadcaster.connections(1) == 250)
    for reader in readers:
        assert [(await reader.frame())[0] for _ in range(2)] == [1, 1], "connection, metrics_update"
    rounds = 0
    while broadcaster.connections(1) > 200:
        clients = list(broadcaster._clients[1])
        began = time.monotonic()
        await broadcaster.deliver(clients, HEAVY)
        for reader in readers:
            assert await reader.frame() == (1, HEAVY[4:])
        assert time.monotonic() - began < 20, f"round {rounds}"
        for client in clients:
            assert isinstance(client, LiveHandler)
            if client._wire is not None and client._wire.outlet is not None:
                assert client._wire.outlet.unsent_bytes <= BOUND_BYTES + len(HEAVY) + 50
        rounds += 1
        assert rounds < 40, "a client that does not read is still there"
    assert served.services.metrics.websockets_dropped_slow == 50
    late = await reading(deaf.pop())
    assert await late.ending() == 1013, "it is told why when it reads after all"
    await until(lambda: broadcaster.total == 200, seconds=8)
    text = (await served.ask("/metrics")).body.decode()
    assert "owkai_websocket_dropped_slow_total 50.0\n" in text
    for sock in deaf:
        sock.close()
    for reader in [late, *readers]:
        reader.writer.close()
    slow = [record for record in served.records() if record["event"] == "ws_slow"]
    assert len(slow) == 50


@pytest.mark.gen_test
async def test_ws_17_a_thousand_connections_of_one_user_leave_the_others_alone(serve: Serve) -> None:
    served = serve()
    bound = served.services.settings.websocket.max_per_user
    held = [await raw(served, USER_1) for _ in range(bound)]
    lines = f"X-API-Key: {USER_1.key}", f"Authorization: Bearer {USER_1.token()}"
    for _ in range(0, 1000 - bound, 20):
        answers = await asyncio.gather(*(refusal(served, path(USER_1), lines[n % 2]) for n in range(20)))
        assert {answer.status for answer in answers} == {429}
        assert all(answer.header("Retry-After") for answer in answers)
    assert served.server.broadcaster.total == bound
    async with live(served, ADMIN_1) as client:
        assert (await message(client))["type"] == "connection"
        await still_alive(served, USER_1)
    for sock in held:
        sock.close()
    await until(lambda: served.server.broadcaster.total == 0)


@pytest.mark.gen_test
async def test_ws_17_connections_are_limited_in_all(serve: Serve) -> None:
    served = serve(websocket={"max_per_user": 3, "max_total": 5})
    async with live(served, USER_1), live(served, USER_1), live(served, USER_1):
        assert (await refusal(served, path(USER_1), f"X-API-Key: {USER_1.key}")).status == 429
        async with live(served, ADMIN_1), live(served, USER_2):
            full = await refusal(served, path(ADMIN_2), f"X-API-Key: {ADMIN_2.key}")
            assert full.status == 503
            assert full.header("Retry-After")
    await until(lambda: served.server.broadcaster.total == 0)
    async with live(served, USER_1) as client:
        await message(client)


@pytest.mark.gen_test(timeout=110)
@pytest.mark.parametrize("times", [600, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_ws_19_counters_return_to_zero_however_often_clients_come_and_go(served: Served, times: int) -> None:
    broadcaster = served.server.broadcaster

    async def come_and_go(number: int) -> None:
        async with wire(served, USER_1) as connection:
            if number % 3 == 0:
                await connection.frame()
            if number % 2:
                connection.writer.transport.abort()

    for start in range(0, times, 10):
        await asyncio.gather(*(come_and_go(number) for number in range(start, start + 10)))
        await until(lambda: broadcaster.total == 0)
    assert broadcaster.organizations == 0
    assert not broadcaster._per_user
    assert not broadcaster._delivered
    assert len(broadcaster._credentials) == 0
    await until(lambda: served.services.metrics.open_connections == 0)


@pytest.mark.gen_test
async def test_ws_19_a_client_process_that_is_killed_leaves_nothing(served: Served) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BORN_TO_DIE, str(served.port),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(handshake(path(USER_1), f"X-API-Key: {USER_1.key}"))
    process.stdin.close()
    assert await asyncio.wait_for(process.stdout.readline(), 10) == b"open\n"
    await until(lambda: served.server.broadcaster.total == 20)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    await until(lambda: served.server.broadcaster.total == 0)


@pytest.mark.gen_test
async def test_ws_19_a_peer_the_network_has_lost_is_gone_within_two_ping_periods(serve: Serve) -> None:
    served = serve(websocket={"ping_seconds": 1})
    lost = await raw(served, USER_1)  # answers nothing, as behind a cut line
    async with live(served, ADMIN_1) as client:
        await until(lambda: served.server.broadcaster.total == 1)
        assert served.services.metrics.websockets_silent == 1
        await until(lambda: served.services.metrics.websockets_silent == 1)
        assert client.close_code is None, "a client that answers stays"
        told = await reading(lost)
        assert await told.ending() == 1008
        told.writer.close()
    assert "ws_silent" in {record["event"] for record in served.records()}


@pytest.mark.gen_test(timeout=110)
@pytest.mark.parametrize("sockets", [200, pytest.param(2000, marks=pytest.mark.slow)])
async def test_ws_24_drain_closes_with_1001_even_when_half_never_answer(serve: Serve, sockets: int) -> None:
    raise_descriptors()
    served = serve(server={"drain_seconds": 3}, websocket={"max_per_user": sockets})
    opened: list[socket.socket] = []
    token = f"Authorization: Bearer {USER_1.token(exp=int(NOW.timestamp()) + 3600)}"
    for _ in range(sockets):
        opened.append(await raw(served, USER_1, token))
    await until(lambda: served.server.broadcaster.connections(1) == sockets)
    answering = [await reading(sock) for sock in opened[::2]]
    loop = asyncio.get_running_loop()
    began = loop.time()
    polite = [asyncio.create_task(answer_close(connection)) for connection in answering]
    await served.server.drain()
    assert loop.time() - began < 30, "those that never answer take the time to drain, and no more"
    assert set(await asyncio.gather(*polite)) == {1001}
    silent = [await reading(sock) for sock in opened[1::2]]
    assert {await connection.ending() for connection in silent} == {1001}
    await until(lambda: served.server.broadcaster.total == 0)
    for connection in [*answering, *silent]:
        connection.writer.close()
    events = Counter(record["event"] for record in served.records())
    assert events == {"ws_open": sockets, "ws_closed": sockets // 2, "ws_drained": sockets // 2}


async def answer_close(connection: Wire) -> int | None:
    code = await connection.ending()
    connection.writer.close()
    return code
