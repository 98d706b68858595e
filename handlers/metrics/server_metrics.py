"""Counters of our own requests and the Prometheus text of /metrics. Label values come from fixed sets, never from input."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

from analytics.state.telemetry_board import RequestTotals

BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "DELETE"})
API = "/api/"  # routes of clients; the operator's own are not part of what clients wait for
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """Requests by route, method and status class, and their durations by route. Belongs to the event loop."""

    def __init__(self) -> None:
        self.open_requests = 0
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._durations: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()
        self.authentication_failures: Counter[str] = Counter()
        self.websockets_dropped_slow = 0
        self.websockets_silent = 0
        self.websocket_messages = 0
        self.websocket_pushes = 0
        self.open_connections = 0

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests[route, method if method in METHODS else "other", f"{status // 100}xx"] += 1
        buckets = self._durations.get(route)
        if buckets is None:
            buckets = self._durations[route] = [0] * (len(BUCKETS_SECONDS) + 1)
        buckets[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]

    def totals(self) -> RequestTotals:
        """All requests of the API so far. May be called from another thread: the copies of the tables are atomic, so that
        at the most a request under way is in one number and not yet in another."""
        durations = [buckets[:] for route, buckets in list(self._durations.items()) if route.startswith(API)]
        seconds = sum(value for route, value in list(self._seconds.items()) if route.startswith(API))
        errors = sum(
            value
            for (route, _, status), value in list(self._requests.items())
            if status == "5xx" and route.startswith(API)
        )
        buckets = tuple(map(sum, zip(*durations, strict=True))) or (0,) * (len(BUCKETS_SECONDS) + 1)
        return RequestTotals(sum(buckets), errors, seconds, BUCKETS_SECONDS, buckets)

    def lines(self) -> Iterator[str]:
        """The request metrics as Prometheus text lines."""
        yield from family("owkai_http_requests_total", "counter", "Requests answered.")
        for (route, method, status), value in sorted(self._requests.items()):
            yield f'owkai_http_requests_total{{route="{route}",method="{method}",status="{status}"}} {value}'
        yield from family("owkai_http_request_seconds", "histogram", "Time from the request's headers to its answer.")
        for route, buckets in sorted(self._durations.items()):
            total = 0
            for bound, count in zip((*BUCKETS_SECONDS, "+Inf"), buckets, strict=True):
                total += count
                yield f'owkai_http_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}'
            yield f'owkai_http_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}'
            yield f'owkai_http_request_seconds_count{{route="{route}"}} {total}'
        yield from single(
            "owkai_http_connections",
            "gauge",
            "Open connections that speak HTTP; half-open handshakes among them, live clients not.",
            self.open_connections,
        )
        yield from single("owkai_http_open_requests", "gauge", "Requests not yet answered.", self.open_requests)
        yield from family("owkai_authentication_failures_total", "counter", "Requests refused for their credential.")
        for kind in ("invalid", "missing", "limited"):
            value = self.authentication_failures[kind]
            yield f'owkai_authentication_failures_total{{kind="{kind}"}} {value}'
        yield from single(
            "owkai_websocket_messages_total", "counter", "Messages written to live clients.", self.websocket_messages
        )
        yield from single(
            "owkai_websocket_pushes_total",
            "counter",
            "Updates sent before their time because a number had changed.",
            self.websocket_pushes,
        )
        yield from single(
            "owkai_websocket_dropped_slow_total",
            "counter",
            "Live clients closed because they did not read.",
            self.websockets_dropped_slow,
        )
        yield from single(
            "owkai_websocket_silent_total",
            "counter",
            "Live clients cut because they answered no ping.",
            self.websockets_silent,
        )


def family(name: str, kind: str, explanation: str) -> Iterable[str]:
    return f"# HELP {name} {explanation}", f"# TYPE {name} {kind}"


def single(name: str, kind: str, explanation: str, value: float | None) -> Iterator[str]:
    """A metric without labels; None leaves it out, because an unknown number is not zero."""
    if value is not None:
        yield from family(name, kind, explanation)
        yield f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
