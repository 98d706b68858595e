"""CloudWatch: one GetMetricData and one Logs Insights query per period, called only from the collector's thread.

Credentials come from the AWS default chain. Every call is bounded; retries are adaptive. CloudWatch's times are
compared with its own clock (the Date header of its response), so that ages stay right when our clock is wrong.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from analytics.state.telemetry_board import Part, TelemetrySample
from config.settings import TelemetrySettings
from sync.telemetry.aws_failures import NO_CREDENTIALS, NO_DATA, REFUSED, UNREADABLE, CollectionError, describe_failure
from sync.telemetry.bounded_response import bound_responses
from sync.telemetry.log_query import insights_query, number, read_row

log = logging.getLogger(__name__)

HOUR = timedelta(hours=1)
ATTEMPTS = 2  # in all; the next period is the next attempt
CONNECT_SECONDS = 3.0
PAGES = 5
POLL_SECONDS = 0.25
SMALLEST_SKEW = timedelta(seconds=5)  # a smaller difference is network delay
SYSTEM, LOGS = "cloudwatch", "cloudwatch_logs"

Points = list[tuple[datetime, float]]


@dataclass(frozen=True)
class Metric:
    """One series. `id` is its name within the request; its dimensions are those of the service unless given."""

    id: str
    namespace: str
    name: str
    statistic: str
    dimensions: Mapping[str, str]

    def query(self, period_seconds: int) -> dict[str, Any]:
        return {
            "Id": self.id,
            "MetricStat": {
                "Metric": {
                    "Namespace": self.namespace,
                    "MetricName": self.name,
                    "Dimensions": [{"Name": name, "Value": value} for name, value in self.dimensions.items()],
                },
                "Period": period_seconds,
                "Stat": self.statistic,
            },
            "ReturnData": True,
        }


def metrics(settings: TelemetrySettings) -> list[Metric]:
    """The series requested under these settings."""
    service = {"ClusterName": settings.cluster, "ServiceName": settings.service}
    found = [
        Metric("cpu", "AWS/ECS", "CPUUtilization", "Average", service),
        Metric("memory", "AWS/ECS", "MemoryUtilization", "Average", service),
    ]
    if settings.container_insights:
        insights = "ECS/ContainerInsights"
        found += [
            Metric("storageUsed", insights, "EphemeralStorageUtilized", "Average", service),
            Metric("storageReserved", insights, "EphemeralStorageReserved", "Average", service),
        ]
    if settings.load_balancer:
        balancer, namespace = {"LoadBalancer": settings.load_balancer}, "AWS/ApplicationELB"
        found += [
            Metric("latency", namespace, "TargetResponseTime", "Average", balancer),
            Metric("latencyP95", namespace, "TargetResponseTime", "p95", balancer),
            Metric("requests", namespace, "RequestCount", "Sum", balancer),
            Metric("targetErrors", namespace, "HTTPCode_Target_5XX_Count", "Sum", balancer),
            Metric("balancerErrors", namespace, "HTTPCode_ELB_5XX_Count", "Sum", balancer),
        ]
    return found


def series(response: Mapping[str, Any], latest: datetime) -> dict[str, Points]:
    """Points by series, newest first. Values that are not a number, negative or in the future are left out. Raises `CollectionError`."""
    found: dict[str, Points] = {}
    for result in response["MetricDataResults"]:
        if result.get("StatusCode") == "Forbidden":
            raise CollectionError(REFUSED)
        points = found.setdefault(str(result["Id"]), [])
        for at, value in zip(result["Timestamps"], result["Values"], strict=True):
            known = number(value)
            if known is not None and known >= 0 and at <= latest:
                points.append((at.astimezone(UTC), known))
    for points in found.values():
        points.sort(reverse=True)
    return found


@dataclass
class Reading:
    """The result of one GetMetricData request at `now`, both in CloudWatch's time."""

    points: Mapping[str, Points]
    now: datetime
    period: timedelta
    max_age: timedelta
    used: list[datetime] = field(default_factory=list)

    def newest(self, name: str) -> float | None:
        """The newest value, unless it is older than what may be shown."""
        for at, value in self.points.get(name, ())[:1]:
            end = min(at + self.period, self.now)
            if self.now - end <= self.max_age:
                self.used.append(end)
                return value
        return None

    def mean_of_hour(self, name: str) -> float | None:
        values = [value for at, value in self.points.get(name, ()) if at >= self.now - HOUR]
        return sum(values) / len(values) if values else None

    def measured_at(self) -> datetime:
        """The end of the oldest interval in use: no value is older."""
        return min(self.used)


def system_sample(reading: Reading, collected_at: datetime) -> TelemetrySample:
    """CPU, memory and, with Container Insights, storage. Raises `CollectionError` when there is neither CPU nor memory."""
    cpu, memory = reading.newest("cpu"), reading.newest("memory")
    if cpu is None and memory is None:
        raise CollectionError(NO_DATA)
    used, reserved = reading.newest("storageUsed"), reading.newest("storageReserved")
    return TelemetrySample(
        measured_at=reading.measured_at(),
        collected_at=collected_at,
        cpu_percent=cpu,
        cpu_average_percent=reading.mean_of_hour("cpu"),
        memory_percent=memory,
        disk_percent=None if used is None or not reserved else 100 * used / reserved,
    )


def balancer_sample(reading: Reading, collected_at: datetime) -> TelemetrySample:
    """Requests as the load balancer saw them in its newest complete interval. Raises `CollectionError` without data."""
    latency, p95 = reading.newest("latency"), reading.newest("latencyP95")
    requests = reading.newest("requests")
    if requests is None and latency is None:
        raise CollectionError("CloudWatch has no data points of this load balancer")
    errors = sum(reading.newest(name) or 0.0 for name in ("targetErrors", "balancerErrors"))
    return TelemetrySample(
        measured_at=reading.measured_at(),
        collected_at=collected_at,
        requests_per_second=None if requests is None else requests / reading.period.total_seconds(),
        mean_milliseconds=None if latency is None else 1000 * latency,
        p95_milliseconds=None if p95 is None else 1000 * p95,
        error_rate=min(1.0, errors / requests) if requests else None,
    )


class CloudWatch:
    """Collects from AWS. Belongs to one thread; `stopping` ends the wait for a logs query."""

    warm_up_seconds = 0.0

    def __init__(self, settings: TelemetrySettings, stopping: threading.Event) -> None:
        self._settings, self._stopping = settings, stopping
        self._clients: dict[str, Any] = {}
        self._skew = timedelta()
        self._warned_unmatched = False

    def collect(self, now: datetime) -> tuple[Part, Part]:
        """Both parts at `now`; never raises for a failure of AWS."""
        reading: Reading | None = None
        try:
            reading = self._read(now)
        except Exception as error:  # noqa: BLE001 - nothing that AWS sends may end the thread
            failure = self._failed(error)
            system = Part(SYSTEM, failure=failure)
        else:
            system = self._part(SYSTEM, lambda: self._in_our_time(system_sample(reading, now)))
        return system, self._application(now, reading, system.failure)

    def _application(self, now: datetime, reading: Reading | None, failure: str | None) -> Part:
        if self._settings.log_group:
            return self._part(LOGS, lambda: self._requests(now))
        if not self._settings.load_balancer:
            return Part()
        if reading is None:
            return Part(SYSTEM, failure=failure)
        fresh = replace(reading, used=[])
        return self._part(SYSTEM, lambda: self._in_our_time(balancer_sample(fresh, now)))

    def _part(self, source: str, sample: Callable[[], TelemetrySample]) -> Part:
        try:
            return Part(source, sample())
        except Exception as error:  # noqa: BLE001 - as above
            return Part(source, failure=self._failed(error))

    def _failed(self, error: Exception) -> str:
        description = describe_failure(error)
        if description in (NO_CREDENTIALS, REFUSED):
            # New clients next time, so that the credential chain is read again. Otherwise they stay, as they adapt to our request rate.
            self._clients.clear()
        if description == UNREADABLE:
            log.debug("CloudWatch: %s", type(error).__name__)
        return description

    def _in_our_time(self, sample: TelemetrySample) -> TelemetrySample:
        return replace(sample, measured_at=sample.measured_at - self._skew)

    # -- metrics ---------------------------------------------------------------------------------------------------

    def _read(self, now: datetime) -> Reading:
        requested_with = self._skew
        reading = self._request_metrics(now)
        if abs(self._skew - requested_with) >= SMALLEST_SKEW:
            # The window was off by the difference of the clocks, which is only known from a response.
            reading = self._request_metrics(now)
        return reading

    def _request_metrics(self, now: datetime) -> Reading:
        settings = self._settings
        period = timedelta(seconds=settings.metric_period_seconds)
        there = now + self._skew
        end = _floor(there, settings.metric_period_seconds) + period
        request = {
            "MetricDataQueries": [metric.query(settings.metric_period_seconds) for metric in metrics(settings)],
            "StartTime": end - period - HOUR,
            "EndTime": end,
            "ScanBy": "TimestampDescending",
        }
        points: dict[str, Points] = {}
        for response in self._pages(request):
            self._learn_skew(response, now)
            for name, found in series(response, there).items():
                points.setdefault(name, []).extend(found)
        return Reading(points, there, period, timedelta(seconds=settings.max_age_seconds))

    def _pages(self, request: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        client = self._client("cloudwatch")
        for _ in range(PAGES):
            response = client.get_metric_data(**request)
            yield response
            if not response.get("NextToken"):
                return
            request = {**request, "NextToken": response["NextToken"]}

    def _learn_skew(self, response: Mapping[str, Any], now: datetime) -> None:
        try:
            theirs = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        except (KeyError, ValueError):
            return
        skew = theirs.astimezone(UTC) - now
        if abs(skew) < SMALLEST_SKEW:
            skew = timedelta()
        if abs(skew - self._skew) >= SMALLEST_SKEW:
            log.warning("this machine's clock and CloudWatch's differ by %.0f s", skew.total_seconds())
            self._skew = skew

    # -- logs ------------------------------------------------------------------------------------------------------

    def _requests(self, now: datetime) -> TelemetrySample:
        settings = self._settings
        there = now + self._skew
        logs = self._client("logs")
        started = logs.start_query(
            logGroupName=settings.log_group,
            startTime=int((there - timedelta(seconds=settings.log_window_seconds)).timestamp()),
            endTime=int(there.timestamp()),
            queryString=insights_query(settings),
            limit=1,
        )
        response = self._await_query(logs, str(started["queryId"]))
        found = read_row(response.get("results", ()), settings)
        self._warn_unmatched(found.requests, response)
        return TelemetrySample(
            measured_at=now,
            collected_at=now,
            requests_per_second=found.requests / settings.log_window_seconds,
            mean_milliseconds=found.mean_milliseconds,
            p95_milliseconds=found.p95_milliseconds,
            error_rate=found.errors / found.requests if found.requests else None,
        )

    def _await_query(self, logs: Any, query: str) -> Mapping[str, Any]:
        bound = self._settings.timeout_seconds
        deadline = time.monotonic() + bound
        while True:
            response: Mapping[str, Any] = logs.get_query_results(queryId=query)
            status = response.get("status")
            if status == "Complete":
                return response
            if status not in ("Scheduled", "Running"):
                raise CollectionError("The logs query failed")
            if time.monotonic() >= deadline or self._stopping.wait(POLL_SECONDS):
                with contextlib.suppress(Exception):
                    logs.stop_query(queryId=query)
                raise CollectionError(f"The logs query took longer than {bound:g} s")

    def _warn_unmatched(self, requests: float, response: Mapping[str, Any]) -> None:
        scanned = number(response.get("statistics", {}).get("recordsScanned")) or 0.0
        if requests == 0 and scanned > 0 and not self._warned_unmatched:
            log.warning(
                "none of %.0f log lines looked like a request; check telemetry.log_group and log_status_pattern",
                scanned,
            )
        self._warned_unmatched = requests == 0 and scanned > 0

    def _client(self, service: str) -> Any:
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = make_client(service, self._settings)
        return client


def make_client(service: str, settings: TelemetrySettings) -> Any:
    """A client of "cloudwatch" or "logs". boto3 takes a while to load, so it is loaded where it is used."""
    import boto3
    from botocore.config import Config

    address = settings.logs_endpoint_url or settings.endpoint_url if service == "logs" else settings.endpoint_url
    client = boto3.Session(region_name=settings.region).client(
        service,
        endpoint_url=address or None,
        config=Config(
            connect_timeout=min(CONNECT_SECONDS, settings.timeout_seconds),
            read_timeout=settings.timeout_seconds,
            retries={"mode": "adaptive", "total_max_attempts": ATTEMPTS},
            tcp_keepalive=True,
            ignore_configured_endpoint_urls=True,
        ),
    )
    bound_responses(client, settings.timeout_seconds)
    return client


def _floor(at: datetime, seconds: int) -> datetime:
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, UTC)
