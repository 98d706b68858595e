"""RFC 6455 by raw sockets: what a server must accept, what it must refuse, and with which close code. One table."""

from __future__ import annotations

import asyncio
import random
import struct
from typing import NamedTuple

import pytest

from tests.handlers.serving import Served
from tests.handlers.sockets import frame, wire
from tests.handlers.world import USER_1

PING = frame(9, b"still there")
BYE = frame(8, b"\x03\xe8")
KAPPA = "Hello-µ@ßöäüàá-UTF-8!! κόσμε".encode()


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(8, struct.pack("!H", code) + reason)


def length(first: int, bits: int, size: int, payload: bytes = b"") -> bytes:
    """A masked frame whose length is written in 16 or 64 bits, whatever the payload is."""
    head = struct.pack("!BBH", first, 0x80 | 126, size) if bits == 16 else struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + payload


def text(payload: bytes) -> bytes:
    return frame(1, payload)


def split(payload: bytes, *sizes: int) -> bytes:
    """A text message in fragments of these sizes and a last one of the rest."""
    pieces = []
    for size in sizes:
        pieces.append(payload[:size])
        payload = payload[size:]
    pieces.append(payload)
    last = len(pieces) - 1
    return b"".join(frame(0 if n else 1, piece, final=n == last) for n, piece in enumerate(pieces))


class Case(NamedTuple):
    """`sent`, then the pongs it must be answered with and the close code at the end; 1000 where all was well."""

    sent: bytes
    pongs: tuple[bytes, ...] = ()
    code: int = 1000


ACCEPTED: dict[str, bytes] = {
    "5.2 empty text": text(b""),
    "5.2 text of 125 bytes": text(b"*" * 125),
    "5.2 text of 126 bytes": text(b"*" * 126),
    "5.2 text of 127 bytes": text(b"*" * 127),
    "5.2 text of 4096 bytes, the bound": text(b"*" * 4096),
    "5.2 empty binary": frame(2),
    "5.2 binary of any bytes": frame(2, bytes(range(256))),
    "5.3 a mask of zeros": b"\x81\x85" + bytes(4) + b"Hello",
    "5.4 two fragments": split(b"fragment1fragment2", 9),
    "5.4 empty fragments": split(b"", 0, 0),
    "5.4 empty first fragment": split(b"abc", 0),
    "5.4 many fragments": split(b"x" * 40, *[1] * 39),
    "5.4 one message after another": split(b"one", 1) + split(b"two", 1) + text(b"three"),
    "5.5.3 a pong nobody asked for": frame(10, b"unsolicited"),
    "5.5.3 an empty pong": frame(10),
    "8.1 several scripts": text(KAPPA),
    "8.1 split inside a code point": split(KAPPA, 7, 1, 1, 5),
    "8.1 split at every byte": split(KAPPA, *[1] * (len(KAPPA) - 1)),
    "8.1 the first and last code points of each length": text(
        "\0\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff".encode()
    ),
    "8.1 around the surrogates": text("\ud7ff\ue000\ufffd".encode()),
    "8.1 non-characters": text("\ufffe\uffff\U0001fffe\U0010ffff\ufdd0".encode()),
}

ANSWERED: dict[str, Case] = {
    "5.5.2 an empty ping": Case(frame(9), (b"",)),
    "5.5.2 a ping of 125 bytes of any kind": Case(frame(9, bytes(range(125))), (bytes(range(125)),)),
    "5.5.2 ten pings": Case(b"".join(frame(9, b"%d" % n) for n in range(10)), tuple(b"%d" % n for n in range(10))),
    "5.4 a ping between fragments": Case(
        frame(1, b"frag", final=False) + frame(9, b"between") + frame(0, b"ment"), (b"between",)
    ),
    "5.4 a pong between fragments": Case(frame(1, b"frag", final=False) + frame(10, b"x") + frame(0, b"ment")),
}

REFUSED: dict[str, Case] = {
    "5.1 an unmasked frame": Case(frame(1, b"a", masked=False), code=1002),
    "5.2 all reserved bits": Case(frame(1, b"a", bits=0x70), code=1002),
    "5.2 a reserved bit in a ping": Case(frame(9, b"a", bits=0x40), code=1002),
    "5.2 a reserved bit in a close": Case(frame(8, b"\x03\xe8", bits=0x40), code=1002),
    "5.2 a reserved bit after good text": Case(text(b"a") + PING + frame(1, b"b", bits=0x20), (b"still there",), 1002),
    **{f"5.2 opcode {opcode}": Case(frame(opcode, b"a"), code=1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "5.2 125 written in 16 bits": Case(length(0x81, 16, 125, b"*" * 125), code=1002),
    "5.2 200 written in 64 bits": Case(length(0x81, 64, 200, b"*" * 200), code=1002),
    "5.2 the highest bit of 64": Case(length(0x82, 64, 1 << 63), code=1002),
    "5.4 a continuation of nothing": Case(frame(0, b"a"), code=1002),
    "5.4 an unfinished continuation of nothing": Case(frame(0, b"a", final=False), code=1002),
    "5.4 a continuation after a finished message": Case(split(b"ab", 1) + frame(0, b"c"), code=1002),
    "5.4 text inside text": Case(frame(1, b"a", final=False) + text(b"b"), code=1002),
    "5.4 binary inside text": Case(frame(1, b"a", final=False) + frame(2, b"b"), code=1002),
    "5.5 a fragmented ping": Case(frame(9, b"a", final=False), code=1002),
    "5.5 a fragmented pong": Case(frame(10, b"a", final=False), code=1002),
    "5.5 a fragmented close": Case(frame(8, b"\x03\xe8", final=False), code=1002),
    "5.5 a ping of 126 bytes": Case(frame(9, b"*" * 126), code=1002),
    "5.5 a pong of 126 bytes": Case(frame(10, b"*" * 126), code=1002),
    "5.5 a close of 126 bytes": Case(close(1000, b"*" * 124), code=1002),
    "5.5.1 a close of one byte": Case(frame(8, b"\x03"), code=1002),
    "10.4 a message beyond the bound": Case(frame(2, b"*" * 4097), code=1009),
    "10.4 fragments beyond the bound": Case(split(b"*" * 4100, 2000, 2000), code=1009),
}

CLOSE_CODES_GOOD = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
CLOSE_CODES_BAD = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)

NOT_UTF8: dict[str, bytes] = {
    "a lone continuation byte": b"\x80",
    "the last continuation byte": b"\xbf",
    "six continuation bytes": b"\x80\xbf\x80\xbf\x80\xbf",
    "lone starts of two": b"\xc2 \xdf ",
    "lone starts of three": b"\xe0 \xef ",
    "lone starts of four": b"\xf0 \xf4 ",
    "a start of five": b"\xf8\x88\x80\x80\x80",
    "a start of six": b"\xfc\x84\x80\x80\x80\x80",
    "two bytes cut at the end": b"\xc3",
    "three bytes cut at the end": b"\xe2\x82",
    "four bytes cut at the end": b"\xf0\x9f\x98",
    "the impossible byte fe": b"\xfe",
    "the impossible byte ff": b"\xff",
    "overlong slash in two": b"\xc0\xaf",
    "overlong slash in three": b"\xe0\x80\xaf",
    "overlong slash in four": b"\xf0\x80\x80\xaf",
    "overlong nul": b"\xc0\x80",
    "the longest overlong of two": b"\xc1\xbf",
    "the longest overlong of three": b"\xe0\x9f\xbf",
    "the longest overlong of four": b"\xf0\x8f\xbf\xbf",
    "the first surrogate": b"\xed\xa0\x80",
    "the last surrogate": b"\xed\xbf\xbf",
    "a pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "beyond the last code point": b"\xf4\x90\x80\x80",
    "good text before it": KAPPA + b"\xf4\x90\x80\x80edited",
}


async def exchange(served: Served, sent: bytes) -> tuple[list[bytes], int | None]:
    """Send behind the first two messages; the pongs and the close code that come back."""
    pongs: list[bytes] = []
    async with wire(served, USER_1) as connection:
        for _ in range(2):
            assert (await connection.frame())[0] == 1
        connection.writer.write(sent)
        while True:
            try:
                opcode, payload = await connection.frame()
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return pongs, None
            if opcode == 10:
                pongs.append(payload)
            elif opcode == 8:
                return pongs, int.from_bytes(payload[:2], "big") if payload else 1005


@pytest.mark.gen_test
@pytest.mark.parametrize("name", ACCEPTED)
async def test_what_the_protocol_allows_changes_nothing(served: Served, name: str) -> None:
    assert await exchange(served, ACCEPTED[name] + PING + BYE) == ([b"still there"], 1000)


@pytest.mark.gen_test
@pytest.mark.parametrize("name", ANSWERED)
async def test_pings_are_answered_with_what_they_carry(served: Served, name: str) -> None:
    case = ANSWERED[name]
    assert await exchange(served, case.sent + BYE) == (list(case.pongs), case.code)


@pytest.mark.gen_test
@pytest.mark.parametrize("name", REFUSED)
async def test_what_the_protocol_forbids_ends_the_connection_with_its_code(served: Served, name: str) -> None:
    case = REFUSED[name]
    # Nothing behind a violation is looked at.
    assert await exchange(served, case.sent + PING + BYE) == (list(case.pongs), case.code)


@pytest.mark.gen_test
async def test_bytes_that_are_not_utf8_end_the_connection_with_1007_however_they_are_cut(served: Served) -> None:
    for name, payload in NOT_UTF8.items():
        for sent in (text(payload), split(payload, *[1] * (len(payload) - 1)), text(b"good") + split(payload, 0)):
            assert await exchange(served, sent + PING) == ([], 1007), name
        assert await exchange(served, frame(2, payload) + BYE) == ([], 1000), "binary may hold any bytes"


@pytest.mark.gen_test
async def test_close_codes_that_may_be_sent_are_echoed_and_all_others_are_violations(served: Served) -> None:
    assert await exchange(served, frame(8)) == ([], 1005), "without a code as it came"
    for code in CLOSE_CODES_GOOD:
        assert await exchange(served, close(code)) == ([], code)
        assert await exchange(served, close(code, b"*" * 123)) == ([], code)
    for code in CLOSE_CODES_BAD:
        assert await exchange(served, close(code)) == ([], 1002), code
        assert await exchange(served, close(code, b"reason")) == ([], 1002), code
    for name, payload in NOT_UTF8.items():
        assert await exchange(served, close(1000, payload)) == ([], 1007), name
    assert await exchange(served, BYE + PING + text(b"late")) == ([], 1000), "what follows a close is not read"


@pytest.mark.gen_test
@pytest.mark.parametrize("chop", [1, 2, 3, 7])
async def test_frames_arrive_in_segments_of_any_size(served: Served, chop: int) -> None:
    sent = split(KAPPA, 3, 1) + frame(9, b"in pieces") + text(b"*" * 130) + PING + BYE
    async with wire(served, USER_1) as connection:
        for _ in range(2):
            await connection.frame()
        for start in range(0, len(sent), chop):
            connection.writer.write(sent[start : start + chop])
            await connection.writer.drain()
            await asyncio.sleep(0)
        answers = [await connection.frame() for _ in range(3)]
    assert answers == [(10, b"in pieces"), (10, b"still there"), (8, b"\x03\xe8")]


@pytest.mark.gen_test
async def test_random_bytes_end_the_connection_and_never_the_server(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    source = random.Random(6455)
    for _ in range(60):
        sent = source.randbytes(source.randrange(2, 400))
        _, code = await exchange(served, sent + bytes(5000) + b"\xff" * 5000)
        assert code is not None, sent
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
