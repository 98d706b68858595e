"""What is decided before the upgrade."""

from __future__ import annotations

import asyncio
import base64
import socket

import pytest
import websockets

from config.settings import ServerSettings
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Answer, Served, parse_answers, still_alive, until
from tests.handlers.sockets import (
    GOOD,
    frame,
    handshake,
    live,
    message,
    path,
    raise_descriptors,
    refusal,
    wire,
)
from tests.handlers.world import (
    ADMIN_1,
    ADMIN_2,
    INACTIVE,
    NOW,
    USER_1,
    USER_2,
)

HALF_OPEN = 2000
MANY = {"failed_limit": 100_000}


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
async def test_ws_03_without_an_origin_a_cookie_does_not_count_and_key_and_bearer_do(served: Served) -> None:
    assert (await refusal(served, path(USER_1), f"Cookie: access_token={USER_1.token()}")).status == 403
    async with live(served, USER_1) as client:
        assert (await message(client))["type"] == "connection"
    async with live(served, USER_1, token=USER_1.token()) as client:
        assert (await message(client))["type"] == "connection"


@pytest.mark.gen_test
async def test_ws_04_a_doubled_or_misnamed_origin_is_refused(served: Served) -> None:
    cookie = f"Cookie: access_token={USER_1.token()}"
    assert (await refusal(served, path(USER_1), cookie, f"Sec-WebSocket-Origin: {GOOD}")).status == 403
    assert (await refusal(served, path(USER_1), cookie, f"Origin: {GOOD}", f"Origin: {GOOD}")).status == 400


@pytest.mark.gen_test
async def test_ws_05_tokens_in_query_or_subprotocol_do_not_count(served: Served) -> None:
    token = USER_1.token()
    assert (await refusal(served, f"{path(USER_1)}?token={token}")).status == 401
    assert (await refusal(served, path(USER_1), f"Sec-WebSocket-Protocol: bearer, {token}")).status == 401
    async with wire(served, USER_1, b"", f"Sec-WebSocket-Protocol: bearer, {token}") as connection:
        assert (await connection.frame())[0] == 1


@pytest.mark.gen_test
async def test_ws_06_a_wrong_version_or_key_is_no_handshake(served: Served) -> None:
    key = f"X-API-Key: {USER_1.key}"
    good = handshake(path(USER_1), key).decode()
    for version in ("8", "12", "x", ""):
        found = await refusal_of(served, good.replace("Sec-WebSocket-Version: 13", f"Sec-WebSocket-Version: {version}"))
        assert found.status == 426
        assert found.header("Sec-WebSocket-Version") == "13"
    assert (await refusal_of(served, good.replace("Sec-WebSocket-Version: 13\r\n", ""))).status == 426
    short, long = (base64.b64encode(b"a" * size).decode() for size in (15, 17))
    for wrong in ("x", "", "AAAA", short, long, "!" * 24):
        assert (await refusal(served, path(USER_1), key, key=wrong)).status == 400
    second = f"Sec-WebSocket-Key: {base64.b64encode(b'b' * 16).decode()}"
    assert (await refusal(served, path(USER_1), key, second)).status == 400


@pytest.mark.gen_test
async def test_ws_07_no_other_method_version_body_or_route_leads_to_an_upgrade(served: Served) -> None:
    key = f"X-API-Key: {USER_1.key}"
    good = handshake(path(USER_1), key).decode()
    closing = good.replace("Connection: Upgrade", "Connection: close")
    assert (await refusal(served, path(USER_1), key, "Content-Length: 2", body=b"ab")).status == 400
    assert (await refusal_of(served, closing)).status == 400
    assert (await refusal_of(served, good.replace("HTTP/1.1", "HTTP/1.0"))).status == 400
    assert (await refusal_of(served, good.replace("GET ", "POST "))).status == 405
    assert (await refusal_of(served, good.replace("Upgrade: websocket", "Upgrade: h2c"))).status == 426
    assert (await refusal_of(served, good.replace(path(USER_1), f"{API}/trends"))).status == 200
    smuggled = good.replace("GET ", "POST ").encode() + frame(1, b"x") + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    await served.send(smuggled.replace(b"Connection: Upgrade", b"Connection: close"))
    assert "/smuggled" not in {record.get("path") for record in served.records()}


@pytest.mark.gen_test
async def test_ws_18_handshakes_that_never_finish_give_their_places_back(serve: Serve) -> None:
    assert ServerSettings().idle_timeout_seconds <= 10, "as shipped"
    raise_descriptors()
    served = serve(server={"idle_timeout_seconds": 1.5}, websocket={"max_total": 5})
    loop = asyncio.get_running_loop()
    half = handshake(path(USER_1), f"X-API-Key: {USER_1.key}")[:-2]
    open_sockets = []
    began = loop.time()
    for _ in range(HALF_OPEN):
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", served.port))
        await loop.sock_sendall(sock, half)
        open_sockets.append(sock)
    await until(lambda: served.services.metrics.open_connections > 0)
    text = (await served.ask("/metrics")).body.decode()
    if loop.time() - began < 1.5:
        assert gauge(text, "owkai_http_connections") >= HALF_OPEN
    assert gauge(text, "owkai_websocket_clients") == 0, "a half-open handshake takes no place of a live client"
    async with live(served, USER_1) as client:
        await message(client)
        await still_alive(served, USER_1)
    await until(lambda: served.services.metrics.open_connections == 0)
    for sock in open_sockets:
        assert await asyncio.wait_for(loop.sock_recv(sock, 1), 30) == b"", "closed by the server"
        sock.close()
    text = (await served.ask("/metrics")).body.decode()
    assert gauge(text, "owkai_http_connections") == 1
    assert gauge(text, "owkai_websocket_clients") == 0


def gauge(text: str, name: str) -> float:
    return float(next(line.split(" ")[1] for line in text.splitlines() if line.startswith(f"{name} ")))


@pytest.mark.gen_test
async def test_ws_17_refused_handshakes_hold_no_place(served: Served) -> None:
    for lines in ((), (f"X-API-Key: {USER_2.key}",), (f"X-API-Key: {USER_1.key}", "Origin: https://evil.example")):
        await refusal(served, path(USER_1), *lines)
    assert served.server.broadcaster.total == 0


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


async def refusal_of(served: Served, request: str) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(request.encode("latin-1"))
    block = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    writer.close()
    (answer,) = parse_answers(block, head=True)
    assert answer.status != 101
    return answer
