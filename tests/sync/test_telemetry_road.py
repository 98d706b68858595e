"""`owkai serve` with telemetry, as a process: live, stale, refused, recovered; and no request ever waits for AWS."""

from __future__ import annotations

import http.client
import json
import math
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.contract.platform_rows import fill, make_key
from tests.contract.structure import assert_documented
from tests.owkai.servers import Server, serving, wait_for
from tests.postgres import Database
from tests.sync.aws import (
    ACCESS_KEY,
    CLUSTER,
    LOG_GROUP,
    REGION,
    SECRET_KEY,
    SERVICE,
    Aws,
    BadAws,
    metric_answer,
    minute,
    moto_aws,
)
from tests.sync.running import slot_name

API = "/api/analytics"
PERIOD_SECONDS = 0.5
LINES = (
    'INFO:     10.0.3.17:53122 - "POST /api/v1/actions/submit HTTP/1.1" 201 Created 140.0ms',
    'INFO:     10.0.3.18:40100 - "GET /api/analytics/trends HTTP/1.1" 200 OK 150.0ms',
    '{"method": "GET", "path": "/x", "status_code": 500, "duration_ms": 160.0}',
)


class Asked:
    """The server with one person's key."""

    def __init__(self, server: Server, key: str) -> None:
        self.server, self.key = server, key

    def get(self, path: str) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        try:
            connection.request("GET", API + path, headers={"X-API-Key": self.key})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), json.loads(answer.read())
        finally:
            connection.close()

    def health(self) -> Any:
        return self.get("/realtime/metrics")[2]["system_health"]

    def latencies(self, requests: int = 120) -> list[float]:
        found = []
        for number in range(requests):
            begun = time.perf_counter()
            assert self.get(("/realtime/metrics", "/trends")[number % 2])[0] == 200
            found.append(time.perf_counter() - begun)
        return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Credentials where the default chain finds them, and no way to another account."""
    folder = tmp_path / "home" / ".aws"
    folder.mkdir(parents=True)
    (folder / "credentials").write_text(
        f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    monkeypatch.setenv("HOME", str(folder.parent))
    return folder.parent


@contextmanager
def road(database: Database, folder: Path, **telemetry: Any) -> Iterator[Asked]:
    fill(database)
    key = make_key(database, 1, "user", "user@org1.example.com")
    variables = {f"TELEMETRY_{name.upper()}": str(value) for name, value in telemetry.items()}
    with serving(
        folder,
        SOURCE_DSN=database.dsn,
        SOURCE_SLOT=slot_name(database),
        WEBSOCKET_INTERVAL_SECONDS="0.2",
        **variables,
    ) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, f"readiness: {server.messages()}")
        yield Asked(server, key)


def cloudwatch(url: str, **changes: Any) -> dict[str, Any]:
    return {
        "source": "cloudwatch",
        "region": REGION,
        "cluster": CLUSTER,
        "service": SERVICE,
        "log_group": LOG_GROUP,
        "container_insights": "true",
        "endpoint_url": url,
        "period_seconds": PERIOD_SECONDS,
        "timeout_seconds": 1,
        **changes,
    }


def put(aws: Aws) -> None:
    now = datetime.now(UTC)
    aws.put("CPUUtilization", 34.5, now)
    aws.put("MemoryUtilization", 62.8, now)
    for name, value in (("EphemeralStorageUtilized", 9.04), ("EphemeralStorageReserved", 20.0)):
        aws.put(name, value, now, namespace="ECS/ContainerInsights")
    aws.log(*LINES)


def test_live_then_killed_then_stale_then_refused_then_live_again(
    home: Path, database: Database, tmp_path: Path
) -> None:
    with moto_aws() as aws:
        put(aws)
        # A bound above a minute would make this long, one below it would meet the turn of the minute: so we keep writing.
        with road(database, tmp_path, **cloudwatch(aws.url, max_age_seconds=5)) as asked:
            with writing(aws):
                wait_for(lambda: asked.health()["status"] == "live", f"live: {asked.server.messages()}")
                check_live(asked)
            aws.kill()
            check_stale_then_refused(asked)
            aws.start()
            begun = time.monotonic()
            with writing(aws):
                wait_for(lambda: asked.get("/performance")[0] == 200, "the recovery")
                print(f"recovery after {time.monotonic() - begun:.2f} s with a period of {PERIOD_SECONDS} s")
                wait_for(lambda: asked.health()["status"] == "live", "live again")
            text = asked.server.log_path.read_text()
        for secret in (ACCESS_KEY, SECRET_KEY, "Authorization", aws.url):
            assert secret not in text
        assert "system metrics could not be collected: CloudWatch cannot be reached" in text
        assert "system metrics are collected again" in text


def check_live(asked: Asked) -> None:
    realtime = asked.get("/realtime/metrics")[2]
    assert_documented("realtime_metrics_cloudwatch", realtime)
    health = realtime["system_health"]
    assert (health["cpu_usage"], health["memory_usage"], health["disk_usage"]) == (34.5, 62.8, 45.2)
    assert health["api_response_time"] == 150.0
    assert health["network_latency"] is None
    requested = realtime["performance_metrics"]
    assert (requested["status"], requested["source"]) == ("live", "cloudwatch_logs")
    assert (requested["avg_response_time"], requested["p95_response_time"]) == (150.0, 160.0)
    assert requested["error_rate"] == pytest.approx(1 / 3, abs=1e-4)
    assert realtime["meta"]["cloudwatch_status"] == "live"
    assert realtime["meta"]["real_data_sources"] == ["postgresql_rds", "aws_cloudwatch"]
    status, _, performance = asked.get("/performance")
    assert status == 200
    assert_documented("performance", performance)
    assert performance["system_metrics"]["cpu"] == {
        "current": 34.5,
        "average": 34.5,
        "status": "normal",
        "source": "cloudwatch",
    }
    assert performance["meta"]["data_sources"]["application_metrics"] == "cloudwatch_logs"
    address = f"ws://127.0.0.1:{asked.server.port}{API}/ws/realtime/user@org1.example.com"
    with connect(address, additional_headers={"X-API-Key": asked.key}) as socket:
        socket.recv(timeout=30)
        message = json.loads(socket.recv(timeout=30))
    assert_documented("ws_metrics_update", message)
    assert message["system_metrics"] == {
        "status": "live",
        "cpu_usage": 34.5,
        "memory_usage": 62.8,
        "response_time": 150.0,
    }


def check_stale_then_refused(asked: Asked) -> None:
    wait_for(lambda: asked.health()["status"] == "stale", "stale")
    first = asked.health()
    assert (first["cpu_usage"], first["fallback_reason"]) == (34.5, "CloudWatch cannot be reached")
    seen = [first]

    def grown() -> bool:
        seen.append(asked.health())
        return bool(seen[-1]["metrics_age_seconds"] > first["metrics_age_seconds"])

    wait_for(grown, "a growing age")
    assert seen[-1] == first | {"metrics_age_seconds": seen[-1]["metrics_age_seconds"]}
    wait_for(lambda: asked.get("/performance")[0] == 503, "the refusal")
    _, headers, problem = asked.get("/performance/system")
    assert headers["Retry-After"] == "1"
    assert headers["Content-Type"] == "application/problem+json"
    assert problem["detail"].startswith("CloudWatch connection failed. System metrics are unavailable: ")
    assert "127.0.0.1" not in problem["detail"]
    status, _, realtime = asked.get("/realtime/metrics")
    assert status == 200
    assert realtime["meta"]["cloudwatch_status"] == realtime["system_health"]["status"] == "unavailable"
    assert realtime["meta"]["real_data_sources"] == ["postgresql_rds"]
    assert realtime["real_time_overview"]["actions_last_24h"] > 0


@contextmanager
def writing(aws: Aws) -> Iterator[None]:
    """The platform goes on writing its metrics."""
    over = threading.Event()

    def write() -> None:
        while not over.wait(0.2):
            put(aws)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_no_request_waits_for_aws(home: Path, database: Database, tmp_path: Path) -> None:
    """AWS stalls for a minute: nothing takes half of it."""
    stalled, released = threading.Event(), threading.Event()
    queries = iter(range(1, 10**6))

    def answer(operation: str, request: dict[str, Any]) -> tuple[int, bytes]:
        if stalled.is_set():
            released.wait(60)
            return 503, b""
        if operation == "GetMetricData":
            return 200, metric_answer([(minute(datetime.now(UTC)), 34.5)])
        if operation == "StartQuery":
            return 200, json.dumps({"queryId": f"q-{next(queries)}"}).encode()
        return 200, b'{"status": "Complete", "results": []}'

    with (
        BadAws(answer) as bad,
        road(database, tmp_path, **cloudwatch(bad.url, period_seconds=0.2, timeout_seconds=60)) as asked,
    ):
        wait_for(lambda: asked.health()["status"] == "live", "live")
        asked.latencies(20)
        healthy = asked.latencies()
        stalled.set()
        calls = len(bad.calls)
        wait_for(lambda: len(bad.calls) > calls, "a call that stalls")
        slow = asked.latencies()
        wait_for(lambda: asked.health()["status"] == "stale", "stale")
        assert asked.health()["fallback_reason"].startswith("Nothing has been collected for ")
        released.set()
    ratio = statistics.median(slow) / statistics.median(healthy)
    print(
        f"median {1000 * statistics.median(healthy):.2f} ms healthy, {1000 * statistics.median(slow):.2f} ms stalled, "
        f"ratio {ratio:.2f}; slowest {1000 * max(healthy):.1f} and {1000 * max(slow):.1f} ms"
    )
    assert max(slow) < 30


def test_strict_refuses_realtime_too_while_sockets_go_on(home: Path, database: Database, tmp_path: Path) -> None:
    with road(database, tmp_path, **cloudwatch("http://127.0.0.1:1", strict="true")) as asked:
        wait_for(lambda: asked.get("/performance")[0] == 503, "the first attempt")
        for path in ("/performance", "/realtime/metrics"):
            status, headers, problem = asked.get(path)
            assert status == 503
            assert int(headers["Retry-After"]) == math.ceil(PERIOD_SECONDS)
            assert "CloudWatch" in problem["detail"]
        address = f"ws://127.0.0.1:{asked.server.port}{API}/ws/realtime/user@org1.example.com"
        with connect(address, additional_headers={"X-API-Key": asked.key}) as socket:
            socket.recv(timeout=30)
            assert json.loads(socket.recv(timeout=30))["system_metrics"]["status"] == "unavailable"


def test_host_telemetry_shows_this_machine_and_our_own_requests(database: Database, tmp_path: Path) -> None:
    with road(database, tmp_path, source="host", period_seconds=0.5) as asked:
        wait_for(
            lambda: (asked.get("/realtime/metrics")[2]["performance_metrics"].get("avg_response_time") or 0) > 0, "us"
        )
        realtime = asked.get("/realtime/metrics")[2]
        health = realtime["system_health"]
        assert (health["status"], health["source"]) == ("live", "host")
        assert 0 <= health["cpu_usage"] <= 100
        assert 0 < health["memory_usage"] <= 100
        assert 0 < health["disk_usage"] <= 100
        assert realtime["performance_metrics"]["requests_per_second"] > 0
        assert realtime["performance_metrics"]["error_rate"] == 0
        status, _, performance = asked.get("/performance")
        assert status == 200
        assert_documented("performance", performance)
        assert performance["meta"]["data_sources"]["system_metrics"] == "host"
