"""CloudWatch for tests: moto's real HTTP server with a Logs Insights that really evaluates queries, and a server that misbehaves."""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import moto.logs.models
import pytest
from moto.server import ThreadedMotoServer

REGION, CLUSTER, SERVICE, LOG_GROUP = "us-east-2", "platform-cluster", "platform-api", "/ecs/platform-api"
BALANCER = "app/platform/50dc6c495c0c9188"
ACCESS_KEY, SECRET_KEY = "AKIATESTACCESSKEY000", "test/secret/key/Zm9vYmFyYmF6cXV4"
SERVICE_DIMENSIONS = {"ClusterName": CLUSTER, "ServiceName": SERVICE}


class Aws:
    """Moto on one port for all its lives. `put`, `log` write as the platform's account would."""

    def __init__(self) -> None:
        self._port = 0
        self._server: Any = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def reset(self) -> None:
        """A fresh account."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("POST", "/moto-api/reset")
            assert connection.getresponse().status == 200
        finally:
            connection.close()

    def kill(self) -> None:
        """Nobody listens any more. What was put stays, as it does in the real one."""
        if self._server is not None:
            self._server.stop()
            self._server._server.server_close()
            self._server = None

    def client(self, service: str) -> Any:
        return boto3.client(
            service, region_name=REGION, endpoint_url=self.url, aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )  # fmt: skip

    def put(
        self,
        name: str,
        value: float,
        at: datetime,
        namespace: str = "AWS/ECS",
        dimensions: dict[str, str] = SERVICE_DIMENSIONS,
    ) -> None:
        self.client("cloudwatch").put_metric_data(
            Namespace=namespace,
            MetricData=[
                {
                    "MetricName": name,
                    "Dimensions": [{"Name": key, "Value": text} for key, text in dimensions.items()],
                    "Timestamp": at,
                    "Value": value,
                }
            ],
        )

    def log(self, *lines: str) -> None:
        logs = self.client("logs")
        stream = f"task-{time.monotonic_ns()}"
        if not logs.describe_log_groups(logGroupNamePrefix=LOG_GROUP)["logGroups"]:
            logs.create_log_group(logGroupName=LOG_GROUP)
        logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
        now = int(time.time() * 1000)
        logs.put_log_events(
            logGroupName=LOG_GROUP,
            logStreamName=stream,
            logEvents=[{"timestamp": now, "message": line} for line in lines],
        )


@contextmanager
def moto_aws() -> Iterator[Aws]:
    """An account. Moto keeps lines of logs, but evaluates neither parse nor stats, so that we do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moto.logs.models, "execute_query", evaluate)
        aws = Aws()
        aws.reset()  # moto keeps one account a process: what another test put must not be averaged in
        try:
            yield aws
        finally:
            aws.kill()


def evaluate(log_groups: list[Any], query: str, start_time: int, end_time: int) -> list[dict[str, Any]]:
    """The commands of Logs Insights that count: fields, parse, filter ispresent, stats with count, avg and pct."""
    records: list[dict[str, str]] = [
        {"@message": event.message}
        for group in log_groups
        for stream in group.streams.values()
        for event in stream.events
        if start_time * 1000 <= event.timestamp <= end_time * 1000 + 999
    ]
    for command in query.split("\n| "):
        verb, _, rest = command.partition(" ")
        if verb == "parse":
            field, _, pattern = rest.partition(" ")
            assert pattern.startswith("/")
            assert pattern.endswith("/")
            inner = pattern[1:-1]
            assert not re.search(r"(?<!\\)/", inner), "an unescaped slash ends the expression"
            for name in re.findall(r"\(\?<(\w+)>", inner):
                assert re.fullmatch("[A-Za-z][A-Za-z0-9]*", name), "a group name there has letters and digits alone"
            compiled = re.compile(inner.replace(r"\/", "/").replace("(?<", "(?P<"))
            for record in records:
                found = compiled.search(record.get(field, ""))
                record.update(found.groupdict() if found else {})
        elif verb == "filter":
            name = rest.removeprefix("ispresent(").removesuffix(")")
            records = [record for record in records if name in record]
        elif verb == "fields":
            found = re.fullmatch(r"(?:coalesce\((.*)\)|(\S+)) as (\w+)", rest)
            names = (found[1] or found[2]).split(", ") if found else []
            for record in records if found else []:
                value = next((record[name] for name in names if name in record), None)
                record.update({found[3]: value} if found and value is not None else {})
        else:
            assert verb == "stats", command
            return [statistics(rest, records)] if records else []
    return records


def statistics(rest: str, records: list[dict[str, str]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for function, field, share, name in re.findall(r"(\w+)\(([\w*]+)(?:, (\d+))?\) as (\w+)", rest):
        values = sorted(float(record[field]) for record in records if field in record) if field != "*" else []
        if function == "count":
            row[name] = len(records) if field == "*" else len(values)
        elif values:
            row[name] = (
                sum(values) / len(values) if function == "avg" else values[-(-len(values) * int(share) // 100) - 1]
            )
    return row


Answer = Callable[[str, dict[str, Any]], tuple[int, bytes]]


class Quiet(ThreadingHTTPServer):
    """Callers that go away are what these tests are about."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class BadAws:
    """A server that answers each operation as `answer` says: (operation, request) → status, body. `clock` is its Date header."""

    def __init__(self, answer: Answer, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.calls: list[str] = []
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
                outer.calls.append(operation)
                status, body = answer(operation, json.loads(request or b"{}"))
                try:
                    self.send_response_only(status)
                    self.send_header("Date", clock().strftime("%a, %d %b %Y %H:%M:%S GMT"))
                    self.send_header("Content-Type", "application/x-amz-json-1.1")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True  # the caller did not wait

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def __enter__(self) -> BadAws:
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def refusing(code: str, status: int = 400) -> Answer:
    return lambda operation, request: (status, json.dumps({"__type": code, "message": f"no: {ACCESS_KEY}"}).encode())


def metric_answer(cpu: list[tuple[datetime, float]], memory: list[tuple[datetime, float]] = ()) -> bytes:  # type: ignore[assignment]
    """A GetMetricData answer."""
    results = [
        {
            "Id": name,
            "Label": name,
            "StatusCode": "Complete",
            "Timestamps": [at.timestamp() for at, _ in points],
            "Values": [value for _, value in points],
        }
        for name, points in (("cpu", cpu), ("memory", list(memory)))
    ]
    return json.dumps({"MetricDataResults": results, "Messages": []}).encode()


def minute(now: datetime, back: int = 0) -> datetime:
    """The beginning of the minute `back` minutes before the one of `now`."""
    return now.replace(second=0, microsecond=0) - timedelta(minutes=back)
