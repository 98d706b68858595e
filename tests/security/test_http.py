"""HTTP parsing and protocol: raw bytes in; nothing after a faulty byte is a request, and others go on being served."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Answer, Served, still_alive, until
from tests.handlers.world import ADMIN_1, USER_1

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def closed(served: Served, data: bytes) -> None:
    """CLOSED: at most one 400, and nothing after it."""
    answers = await served.send(data)
    assert [answer.status for answer in answers] in ([], [400]), data[:120]
    assert "/smuggled" not in {record["path"] for record in served.records()}


@pytest.mark.gen_test
async def test_http_01_02_03_04_ambiguous_lengths_end_the_connection(served: Served) -> None:
    for lines in (
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        *(b"Content-Length: " + text + b"\r\n" for text in (
            b"+2", b"-1", b"0_2", b"0x2", b"\xd9\xa2", b"2" * 20, b"", b"2;2", b"2 2", b"2.0",
        )),
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: 2, 3\r\n",
    ):  # fmt: skip
        for method in (b"GET", b"POST"):
            request = method + b" /healthz HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n0\r\n\r\n" + SMUGGLED
            answers = await served.send(request)
            assert [answer.status for answer in answers] in ([], [400], [413]), lines
    assert "/smuggled" not in {record["path"] for record in served.records()}


@pytest.mark.gen_test
async def test_http_04_equal_lengths_are_one_reading(served: Served) -> None:
    for lines in (b"Content-Length: 2\r\nContent-Length: 2\r\n", b"Content-Length: 2, 2\r\n"):
        answers = await served.send(HEALTH + lines + b"\r\nab" + SMUGGLED)
        assert [answer.status for answer in answers] in ([400], [200, 404]), (
            "the body is 2 bytes or the message refused"
        )


@pytest.mark.gen_test
async def test_http_05_06_07_malformed_chunks_end_the_connection(served: Served) -> None:
    for body in (
        b"0x1\r\na\r\n0\r\n\r\n", b"+1\r\na\r\n0\r\n\r\n", b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n",
        b"10000000000000001\r\na\r\n", b"-1\r\na\r\n", b"1\r\naXX0\r\n\r\n", b"1;ext=1\r\na\r\n0\r\n\r\n",
        b"1;" + b"e" * 100_000 + b"\r\na\r\n0\r\n\r\n", b"1;a\nb\r\na\r\n0\r\n\r\n",
        b"1\r\na\r\n0\r\nX-API-Key: " + USER_1.key.encode() + b"\r\n\r\n",
    ):  # fmt: skip
        await closed(served, HEALTH + b"Transfer-Encoding: chunked\r\n\r\n" + body + SMUGGLED)


@pytest.mark.gen_test
async def test_http_08_09_malformed_header_lines_end_the_connection(served: Served) -> None:
    for lines in (
        b"X: a\r\n b\r\n", b"X : a\r\n", b"nocolon\r\n", b": a\r\n", b" X: a\r\n", b"X: a\x00b\r\n", b"X: a\rb\r\n",
        b"X: a\x01\r\n", b"X: a\x1f\r\n", b"X: a\x7f\r\n", b"X\x00: a\r\n", b"X(y): a\r\n",
    ):  # fmt: skip
        await closed(served, b"GET /healthz HTTP/1.1\r\n" + lines + b"Host: x\r\n\r\n" + SMUGGLED)


@pytest.mark.gen_test
async def test_http_10_the_host_must_be_one_and_allowed(serve: Serve) -> None:
    served = serve(server={"allowed_hosts": ["soc.example.com", "127.0.0.1"]})
    for lines in (b"", b"Host: a\r\nHost: a\r\n", b"Host: a/b?c\r\n", b"Host: u@soc.example.com\r\n", b"Host: \r\n"):
        await closed(served, b"GET /healthz HTTP/1.1\r\nConnection: close\r\n" + lines + b"\r\n")
    for host, status in (
        ("soc.example.com", 200), ("SOC.example.com:8480", 200), ("127.0.0.1:1", 200),
        ("evil.example", 400), ("soc.example.com.evil.example", 400), ("xsoc.example.com", 400),
    ):  # fmt: skip
        for target in ("/healthz", API + "/trends", "/nowhere"):
            request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {USER_1.key}\r\nConnection: close\r\n\r\n"
            (answer,) = await served.send(request.encode())
            expected = 404 if target == "/nowhere" and status == 200 else status
            assert answer.status == expected, (host, target)


@pytest.mark.gen_test
async def test_http_11_12_odd_request_lines_are_refused(served: Served) -> None:
    for line in (
        b"GET /healthz", b"GET /healthz HTTP/2.0", b"PRI * HTTP/2.0", b"GET\t/healthz\tHTTP/1.1", b"GET   /healthz HTTP/1.1",
        b"GET /health z HTTP/1.1", b"G" * 8192 + b" /healthz HTTP/1.1", b"CONNECT evil.example:443 HTTP/1.1",
        b"GET http://evil.example/healthz HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /healthz#x HTTP/1.1",
    ):  # fmt: skip
        answers = await served.send(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert all(answer.status in (400, 404, 405) for answer in answers), line[:60]
    await still_alive(served, USER_1)


@pytest.mark.gen_test
async def test_http_13_huge_header_blocks_end_the_connection(served: Served) -> None:
    for lines in (
        b"X: " + b"a" * 70_000 + b"\r\n",
        b"X-API-Key: " + b"a" * 65_536 + b"\r\n",
        b"".join(b"X%d: a\r\n" % n for n in range(10_000)),
        b"X: a\r\n" * 8000,
    ):
        began = time.thread_time()  # of client and server: what others do on the machine does not count
        assert [answer.status for answer in await served.send(HEALTH + lines + b"\r\n")] == [431]
        assert time.thread_time() - began < 0.5
    await still_alive(served, USER_1)


@pytest.mark.gen_test
async def test_http_14_15_no_header_or_url_takes_long_to_read(served: Served) -> None:
    for name in (
        "Content-Type",
        "Content-Disposition",
        "Accept",
        "Accept-Encoding",
        "If-None-Match",
        "Accept-Language",
    ):
        for value in (";a=" * 3500, ', "x"' * 2500, '"' * 12_000, "\\" * 12_000, "gzip;q=0.1," * 1200):
            began = time.thread_time()
            assert (await served.get("/trends", (name, value), token=USER_1.token())).status == 200
            assert time.thread_time() - began < 0.25, name
    for query in ("&".join(f"a{n}=1" for n in range(1001)), "&" * 12_000, "a" * 14_000, "days=7;" * 1000):
        began = time.thread_time()
        answers = await served.send(
            f"GET {API}/trends?{query} HTTP/1.1\r\nHost: x\r\nX-API-Key: {USER_1.key}\r\nConnection: close\r\n\r\n".encode()
        )
        assert {answer.status for answer in answers} <= {200, 400}
        assert time.thread_time() - began < 0.25
    (answer,) = await served.send(b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.status == 431


@pytest.mark.gen_test
async def test_over_long_headers_are_answered_with_431_and_nothing_after_them_is_read(served: Served) -> None:
    one = b"X-Long: " + b"a" * 17_000 + b"\r\n"
    many = b"".join(b"X-%d: b\r\n" % number for number in range(3000))
    large = b"X-Huge: " + b"a" * 900_000 + b"\r\n"
    for lines in (one, many, large, b"Cookie: " + b"c=1; " * 8000 + b"\r\n", one[:-2]):
        answers = await served.send(HEALTH + lines + b"\r\n" + SMUGGLED)
        assert [answer.status for answer in answers] == [431], lines[:20]
        assert answers[0].detail == "The request line and headers are longer than this server reads"
        assert answers[0].header("Connection") == "close"
        assert answers[0].header("X-Content-Type-Options") == "nosniff"
    first, second = await served.send(HEALTH + b"\r\n" + HEALTH + one + b"\r\n")
    assert (first.status, second.status) == (200, 431), "behind a request on the same connection"
    assert (await served.send(HEALTH + b"Connection: close\r\nX-Fits: " + b"a" * 15_000 + b"\r\n\r\n"))[0].status == 200
    assert "/smuggled" not in {record["path"] for record in served.records()}
    await still_alive(served, USER_1)


@pytest.mark.gen_test
async def test_headers_that_come_in_pieces_are_answered_with_431_at_the_bound(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(HEALTH)
    for _ in range(20):
        writer.write(b"X-Piece: " + b"a" * 1000 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    writer.close()


@pytest.mark.gen_test
async def test_a_body_that_breaks_its_bound_is_no_matter_of_headers(served: Served) -> None:
    chunk = HEALTH + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 70
    assert [answer.status for answer in await served.send(chunk)] in ([], [400])


@pytest.mark.gen_test
async def test_http_16_17_18_bodies_are_bounded_and_never_read(served: Served) -> None:
    key = ("X-API-Key", USER_1.key)
    small = await served.get("/trends", key, ("Content-Length", "10"), body=b"0123456789")
    assert small.status == 200
    for length in (65_537, 200_000_000, 10**12):
        large = await served.get("/trends", key, ("Content-Length", str(length)))
        assert large.status == 413
        assert large.header("Content-Type") == "application/problem+json"
        assert large.header("X-Content-Type-Options") == "nosniff"
    endless = HEALTH + b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"a" * 0x8000 + b"\r\n"
    await closed(served, endless + (b"8000\r\n" + b"a" * 0x8000 + b"\r\n") * 3)
    parts = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n" * 1000
    multipart = ("Content-Type", "multipart/form-data; boundary=b")
    answer = await served.get("/trends", key, multipart, ("Content-Length", str(len(parts))), body=parts)
    assert answer.status == 200, "a body is dropped, not parsed"
    assert (await served.get("/trends", key, ("Content-Encoding", "gzip"))).status == 415


@pytest.mark.gen_test
async def test_http_19_slow_and_silent_connections_are_closed(serve: Serve) -> None:
    served = serve(server={"idle_timeout_seconds": 1.5})
    connections = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(60)]
    for number, (_, writer) in enumerate(connections):
        if number % 3 == 0:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        elif number % 3 == 1:
            writer.write(HEALTH + b"Content-Length: 100\r\n\r\nabc")
    await still_alive(served, USER_1)
    for reader, _ in connections:
        await asyncio.wait_for(reader.read(), 30)
    for _, writer in connections:
        writer.close()
    await until(lambda: len(served.server.http._connections) == 0)


@pytest.mark.gen_test
async def test_http_19_connections_beyond_the_bound_are_closed(serve: Serve) -> None:
    served = serve(server={"max_connections": 10})
    held = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(10)]
    await until(lambda: len(served.server.http._connections) == 10)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(HEALTH + b"\r\n")
    received = b""
    with contextlib.suppress(ConnectionResetError):
        received = await asyncio.wait_for(reader.read(), 30)
    assert received == b""
    writer.close()
    for _, other in held:
        other.close()
    await until(lambda: len(served.server.http._connections) == 0)
    await still_alive(served, USER_1)


@pytest.mark.gen_test
async def test_http_20_pipelined_requests_are_answered_in_order(served: Served) -> None:
    answers = await served.send(HEALTH + b"\r\n" + b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED)
    assert [answer.status for answer in answers] == [200, 404, 404]
    many = await served.send((HEALTH + b"\r\n") * 200 + SMUGGLED)
    assert [answer.status for answer in many] == [200] * 200 + [404]


@pytest.mark.gen_test
async def test_http_20_nothing_after_a_request_that_closes_is_a_request(served: Served) -> None:
    for line, version in (
        (b"Connection: close\r\n", b"1.1"), (b"Connection: keep-alive, Close\r\n", b"1.1"), (b"", b"1.0"),
    ):  # fmt: skip
        first = b"GET /healthz HTTP/" + version + b"\r\nHost: x\r\n" + line + b"\r\n"
        assert [answer.status for answer in await served.send(first + SMUGGLED)] == [200], line
    assert "/smuggled" not in {record["path"] for record in served.records()}


@pytest.mark.gen_test
async def test_http_21_other_methods_are_405_with_the_right_allow(served: Served) -> None:
    targets = {
        f"{API}/trends": "GET, HEAD, OPTIONS",
        f"{API}/executive/dashboard": "GET, HEAD, OPTIONS",
        f"{API}/ws/realtime/{USER_1.email}": "GET, OPTIONS",
        "/healthz": "GET, HEAD, OPTIONS",
        "/metrics": "GET, HEAD, OPTIONS",
    }
    for target, allow in targets.items():
        for method in ("TRACE", "PUT", "POST", "DELETE", "PATCH", "PROPFIND", "FOO", "get"):
            answer = await served.ask(target, ("X-Marker", "echo-me"), method=method)
            assert answer.status == 405, (target, method)
            assert answer.header("Allow") == allow
            assert b"echo-me" not in answer.body
    assert (await served.ask(f"{API}/ws/realtime/{USER_1.email}", method="HEAD")).status == 405


@pytest.mark.gen_test
async def test_http_22_head_is_get_without_a_body_and_options_says_allow(served: Served) -> None:
    def comparable(answer: Answer) -> dict[str, str]:
        """All but what differs between any two requests: the moment, the request, what is left of an allowance."""
        return {
            name: value for name, value in answer.headers if name.lower() not in ("date", "x-request-id", "ratelimit")
        }

    for target in (*(f"{API}{path}" for path in ("/trends", "/debug", "/executive/dashboard")), "/healthz", "/readyz"):
        for token in (USER_1.token(), ADMIN_1.token(), None):
            got = await served.ask(target, token=token)
            head = await served.ask(target, method="HEAD", token=token)
            assert head.status == got.status
            assert head.body == b""
            assert comparable(head) == comparable(got), target
            assert (head.header("RateLimit") is None) == (got.header("RateLimit") is None), target
    options = await served.ask(f"{API}/trends", method="OPTIONS")
    assert options.status == 204
    assert options.body == b""
    assert options.header("Allow") == "GET, HEAD, OPTIONS"


@pytest.mark.gen_test
async def test_http_23_no_path_leads_to_a_file(served: Served) -> None:
    for path in (
        "/%2e%2e%2fetc/passwd", "/..\\..\\etc\\passwd", "/%c0%af", "/%00", "/%252e%252e/", "//", "/.git/config",
        "/static/../config/owkai.toml", "/C:/windows", "/../../etc/passwd", "/data/keys.json", "/favicon.ico", "/robots.txt",
    ):  # fmt: skip
        answers = await served.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert [answer.status for answer in answers] in ([400], [404]), path
        assert all(b"root:" not in answer.body for answer in answers)


@pytest.mark.gen_test
async def test_http_25_expectations_are_bounded(served: Served) -> None:
    huge = await served.ask("/healthz", ("Expect", "100-continue"), ("Content-Length", "1000000000"))
    assert huge.status == 413


@pytest.mark.gen_test
async def test_http_26_input_never_reaches_a_header_or_reason(served: Served) -> None:
    for path in ("/%0d%0aSet-Cookie:%20a=b", "/<script>alert(1)</script>", "/%3Cscript%3E", "/trends?days=%0d%0aX: y"):
        target = API + path if path.startswith("/trends") else path
        answers = await served.send(
            f"GET {target.replace(' ', '%20')} HTTP/1.1\r\nHost: x\r\nX-API-Key: {USER_1.key}\r\nConnection: close\r\n\r\n".encode()
        )
        for answer in answers:
            assert answer.status in (400, 404)
            assert answer.header("Set-Cookie") is None
            assert b"<script>" not in answer.body
            if answer.body:
                assert answer.header("Content-Type") == "application/problem+json"
                assert answer.header("X-Content-Type-Options") == "nosniff"
    live = await served.get("/ws/realtime/%3Cscript%3E@x", token=USER_1.token())
    assert b"script" not in live.body


@pytest.mark.gen_test
async def test_http_29_noise_is_closed_and_logged_in_one_line(served: Served) -> None:
    for noise in (
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n",
        bytes(range(256)) * 10 + b"\r\n\r\n",
        b"\x00" * 5000 + b"\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
    ):
        await closed(served, noise + b"\r\n\r\n")
    await still_alive(served, USER_1)
