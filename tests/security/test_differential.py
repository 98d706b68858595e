"""Two readers of one byte stream: the server never sees more requests than another parser of HTTP/1.1 (h11) in front of it.

Smuggling needs a proxy and a server that part a stream in two ways. What the server took as a request is counted by its own
audit trail; what the one in front would have passed on, by h11 over the same bytes.
"""

from __future__ import annotations

import h11
import pytest

from tests.handlers.serving import Served

HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
NEXT = b"GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LENGTHS = (
    b"0", b"+2", b"-1", b"0_2", b"0x2", b"\xd9\xa2", b"2" * 20, b"", b"2;2", b"2 2", b"2.0", b"2, 2", b"2, 3", b"00002",
)  # fmt: skip
CODINGS = (
    b"chunked", b"Chunked", b"gzip, chunked", b"xchunked", b"chunked, identity", b"\x0bchunked", b"identity", b"chunked;q=1",
    b"chunked, chunked", b" chunked ", b"\tchunked",
)  # fmt: skip
CHUNKS = (
    b"0\r\n\r\n", b"2\r\nab\r\n0\r\n\r\n", b"0x2\r\nab\r\n0\r\n\r\n", b"+2\r\nab\r\n0\r\n\r\n", b"2;a=b\r\nab\r\n0\r\n\r\n",
    b"2;a\nb\r\nab\r\n0\r\n\r\n", b"2\r\nabXX0\r\n\r\n", b"2\nab\n0\n\n", b"-2\r\nab\r\n", b"0\r\nX-API-Key: k\r\n\r\n",
    b"00\r\n\r\n", b"1_0\r\naaaaaaaaaaaaaaaa\r\n0\r\n\r\n", b"10000000000000002\r\nab\r\n0\r\n\r\n", b"2 \r\nab\r\n0\r\n\r\n",
)  # fmt: skip
LINES = (
    b"X: a\r\n b\r\n", b"X : a\r\n", b"nocolon\r\n", b": a\r\n", b" X: a\r\n", b"X: a\x00b\r\n", b"X: a\rb\r\n", b"X: a\x7f\r\n",
    b"X: a\nY: b\r\n", b"X: a\n\nGET /second HTTP/1.1\nHost: x\n\n", b"Host: y\r\n", b"Connection: close, keep-alive\r\n",
    b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"Content-Length: 2\r\nContent-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\nContent-Length: 2\r\n",
)  # fmt: skip
STARTS = (
    b"GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n", b"GET /healthz HTTP/1.9\r\nHost: x\r\n\r\n", b"GET /healthz\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\t/healthz\tHTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n" + HEAD + b"\r\n",
    b"GET http://evil/healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT evil:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /healthz#f HTTP/1.1\r\nHost: x\r\n\r\n",
)  # fmt: skip
STREAMS = (
    *(HEAD + b"Content-Length: " + text + b"\r\n\r\nab" + NEXT for text in LENGTHS),
    *(HEAD + b"Transfer-Encoding: " + text + b"\r\n\r\n0\r\n\r\n" + NEXT for text in CODINGS),
    *(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + NEXT for body in CHUNKS),
    *(HEAD + lines + b"\r\n0\r\n\r\n" + NEXT for lines in LINES),
    *(start + NEXT for start in STARTS),
    *(
        HEAD.replace(b"1.1", version) + b"Connection: " + options + b"\r\n\r\n" + NEXT
        for version in (b"1.0", b"1.1")
        for options in (b"close", b"Close", b"close, keep-alive", b"keep-alive", b"keep-alive, close", b"x", b"upgrade")
        if (version, options)
        != (b"1.0", b"keep-alive")  # h11 ends every 1.0 connection; the word is older than HTTP/1.1
    ),
    HEAD.replace(b"\r\n", b"\n") + b"\n" + NEXT,
)


def seen_in_front(stream: bytes) -> list[str]:
    """The targets of the requests that h11 reads in a stream before it ends or refuses the rest."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(stream)
    reader.receive_data(b"")
    found: list[str] = []
    status = 200
    try:
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Request):
                found.append(event.target.decode())
                status = 405 if event.method == b"CONNECT" else 200  # a refused tunnel leaves HTTP as it was
            elif event is h11.PAUSED:
                if reader.our_state is not h11.SEND_RESPONSE:
                    return found
                reader.send(h11.Response(status_code=status, headers=[("Content-Length", "0")]))
                reader.send(h11.EndOfMessage())
                if reader.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                    return found
                reader.start_next_cycle()
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return found
    except h11.RemoteProtocolError:
        return found


def test_http_27_the_reader_in_front_reads_as_it_should() -> None:
    assert seen_in_front(HEAD + b"\r\n" + NEXT) == ["/healthz", "/second"]
    assert seen_in_front(HEAD + b"Content-Length: 2\r\n\r\nab" + NEXT) == ["/healthz", "/second"]
    assert seen_in_front(NEXT + NEXT) == ["/second"], "the first one closes"
    assert seen_in_front(HEAD + b"Content-Length: +2\r\n\r\nab" + NEXT) == []
    assert len(STREAMS) >= 60


@pytest.mark.gen_test(timeout=60)
async def test_http_27_the_server_never_sees_more_requests_than_the_one_in_front(served: Served) -> None:
    for number, stream in enumerate(STREAMS):
        marked = stream.replace(b"/second", b"/second-%d" % number).replace(b"/healthz", b"/first-%d" % number)
        await served.send(marked)
    taken = {str(record["path"]) for record in served.records()}
    for number, stream in enumerate(STREAMS):
        in_front = seen_in_front(stream)
        for ours, theirs in (("/first", "/healthz"), ("/second", "/second")):
            if any(path.endswith(f"{ours}-{number}") for path in taken):
                assert any(theirs in target for target in in_front), stream[:200]


@pytest.mark.gen_test
async def test_http_09_a_bare_line_feed_ends_a_line_and_nothing_else(served: Served) -> None:
    """The framework reads a bare LF as the end of a line (RFC 9112 §2.2 allows it); docs/tasks/secure.md tells what to ask of
    a proxy in front."""
    answers = await served.send(b"GET /healthz HTTP/1.1\nHost: x\nX: a\nConnection: close\n\n")
    assert [answer.status for answer in answers] == [200]
    for stream in (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\n\n" + NEXT,
        b"GET /healthz HTTP/1.1\nHost: x\n\n" + NEXT,
    ):
        assert [answer.status for answer in await served.send(stream)] == [200, 404]
