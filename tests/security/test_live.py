"""WebSocket: decided before the upgrade, strict on the wire, bounded in cost, over when the credential is."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from analytics.cache import Cache
from analytics.views import ViewKey
from handlers.frames import may_be_sent, text_frame
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Answer, Served, parse_answers, still_alive, until
from tests.handlers.world import (
    ADMIN_1,
    ADMIN_2,
    CANARY,
    INACTIVE,
    NOW,
    SHARED_1,
    USER_1,
    USER_2,
    LocalKeys,
    Person,
    key_row,
)
from tests.security.test_authorization import write

GOOD = "https://good.example"
MANY = {"failed_limit": 100_000}


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
    block = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)
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
        first, second = await asyncio.wait_for(self.reader.readexactly(2), 3)
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
    block = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)
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
    return dict(json.loads(await asyncio.wait_for(client.recv(), 3)))


@pytest.mark.gen_test
async def test_ws_01_no_valid_credential_no_upgrade(serve: Serve) -> None:
    served = serve(auth=MANY)
    now = int(NOW.timestamp())
    for lines in (
        (),
        (f"Authorization: Bearer {USER_1.token(iat=now - 600, exp=now - 60)}",),
        (f"Authorization: Bearer {USER_1.token()}x",),
        (f"X-API-Key: {INACTIVE.key}",),
        ("X-API-Key: " + "k" * 43,),
        (f"Cookie: access_token={USER_1.token()}x", f"Origin: {GOOD}"),
    ):
        answer = await refusal(served, path(USER_1), *lines)
        assert (answer.status, answer.detail) == (401, "Authentication required"), lines


@pytest.mark.gen_test
async def test_ws_02_only_the_exact_listed_origin(serve: Serve) -> None:
    served = serve(websocket={"allowed_origins": ["https://good.example", "https://soc.example:8443"]})
    cookie = f"Cookie: access_token={USER_1.token()}"
    for origin in (
        "https://evil.example", "null", "https://good.example.evil", "https://evilgood.example", "http://good.example",
        "https://good.example:444", "https://good.example:443", "https://good.example@evil", "HTTPS://GOOD.EXAMPLE",
        "https://good.example/", "https://goodxexample", "", "https://soc.example", "http://x",
    ):  # fmt: skip
        for lines in ((cookie,), (f"X-API-Key: {USER_1.key}",), (cookie, "Sec-Fetch-Site: same-origin")):
            answer = await refusal(served, path(USER_1), f"Origin: {origin}", *lines)
            assert answer.status == 403, (origin, lines)
    for origin in ("https://good.example", "https://soc.example:8443"):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(handshake(path(USER_1), cookie, f"Origin: {origin}", "Sec-Fetch-Site: cross-site"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        writer.close()


@pytest.mark.gen_test
async def test_ws_03_04_a_missing_or_doubled_origin(served: Served) -> None:
    cookie = f"Cookie: access_token={USER_1.token()}"
    assert (await refusal(served, path(USER_1), cookie)).status == 403
    assert (await refusal(served, path(USER_1), cookie, f"Sec-WebSocket-Origin: {GOOD}")).status == 403
    assert (await refusal(served, path(USER_1), cookie, f"Origin: {GOOD}", f"Origin: {GOOD}")).status == 400
    async with live(served, USER_1) as client:
        assert (await message(client))["type"] == "connection"
    async with live(served, USER_1, token=USER_1.token()) as client:
        assert (await message(client))["type"] == "connection"


@pytest.mark.gen_test
async def test_ws_05_tokens_in_query_or_subprotocol_do_not_count(served: Served) -> None:
    token = USER_1.token()
    assert (await refusal(served, f"{path(USER_1)}?token={token}")).status == 401
    assert (await refusal(served, path(USER_1), f"Sec-WebSocket-Protocol: bearer, {token}")).status == 401
    async with wire(served, USER_1, b"", f"Sec-WebSocket-Protocol: bearer, {token}") as connection:
        assert (await connection.frame())[0] == 1


@pytest.mark.gen_test
async def test_ws_06_07_handshakes_in_a_wrong_form(served: Served) -> None:
    key = f"X-API-Key: {USER_1.key}"
    good = handshake(path(USER_1), key).decode()

    async def answer(request: str) -> Answer:
        (found,) = await served.send(
            request.replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n", 1).encode(), seconds=1.5
        )
        return found

    closing = good.replace("Connection: Upgrade", "Connection: close")
    for version in ("8", "12", "x", ""):
        found = await refusal_of(served, good.replace("Sec-WebSocket-Version: 13", f"Sec-WebSocket-Version: {version}"))
        assert found.status == 426
        assert found.header("Sec-WebSocket-Version") == "13"
    assert (await refusal_of(served, good.replace("Sec-WebSocket-Version: 13\r\n", ""))).status == 426
    for wrong in (
        "x",
        "",
        "AAAA",
        base64.b64encode(b"a" * 15).decode(),
        base64.b64encode(b"a" * 17).decode(),
        "!" * 24,
    ):
        assert (await refusal(served, path(USER_1), key, key=wrong)).status == 400
    second = f"Sec-WebSocket-Key: {base64.b64encode(b'b' * 16).decode()}"
    assert (await refusal(served, path(USER_1), key, second)).status == 400
    assert (await refusal(served, path(USER_1), key, "Content-Length: 2", body=b"ab")).status == 400
    assert (await answer(closing)).status == 400
    assert (await refusal_of(served, good.replace("HTTP/1.1", "HTTP/1.0"))).status == 400
    assert (await refusal_of(served, good.replace("GET ", "POST "))).status == 405
    assert (await refusal_of(served, good.replace("Upgrade: websocket", "Upgrade: h2c"))).status == 426
    plain = await refusal_of(served, good.replace(path(USER_1), f"{API}/trends"))
    assert plain.status == 200
    smuggled = good.replace("GET ", "POST ").encode() + frame(1, b"x") + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    await served.send(smuggled.replace(b"Connection: Upgrade", b"Connection: close"))
    assert "/smuggled" not in {record.get("path") for record in served.records()}


async def refusal_of(served: Served, request: str) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(request.encode("latin-1"))
    block = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)
    writer.close()
    (answer,) = parse_answers(block, head=True)
    assert answer.status != 101
    return answer


@pytest.mark.gen_test(timeout=20)
async def test_ws_08_09_10_11_frames_against_the_protocol_end_the_connection(served: Served) -> None:
    long = struct.pack("!BB", 0x81, 0xFF)
    cases: dict[str, tuple[bytes, tuple[int | None, ...]]] = {
        "unmasked text": (frame(1, b"hello", masked=False), (1002, None)),
        "unmasked ping": (frame(9, b"hello", masked=False), (1002, None)),
        "unmasked close": (frame(8, b"\x03\xe8", masked=False), (1002, None)),
        "reserved bit 1": (frame(1, b"a", bits=0x40), (1002, None)),
        "reserved bit 2": (frame(1, b"a", bits=0x20), (1002, None)),
        "reserved opcode 3": (frame(3, b"a"), (1002, None)),
        "reserved opcode 11": (frame(11, b"a"), (1002, None)),
        "continuation of nothing": (frame(0, b"a"), (1002, None)),
        "text inside a message": (frame(1, b"a", final=False) + frame(1, b"b"), (1002, None)),
        "fragmented ping": (frame(9, b"a", final=False), (1002, None)),
        "long ping": (frame(9, b"a" * 126), (1002, None)),
        "bad text": (frame(1, b"\xff\xfe"), (1007, None)),
        "bad text in two": (frame(1, b"\xc3", final=False) + frame(0, b"\x28"), (1007, None)),
        "surrogate": (frame(1, b"\xed\xa0\x80"), (1007, None)),
        "overlong": (frame(1, b"\xc0\xaf"), (1007, None)),
        "11 MB": (long + struct.pack("!Q", 11_000_000), (1009, None)),
        "2^31": (long + struct.pack("!Q", 2**31), (1009, None)),
        "2^63-1": (long + struct.pack("!Q", 2**63 - 1), (1009, None)),
        "2^63": (long + struct.pack("!Q", 2**63), (1009, 1002, None)),
        "4097 bytes": (frame(2, b"a" * 4097), (1009, None)),
        "fragments beyond the bound": (
            frame(1, b"a" * 3000, final=False) + frame(0, b"a" * 3000, final=False),
            (1009, None),
        ),
    }
    for name, (data, expected) in cases.items():
        async with wire(served, USER_1) as connection:
            connection.writer.write(data)
            assert await connection.ending() in expected, name
        await until(lambda: served.server.broadcaster.total == 0)
    await still_alive(served, USER_1)


@pytest.mark.gen_test
async def test_ws_11_the_size_bound_is_announced_as_1009(served: Served) -> None:
    async with live(served, USER_1) as client:
        await message(client)
        await message(client)
        await client.send("x" * 5000)
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
    assert caught.value.rcvd is None or caught.value.rcvd.code == 1009


@pytest.mark.gen_test(timeout=20)
async def test_ws_12_14_floods_of_small_frames_end_the_connection(served: Served) -> None:
    for data in (
        frame(1, b"", final=False) + frame(0, b"", final=False) * 3000,
        frame(9, b"p") * 3000,
        frame(10) * 3000,
    ):
        async with wire(served, USER_1) as connection:
            connection.writer.write(data)
            assert await connection.ending() in (1008, None)
    await until(lambda: served.server.broadcaster.total == 0)
    await still_alive(served, USER_1)


@pytest.mark.gen_test
async def test_ws_13_compression_is_declined(served: Served) -> None:
    async with live(served, USER_1, compression="deflate") as client:
        await message(client)
        assert client.protocol.extensions == []


@pytest.mark.gen_test
async def test_ws_15_what_clients_say_is_ignored(served: Served) -> None:
    async with live(served, USER_1) as client:
        assert (await message(client))["type"] == "connection"
        assert (await message(client))["type"] == "metrics_update"
        for text in ('{"type":"subscribe","organization_id":2}', b"\x00" * 4096, ""):
            await client.send(text)
        await asyncio.wait_for(await client.ping(), 3)
        await served.server.broadcaster.tick()
        assert (await message(client))["type"] == "metrics_update"


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


@pytest.mark.gen_test
async def test_ws_17_refused_handshakes_hold_no_place(served: Served) -> None:
    for lines in ((), (f"X-API-Key: {USER_2.key}",), (f"X-API-Key: {USER_1.key}", "Origin: https://evil.example")):
        await refusal(served, path(USER_1), *lines)
    assert served.server.broadcaster.total == 0


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


@pytest.mark.gen_test
async def test_ws_20_the_connection_ends_with_its_token(served: Served) -> None:
    token = USER_1.token(exp=int(NOW.timestamp()) + 60)
    async with live(served, USER_1, token=token) as client:
        await message(client)
        await message(client)
        served.clock.advance(60)
        await served.server.broadcaster.tick()
        assert (await message(client))["type"] == "metrics_update", "within the leeway"
        served.clock.advance(31)
        await served.server.broadcaster.tick()
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4401
    await until(lambda: "ws_expired" in {record["event"] for record in served.records()})


@pytest.mark.gen_test
async def test_ws_21_the_connection_ends_with_key_user_role_and_organization(
    serve: Serve, own_cache: tuple[Cache, LocalKeys]
) -> None:
    cache, _ = own_cache
    served = serve(cache=own_cache)
    user, admin = USER_1.row(), ADMIN_1.row()
    changes: list[tuple[Person, str, dict[str, Any]]] = [
        (USER_1, "api_keys", key_row(USER_1.id, USER_1, revoked_at=NOW)),
        (USER_2, "users", {**USER_2.row(), "is_active": False}),
        (ADMIN_1, "users", {**admin, "role": "user"}),
        (SHARED_1, "users", {**SHARED_1.row(), "organization_id": 2}),
    ]
    assert user["is_active"]
    for person, table, row in changes:
        async with live(served, person) as client, live(served, ADMIN_2) as other:
            for each in (client, other):
                await message(each)
                await message(each)
            write(cache, table, [row], gone=[row["id"]])
            await served.server.broadcaster.tick()
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 4401
            assert (await message(other))["type"] == "metrics_update"


@pytest.mark.gen_test
async def test_ws_21_the_connection_ends_with_its_local_key(serve: Serve, own_cache: tuple[Cache, LocalKeys]) -> None:
    served = serve(cache=own_cache)
    headers = {"X-API-Key": served.local.user_1}
    async with connect(f"ws://127.0.0.1:{served.port}{path(USER_1)}", additional_headers=headers) as client:
        await message(client)
        await message(client)
        keys = served.services.keys
        keys.revoke(keys.list()[1].id)
        await served.server.broadcaster.tick()
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4401


@pytest.mark.gen_test
async def test_ws_22_every_frame_is_of_the_own_organization(served: Served) -> None:
    people = [USER_1, ADMIN_1, USER_2]
    clients = [await live(served, person) for person in people]
    for client in clients:
        await message(client)
        await message(client)
    await served.server.broadcaster.tick()
    for person, client in zip(people, clients, strict=True):
        update = await message(client)
        count, connections = (12, 2) if person.organization_id == 1 else (31, 1)
        assert update["metrics"]["recent_actions_last_hour"] == count
        assert update["metrics"]["active_websocket_connections"] == connections
        assert not any(mark in json.dumps(update) for mark in CANARY.values())
        await client.close()


@pytest.mark.gen_test(timeout=15)
async def test_ws_23_every_kind_of_close_frees_the_place(served: Served) -> None:
    for payload in (
        b"", b"\x03\xe8", struct.pack("!H", 1005), struct.pack("!H", 1006), struct.pack("!H", 999),
        struct.pack("!H", 5000), b"\x03", b"\x03\xe8\xff\xfe", b"\x03\xe8reason \r\n text",
    ):  # fmt: skip
        async with wire(served, USER_1) as connection:
            await connection.frame()
            connection.writer.write(frame(8, payload))
            code = await connection.ending()
            assert code is None or code == 1005 or may_be_sent(code), payload
        await until(lambda: served.server.broadcaster.total == 0)


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


@pytest.mark.gen_test
async def test_ws_25_a_failing_organization_gets_an_error_frame_and_others_go_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = served.services.publisher
    real = publisher.get

    async def failing(key: ViewKey) -> Any:
        if key.organization_id == 2:
            raise RuntimeError(f"{CANARY[2]} in /secret/path")
        return await real(key)

    monkeypatch.setattr(publisher, "get", failing)
    async with live(served, USER_2) as broken, live(served, USER_1) as whole:
        for client in (broken, whole):
            assert (await message(client))["type"] == "connection"
        error = await message(broken)
        assert error["metrics"]["status"] == "error"
        assert CANARY[2] not in json.dumps(error)
        assert "secret" not in json.dumps(error)
        assert (await message(whole))["metrics"]["recent_actions_last_hour"] == 12
        await served.server.broadcaster.tick()
        assert (await message(broken))["metrics"]["status"] == "error"
        assert "recent_actions_last_hour" in (await message(whole))["metrics"]


@pytest.mark.gen_test
async def test_ws_26_frames_behind_the_handshake_are_frames(served: Served) -> None:
    extra = frame(9, b"early") + frame(1, b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n") + frame(8, b"\x03\xe8")
    async with wire(served, USER_1, extra) as connection:
        frames: list[tuple[int, bytes]] = []
        while not frames or frames[-1][0] != 8:
            frames.append(await connection.frame())
    assert (10, b"early") in frames
    assert frames[-1] == (8, b"\x03\xe8")
    assert "/smuggled" not in {record.get("path") for record in served.records()}


@pytest.mark.gen_test
async def test_az_12_13_only_the_own_email_and_one_answer_for_all_others(served: Served) -> None:
    bodies = set()
    for email in (
        ADMIN_1.email, USER_2.email, ADMIN_2.email, "nobody@nowhere.example", "*", "%25", "user@one.example%00",
        "..%2f..", "a" * 10_000, "%F0%9F%98%80@x", "user@one.example%20", "%20user@one.example", "a@b%2Fc",
    ):  # fmt: skip
        answer = await refusal(served, f"{API}/ws/realtime/{email}", f"X-API-Key: {USER_1.key}")
        assert answer.status == 403, email
        bodies.add(answer.detail)
    assert len(bodies) == 1
    for email in ("", "a@b/c", "user@one.example/"):
        assert (await refusal(served, f"{API}/ws/realtime/{email}", f"X-API-Key: {USER_1.key}")).status == 404
    assert (await refusal(served, f"{API}/ws/realtime/%ff%fe", f"X-API-Key: {USER_1.key}")).status == 400
    for email in ("USER@one.example", "user%40one.example"):
        target = f"ws://127.0.0.1:{served.port}{API}/ws/realtime/{email}"
        async with websockets.connect(target, additional_headers={"X-API-Key": USER_1.key}) as client:
            connected = await message(client)
            assert connected["message"] == "Real-time analytics connected for user@one.example"
