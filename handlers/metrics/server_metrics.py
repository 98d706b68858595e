"""The metrics of our own requests and connections, in a registry of their own. Label values come from fixed sets, never from input.

What the server itself reads or counts for every message is a plain number, which the registry reads at scrape time.
"""

from __future__ import annotations

import math
import platform
from collections import Counter as Tally
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from analytics.state.telemetry_board import RequestTotals
from handlers.metrics.definitions import MetricDefinition, counter, gauge, histogram

BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "DELETE"})
API = "/api/"  # routes of clients; the operator's own are not part of what clients wait for

ROUTE = ("route", "the path as documented; `other` for a path that no route has")
REQUESTS = counter(
    "owkai_http_requests_total",
    "Responses sent.",
    ROUTE,
    ("method", f"{', '.join(sorted(METHODS))}, other"),
    ("status", "2xx, 3xx, 4xx, 5xx; 1xx for an opened live connection"),
)
DURATIONS = histogram("owkai_http_request_seconds", "Time from the request's headers to its response.", ROUTE)
AUTHENTICATION_FAILURES = counter(
    "owkai_authentication_failures_total",
    "Requests refused because of their credential.",
    (
        "kind",
        "missing (none was sent), invalid (it does not hold), limited (too many failures before it, so it was not checked)",
    ),
)
BUILD = gauge(
    "owkai_build_info",
    "1; the labels identify the build.",
    ("version", "of this server"),
    ("commit", "of the source it was built from; empty where it was not packed"),
    ("python", "version of Python"),
)
SERVER_METRICS: tuple[MetricDefinition, ...] = (BUILD, REQUESTS, DURATIONS, AUTHENTICATION_FAILURES)

# A second series with the start time of each counter; process_start_time_seconds has it once.
disable_created_metrics()  # type: ignore[no-untyped-call]


class ServerMetrics:
    """Counts requests by route, method and status class, and their durations by route. Belongs to the event loop.

    `build` holds the values of the labels of owkai_build_info; a missing one is empty.
    """

    def __init__(self, build: Mapping[str, str] | None = None) -> None:
        self.registry = CollectorRegistry()
        self.open_requests = 0
        self.open_connections = 0
        self.websockets_dropped_slow = 0
        self.websockets_silent = 0
        self.websocket_messages = 0
        self.websocket_pushes = 0
        self._requests = Counter(REQUESTS.name, REQUESTS.meaning, REQUESTS.label_names, registry=self.registry)
        self._durations = Histogram(
            DURATIONS.name, DURATIONS.meaning, DURATIONS.label_names, registry=self.registry, buckets=BUCKETS_SECONDS
        )
        failures = Counter(
            AUTHENTICATION_FAILURES.name,
            AUTHENTICATION_FAILURES.meaning,
            AUTHENTICATION_FAILURES.label_names,
            registry=self.registry,
        )
        self.credential_missing = failures.labels("missing")
        self.credential_invalid = failures.labels("invalid")
        self.credential_limited = failures.labels("limited")
        # A child is looked up by its labels once; after that a request costs one look-up in a plain dictionary.
        self._request_counters: dict[tuple[str, str, int], Counter] = {}
        self._duration_histograms: dict[str, Histogram] = {}
        labels = {"version": "", "commit": "", "python": platform.python_version(), **(build or {})}
        Gauge(BUILD.name, BUILD.meaning, BUILD.label_names, registry=self.registry).labels(
            **{name: labels[name] for name in BUILD.label_names}
        ).set(1)
        ProcessCollector(registry=self.registry)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one response and its duration."""
        key = (route, method if method in METHODS else "other", status // 100)
        counted = self._request_counters.get(key)
        if counted is None:
            counted = self._request_counters[key] = self._requests.labels(route, key[1], f"{key[2]}xx")
        counted.inc()
        timed = self._duration_histograms.get(route)
        if timed is None:
            timed = self._duration_histograms[route] = self._durations.labels(route)
        timed.observe(seconds)

    def totals(self) -> RequestTotals:
        """All requests of the API so far. Thread-safe; a request that ends meanwhile may be in one number and not in another."""
        errors, seconds = 0.0, 0.0
        up_to: Tally[float] = Tally()  # requests that took no longer than a bound
        for sample in (sample for family in self._requests.collect() for sample in family.samples):
            if sample.labels["route"].startswith(API) and sample.labels["status"] == "5xx":
                errors += sample.value
        for sample in (sample for family in self._durations.collect() for sample in family.samples):
            if not sample.labels["route"].startswith(API):
                continue
            if sample.name.endswith("_bucket"):
                up_to[float(sample.labels["le"])] += int(sample.value)
            elif sample.name.endswith("_sum"):
                seconds += sample.value
        cumulative = [up_to[bound] for bound in (*BUCKETS_SECONDS, math.inf)]
        buckets = tuple(count - before for count, before in zip(cumulative, [0, *cumulative[:-1]], strict=True))
        return RequestTotals(cumulative[-1], int(errors), seconds, BUCKETS_SECONDS, buckets)
