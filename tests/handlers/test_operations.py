"""Health, readiness, metrics and the orderly end of the server."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from analytics.state.sync_status import Phase
from analytics.views import ViewKey
from handlers.metrics.server_metrics import ServerMetrics
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Served, until
from tests.handlers.world import USER_1

SAMPLE = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [-+0-9.e]+')


@pytest.mark.gen_test
async def test_readiness_says_mode_guarantee_lag_and_position(served: Served) -> None:
    served.services.board.update(source_lsn=0x1_0000_0190, applied_lsn=0x1_0000_0064, retained_wal_bytes=4096)
    served.clock.advance(2.5)
    answer = await served.ask("/readyz")
    assert answer.status == 200
    body = answer.json()
    assert body["ready"] is True
    assert body["state"] == "streaming"
    assert (body["mode"], body["guarantee"]) == ("stream", "exact")
    assert (body["lag_bytes"], body["lag_seconds"], body["lsn"]) == (300, 2.5, "1/64")
    assert body["retained_wal_bytes"] == 4096
    assert body["cache_version"] == served.services.cache.version
    assert body["copy"] is None
    assert body["stale"] is False
    assert body["mock_data"] is False


@pytest.mark.gen_test
async def test_stale_and_paused_servers_go_on_and_say_so(served: Served) -> None:
    served.services.board.update(phase=Phase.PAUSED, error="host db.internal refused", remedy="grant SELECT")
    served.clock.advance(3600)
    answer = await served.ask("/readyz")
    assert answer.status == 200
    assert (answer.json()["stale"], answer.json()["needs_attention"]) == (True, True)
    assert b"db.internal" not in answer.body


@pytest.mark.gen_test
async def test_a_background_job_that_failed_is_shown_until_it_has_proved_well(served: Served) -> None:
    jobs = served.services.board.jobs
    assert (await served.ask("/readyz")).json()["failing_jobs"] == []
    jobs.failed("owkai-lightcheck", TypeError("host db.internal"))
    jobs.started("owkai-lightcheck")
    answer = await served.ask("/readyz")
    assert (answer.json()["failing_jobs"], answer.json()["needs_attention"]) == (["owkai-lightcheck"], True)
    assert b"db.internal" not in answer.body
    metrics = (await served.ask("/metrics")).body.decode().splitlines()
    assert 'owkai_job_failures_total{job="owkai-lightcheck"} 1.0' in metrics
    assert "owkai_jobs_failing 1.0" in metrics


@pytest.mark.gen_test
async def test_metrics_are_prometheus_text(served: Served) -> None:
    for _ in range(3):
        await served.get("/trends", token=USER_1.token())
    await served.get("/trends")
    served.services.board.update(rows_applied=7, transactions_applied=3, reconnects=2, retained_wal_bytes=99)
    answer = await served.ask("/metrics")
    assert answer.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.body.decode().splitlines()
    for line in lines:
        assert line.startswith("# ") or SAMPLE.fullmatch(line), line
    assert len({line for line in lines if line.startswith("# TYPE")}) == sum(
        line.startswith("# TYPE") for line in lines
    )
    for expected in (
        f'owkai_http_requests_total{{method="GET",route="{API}/trends",status="2xx"}} 3.0',
        f'owkai_http_requests_total{{method="GET",route="{API}/trends",status="4xx"}} 1.0',
        f'owkai_http_request_seconds_count{{route="{API}/trends"}} 4.0',
        'owkai_sync_phase{phase="streaming"} 1.0',
        "owkai_ready 1.0",
        "owkai_mock_data 0.0",
        "owkai_sync_needs_attention 0.0",
        "owkai_source_rows_ahead_seconds 0.0",
        "owkai_sync_lag_bytes 0.0",
        "owkai_sync_lag_seconds 0.0",
        "owkai_sync_retained_wal_bytes 99.0",
        "owkai_sync_rows_applied_total 7.0",
        "owkai_sync_transactions_applied_total 3.0",
        "owkai_sync_reconnects_total 2.0",
        "owkai_websocket_clients 0.0",
        'owkai_authentication_failures_total{kind="missing"} 1.0',
    ):
        assert expected in lines, expected


@pytest.mark.gen_test
async def test_the_log_names_the_reason_of_a_refusal_and_the_answer_does_not(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    missing, form = await served.get("/trends"), await served.get("/trends", key="no key at all")
    assert (missing.status, form.status) == (401, 401)
    assert f"GET {API}/trends 401 (no_credential) in " in caplog.text
    assert f"GET {API}/trends 401 (key_form) in " in caplog.text
    assert b"no_credential" not in missing.body
    assert b"key_form" not in form.body


def test_histogram_buckets_are_cumulative() -> None:
    measured = ServerMetrics()
    for seconds in (0.0001, 0.004, 0.004, 99.0):
        measured.count("r", "GET", 200, seconds)
    up_to = {
        bound: measured.registry.get_sample_value("owkai_http_request_seconds_bucket", {"route": "r", "le": bound})
        for bound in ("0.0005", "0.0025", "0.005", "10.0", "+Inf")
    }
    assert up_to == {"0.0005": 1, "0.0025": 1, "0.005": 3, "10.0": 3, "+Inf": 4}


@pytest.mark.gen_test
async def test_a_draining_server_ends_open_requests_and_takes_no_new_ones(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, released = asyncio.Event(), asyncio.Event()
    publisher = served.services.publisher
    real = publisher.get

    async def held(key: ViewKey) -> Any:
        if key.name == "trends":
            entered.set()
            await released.wait()
        return await real(key)

    monkeypatch.setattr(publisher, "get", held)
    kept_reader, kept = await asyncio.open_connection("127.0.0.1", served.port)
    idle_reader, idle = await asyncio.open_connection("127.0.0.1", served.port)
    open_request = asyncio.ensure_future(served.get("/trends", token=USER_1.token()))
    await entered.wait()
    drained = asyncio.ensure_future(served.server.drain())
    await until(lambda: served.services.draining.is_set())
    kept.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    seen = await asyncio.wait_for(kept_reader.read(), 30)
    assert seen.startswith(b"HTTP/1.1 503 ")
    assert b'"state": "draining"' in seen
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", served.port)
    assert not drained.done()
    released.set()
    assert (await open_request).status == 200
    await drained
    assert await idle_reader.read() == b""
    for writer in (kept, idle):
        writer.close()
    assert served.audit_file.read_text().count('"status":200') == 1
    await served.server.drain()


@pytest.mark.gen_test
async def test_a_request_beyond_the_drain_bound_is_cut(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(server={"drain_seconds": 0.3})
    entered = asyncio.Event()

    async def never(key: ViewKey) -> None:
        entered.set()
        await asyncio.sleep(3600)

    monkeypatch.setattr(served.services.publisher, "get", never)
    request = asyncio.ensure_future(
        served.send(f"GET {API}/trends HTTP/1.1\r\nHost: x\r\nX-API-Key: {USER_1.key}\r\n\r\n".encode())
    )
    await entered.wait()
    began = asyncio.get_running_loop().time()
    await served.server.drain()
    assert asyncio.get_running_loop().time() - began < 30
    assert await request == []


@pytest.mark.gen_test
async def test_live_updates_arrive_by_themselves(serve: Serve) -> None:
    served = serve(websocket={"interval_seconds": 0.2})
    target = f"ws://127.0.0.1:{served.port}{API}/ws/realtime/{USER_1.email}"
    computed: list[ViewKey] = []
    real = served.services.publisher.get

    async def counted(key: ViewKey) -> Any:
        computed.append(key)
        return await real(key)

    served.services.publisher.get = counted  # type: ignore[method-assign]
    clients = [await connect(target, additional_headers={"X-API-Key": USER_1.key}) for _ in range(3)]
    for client in clients:
        kinds = [str(await asyncio.wait_for(client.recv(), 30)) for _ in range(5)]
        assert '"connection"' in kinds[0]
        assert all('"metrics_update"' in kind for kind in kinds[1:])
    assert len(computed) <= 4, "one computation for all clients of a moment"
    for client in clients:
        await client.close()
    await until(lambda: served.server.broadcaster.total == 0)


@pytest.mark.gen_test
async def test_a_draining_server_opens_no_live_connection(served: Served) -> None:
    served.services.draining.set()
    target = f"ws://127.0.0.1:{served.port}{API}/ws/realtime/{USER_1.email}"
    with pytest.raises(InvalidStatus, match="503"):
        await connect(target, additional_headers={"X-API-Key": USER_1.key})
