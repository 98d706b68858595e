"""Failed authentications: limited per address, in bounded memory, without locking out who is already in."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from config.settings import AuthSettings
from handlers.auth.credentials import Presented
from handlers.auth.failure_limits import SHARED_ENTRIES, FailureLimiter
from handlers.auth.tokens import TokenError, TokenVerifier
from handlers.connections.address import client_address, limiter_bucket, parse_networks
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Served
from tests.handlers.world import ADMIN_1, ADMIN_2, INACTIVE, NOW, USER_1, USER_2, sign
from tests.security.test_tokens import key_file, other_rsa_key, public_pem, rs256, rsa_key

__all__ = ["other_rsa_key", "rsa_key"]  # fixtures

PROXY = {"trusted_proxies": ["127.0.0.1", "10.0.0.0/8"]}


async def guess(served: Served, number: int, address: str | None = None, path: str = "/trends") -> int:
    lines = [("X-API-Key", f"wrong-key-number-{number:06d}")]
    if address is not None:
        lines.append(("X-Forwarded-For", address))
    return (await served.get(path, *lines)).status


@pytest.mark.gen_test
async def test_rl_01_failures_are_limited_per_address_and_window(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 5, "failed_window_seconds": 60}, server=PROXY)
    assert [await guess(served, n, "203.0.113.1") for n in range(8)] == [401] * 5 + [429] * 3
    limited = await served.get("/trends", ("X-API-Key", "w" * 30), ("X-Forwarded-For", "203.0.113.1"))
    assert limited.status == 429
    assert 1 <= int(limited.header("Retry-After") or 0) <= 60
    assert await guess(served, 0, "203.0.113.2") == 401
    served.clock.advance(59)
    assert await guess(served, 9, "203.0.113.1") == 429
    served.clock.advance(2)
    assert await guess(served, 9, "203.0.113.1") == 401


@pytest.mark.gen_test
async def test_rl_01_requests_without_a_credential_are_no_guesses(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 2})
    assert {(await served.get("/trends")).status for _ in range(10)} == {401}


def test_rl_02_the_table_is_bounded_and_evicts_nobody() -> None:
    async def fill() -> None:
        limiter = FailureLimiter(limit=3, window_seconds=60, max_entries=1000)
        for _ in range(3):
            attempt = await limiter.enter("attacker", 0.0)
            assert attempt is not None
            attempt.end(failed=True)
        for number in range(20_000):
            attempt = await limiter.enter(f"address {number}", 1.0)
            if attempt is not None:
                attempt.end(failed=True)
        assert len(limiter) <= 1000 + SHARED_ENTRIES
        assert await limiter.enter("attacker", 59.0) is None
        second = await limiter.enter("address 7", 59.0)
        assert second is not None
        second.end(failed=False)
        assert await limiter.enter("attacker", 60.0) is not None
        assert len(limiter) <= 1000 + SHARED_ENTRIES
        assert await limiter.enter("later", 62.0) is not None
        assert len(limiter) == 2, "ended windows are gone"

    asyncio.run(fill())


@pytest.mark.gen_test
async def test_rl_03_http_28_a_changed_forwarded_address_escapes_nothing(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 3})
    results = [await guess(served, n, f"198.51.100.{n}") for n in range(6)]
    assert results == [401] * 3 + [429] * 3, "an untrusted peer's header does not count"
    assert {record["address"] for record in served.records()} == {"127.0.0.1"}


def test_http_28_the_right_most_untrusted_hop_counts() -> None:
    trusted = parse_networks(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])
    for peer, lines, expected in (
        ("203.0.113.5", ["1.2.3.4"], "203.0.113.5"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("127.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("127.0.0.1", ["6.6.6.6, 1.2.3.4, 10.1.1.1"], "1.2.3.4"),
        ("127.0.0.1", ["6.6.6.6", "1.2.3.4 , 10.1.1.1"], "1.2.3.4"),
        ("127.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("127.0.0.1", ["1.2.3.4, nonsense"], "127.0.0.1"),
        ("127.0.0.1", ["1.2.3.4:5000"], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", ["<script>"], "127.0.0.1"),
        ("::ffff:127.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("fd00::1", ["::ffff:1.2.3.4"], "1.2.3.4"),
    ):
        assert client_address(peer, lines, trusted) == expected, (peer, lines)
    with pytest.raises(ValueError, match=r"server\.trusted_proxies: 'proxy\.local'"):
        parse_networks(["proxy.local"])


@pytest.mark.gen_test
async def test_http_28_other_forwarding_headers_are_ignored(serve: Serve) -> None:
    served = serve(server=PROXY)
    await served.get("/trends", ("X-Real-IP", "9.9.9.9"), ("Forwarded", "for=9.9.9.9"), ("X-Forwarded-Host", "evil"))
    assert served.records()[-1]["address"] == "127.0.0.1"


def test_rl_03_ipv6_counts_by_its_64_bits_and_mapped_ipv4_as_ipv4() -> None:
    assert limiter_bucket("2001:db8:1:2:3:4:5:6") == limiter_bucket("2001:db8:1:2::1")
    assert limiter_bucket("2001:db8:1:2::1") != limiter_bucket("2001:db8:1:3::1")
    assert limiter_bucket("::ffff:1.2.3.4") == limiter_bucket("1.2.3.4") == "1.2.3.4"


@pytest.mark.gen_test
async def test_rl_04_a_parallel_burst_gets_no_more_guesses_than_the_limit(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 7})
    results = await asyncio.gather(*(guess(served, n) for n in range(100)))
    assert results.count(401) == 7
    assert results.count(429) == 93


@pytest.mark.gen_test
async def test_rl_04_a_parallel_burst_of_good_credentials_is_served(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 2})
    people = [USER_1, USER_2, ADMIN_1] * 15
    answers = await asyncio.gather(*(served.get("/debug", key=person.key) for person in people))
    assert {answer.status for answer in answers} == {200}


@pytest.mark.gen_test
async def test_rl_05_every_route_counts_in_the_same_limiter(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 4}, server=PROXY)
    address = ("X-Forwarded-For", "203.0.113.9")
    wrong = ("X-API-Key", "w" * 30)
    live = f"{API}/ws/realtime/{USER_1.email}"
    assert (await served.ask(live, wrong, address)).status == 401
    assert (await served.ask("/metrics", wrong, address)).status == 401
    assert (await served.get("/executive/dashboard", ("Authorization", "Basic eA=="), address)).status == 401
    assert (await served.get("/debug", ("X-API-Key", "a,b"), address)).status == 400
    assert (await served.get("/trends", wrong, address)).status == 429
    assert (await served.get("/trends", ("Authorization", "Nonsense"), address)).status == 429


@pytest.mark.gen_test
async def test_rl_07_credentials_in_use_pass_a_limited_address(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 3})
    assert (await served.get("/trends", token=ADMIN_1.token())).status == 200
    assert [await guess(served, n) for n in range(4)] == [401] * 3 + [429]
    assert (await served.get("/trends", token=ADMIN_1.token())).status == 200, "verified before: still served"
    assert (await served.get("/trends", token=USER_1.token())).status == 429, "new here: waits for the window"
    served.clock.advance(61)
    assert (await served.get("/trends", token=USER_1.token())).status == 200


@pytest.mark.gen_test
async def test_rl_07_guesses_at_one_key_from_many_places_are_limited_and_shut_out_no_clean_address(
    serve: Serve,
) -> None:
    served = serve(auth={"failed_limit": 50, "failed_limit_per_key": 5}, server=PROXY)
    admin = ADMIN_1.key
    guesses = [admin[:33] + f"{number:010d}" for number in range(9)]

    async def ask(key: str, host: int) -> int:
        return (await served.get("/trends", ("X-API-Key", key), ("X-Forwarded-For", f"203.0.113.{host}"))).status

    assert [await ask(guess, host) for host, guess in enumerate(guesses[:5])] == [401] * 5, "one each from five places"
    assert await ask(guesses[5], 0) == 429, "that place has failed before, and this key was guessed at often enough"
    assert await ask(guesses[6], 99) == 401, "a clean place gets its guess"
    assert await ask(guesses[7], 99) == 429
    assert await ask(admin, 0) == 429, "the guesser's place, even with the right key"
    assert await ask(USER_1.key, 0) == 200, "another key is not concerned"
    assert await ask(admin, 50) == 200, "the administrator's own place is clean"
    assert await ask(admin, 0) == 200, "and a key in use passes from anywhere"
    served.clock.advance(61)
    assert await ask(guesses[8], 0) == 401, "the window is over"
    record = next(record for record in served.records() if record["status"] == 429)
    assert record["reason"] == "address_limited"


@pytest.mark.gen_test
async def test_rl_07_only_a_wrong_key_that_was_tried_counts_against_its_prefix(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 100, "failed_limit_per_key": 2})

    def counted(key: str) -> int:
        bucket = Presented("key", "x-api-key", key).prefix_bucket()
        assert bucket is not None
        return served.services.prefix_limiter.failures(bucket, NOW.timestamp())

    for number in range(5):
        junk = ("Cookie", f"access_token=junk{number}")
        assert (await served.get("/trends", junk, key=ADMIN_1.key)).status == 401, "the cookie failed, before the key"
        assert (await served.get("/trends", key=INACTIVE.key)).status == 401, "the right key of a user who may not"
        wrong_first = ("Authorization", f"Bearer {'w' * 40}{number}")
        assert (await served.get("/trends", wrong_first, key=ADMIN_1.key)).status in (401, 429)
        assert (await served.get("/trends", key="short")).status == 401, "no key at all"
    assert [counted(key) for key in (ADMIN_1.key, INACTIVE.key, "short")] == [0, 0, 0]
    assert counted("w" * 40) == 2, "the one that was tried and wrong, until it was limited"
    assert (await served.get("/trends", key=ADMIN_1.key)).status == 200, "this address has failed, its key has not"
    for number in range(2):
        assert (await served.get("/trends", key=ADMIN_2.key[:33] + f"{number:010d}")).status == 401
    assert (await served.get("/trends", key=ADMIN_2.key)).status == 429


@pytest.mark.gen_test
async def test_rl_07_an_attack_without_end_delays_a_new_administrator_by_one_window(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 3, "failed_window_seconds": 60})
    for window in range(3):
        while await guess(served, window) != 429:
            pass
        for second in range(59):
            served.clock.advance(1)
            if second % 20 == 0:
                assert await guess(served, second) == 429, "attempts that were refused do not lengthen the window"
        served.clock.advance(1.1)
        assert (await served.get("/trends", token=ADMIN_1.token(jti=f"login {window}"))).status == 200


def test_rl_08_a_bad_signature_costs_less_than_a_millisecond_and_cheap_checks_come_first(
    rsa_key: rsa.RSAPrivateKey, other_rsa_key: rsa.RSAPrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = key_file(tmp_path, public_pem(rsa_key))
    verifier = TokenVerifier(AuthSettings(jwt_algorithm="RS256", jwt_public_key_file=file))
    now = NOW.timestamp()
    bad = [rs256(other_rsa_key, jti=str(number)) for number in range(100)]
    rounds = []
    for _ in range(3):
        begun = time.thread_time()
        for token in bad:
            with pytest.raises(TokenError, match="token_signature"):
                verifier.verify(token, now)
        rounds.append((time.thread_time() - begun) / len(bad))
    assert min(rounds) < 0.001, rounds

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a signature was computed")

    monkeypatch.setattr("jwt.PyJWS.decode", never)
    for token in ("a" * 10_000 + ".b.c", "a.b", USER_1.token(), "e30.e30.", rs256(rsa_key, header={"crit": ["exp"]})):
        with pytest.raises(TokenError) as caught:
            verifier.verify(token, now)
        assert str(caught.value) != "token_signature"


@pytest.mark.gen_test
async def test_rl_08_a_flood_of_bad_tokens_leaves_good_clients_quick(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 1_000_000}, server=PROXY)
    assert (await served.get("/trends", token=USER_1.token())).status == 200
    ended, flooded = asyncio.Event(), 0

    async def flood() -> None:
        nonlocal flooded
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        while not ended.is_set():
            wrong = sign(USER_1.claims(jti=str(flooded)), "x" * 40)
            writer.write(
                f"GET {API}/trends HTTP/1.1\r\nHost: {served.authority}\r\nAuthorization: Bearer {wrong}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 401"), head
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
            flooded += 1
        writer.close()

    attackers = [asyncio.create_task(flood()) for _ in range(2)]
    overtaken = []
    for _ in range(300):
        before = flooded
        assert (await served.get("/trends", token=USER_1.token())).status == 200
        overtaken.append(flooded - before)
    ended.set()
    await asyncio.gather(*attackers)
    assert flooded > 200, "there was a flood"
    assert statistics.median(overtaken) < 20, "a good request has its turn among the bad ones"
