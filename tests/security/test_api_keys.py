"""API keys: the platform's and local ones. What is presented must be the key itself, at the documented place, once."""

from __future__ import annotations

import base64
import hmac
import json
import stat
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics.directory import ApiKey
from analytics.state.cache import Cache
from handlers.auth.authenticator import matching_key, prefixes, same_digest
from handlers.auth.key_store import KeyStore, KeyStoreError, new_key_text
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Served
from tests.handlers.world import (
    ADMIN_1,
    CANARY,
    INACTIVE,
    NOW,
    SALT,
    SUSPENDED,
    USER_1,
    USER_2,
    LocalKeys,
    Person,
    key_row,
)
from tests.security.test_authorization import write

MANY = {"failed_limit": 100_000}


async def status(served: Served, key: str, name: str = "X-API-Key") -> int:
    return (await served.get("/trends", (name, key))).status


@pytest.mark.gen_test
async def test_key_01_only_the_exact_key_opens(serve: Serve) -> None:
    served = serve(auth=MANY)
    key = USER_1.key
    assert await status(served, key) == 200
    for wrong in (key[:-1] + ("A" if key[-1] != "A" else "B"), key + "x", key[:-1], key.upper(), key.lower(), "k" * 43):
        assert await status(served, wrong) == 401, wrong
    for blanks in (f'"{key}"', f"{key[:20]} {key[20:]}", f"\xa0{key}", f"{key}\xa0"):
        assert await status(served, blanks) == 401, blanks
    for line in (f"X-API-Key: {key}\x00", f"X-API-Key: \x00{key}", f"X-API-Key: {key}\x0b"):
        answers = await served.send(f"GET {API}/trends HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n".encode("latin-1"))
        assert [answer.status for answer in answers] == [400]


@pytest.mark.gen_test
async def test_key_02_03_keys_end_with_their_row_and_their_owner(
    serve: Serve, own_cache: tuple[Cache, LocalKeys]
) -> None:
    cache, _ = own_cache
    served = serve(cache=own_cache, auth=MANY)
    gone = Person(999, 1, "nobody@one.example", "user")
    ended: dict[str, dict[str, Any]] = {
        "revoked": {"revoked_at": NOW},
        "off": {"is_active": False},
        "old": {"expires_at": NOW - timedelta(seconds=1)},
    }
    rows = [
        key_row(100 + n, USER_1, text=f"owkai_user_{name}" + "q" * 43, **columns)
        for n, (name, columns) in enumerate(ended.items())
    ]
    later = "owkai_user_later" + "q" * 43
    rows.append(key_row(120, USER_1, text=later, expires_at=NOW + timedelta(seconds=1)))
    rows.append(key_row(121, gone))
    write(cache, "api_keys", rows)
    for name in ended:
        assert await status(served, f"owkai_user_{name}" + "q" * 43) == 401, name
    for owner in (INACTIVE, SUSPENDED, gone):
        assert await status(served, owner.key) == 401, owner.email
    assert await status(served, later) == 200
    served.clock.advance(1)
    assert await status(served, later) == 401


@pytest.mark.gen_test
async def test_key_02_a_revocation_counts_with_the_next_request(
    serve: Serve, own_cache: tuple[Cache, LocalKeys]
) -> None:
    cache, _ = own_cache
    served = serve(cache=own_cache)
    assert await status(served, USER_1.key) == 200
    write(cache, "api_keys", [key_row(USER_1.id, USER_1, is_active=False, revoked_at=NOW)], gone=[USER_1.id])
    assert await status(served, USER_1.key) == 401


@pytest.mark.gen_test
async def test_key_04_what_is_stored_opens_nothing(serve: Serve) -> None:
    served = serve(auth=MANY)
    row = key_row(1, USER_1)
    for stored in (row["key_hash"], row["key_prefix"], row["salt"], row["key_prefix"] + row["salt"]):
        assert await status(served, stored) == 401
    entry = json.loads(served.services.keys.path.read_text())["keys"][0]
    for stored in (entry["key_hash"], entry["prefix"], entry["id"] * 4):
        assert await status(served, stored) == 401


@pytest.mark.gen_test
@pytest.mark.parametrize("turned", [False, True])
async def test_key_05_shared_prefixes_resolve_to_the_right_owner(
    serve: Serve, own_cache: tuple[Cache, LocalKeys], turned: bool
) -> None:
    cache, _ = own_cache
    served = serve(cache=own_cache)
    stem = "owkai_user_" + "p" * 21
    texts = {USER_1: stem + "one" + "x" * 20, USER_2: stem + "two" + "x" * 20}
    rows = [
        key_row(200, USER_1, text=texts[USER_1], prefix=16),
        key_row(201, USER_2, text=texts[USER_2], prefix=32),
        key_row(202, ADMIN_1, text=stem + "thr" + "x" * 20, prefix=32),
    ]
    write(cache, "api_keys", rows[::-1] if turned else rows)
    for person, text in texts.items():
        answer = await served.get("/debug", key=text)
        assert CANARY[person.organization_id or 0].encode() in answer.body
        assert served.records()[-1]["principal"] == person.email


@pytest.mark.gen_test
async def test_key_06_keys_count_in_their_header_alone(serve: Serve) -> None:
    served = serve(auth=MANY)
    key, token = USER_1.key, USER_1.token()
    for target in (
        f"/trends?api_key={key}",
        f"/trends?access_token={token}",
        f"/trends?auth_token={token}",
        f"/trends?X-API-Key={key}",
        f"/{key}/trends",
        f"/trends/{key}",
        f"/ws/realtime/{key}",
        f"/ws/realtime/{USER_1.email}?token={token}",
    ):
        assert (await served.get(target)).status in (401, 404), target
    posted = await served.get("/trends", ("Content-Length", str(len(key))), body=key.encode())
    assert posted.status == 401
    text = (await served.ask("/metrics")).body.decode()
    assert key not in text
    assert token not in text


@pytest.mark.gen_test
async def test_key_07_a_repeated_empty_or_listed_key_is_400(serve: Serve) -> None:
    served = serve(auth=MANY)
    key = USER_1.key
    for lines in (
        [("X-API-Key", key), ("X-API-Key", USER_2.key)],
        [("X-API-Key", key), ("x-api-key", key)],
        [("X-API-Key", "")],
        [("X-API-Key", f"{key}, {USER_2.key}")],
        [("X-API-Key", f"{key},")],
    ):
        assert (await served.get("/trends", *lines)).status == 400, lines


@pytest.mark.gen_test
async def test_key_08_cookie_then_bearer_then_key_and_all_must_hold(serve: Serve) -> None:
    served = serve(auth=MANY)
    cookie = ("Cookie", f"access_token={USER_1.token()}")
    bearer = ("Authorization", f"Bearer {ADMIN_1.token()}")
    key = ("X-API-Key", USER_2.key)
    for lines, person, source in (
        ((key, bearer, cookie), USER_1, "cookie:access_token"),
        ((key, bearer), ADMIN_1, "bearer"),
        ((key,), USER_2, "x-api-key"),
    ):
        answer = await served.get("/debug", *lines)
        assert CANARY[person.organization_id or 0].encode() in answer.body
        record = served.records()[-1]
        assert (record["principal"], record["credential"]) == (person.email, source)
    bad_cookie = ("Cookie", f"access_token={USER_1.token()}x")
    for lines in (
        (bad_cookie, key),
        (cookie, ("X-API-Key", "k" * 43)),
        (cookie, ("Authorization", "Bearer x.y.z")),
        (bearer, ("X-API-Key", "k" * 43)),
        (("Authorization", "Basic eA=="), key),
    ):
        assert (await served.get("/debug", *lines)).status == 401, lines


@pytest.mark.gen_test
async def test_key_09_the_documented_forms_of_authorization(serve: Serve) -> None:
    served = serve(auth=MANY)
    key, token = USER_1.key, USER_1.token()
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert await status(served, f"{scheme} {key}", "Authorization") == 200
        assert await status(served, f"{scheme} {token}", "Authorization") == 200
    basic = base64.b64encode(f"user:{key}".encode()).decode()
    for wrong in (
        f"Bearer  {key}",
        "Bearer",
        f"Basic {basic}",
        f"Token {key}",
        key,
        f"Bearer\t{key}",
        f"Bearer {key} x",
    ):
        assert await status(served, wrong, "Authorization") == 401, wrong
    twice = (("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {key}"))
    assert (await served.get("/trends", *twice)).status == 401


def test_key_10_the_store_holds_hashes_for_its_owner_alone(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "data" / "keys.json", lambda: NOW)
    text, key = store.create(1, "admin", "a@one.example", 30)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    content = store.path.read_text()
    assert text not in content
    assert text.removeprefix("owkai_admin_")[6:] not in content
    assert key.prefix in content
    assert text.startswith(key.prefix)
    assert key.expires_at == NOW.replace(microsecond=0) + timedelta(days=30)
    assert text not in repr(store.list())


def test_key_11_a_thousand_keys_are_distinct_and_full_of_chance() -> None:
    texts = [new_key_text("user").removeprefix("owkai_user_") for _ in range(1000)]
    assert len(set(texts)) == 1000
    assert {len(text) for text in texts} == {43}
    counts = Counter("".join(text[:42] for text in texts))
    assert len(counts) == 64, "every url-safe character occurs"
    mean = 42_000 / 64
    assert all(0.75 * mean < count < 1.25 * mean for count in counts.values()), "none is favoured"


@pytest.mark.gen_test
async def test_key_12_a_damaged_or_open_store_is_refused_as_a_whole(
    serve: Serve, own_cache: tuple[Cache, LocalKeys], caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(cache=own_cache, auth=MANY)
    path = served.services.keys.path
    good = path.read_text()
    assert await status(served, served.local.user_1) == 200
    document = json.loads(good)
    broken = [
        good[:-20],
        "",
        "[]",
        json.dumps({**document, "format": 99}),
        json.dumps({**document, "keys": [*document["keys"], {**document["keys"][0], "organization_id": "2"}]}),
        json.dumps({**document, "keys": [*document["keys"], {"id": "x"}]}),
        json.dumps({**document, "keys": [*document["keys"], document["keys"][0]]}),
    ]
    for content in broken:
        path.write_text(content)
        with pytest.raises(KeyStoreError, match=r"keys\.json is damaged"):
            KeyStore(path).load()
    served.services.keys.look_at_once()
    assert await status(served, served.local.user_1) == 401
    assert "no local key is accepted until this is fixed" in caplog.text
    path.write_text(good)
    path.chmod(0o640)
    with pytest.raises(KeyStoreError, match="chmod 600"):
        KeyStore(path).load()
    path.chmod(0o600)
    served.services.keys.look_at_once()
    assert await status(served, served.local.user_1) == 200


def test_key_12_a_link_or_folder_is_no_store(tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    KeyStore(real).create(1, "user", "u@one.example")
    link = tmp_path / "link.json"
    link.symlink_to(real)
    folder = tmp_path / "folder.json"
    folder.mkdir()
    for path in (link, folder):
        with pytest.raises(KeyStoreError):
            KeyStore(path).load()


def test_key_13_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def watch(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", watch)
    rows = [api_key(number, person) for number, person in enumerate((USER_1, USER_2, ADMIN_1))]
    assert matching_key(USER_1.key, rows, "key_salt") == rows[0]
    assert compared == [(64, 64)] * 3, "every candidate is compared, and only digests of equal length"
    assert not same_digest("a" * 64, "b" * 64)


def test_key_05_the_order_of_salt_and_key_is_a_setting() -> None:
    row = api_key(1, USER_1)
    assert matching_key(USER_1.key, [row], "key_salt") is row
    assert matching_key(USER_1.key, [row], "salt_key") is None
    assert prefixes("k" * 43) == ("k" * 32, "k" * 16)


def api_key(number: int, owner: Person) -> ApiKey:
    row = key_row(number, owner)
    return ApiKey(number, owner.id, owner.organization_id, row["key_hash"], SALT, row["key_prefix"], True, None)
