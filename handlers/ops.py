"""For operators and orchestrators: alive, ready, metrics. None of them names an organization, a person, a host or a secret."""

from __future__ import annotations

import json

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from handlers.base import ApiHandler
from handlers.parameters import read_options
from handlers.readiness import readiness


class Health(ApiHandler):
    """/healthz: the process answers."""

    def get(self) -> None:
        read_options(self.request.query_arguments, (), self.services.zones)
        self.set_header("Content-Type", "application/json")
        self.finish(b'{"status": "alive"}')

    def head(self) -> None:
        self.get()


class Readiness(ApiHandler):
    """/readyz: 200 when data is served, 503 before the initial copy is complete and while draining. Stale data is served and marked."""

    def get(self) -> None:
        read_options(self.request.query_arguments, (), self.services.zones)
        body = readiness(self.services)
        if not body["ready"]:
            self.set_status(503)
            self.set_header("Retry-After", "2")
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(body).encode())

    def head(self) -> None:
        self.get()


class Metrics(ApiHandler):
    """/metrics, in the Prometheus text format."""

    def get(self) -> None:
        read_options(self.request.query_arguments, (), self.services.zones)
        self.set_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.finish(generate_latest(self.services.metrics.registry))

    def head(self) -> None:
        self.get()
