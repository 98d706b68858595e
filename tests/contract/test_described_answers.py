"""Every answer of a real server is in the contract document: status, headers, media type and body, nothing beside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.ioloop import IOLoop
from websockets.asyncio.client import connect

from analytics.state.cache import Cache
from analytics.state.sync_status import InitialCopyProgress, Phase, Verification
from analytics.state.telemetry_board import Part, TelemetrySample, TelemetryStatus
from config.settings import Settings
from handlers.application import api_routes
from handlers.auth.key_store import KeyStore
from handlers.contract.operations import sample_path
from handlers.contract.reference import ASYNCAPI, PAGE_PATH, STYLE_PATH
from tests.contract.document import assert_described, asyncapi, faults
from tests.handlers.fixtures import Serve, make_settings
from tests.handlers.serving import API, Answer, Served, run
from tests.handlers.world import ADMIN_1, NOW, STAFF, USER_1, LocalKeys, make_local_keys

PATHS = [sample_path(route.name, user_email=ADMIN_1.email) for route in api_routes(Settings())]
VIEWS = ("trends", "realtime/metrics", "predictive/trends", "performance", "performance/system", "debug")


async def described(served: Served, target: str, *lines: tuple[str, str], method: str = "GET", **how: Any) -> Answer:
    answer = await served.ask(target, *lines, method=method, **how)
    assert_described(method, target, answer.status, answer.headers, answer.body)
    return answer


@pytest.mark.gen_test
async def test_every_route_and_method_answers_as_described_to_everybody(served: Served) -> None:
    for path in PATHS:
        for how in ({}, {"token": "nonsense"}, {"key": STAFF.key}, {"key": USER_1.key}, {"token": ADMIN_1.token()}):
            for method in ("GET", "HEAD", "OPTIONS", "POST", "TRACE"):
                await described(served, path, method=method, **how)


@pytest.mark.gen_test
async def test_every_form_of_an_answer_is_described(served: Served) -> None:
    for target in (
        "trends?days=1", "trends?days=365&tz=Europe/Berlin&limit=100", "debug?limit=1", "executive/dashboard?days=7",
        "executive/dashboard?format=csv", "executive/dashboard?format=pdf&tz=Asia/Kathmandu", "openapi.json", "asyncapi.json",
    ):  # fmt: skip
        plain = await described(served, f"{API}/{target}", key=ADMIN_1.key)
        assert plain.status == 200
        await described(served, f"{API}/{target}", ("Accept-Encoding", "gzip"), key=ADMIN_1.key)
        known = ("If-None-Match", plain.header("ETag") or "")
        assert (await described(served, f"{API}/{target}", known, key=ADMIN_1.key)).status == 304


@pytest.mark.gen_test
async def test_every_refusal_is_described(serve: Serve) -> None:
    served = serve(auth={"failed_limit": 12}, server={"allowed_hosts": ["127.0.0.1"], "trusted_proxies": ["127.0.0.1"]})
    trends = f"{API}/trends"
    for target, lines, how, status in (
        (f"{trends}?days=0", (), {"key": USER_1.key}, 400),
        (f"{trends}?unknown=1", (), {"key": USER_1.key}, 400),
        (trends, (("X-API-Key", ""),), {}, 400),
        (trends, (("Content-Length", "70000"),), {}, 413),
        (trends, (("Content-Encoding", "gzip"),), {"key": USER_1.key}, 415),
        (f"{API}/executive/dashboard", (), {"key": USER_1.key}, 403),
        (trends, (), {"key": STAFF.key}, 403),
        (trends, (), {"token": USER_1.token(exp=1)}, 401),
        ("/metrics", (("X-Forwarded-For", "203.0.113.7"),), {"key": USER_1.key}, 403),
        ("/metrics", (("X-Forwarded-For", "203.0.113.7"),), {}, 401),
        ("/healthz?x=1", (), {}, 400),
        (f"{PAGE_PATH}?x=1", (), {}, 400),
        (f"{API}/ws/realtime/{USER_1.email}", (), {"key": USER_1.key}, 426),
    ):
        for method in ("GET", "HEAD"):
            if method == "HEAD" and "/ws/" in target:
                continue
            answer = await described(served, target, *lines, method=method, **how)
            assert answer.status == status, (target, lines)
    for _ in range(13):
        limited = await described(served, trends, key="wrong" * 6)
    assert limited.status == 429
    assert limited.header("Retry-After")


@pytest.mark.gen_test
async def test_a_used_up_allowance_is_described(serve: Serve) -> None:
    served = serve(server={"requests_per_second": 0.001, "requests_burst": 1})
    assert (await described(served, f"{API}/trends", key=USER_1.key)).status == 200
    refused = await described(served, f"{API}/trends", key=USER_1.key)
    assert (refused.status, refused.header("RateLimit")) == (429, '"requests";r=0;t=1000')


@pytest.mark.gen_test
async def test_what_is_switched_off_is_described(serve: Serve) -> None:
    served = serve(server={"debug_endpoint": False, "reference": False})
    for path in (f"{API}/debug", f"{API}/openapi.json", f"{API}/asyncapi.json", PAGE_PATH, STYLE_PATH):
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = await described(served, path, method=method, key=ADMIN_1.key)
            assert answer.status == 404


@pytest.mark.gen_test
async def test_an_origin_that_is_listed_gets_described_headers(serve: Serve) -> None:
    served = serve(server={"cors_origins": ["https://soc.example.com"], "cors_credentials": True})
    lines = (("Origin", "https://soc.example.com"), ("Access-Control-Request-Method", "GET"))
    for path in PATHS:
        for method in ("GET", "HEAD", "OPTIONS"):
            await described(served, path, *lines, method=method, key=ADMIN_1.key)


@pytest.mark.gen_test
async def test_a_fault_of_ours_is_described_and_tells_nothing(
    serve: Serve, own_cache: tuple[Cache, LocalKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(cache=own_cache)

    async def broken(key: object) -> None:
        raise RuntimeError("select secret from somewhere")

    monkeypatch.setattr(served.services.publisher, "get", broken)
    for view in VIEWS:
        answer = await described(served, f"{API}/{view}", key=USER_1.key)
        assert answer.status == 500
        assert b"secret" not in answer.body


@pytest.fixture
def waiting(io_loop: IOLoop, tmp_path: Path, serve: Serve) -> Iterator[Served]:
    """A server whose first copy of the source is under way."""
    settings = make_settings(tmp_path / "cache")
    cache = Cache(settings.cache)
    served = serve(cache=(cache, make_local_keys(KeyStore(settings.keys_file, lambda: NOW))))
    yield served
    run(io_loop, served.server.drain)
    served.services.close()
    cache.close()


@pytest.mark.gen_test
async def test_before_the_first_copy_every_answer_is_described(waiting: Served) -> None:
    waiting.services.board.update(phase=Phase.COPYING, progress=InitialCopyProgress("agent_actions", 10, 100, NOW))
    for path in PATHS:
        for method in ("GET", "HEAD"):
            if method == "HEAD" and "/ws/" in path:
                continue
            answer = await described(waiting, path, method=method, key=waiting.local.admin_1)
            if any(path.endswith(f"/{view}") for view in VIEWS) or path == "/readyz":
                assert answer.status == 503, path
    body = (await waiting.get("/trends", key=waiting.local.admin_1)).json()
    assert body["progress"]["rows"] == 10


@pytest.mark.gen_test
async def test_readiness_in_every_state_is_described(served: Served) -> None:
    board = served.services.board
    board.update(
        verification=Verification(), mode="poll", mode_reason="no slot", guarantee="eventual, 300 s at the most"
    )
    await described(served, "/readyz")
    board.update(
        verification=Verification(at=NOW, lsn=7, scope="all", rows=3, seconds=0.5), phase=Phase.PAUSED, fresh_at=None
    )
    await described(served, "/readyz")
    served.services.draining.set()
    assert (await described(served, "/readyz")).status == 503


@pytest.mark.parametrize("source", ["host", "cloudwatch"])
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.gen_test
async def test_answers_with_telemetry_are_described(serve: Serve, source: str, strict: bool) -> None:
    served = serve(
        telemetry={"source": source, "region": "r", "cluster": "c", "service": "s", "strict": strict},
        server={"computations_per_second": 0},
    )
    sample = TelemetrySample(
        NOW, NOW, cpu_percent=34.5, memory_percent=62.8, requests_per_second=25.4, error_rate=0.002
    )
    board = served.services.telemetry
    statuses = set()
    for system, application in (
        (Part(source, sample), Part(source, sample)),
        (Part(source, sample), Part(source)),
        (Part(source), Part(source)),
    ):
        board._current = TelemetryStatus(source, system, application)  # type: ignore[arg-type]
        for age in (0, 100, 1000):
            served.clock.now = NOW
            served.clock.advance(age)
            for path in ("performance", "realtime/metrics"):
                statuses.add((await described(served, f"{API}/{path}", key=served.local.user_1)).status)
    assert statuses == {200, 503}


@pytest.mark.gen_test
async def test_messages_of_the_live_connection_are_described(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(websocket={"interval_seconds": 0.1})
    messages = asyncapi()["components"]["messages"]
    url = f"ws://{served.authority}{API}/ws/realtime/{USER_1.email}"
    async with connect(url, additional_headers={"X-API-Key": USER_1.key}) as socket:
        assert socket.response is not None
        headers = list(socket.response.headers.raw_items())
        assert_described("GET", f"{API}/ws/realtime/{USER_1.email}", 101, headers, b"")
        for name in ("connection", "metricsUpdate"):
            told = json.loads(await asyncio.wait_for(socket.recv(), 30))
            assert faults(messages[name]["payload"], told, ASYNCAPI) == []

        async def broken(key: object) -> None:
            raise RuntimeError("secret")

        monkeypatch.setattr(served.services.publisher, "cached", lambda key: None)
        monkeypatch.setattr(served.services.publisher, "get", broken)
        told = {"status": None}
        while "status" not in told or told["status"] != "error":
            told = json.loads(await asyncio.wait_for(socket.recv(), 30))
        assert faults(messages["metricsFailure"]["payload"], told, ASYNCAPI) == []
