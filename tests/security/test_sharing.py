"""CORS: pages of listed origins may read the API, all others may not, and a preflight touches nothing."""

from __future__ import annotations

import pytest

from config.load import load_settings
from config.problems import SettingsError
from config.settings import Settings
from handlers.application import api_routes
from handlers.cors import is_shared
from handlers.routes import Access
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Answer, Served
from tests.handlers.world import ADMIN_1, USER_1
from tests.owkai.servers import SECRET

LISTED = "https://soc.example.com"
OTHERS = (
    "https://evil.example", "null", "https://soc.example.com.evil.example", "https://evilsoc.example.com",
    "http://soc.example.com", "https://soc.example.com:8443", "https://SOC.example.com", "https://soc.example.com/",
    "https://x@soc.example.com", "*", "", "https://soc.example.com, https://evil.example",
)  # fmt: skip


def allowed(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers if name.lower().startswith("access-control-")}


@pytest.fixture
def sharing(serve: Serve) -> Served:
    return serve(server={"cors_origins": [LISTED]})


@pytest.mark.gen_test
async def test_hdr_01_only_the_listed_origin_is_told_that_it_may_read(sharing: Served) -> None:
    for path in ("/trends", "/executive/dashboard", "/openapi.json", "/trends?days=0"):
        for how in ({"key": ADMIN_1.key}, {"key": USER_1.key}, {}):
            answer = await sharing.get(path, ("Origin", LISTED), **how)
            assert answer.header("Access-Control-Allow-Origin") == LISTED
            assert "Access-Control-Allow-Credentials" not in allowed(answer)
            assert "ETag" in (answer.header("Access-Control-Expose-Headers") or "")
            assert "Origin" in (answer.header("Vary") or "").split(", ")
            for origin in OTHERS:
                other = await sharing.get(path, ("Origin", origin), **how)
                assert allowed(other) == {}, origin
                assert other.status == answer.status
                assert "Origin" in (other.header("Vary") or "").split(", ")
    twice = await sharing.get("/trends", ("Origin", LISTED), ("Origin", "https://evil.example"), key=USER_1.key)
    assert allowed(twice) == {}


@pytest.mark.gen_test
async def test_hdr_01_an_unchanged_answer_may_be_read_too(sharing: Served) -> None:
    tag = (await sharing.get("/trends", key=USER_1.key)).header("ETag") or ""
    known = await sharing.get("/trends", ("Origin", LISTED), ("If-None-Match", tag), key=USER_1.key)
    assert known.status == 304
    assert known.header("Access-Control-Allow-Origin") == LISTED


@pytest.mark.gen_test
async def test_hdr_01_without_a_list_nobody_may_read(served: Served) -> None:
    for origin in (LISTED, *OTHERS):
        answer = await served.get("/trends", ("Origin", origin), key=USER_1.key)
        assert allowed(answer) == {}
        assert "Origin" not in (answer.header("Vary") or "").split(", ")


@pytest.mark.gen_test
async def test_hdr_01_credentials_only_where_the_settings_say_so(serve: Serve) -> None:
    served = serve(server={"cors_origins": [LISTED], "cors_credentials": True})
    told = await served.get("/trends", ("Origin", LISTED), key=USER_1.key)
    assert told.header("Access-Control-Allow-Credentials") == "true"
    assert told.header("Access-Control-Allow-Origin") == LISTED
    assert allowed(await served.get("/trends", ("Origin", "https://evil.example"), key=USER_1.key)) == {}


def test_hdr_01_a_pattern_is_no_origin() -> None:
    for entry in ("*", "https://*.example.com", "soc.example.com", "https://soc.example.com/", "null"):
        given = {"source.dsn": "postgresql://owkai@127.0.0.1/x", "server.cors_origins": f'["{entry}"]'}
        with pytest.raises(SettingsError, match=r"server\.cors_origins"):
            load_settings(None, {"OWKAI_AUTH_JWT_SECRET": SECRET}, given, serving=True)


@pytest.mark.gen_test
async def test_hdr_02_a_preflight_of_a_listed_origin_is_answered_without_a_credential(sharing: Served) -> None:
    asked = (
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "x-api-key, authorization, if-none-match"),
    )
    answer = await sharing.get("/trends?days=0", ("Origin", LISTED), *asked, method="OPTIONS")
    assert answer.status == 204
    assert answer.body == b""
    told = allowed(answer)
    assert told["Access-Control-Allow-Origin"] == LISTED
    assert told["Access-Control-Allow-Methods"] == "GET, HEAD"
    assert {"authorization", "x-api-key", "if-none-match"} <= {
        name.strip().lower() for name in told["Access-Control-Allow-Headers"].split(",")
    }
    assert 0 < int(told["Access-Control-Max-Age"]) <= 3600
    for origin in OTHERS:
        other = await sharing.get("/trends", ("Origin", origin), *asked, method="OPTIONS")
        assert (other.status, allowed(other)) == (204, {}), origin
    assert len(sharing.services.publisher) == 0, "no data was touched"
    counted = sharing.services.metrics.registry.get_sample_value
    for kind in ("missing", "invalid", "limited"):
        assert counted("owkai_authentication_failures_total", {"kind": kind}) == 0


@pytest.mark.gen_test
async def test_hdr_02_a_plain_options_request_is_no_preflight(sharing: Served) -> None:
    answer = await sharing.get("/trends", ("Origin", LISTED), method="OPTIONS")
    assert "Access-Control-Allow-Methods" not in allowed(answer)


@pytest.mark.gen_test
async def test_hdr_01_only_routes_of_the_api_that_read_are_shared(sharing: Served) -> None:
    for route in api_routes(Settings()):
        public = route.access in (Access.PUBLIC, Access.LOCAL)
        assert is_shared(route.pattern, route.methods) == (
            not public and "/ws/" not in route.pattern and "GET" in route.methods
        )
    for target in ("/healthz", "/metrics", "/reference", f"{API}/ws/realtime/{USER_1.email}"):
        answer = await sharing.ask(target, ("Origin", LISTED), key=USER_1.key)
        assert allowed(answer) == {}, target
