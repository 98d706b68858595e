"""The CloudWatch collector against moto over real HTTP, and against a CloudWatch that misbehaves."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics.state.telemetry_board import Part, TelemetrySample
from config.settings import TelemetrySettings
from sync.telemetry.aws_failures import CollectionError
from sync.telemetry.cloudwatch import CloudWatch, series
from tests.sync.aws import (
    ACCESS_KEY,
    BALANCER,
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
    refusing,
)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def account() -> Iterator[Aws]:
    with moto_aws() as started:
        yield started


@pytest.fixture
def aws(account: Aws) -> Aws:
    account.reset()
    return account


def telemetry(url: str, **changes: Any) -> TelemetrySettings:
    return TelemetrySettings(
        **{
            "source": "cloudwatch",
            "region": REGION,
            "cluster": CLUSTER,
            "service": SERVICE,
            "endpoint_url": url,
            "timeout_seconds": 5,
            **changes,
        }
    )


def collector(url: str, **changes: Any) -> CloudWatch:
    return CloudWatch(telemetry(url, **changes), threading.Event())


def now() -> datetime:
    return datetime.now(UTC)


def good(part: Part) -> TelemetrySample:
    assert part.failure is None, part.failure
    assert part.sample is not None
    return part.sample


def test_cpu_and_memory_are_the_newest_values_and_the_average_is_of_the_hour(aws: Aws) -> None:
    at = now()
    for back, cpu in ((0, 34.5), (10, 20.0), (30, 50.0), (59, 23.9), (61, 99.0)):
        aws.put("CPUUtilization", cpu, at - timedelta(minutes=back))
    aws.put("MemoryUtilization", 62.8, at)
    aws.put("CPUUtilization", 1.0, at, dimensions={"ClusterName": CLUSTER, "ServiceName": "another"})
    system, application = collector(aws.url).collect(at)
    sample = good(system)
    assert sample.cpu_percent == 34.5
    assert sample.cpu_average_percent == pytest.approx((34.5 + 20 + 50 + 23.9) / 4)
    assert sample.memory_percent == 62.8
    assert (sample.disk_percent, sample.network_milliseconds) == (None, None)
    assert at - timedelta(seconds=61) <= sample.measured_at <= at
    assert application == Part()


def test_storage_comes_from_container_insights(aws: Aws) -> None:
    at = now()
    aws.put("CPUUtilization", 10.0, at)
    for name, value in (("EphemeralStorageUtilized", 9.04), ("EphemeralStorageReserved", 20.0)):
        aws.put(name, value, at, namespace="ECS/ContainerInsights")
    assert good(collector(aws.url).collect(at)[0]).disk_percent is None
    assert good(collector(aws.url, container_insights=True).collect(at)[0]).disk_percent == pytest.approx(45.2)


def test_without_a_log_group_requests_come_from_the_load_balancer() -> None:
    at = now()
    values = {
        ("TargetResponseTime", "Average"): 0.145,
        ("TargetResponseTime", "p95"): 0.32,
        ("RequestCount", "Sum"): 1524.0,
        ("HTTPCode_Target_5XX_Count", "Sum"): 3.0,
        ("CPUUtilization", "Average"): 10.0,
    }

    def answer(operation: str, request: dict[str, Any]) -> tuple[int, bytes]:
        results = []
        for query in request["MetricDataQueries"]:
            asked = query["MetricStat"]
            metric = asked["Metric"]
            if metric["Namespace"] == "AWS/ApplicationELB":
                assert metric["Dimensions"] == [{"Name": "LoadBalancer", "Value": BALANCER}]
            value = values.get((metric["MetricName"], asked["Stat"]))
            results.append(
                {
                    "Id": query["Id"],
                    "StatusCode": "Complete",
                    "Timestamps": [] if value is None else [minute(at, 1).timestamp()],
                    "Values": [] if value is None else [value],
                }
            )
        return 200, json.dumps({"MetricDataResults": results}).encode()

    with BadAws(answer) as bad:
        system, application = collector(bad.url, load_balancer=BALANCER).collect(at)
    assert good(system).cpu_percent == 10.0
    sample = good(application)
    assert application.source == "cloudwatch"
    assert sample.requests_per_second == pytest.approx(25.4)
    assert sample.mean_milliseconds == pytest.approx(145.0)
    assert sample.p95_milliseconds == pytest.approx(320.0)
    assert sample.error_rate == pytest.approx(3 / 1524)


LINES = (
    'INFO:     10.0.3.17:53122 - "GET /api/agent-activity HTTP/1.1" 200 OK',
    'INFO:     10.0.3.17:53122 - "POST /api/v1/actions/submit HTTP/1.1" 201 Created 140.5ms',
    'INFO:     10.0.3.18:40100 - "GET /api/analytics/trends HTTP/1.1" 404 Not Found 12.5 ms',
    'INFO:     10.0.3.18:40100 - "GET /api/analytics/trends?x=/y HTTP/1.1" 500 Internal Server Error',
    '{"level": "info", "method": "GET", "path": "/health", "status_code": 200, "duration_ms": 5.0}',
    '{"level": "info", "method": "GET", "path": "/x", "status": 503, "response_time_ms": 842}',
    "INFO:sqlalchemy.engine:COMMIT",
    "Processed 500 actions in 12 s",
    '{"level": "warning", "message": "approval took 300 ms"}',
)


def test_requests_durations_and_errors_are_parsed_from_the_platforms_lines(aws: Aws) -> None:
    aws.put("CPUUtilization", 10.0, now())
    aws.log(*LINES)
    _, application = collector(aws.url, log_group=LOG_GROUP).collect(now())
    sample = good(application)
    assert application.source == "cloudwatch_logs"
    assert sample.requests_per_second == pytest.approx(6 / 300)
    assert sample.mean_milliseconds == pytest.approx((140.5 + 12.5 + 5 + 842) / 4)
    assert sample.p95_milliseconds == 842
    assert sample.error_rate == pytest.approx(2 / 6)


def test_patterns_unit_and_what_is_an_error_are_settings(aws: Aws) -> None:
    aws.put("CPUUtilization", 10.0, now())
    aws.log("> s=404 t=0.25/end", "> s=200 t=0.75/end", *LINES)
    changes = {
        "log_group": LOG_GROUP,
        "log_status_pattern": "> s=(?<status>[0-9]+)",
        "log_duration_pattern": "t=(?<duration>[0-9.]+)/end",
        "log_duration_unit": "seconds",
        "log_errors": "4xx_and_5xx",
        "log_window_seconds": 60,
    }
    _, application = collector(aws.url, **changes).collect(now())
    sample = good(application)
    assert sample.requests_per_second == pytest.approx(2 / 60)
    assert (sample.mean_milliseconds, sample.p95_milliseconds, sample.error_rate) == (500, 750, 0.5)


def test_no_request_line_is_a_rate_of_zero_and_nothing_else_known(aws: Aws) -> None:
    aws.put("CPUUtilization", 10.0, now())
    aws.log("starting")
    sample = good(collector(aws.url, log_group=LOG_GROUP).collect(now())[1])
    assert (sample.requests_per_second, sample.mean_milliseconds, sample.error_rate) == (0.0, None, None)


def test_logs_that_fail_leave_cpu_and_memory_alone(aws: Aws) -> None:
    aws.put("CPUUtilization", 10.0, now())
    system, application = collector(aws.url, log_group="/ecs/there-is-none").collect(now())
    assert good(system).cpu_percent == 10.0
    assert application == Part("cloudwatch_logs", failure="The log group does not exist")


def test_one_call_brings_all_metrics() -> None:
    at = now()
    with BadAws(lambda operation, request: (200, metric_answer([(minute(at), 1.0)]))) as bad:
        found = collector(bad.url, container_insights=True, load_balancer=BALANCER).collect(at)[0]
        assert good(found).cpu_percent == 1.0
        assert bad.calls == ["GetMetricData"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ThrottlingException", "CloudWatch limits the rate of our requests"),
        ("UnrecognizedClientException", "CloudWatch refused our credentials or their permissions"),
        ("AccessDeniedException", "CloudWatch refused our credentials or their permissions"),
        ("RequestExpired", "CloudWatch refused the time of our request; this machine's clock may be wrong"),
        ("Odd<script>", "CloudWatch answered with the error unknown"),
    ],
)
def test_sec_10_what_aws_refuses_is_said_in_general_words(
    code: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with BadAws(refusing(code)) as bad:
        system, application = collector(bad.url, log_group=LOG_GROUP).collect(now())
        assert (system.sample, system.failure) == (None, words)
        assert application.failure == words
        for secret in (ACCESS_KEY, SECRET_KEY, "Authorization", bad.url):
            assert secret not in caplog.text
            assert secret not in str(system.failure)


def test_a_throttled_call_is_tried_again_within_bounds() -> None:
    with BadAws(refusing("ThrottlingException")) as bad:
        begun = time.monotonic()
        collector(bad.url).collect(now())
        assert bad.calls == ["GetMetricData"] * 2
        assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    "body", [b"", b"<<<", b"[]", b'{"MetricDataResults": 5}', b'{"MetricDataResults": [{}]}', b"\xff" * 4096]
)
def test_rep_13_garbage_is_a_failure_and_not_an_end(body: bytes) -> None:
    with BadAws(lambda operation, request: (200, body)) as bad:
        system, _ = collector(bad.url).collect(now())
        assert system.sample is None
        assert system.failure in (
            "CloudWatch sent a response that could not be read",
            "CloudWatch has no data points of this cluster and service",
        )


def test_an_empty_result_is_said_as_such_and_not_as_zero() -> None:
    with BadAws(lambda operation, request: (200, metric_answer([]))) as bad:
        system, _ = collector(bad.url).collect(now())
        assert system == Part("cloudwatch", failure="CloudWatch has no data points of this cluster and service")


def test_points_older_than_may_be_shown_are_no_data_but_count_in_the_average() -> None:
    at = now()
    with BadAws(lambda operation, request: (200, metric_answer([(minute(at, 20), 50.0)], [(minute(at), 7.0)]))) as bad:
        sample = good(collector(bad.url).collect(at)[0])
        assert (sample.cpu_percent, sample.cpu_average_percent, sample.memory_percent) == (None, 50.0, 7.0)


def test_a_server_that_does_not_answer_is_given_up_within_its_bound() -> None:
    released = threading.Event()

    def stall(operation: str, request: dict[str, Any]) -> tuple[int, bytes]:
        released.wait(30)
        return 200, metric_answer([])

    with BadAws(stall) as bad:
        begun = time.monotonic()
        system, _ = collector(bad.url, timeout_seconds=0.2).collect(now())
        took = time.monotonic() - begun
        released.set()
    assert system.failure == "CloudWatch did not respond in time"
    assert took < 20


def endless(pieces: Iterator[bytes], pause: float) -> Any:
    """A server whose answer does not end."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
                while not over.wait(pause):
                    connection.sendall(next(pieces))

    @contextlib.contextmanager
    def running() -> Iterator[str]:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            with contextlib.suppress(OSError):
                socket.create_connection(listener.getsockname()).close()
            thread.join(30)
            assert not thread.is_alive()
            listener.close()

    return running()


def test_rep_13_an_answer_of_a_gigabyte_is_given_up_early() -> None:
    with endless(itertools.repeat(b" " * 2**20), 0) as url:
        begun = time.monotonic()
        system, _ = collector(url).collect(now())
        assert system.failure == "CloudWatch sent a response of more than 8192 kB"
        assert time.monotonic() - begun < 20


def test_rep_13_an_answer_in_drops_is_given_up_within_its_bound() -> None:
    with endless(itertools.repeat(b" "), 0.05) as url:
        begun = time.monotonic()
        system, _ = collector(url, timeout_seconds=0.3).collect(now())
        assert system.failure == "CloudWatch did not respond in time"
        assert time.monotonic() - begun < 20


def test_nobody_listening_is_out_of_reach_and_mends_with_the_next_collection(aws: Aws) -> None:
    aws.put("CPUUtilization", 10.0, now())
    found = collector(aws.url)
    aws.kill()
    assert found.collect(now())[0].failure == "CloudWatch cannot be reached"
    aws.start()
    assert good(found.collect(now())[0]).cpu_percent == 10.0


def test_no_credentials_is_said_and_mends_when_there_are_some(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    aws.put("CPUUtilization", 10.0, now())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    found = collector(aws.url)
    assert found.collect(now())[0].failure == "No AWS credentials were found"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    assert good(found.collect(now())[0]).cpu_percent == 10.0


def test_a_logs_query_that_does_not_end_is_stopped() -> None:
    def answer(operation: str, request: dict[str, Any]) -> tuple[int, bytes]:
        if operation == "GetMetricData":
            return 200, metric_answer([(minute(now()), 1.0)])
        if operation == "StartQuery":
            return 200, b'{"queryId": "q-1"}'
        return 200, b'{"status": "Running", "results": []}'

    with BadAws(answer) as bad:
        _, application = collector(bad.url, log_group=LOG_GROUP, timeout_seconds=0.3).collect(now())
        assert application.failure == "The logs query took longer than 0.3 s"
        assert bad.calls[-1] == "StopQuery"
        assert bad.calls.count("GetQueryResults") <= 4


@pytest.mark.parametrize("skew", [timedelta(minutes=10), timedelta(minutes=-10)])
def test_the_age_is_true_when_our_clock_is_wrong(skew: timedelta) -> None:
    ours = now()

    def answer(operation: str, request: dict[str, Any]) -> tuple[int, bytes]:
        theirs = ours + skew
        points = [(minute(theirs, back), 40.0 + back) for back in range(2, 60)]
        start, end = float(request["StartTime"]), float(request["EndTime"])
        return 200, metric_answer([point for point in points if start <= point[0].timestamp() < end])

    with BadAws(answer, clock=lambda: ours + skew) as bad:
        sample = good(collector(bad.url).collect(ours)[0])
        assert sample.cpu_percent == 42.0
        age = (ours - sample.measured_at).total_seconds()
        true_age = ((ours + skew) - (minute(ours + skew, 2) + timedelta(minutes=1))).total_seconds()
        assert age == pytest.approx(true_age, abs=1.5)


def test_rep_13_what_is_no_number_or_of_the_future_is_left_out() -> None:
    at = datetime(2025, 1, 15, 14, 30, tzinfo=UTC)
    answer = {
        "MetricDataResults": [
            {
                "Id": "cpu",
                "Timestamps": [at + timedelta(minutes=5), at, at - timedelta(minutes=1), at - timedelta(minutes=2)],
                "Values": [99.0, float("nan"), 7.0, -1.0],
            }
        ]
    }
    assert series(answer, at) == {"cpu": [(at - timedelta(minutes=1), 7.0)]}


def test_metrics_we_may_not_read_are_refused_as_a_whole() -> None:
    with pytest.raises(CollectionError, match="permissions"):
        series({"MetricDataResults": [{"Id": "cpu", "StatusCode": "Forbidden", "Timestamps": [], "Values": []}]}, now())
