"""The views over HTTP: documented answers, validators, compression, and what happens when there is no answer."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from analytics.state.cache import Cache
from analytics.state.sync_status import InitialCopyProgress, Phase
from analytics.views import ViewTimeoutError
from handlers.auth.key_store import KeyStore
from handlers.rest import accepts_gzip, matches, tag_of_gzip
from tests.handlers.fixtures import Serve, make_settings
from tests.handlers.serving import API, Served
from tests.handlers.world import ADMIN_1, NOW, USER_1, LocalKeys, make_local_keys


@pytest.mark.gen_test
async def test_the_application_answers_through_tornados_own_client(http_client: AsyncHTTPClient, base_url: str) -> None:
    def request(path: str, **headers: str) -> HTTPRequest:
        return HTTPRequest(f"{base_url}{API}{path}", headers=headers, decompress_response=False)

    for path in ("/trends", "/realtime/metrics", "/predictive/trends", "/performance", "/performance/system", "/debug"):
        response = await http_client.fetch(request(path, Authorization=f"Bearer {USER_1.token()}"))
        assert response.headers["Content-Type"].startswith("application/json")
        assert json.loads(response.body)
    refused = await http_client.fetch(request("/trends"), raise_error=False)
    assert refused.code == 401


@pytest.mark.gen_test
async def test_the_alias_of_performance_gives_the_same_bytes(served: Served) -> None:
    one, two = [await served.get(path, token=USER_1.token()) for path in ("/performance", "/performance/system")]
    assert one.body == two.body
    assert one.header("ETag") == two.header("ETag")


@pytest.mark.gen_test
async def test_an_unchanged_answer_is_304(served: Served) -> None:
    first = await served.get("/trends", token=USER_1.token())
    tag = first.header("ETag") or ""
    assert tag.startswith('"')
    for condition in (tag, f"W/{tag}", f'"x", {tag}', f'W/"x" ,W/{tag}', "*"):
        again = await served.get("/trends", ("If-None-Match", condition), token=USER_1.token())
        assert (again.status, again.body) == (304, b"")
        assert again.header("ETag") == tag
        assert again.header("Cache-Control") == "private, no-cache"
        assert again.header("Vary") == "Cookie, Authorization, X-API-Key, Accept-Encoding"
        assert again.header("Content-Type") is None
    for condition in ('"x"', tag[1:-1], tag.upper() if tag.upper() != tag else '"y"', ""):
        assert (await served.get("/trends", ("If-None-Match", condition), token=USER_1.token())).status == 200


@pytest.mark.gen_test
async def test_compression_is_a_representation_of_its_own(served: Served) -> None:
    plain = await served.get("/trends?days=365", token=USER_1.token())
    packed = await served.get("/trends?days=365", ("Accept-Encoding", "br, gzip;q=0.5"), token=USER_1.token())
    assert plain.header("Content-Encoding") is None
    assert packed.header("Content-Encoding") == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body)
    assert packed.header("ETag") != plain.header("ETag")
    assert packed.header("Vary") == plain.header("Vary")
    condition = ("If-None-Match", packed.header("ETag") or "")
    again = await served.get("/trends?days=365", condition, ("Accept-Encoding", "gzip"), token=USER_1.token())
    assert again.status == 304
    assert (await served.get("/trends?days=365", condition, token=USER_1.token())).status == 200
    refused = await served.get("/trends?days=365", ("Accept-Encoding", "gzip;q=0, *"), token=USER_1.token())
    assert refused.header("Content-Encoding") is None


def test_which_clients_accept_gzip() -> None:
    for text in ("gzip", "GZIP", "deflate, gzip", "*", "gzip;q=0.001", "x-gzip", "gzip ; q=1.0", "identity, *;q=0.5"):
        assert accepts_gzip(text), text
    for text in ("", "identity", "gzip;q=0", "gzip;q=0.000", "*;q=0", "gzip;q=0, *;q=1", "br", "gzipped", "gzip;q=nan"):
        assert not accepts_gzip(text), text


def test_entity_tags_compare_weakly() -> None:
    assert tag_of_gzip('"abc"') == '"abc-gzip"'
    assert matches('W/"abc"', '"abc"')
    assert matches('"abc"', 'W/"abc"')
    assert not matches('"abcd", "ab"', '"abc"')
    assert not matches("abc", '"abc"')


@pytest.mark.gen_test
async def test_before_the_first_copy_views_say_how_far_it_is(serve: Serve, tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "empty")
    cache = Cache(settings.cache)
    local = make_local_keys(KeyStore(settings.keys_file, lambda: NOW))
    served = serve(cache=(cache, local))
    served.services.board.update(phase=Phase.COPYING, progress=InitialCopyProgress("agent_actions", 250, 1000, NOW))
    for how in ({"key": local.user_1}, {"token": USER_1.token()}):
        answer = await served.get("/trends", **how)
        assert answer.status == 503
        assert answer.detail == "The first copy of the source is not complete"
        assert answer.header("Retry-After") == "2"
        assert answer.json()["progress"] == {
            "percent": 25.0, "rows": 250, "rows_estimated": 1000, "table": "agent_actions",
        }  # fmt: skip
    assert (await served.get("/trends")).status == 401
    assert (await served.get("/trends", token=USER_1.token() + "x")).status == 401
    assert (await served.get("/executive/dashboard", key=local.admin_1)).status == 503
    assert (await served.ask("/healthz")).status == 200
    ready = await served.ask("/readyz")
    assert ready.status == 503
    assert ready.json()["copy"]["percent"] == 25.0
    assert ready.json()["state"] == "copying"
    cache.close()


@pytest.mark.gen_test
async def test_an_answer_that_takes_too_long_is_503(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(key: Any) -> None:
        raise ViewTimeoutError("10 s")

    monkeypatch.setattr(served.services.publisher, "get", slow)
    answer = await served.get("/trends", token=USER_1.token())
    assert answer.status == 503
    assert answer.header("Retry-After") == "2"
    assert "10 s" not in answer.detail


@pytest.mark.gen_test
async def test_a_source_without_users_lets_the_token_decide(serve: Serve, own_cache: tuple[Cache, LocalKeys]) -> None:
    cache, _ = own_cache
    assert cache.live is not None
    cache.live.begin()
    cache.live.truncate("users")
    cache.live.commit(200)
    cache.touched("users")
    served = serve(cache=own_cache, source={"tables": {"users": ""}})
    assert (await served.get("/trends", token=USER_1.token())).status == 200
    assert (await served.get("/trends", token=USER_1.token(user_id=..., sub="someone"))).status == 200
    assert (await served.get("/executive/dashboard", token=ADMIN_1.token())).status == 200
    assert (await served.get("/executive/dashboard", token=USER_1.token())).status == 403
    assert (await served.get("/trends", token=USER_1.token(organization_id=...))).status == 403
    assert (await served.get("/trends", key=USER_1.key)).status == 401, "a key of the platform needs its owner"


@pytest.mark.gen_test
async def test_tokens_can_be_switched_off(serve: Serve) -> None:
    served = serve(auth={"jwt_enabled": False, "jwt_secret": ""})
    assert (await served.get("/trends", token=USER_1.token())).status == 401
    assert (await served.get("/trends", key=USER_1.key)).status == 200


@pytest.mark.gen_test
async def test_a_local_key_ends_when_it_expires_or_is_revoked(serve: Serve, own_cache: tuple[Cache, LocalKeys]) -> None:
    served = serve(cache=own_cache)
    keys = served.services.keys
    text, key = KeyStore(keys.path, lambda: NOW).create(1, "admin", "new@one.example", 1)
    keys.look_at_once()
    assert (await served.get("/executive/dashboard", key=text)).status == 200
    served.clock.now += timedelta(days=1)
    assert (await served.get("/trends", key=text)).status == 401
    served.clock.now = NOW
    assert (await served.get("/trends", ("Authorization", f"Bearer {text}"))).status == 200
    KeyStore(keys.path, lambda: NOW).revoke(key.prefix)
    keys.look_at_once()
    assert (await served.get("/trends", key=text)).status == 401
