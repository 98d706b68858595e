"""Signing in on the page: the session's cookie, cross-site requests, and that a session ends with what it stands for."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics.directory import ApiKey
from analytics.state.cache import Cache
from handlers.auth.authenticator import Proof, read_proof, write_proof
from handlers.auth.key_store import LocalKey
from handlers.auth.session_file import SessionFile
from handlers.auth.sessions import Sessions, SessionsFullError, digest
from handlers.auth.tokens import Claims
from tests.contract.platform_rows import fill, make_key
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Answer, Served, until
from tests.handlers.world import (
    ADMIN_1,
    INACTIVE,
    NOW,
    STAFF,
    USER_1,
    USER_2,
    LocalKeys,
    Person,
    key_row,
)
from tests.owkai.servers import Server, serving, wait_for
from tests.postgres import Database
from tests.security.test_authorization import write
from tests.sync.running import slot_name

GOOD = "https://good.example"
JSON = ("Content-Type", "application/json")
COOKIE = "__Host-owkai_page"


async def sign_in(served: Served, key: str, *lines: tuple[str, str], origin: str | None = GOOD) -> Answer:
    """POST /session with the key in the body, as the page does."""
    return await post(served, json.dumps({"api_key": key}).encode(), JSON, *lines, origin=origin)


async def post(served: Served, body: bytes, *lines: tuple[str, str], origin: str | None = GOOD) -> Answer:
    named = [("Origin", origin)] if origin is not None else []
    return await served.ask("/session", *named, ("Content-Length", str(len(body))), *lines, method="POST", body=body)


def session_of(answer: Answer) -> str:
    """The cookie pair that a browser would send from now on."""
    assert answer.status == 201, answer.body
    (line,) = answer.all_headers("Set-Cookie")
    return line.partition(";")[0]


async def with_session(served: Served, session: str, path: str = f"{API}/trends", *lines: tuple[str, str]) -> Answer:
    return await served.ask(path, ("Cookie", session), *lines)


@pytest.mark.gen_test
async def test_csr_01_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(serve: Serve) -> None:
    served = serve(websocket={"allowed_origins": [GOOD, "http://plain.example"]})
    (line,) = (await sign_in(served, USER_1.key)).all_headers("Set-Cookie")
    name, *attributes = line.split("; ")
    assert name.startswith(f"{COOKIE}=")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Strict", "Secure"]
    (plain,) = (await sign_in(served, USER_1.key, origin="http://plain.example")).all_headers("Set-Cookie")
    name, *attributes = plain.split("; ")
    assert name.startswith("owkai_page=")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Strict"]
    for text in (line, plain):
        assert USER_1.key not in text


@pytest.mark.gen_test
async def test_csr_01_no_two_sessions_share_an_id_and_each_has_256_bits(served: Served) -> None:
    found = [session_of(await sign_in(served, USER_1.key)) for _ in range(5)]
    values = {pair.partition("=")[2] for pair in found}
    assert len(values) == 5
    assert {len(base64.urlsafe_b64decode(value + "=")) for value in values} == {32}


@pytest.mark.gen_test
async def test_the_session_stands_for_the_key_on_every_route_and_says_who_it_is(served: Served) -> None:
    answer = await sign_in(served, ADMIN_1.key)
    session = session_of(answer)
    for path in ("/trends", "/realtime/metrics", "/executive/dashboard"):
        assert (await with_session(served, session, API + path)).status == 200
    who = await with_session(served, session, "/session")
    assert who.status == 200
    assert who.json() == answer.json()
    told = who.json()
    assert (told["email"], told["role"], told["admin"], told["organization_id"]) == (ADMIN_1.email, "admin", True, 1)
    assert told["signed_in_by"] == "page"
    assert told["expires_at"] == "2025-01-16T02:30:00Z"
    assert told["live_path"] == f"{API}/ws/realtime/{ADMIN_1.email}"
    assert who.header("Cache-Control") == "no-store"
    user = session_of(await sign_in(served, USER_1.key))
    assert (await with_session(served, user, f"{API}/executive/dashboard")).status == 403
    assert (await with_session(served, user, f"{API}/debug")).body == (await served.get("/debug", key=USER_1.key)).body


@pytest.mark.gen_test
async def test_tokens_and_local_keys_sign_in_too_and_headers_carry_them_as_well(served: Served) -> None:
    for text in (served.local.user_1, USER_1.token()):
        session = session_of(await sign_in(served, text))
        assert (await with_session(served, session)).status == 200
    for line in (("X-API-Key", USER_1.key), ("Authorization", f"Bearer {USER_1.key}")):
        session = session_of(await served.ask("/session", ("Origin", GOOD), line, method="POST"))
        assert (await with_session(served, session)).status == 200


@pytest.mark.gen_test
async def test_csr_05_only_the_exact_origin_of_a_page_signs_in_or_out(served: Served) -> None:
    session = session_of(await sign_in(served, USER_1.key))
    for origin in (
        None, "null", "https://evil.example", "http://good.example", "https://good.example:444",
        "https://good.example.evil", "https://evilgood.example", "HTTPS://GOOD.EXAMPLE", "https://good.example/", "",
    ):  # fmt: skip
        answer = await sign_in(served, USER_1.key, origin=origin)
        assert (answer.status, answer.header("Set-Cookie")) == (403, None), origin
        lines = [("Origin", origin)] if origin is not None else []
        out = await served.ask("/session", ("Cookie", session), *lines, method="DELETE")
        assert (out.status, out.header("Set-Cookie")) == (403, None), origin
    for site in ("cross-site", "same-site", "none"):
        assert (await sign_in(served, USER_1.key, ("Sec-Fetch-Site", site))).status == 403
    assert (await sign_in(served, USER_1.key, ("Origin", GOOD))).status == 403, "given twice"
    assert (await with_session(served, session)).status == 200, "the session is as it was"


@pytest.mark.gen_test
async def test_csr_05_forms_and_other_bodies_do_not_sign_in(served: Served) -> None:
    right = json.dumps({"api_key": USER_1.key}).encode()
    for kind in (
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/json; charset=utf-16", "application/jsonx", "",
    ):  # fmt: skip
        assert (await post(served, right, ("Content-Type", kind))).status == 415, kind
    for body in (
        b"{", b"[]", b'"x"', b"null", b'{"api_key": 1}', b'{"api_key": null}', b'{"key": "x"}', b"\xff\xfe", b"[" * 3000,
        right[:-1] + b', "more": 1}',
    ):  # fmt: skip
        assert (await post(served, body, JSON)).status == 400, body[:40]
    assert (await post(served, b'{"api_key": "' + b"k" * 5000 + b'"}', JSON)).status == 413
    assert (await post(served, b"x" * 70_000, JSON)).status == 413
    assert (await post(served, right, JSON, ("X-API-Key", USER_1.key))).status == 400, "two keys"
    assert (await post(served, b"")).status == 400, "no key"
    assert (await served.ask("/session?_method=POST", ("Origin", GOOD), key=USER_1.key)).status == 400
    for method in ("PUT", "PATCH"):
        assert (await served.ask("/session", ("Origin", GOOD), method=method, key=USER_1.key)).status == 405
    assert len(served.services.sessions) == 0


@pytest.mark.gen_test
async def test_http_16_bodies_of_every_other_route_are_still_dropped(served: Served) -> None:
    body = b"api_key=1&days=1"
    form = ("Content-Type", "application/x-www-form-urlencoded")
    answer = await served.get(
        "/trends", form, ("Content-Length", str(len(body))), method="GET", body=body, token=USER_1.token()
    )
    assert answer.status == 200
    assert answer.json()["meta"]["days"] == 7


@pytest.mark.gen_test
async def test_signing_out_ends_the_session_for_good(served: Served) -> None:
    session = session_of(await sign_in(served, USER_1.key))
    out = await served.ask("/session", ("Cookie", session), ("Origin", GOOD), method="DELETE")
    assert out.status == 204
    assert [line.split("; ")[0] for line in out.all_headers("Set-Cookie")] == [f'{COOKIE}=""', 'owkai_page=""'] or [
        line.split("; ")[0] for line in out.all_headers("Set-Cookie")
    ] == [f"{COOKIE}=", "owkai_page="]
    assert all("Max-Age=0" in line for line in out.all_headers("Set-Cookie"))
    assert (await with_session(served, session)).status == 401
    again = await served.ask("/session", ("Cookie", session), ("Origin", GOOD), method="DELETE")
    assert again.status == 204


@pytest.mark.gen_test
async def test_a_session_that_ended_is_forgotten_by_the_browser_that_asks(served: Served) -> None:
    for session in (f"{COOKIE}={'A' * 43}", "owkai_page=short", f"owkai_page={'é' * 10}".encode().decode("latin-1")):
        answer = await with_session(served, session, "/session")
        assert answer.status == 401
        assert answer.json()["session_ended"] is True
        assert "Max-Age=0" in (answer.header("Set-Cookie") or "")
        assert (answer.header("Set-Cookie") or "").startswith(session.partition("=")[0])
        assert (await with_session(served, session)).detail == "Authentication required"
    plain = await served.ask("/session")
    assert plain.status == 401
    assert "session_ended" not in plain.json()


@pytest.mark.gen_test
async def test_a_new_sign_in_replaces_the_browsers_session(served: Served) -> None:
    first = session_of(await sign_in(served, USER_1.key))
    second = session_of(await sign_in(served, ADMIN_1.key, ("Cookie", first)))
    assert (await with_session(served, first)).status == 401
    assert (await with_session(served, second, "/session")).json()["email"] == ADMIN_1.email
    stale = session_of(await sign_in(served, USER_1.key, ("Cookie", f"{COOKIE}={'B' * 43}")))
    assert (await with_session(served, stale)).status == 200, "a dead cookie does not keep anybody out"


@pytest.mark.gen_test
async def test_csr_02_the_session_counts_before_other_cookies_and_all_must_hold(served: Served) -> None:
    session = session_of(await sign_in(served, USER_1.key))
    both = await with_session(served, f"access_token={USER_2.token()}; {session}", "/session")
    assert both.json()["email"] == USER_1.email
    assert (await with_session(served, f"{session}; access_token={USER_2.token()}x")).status == 401
    assert (await with_session(served, session, f"{API}/trends", ("X-API-Key", "w" * 43))).status == 401
    name, _, value = session.partition("=")
    assert (await with_session(served, f"{name}={value}; {name}={'C' * 43}")).status == 401
    assert (await with_session(served, f"{name.lower()}={value}")).status == 401


@pytest.mark.gen_test
async def test_key_02_a_session_ends_with_its_key_and_with_its_user(
    serve: Serve, own_cache: tuple[Cache, LocalKeys]
) -> None:
    served = serve(cache=own_cache)
    cache, _ = own_cache

    def change(table: str, row: dict[str, Any]) -> None:
        write(cache, table, [row], gone=[row["id"]])

    by_key = session_of(await sign_in(served, USER_1.key))
    by_local = session_of(await sign_in(served, served.local.admin_1))
    assert (await with_session(served, by_key)).status == 200
    change("api_keys", key_row(USER_1.id, USER_1, revoked_at=NOW - timedelta(seconds=1)))
    assert (await with_session(served, by_key)).status == 401
    change("api_keys", key_row(USER_1.id, USER_1))
    assert (await with_session(served, by_key)).status == 401, "what ended stays ended"

    by_token = session_of(await sign_in(served, USER_1.token()))
    change("users", {**USER_1.row(), "is_active": False})
    assert (await with_session(served, by_token)).status == 401

    served.services.keys.revoke(next(key.id for key in served.services.keys.list() if key.role == "admin"))
    assert (await with_session(served, by_local)).status == 401


@pytest.mark.gen_test
async def test_sessions_end_when_idle_when_old_and_with_their_token(serve: Serve) -> None:
    served = serve(auth={"session_idle_seconds": 100, "session_max_seconds": 250})
    session = session_of(await sign_in(served, USER_1.key))
    for _ in range(2):
        served.clock.advance(99)
        assert (await with_session(served, session)).status == 200
    served.clock.advance(52)
    assert (await with_session(served, session)).status == 401, "250 s after the sign-in"
    idle = session_of(await sign_in(served, USER_1.key))
    served.clock.advance(100)
    assert (await with_session(served, idle)).status == 401

    short = USER_1.token(exp=int(served.clock.now.timestamp()) + 60, iat=int(served.clock.now.timestamp()))
    by_token = await sign_in(served, short)
    assert by_token.json()["expires_at"] < "2025-01-15T14:37:00Z"
    served.clock.advance(95)  # beyond the token's end and the leeway
    assert (await with_session(served, session_of(by_token))).status == 401


@pytest.mark.gen_test
async def test_callers_without_right_or_organization_do_not_sign_in(served: Served) -> None:
    for key in (INACTIVE.key, "k" * 43, USER_1.key + "x", "", "short", USER_1.token() + "x", "a.b.c"):
        answer = await sign_in(served, key)
        assert (answer.status, answer.detail, answer.header("Set-Cookie")) == (401, "Authentication required", None)
    assert (await sign_in(served, STAFF.key)).status == 403
    assert len(served.services.sessions) == 0


@pytest.mark.gen_test
async def test_rl_05_failed_sign_ins_count_and_dead_sessions_do_not(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 3})
    session = session_of(await sign_in(served, USER_1.key))
    for _ in range(10):
        assert (await with_session(served, f"{COOKIE}={'D' * 43}")).status == 401
    statuses = [(await sign_in(served, f"wrong-key-number-{number}")).status for number in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert (await with_session(served, session)).status == 200, "who is in stays in"
    assert (await served.get("/trends", key="w" * 43)).status == 429, "the same count as everywhere"


@pytest.mark.gen_test
async def test_aud_01_sign_in_and_sign_out_are_recorded_without_key_or_id(served: Served) -> None:
    session = session_of(await sign_in(served, USER_1.key))
    await sign_in(served, "w" * 43)
    await with_session(served, session)
    await served.ask("/session", ("Cookie", session), ("Origin", GOOD), method="DELETE")
    records = served.records()
    assert [(record["event"], record["outcome"]) for record in records] == [
        ("sign_in", "success"), ("sign_in", "denied"), ("access", "success"), ("sign_out", "success"),
    ]  # fmt: skip
    assert records[0]["principal"] == USER_1.email
    assert records[0]["credential"] == "sign-in"
    assert records[2]["credential"] == f"cookie:{COOKIE}"
    assert records[2]["credential_id"] == USER_1.key[:16]
    assert (records[3]["principal"], records[3]["organization_id"]) == (USER_1.email, 1)
    text = served.audit_file.read_text(encoding="ascii")
    assert session.partition("=")[2] not in text


@pytest.mark.gen_test
async def test_ws_02_ws_03_the_session_opens_the_live_connection_from_its_own_page_alone(served: Served) -> None:
    session = session_of(await sign_in(served, USER_1.key))

    async def handshake(*lines: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        head = [
            f"GET {API}/ws/realtime/{USER_1.email} HTTP/1.1", f"Host: {served.authority}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}", f"Cookie: {session}", *lines,
        ]  # fmt: skip
        writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
        line = await asyncio.wait_for(reader.readline(), 30)
        writer.close()
        return line

    assert b" 101 " in await handshake(f"Origin: {GOOD}")
    assert b" 403 " in await handshake("Origin: https://evil.example")
    assert b" 403 " in await handshake()


@pytest.mark.gen_test
async def test_ws_21_signing_out_ends_the_live_connection_at_the_next_tick(serve: Serve) -> None:
    served = serve(websocket={"allowed_origins": [GOOD], "interval_seconds": 0.05})
    session = session_of(await sign_in(served, USER_1.key))
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {API}/ws/realtime/{USER_1.email} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nOrigin: {GOOD}\r\nCookie: {session}\r\n\r\n".encode()
    )
    await asyncio.wait_for(reader.readuntil(b"metrics_update"), 30)
    assert served.server.broadcaster.total == 1
    await served.ask("/session", ("Cookie", session), ("Origin", GOOD), method="DELETE")
    await asyncio.wait_for(reader.readuntil((4401).to_bytes(2, "big")), 30)
    writer.close()
    await until(lambda: served.server.broadcaster.total == 0)


@pytest.mark.gen_test
async def test_without_a_list_a_server_on_loopback_knows_its_own_addresses_and_no_rebound_name(serve: Serve) -> None:
    served = serve(websocket={"allowed_origins": []})
    own = [f"http://{name}:{served.port}" for name in ("127.0.0.1", "localhost", "[::1]")]
    for origin in own:
        assert (await sign_in(served, USER_1.key, origin=origin)).status == 201
    for origin in (
        f"http://evil.example:{served.port}", f"http://127.0.0.1.evil.example:{served.port}", "http://127.0.0.1",
        f"https://127.0.0.1:{served.port}", f"http://127.0.0.1:{served.port + 1}", f"http://127.0.0.2:{served.port}",
    ):  # fmt: skip
        # A name that an attacker points at this machine comes with that name as Host as well.
        host = ("Host", origin.partition("//")[2])
        answers = await served.send(raw_sign_in(USER_1, origin, host[1]))
        assert [answer.status for answer in answers] == [403], origin
    listed = serve(websocket={"allowed_origins": [GOOD]})
    assert (await sign_in(listed, USER_1.key, origin=f"http://127.0.0.1:{listed.port}")).status == 403
    public = serve(websocket={"allowed_origins": []}, server={"host": "0.0.0.0"})
    assert (await sign_in(public, USER_1.key, origin=f"http://127.0.0.1:{public.port}")).status == 403


def raw_sign_in(person: Person, origin: str, host: str) -> bytes:
    body = json.dumps({"api_key": person.key}).encode()
    lines = ("POST /session HTTP/1.1", f"Host: {host}", f"Origin: {origin}", "Content-Type: application/json")
    head = "\r\n".join((*lines, f"Content-Length: {len(body)}", "Connection: close"))
    return head.encode() + b"\r\n\r\n" + body


def test_one_persons_sessions_are_bounded_and_so_are_all() -> None:
    sessions: Sessions[str] = Sessions(timedelta(hours=1), timedelta(hours=12), max_total=5, max_per_owner=3)
    own = [sessions.open("proof", ("one",), NOW)[0] for _ in range(4)]
    assert sessions.use(own[0], NOW) is None, "the oldest gave way"
    assert all(sessions.use(text, NOW) for text in own[1:])
    for owner in ("two", "three"):
        sessions.open("proof", (owner,), NOW)
    with pytest.raises(SessionsFullError):
        sessions.open("proof", ("four",), NOW)
    assert sessions.open("proof", ("one",), NOW), "whose own oldest gives way finds a place"
    later = NOW + timedelta(hours=2)
    assert sessions.open("proof", ("four",), later), "ended sessions leave their places"
    assert len(sessions) == 1


def test_sessions_are_kept_by_digest_alone() -> None:
    sessions: Sessions[str] = Sessions(timedelta(hours=1), timedelta(hours=12), max_total=5, max_per_owner=3)
    text, session = sessions.open("proof", ("one",), NOW)
    assert text not in repr(vars(sessions))
    assert session.digest == digest(text)


@pytest.mark.gen_test
async def test_over_tls_only_the_cookie_that_no_sibling_host_can_set_counts(served: Served) -> None:
    """A sibling host can set owkai_page for the whole site, with a session of its own or with junk."""
    plain_served = served
    victim = session_of(await sign_in(served, USER_1.key))
    attackers = session_of(await sign_in(served, USER_2.key)).partition("=")[2]
    for told in (("X-Forwarded-Proto", "https"), ("Origin", GOOD)):
        for planted in (attackers, "junk", "E" * 43):
            only = await with_session(served, f"owkai_page={planted}", "/session", told)
            assert (only.status, "session_ended" in only.json()) == (401, False)
            for pairs in (f"{victim}; owkai_page={planted}", f"owkai_page={planted}; {victim}"):
                both = await with_session(plain_served, pairs, "/session", told)
                assert (both.status, both.json().get("email")) == (200, USER_1.email)
                assert both.header("Set-Cookie") is None


@pytest.mark.gen_test
async def test_a_session_counts_only_in_the_cookie_it_was_given_in(serve: Serve) -> None:
    """Where the proxy before the server tells nothing of TLS, a session of https is none in the cookie of http."""
    served = serve(websocket={"allowed_origins": [GOOD, "http://plain.example"]})
    secure = session_of(await sign_in(served, USER_2.key)).partition("=")[2]
    plain = session_of(await sign_in(served, USER_1.key, origin="http://plain.example"))
    assert (await with_session(served, f"owkai_page={secure}")).status == 401
    assert (await with_session(served, f"{COOKIE}={plain.partition('=')[2]}")).status == 401
    assert (await with_session(served, plain)).status == 200
    assert (await with_session(served, f"{COOKIE}={secure}; {plain}", "/session")).json()["email"] == USER_2.email
    assert (await with_session(served, f"{COOKIE}={secure}; __host-owkai_page=junk", "/session")).status == 200


@pytest.mark.gen_test
async def test_a_junk_cookie_takes_no_valid_session_away(served: Served) -> None:
    session = session_of(await sign_in(served, USER_1.key))
    for junk in ("access_token=junk", "owai_session=a.b.c", "access_token=x; access_token=y", f"{COOKIE}=junk"):
        for pairs in (f"{session}; {junk}", f"{junk}; {session}"):
            refused = await with_session(served, pairs, "/session")
            assert (refused.status, refused.header("Set-Cookie")) == (401, None), pairs
            assert "session_ended" not in refused.json()
    refused = await with_session(served, session, "/session", ("X-API-Key", "w" * 43))
    assert (refused.status, refused.header("Set-Cookie")) == (401, None)
    assert (await with_session(served, session)).status == 200


@pytest.mark.gen_test
async def test_rl_05_an_open_session_passes_where_its_address_has_failed_too_often(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 3})
    session = session_of(await sign_in(served, USER_1.key))
    for _ in range(4):
        await served.get("/trends", key="w" * 43)
    assert (await with_session(served, session)).status == 200


@pytest.mark.gen_test
async def test_rl_06_asking_for_the_session_counts_as_a_request(serve: Serve) -> None:
    served = serve(server={"requests_per_second": 0.01, "requests_burst": 3})
    session = session_of(await sign_in(served, USER_1.key))
    answers = [await with_session(served, session, "/session") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert answers[0].header("RateLimit") == '"requests";r=1;t=200'
    assert answers[2].header("Set-Cookie") is None
    assert (await sign_in(served, USER_1.key)).status == 429
    assert (await sign_in(served, USER_2.key)).status == 201
    out = await served.ask("/session", ("Cookie", session), ("Origin", GOOD), method="DELETE")
    assert out.status == 204, "whoever wants out gets out"


PROOF = Proof("sign-in", USER_1.key[:32], LocalKey("ab", "owkai_user_ab", 1, "user", "a@x", "0" * 64, NOW, None))


def kept_sessions(folder: Path, now: datetime = NOW) -> Sessions[Proof]:
    record = SessionFile(folder, write_proof, read_proof)
    sessions = Sessions(timedelta(hours=1), timedelta(hours=12), max_total=5, max_per_owner=3, record=record)
    sessions.restore(now)
    return sessions


def test_sessions_outlive_the_process_and_closed_ones_do_not_come_back(tmp_path: Path) -> None:
    claims = Claims(2, 1, "a@x", "user", 1.0, 2.5, None, "id", "fingerprint")
    row = ApiKey(1, 2, 1, "hash", "salt", "prefix", True, NOW)
    proofs = [PROOF, replace(PROOF, subject=claims), replace(PROOF, subject=row, prefixes=("a", "b"))]
    first = kept_sessions(tmp_path)
    texts = [first.open(proof, (1, number, "a@x"), NOW, COOKIE)[0] for number, proof in enumerate(proofs)]
    closed, _ = first.open(PROOF, (1, 9, "a@x"), NOW, COOKIE)
    first.close(digest(closed))
    first.use(texts[0], NOW + timedelta(minutes=50))
    first.shut()
    assert (tmp_path / "sessions.sqlite").stat().st_mode & 0o777 == 0o600
    content = (tmp_path / "sessions.sqlite").read_bytes()
    assert not any(text.encode() in content for text in texts)

    later = NOW + timedelta(minutes=59)
    second = kept_sessions(tmp_path, later)
    for number, (text, proof) in enumerate(zip(texts, proofs, strict=True)):
        found = second.find(digest(text), later)
        assert found is not None
        assert (found.proof, found.owner, found.cookie) == (proof, (1, number, "a@x"), COOKIE)
        assert found.ends_at == NOW + timedelta(hours=12)
    assert second.find(digest(closed), later) is None
    second.shut()
    third = kept_sessions(tmp_path, NOW + timedelta(minutes=100))
    assert [third.find(digest(text), NOW + timedelta(minutes=100)) is not None for text in texts] == [
        True,
        False,
        False,
    ]
    third.shut()
    assert len(kept_sessions(tmp_path, NOW + timedelta(hours=12))) == 0


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_session_file_is_replaced(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sessions.sqlite").write_bytes(content)
    sessions = kept_sessions(tmp_path)
    text, _ = sessions.open(PROOF, ("one",), NOW, COOKIE)
    sessions.shut()
    assert "is replaced, and everyone signs in again" in caplog.text
    again = kept_sessions(tmp_path)
    assert again.use(text, NOW) is not None
    again.shut()


def test_sessions_of_another_version_or_shape_end(tmp_path: Path) -> None:
    sessions = kept_sessions(tmp_path)
    texts = [sessions.open(PROOF, (number,), NOW, COOKIE)[0] for number in range(3)]
    sessions.shut()
    with closing(sqlite3.connect(tmp_path / "sessions.sqlite")) as database, database:
        database.execute("update sessions set proof = '[1]' where digest = ?", [digest(texts[0])])
        database.execute("update sessions set ends_at = 'soon' where digest = ?", [digest(texts[1])])
    again = kept_sessions(tmp_path)
    assert [again.use(text, NOW) is not None for text in texts] == [False, False, True]
    again.shut()
    with closing(sqlite3.connect(tmp_path / "sessions.sqlite")) as database:
        database.execute("pragma user_version = 99")
    assert len(kept_sessions(tmp_path)) == 0


def test_a_place_that_cannot_be_written_ends_no_session_and_a_healthy_file_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = kept_sessions(tmp_path)
    kept, _ = sessions.open(PROOF, (1,), NOW, COOKIE)
    left, _ = sessions.open(PROOF, (2,), NOW, COOKIE)
    sessions.shut()
    content = (tmp_path / "sessions.sqlite").read_bytes()
    (tmp_path / "sessions.sqlite").rename(tmp_path / "elsewhere")
    (tmp_path / "sessions.sqlite").symlink_to(tmp_path / "elsewhere")  # which is not followed
    blocked = kept_sessions(tmp_path)
    assert "sessions are not written to" in caplog.text
    assert (tmp_path / "elsewhere").read_bytes() == content
    new, _ = blocked.open(PROOF, (3,), NOW, COOKIE)
    assert blocked.use(new, NOW) is not None
    blocked.close(digest(left))  # signed out, though the file could not be read
    (tmp_path / "sessions.sqlite").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "sessions.sqlite")
    blocked.shut()
    again = kept_sessions(tmp_path)
    assert [again.use(text, NOW) is not None for text in (kept, new, left)] == [True, True, False]
    again.shut()


def test_a_sign_in_survives_the_servers_death_and_a_sign_out_is_for_good(database: Database, tmp_path: Path) -> None:
    fill(database, 10)
    key = make_key(database, 1, "user", "user@one.example")
    how = {"SOURCE_DSN": database.dsn, "SOURCE_SLOT": slot_name(database)}

    def ask(server: Server, method: str, cookies: str = "", body: str = "") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        headers = {"Origin": f"http://127.0.0.1:{server.port}", "Cookie": cookies}
        if body:
            headers["Content-Type"] = "application/json"
        connection.request(method, "/session", body or None, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, (answer.headers.get("Set-Cookie") or "").partition(";")[0]

    def until_ready(server: Server) -> None:
        wait_for(lambda: server.get("/session", {"X-API-Key": key})[0] == 200, "the key to be known")

    with serving(tmp_path, **how) as server:
        until_ready(server)
        body = json.dumps({"api_key": key})
        (_, stays), (_, leaves) = ask(server, "POST", body=body), ask(server, "POST", body=body)
        assert ask(server, "DELETE", leaves)[0] == 204
        server.process.kill()
        server.wait()
    with serving(tmp_path, **how) as server:
        until_ready(server)
        assert ask(server, "GET", stays)[0] == 200
        assert ask(server, "GET", leaves)[0] == 401
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    database.execute("update api_keys set is_active = false")
    with serving(tmp_path, **how) as server:
        wait_for(lambda: server.get("/session", {"X-API-Key": key})[0] == 401, "the key to be revoked")
        assert ask(server, "GET", stays)[0] == 401
