"""What all handlers share: the request's id, its caller, limits, headers, problem documents, log and audit record."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from types import TracebackType
from typing import Any

from tornado.web import HTTPError, RequestHandler

from analytics.fair_workers import BacklogFullError
from analytics.state.store import CacheNotReadyError
from analytics.telemetry import TelemetryUnavailableError
from analytics.views import ViewTimeoutError
from handlers import cors
from handlers.allowance import COMPUTATIONS, Exceeded
from handlers.audit.access_record import access_record
from handlers.auth.authenticator import Authentication, Principal, require_organization
from handlers.auth.request_authentication import RequestAuthentication, require_access
from handlers.connections.address import client_address, is_loopback, names_this_machine
from handlers.connections.fixed_headers import FIXED_HEADERS
from handlers.connections.tls import HSTS
from handlers.problem import PROBLEM_TYPE, Refusal, bad_request, phrase, problem_body, refusal_for
from handlers.redaction import client_request_id, shown_path
from handlers.request_log import log_request
from handlers.routes import Access, Route
from handlers.services import Services

log = logging.getLogger(__name__)

TOO_MANY_COMPUTATIONS = "Too many answers to compute"
HOST_NOT_LOCAL = (
    "The Host header names another machine. Ask for this address by number or as localhost, add the name to "
    "server.allowed_hosts, or send an administrator's key"
)
VARY = "Cookie, Authorization, X-API-Key"
EXPECTED = (  # errors that are no fault of the server's code
    Refusal, HTTPError, BacklogFullError, CacheNotReadyError, ViewTimeoutError, TelemetryUnavailableError,
)  # fmt: skip


class ApiHandler(RequestHandler):
    """Applies the access rule of its route before anything else, and answers every error with a problem document."""

    SUPPORTED_METHODS = ("GET", "HEAD", "OPTIONS")

    services: Services
    route: Route

    def initialize(self, services: Services, route: Route) -> None:
        self.services = services
        self.route = route
        self.started = time.perf_counter()
        self.refusal: Refusal | None = None
        self.caller: Authentication | None = None
        self.outcome = ""
        self.rate_limit = ""
        self.shared = bool(services.settings.server.cors_origins) and cors.is_shared(route.pattern, route.methods)
        origins = self.request.headers.get_list("Origin") if self.shared else ()
        self.cors = cors.granted(origins, services.settings.server)
        self.address = client_address(
            self.peer, self.request.headers.get_list("X-Forwarded-For"), services.trusted_proxies
        )
        self.authentication = RequestAuthentication(
            services, self.request, self.peer, self.address, is_recorded=route.access is not Access.LOCAL
        )
        services.metrics.open_requests += 1
        self._put_common_headers()

    # -- the request -----------------------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        """The address of the TCP peer."""
        return str(getattr(getattr(self.request.connection, "context", None), "remote_ip", "0.0.0.0"))

    @property
    def principal(self) -> Principal:
        """The caller, where the access rule needs a credential."""
        assert self.caller is not None  # noqa: S101 - the access rule guarantees it
        return self.caller.principal

    @property
    def organization_id(self) -> int:
        return require_organization(self.principal)

    async def prepare(self) -> None:
        self._check_host()
        if self.request.method == "OPTIONS":
            return
        if self.request.method not in self.route.methods:
            raise HTTPError(405)
        if "Content-Encoding" in self.request.headers:
            raise Refusal(415, "Request bodies are not read here", "content_encoding")
        await self._authorize()

    def options(self, *args: str) -> None:
        self.set_status(204)
        self.set_header("Allow", self.route.allow)
        self.clear_header("Content-Type")
        if self.cors and "Access-Control-Request-Method" in self.request.headers:
            for name, value in cors.preflight(self.route.methods).items():
                self.set_header(name, value)
        if self.shared:
            self.set_header("Vary", "Origin")

    def _check_host(self) -> None:
        allowed = self.services.settings.server.allowed_hosts
        if allowed and self.request.host_name.lower() not in allowed:
            raise bad_request("The Host header names a host that this server does not serve", "host_not_allowed")

    # -- authentication --------------------------------------------------------------------------------------------

    async def _authorize(self) -> None:
        access = self.route.access
        if access is Access.PUBLIC:
            return
        if access is Access.LOCAL and is_loopback(self.peer) and not self.authentication.was_forwarded:
            if self.services.settings.server.allowed_hosts or names_this_machine(self.request.host_name):
                return
            if not any(name in self.request.headers for name in ("Cookie", "Authorization", "X-Api-Key")):
                raise bad_request(HOST_NOT_LOCAL, "host_not_local")
        self.caller = await self.authentication.authenticate()
        try:
            self.count_request(self.caller.principal)
        except Refusal:
            await self.hold_back()
            raise
        require_access(self.caller.principal, access, self.services.settings.auth.analyst_roles)

    def count_request(self, principal: Principal) -> None:
        try:
            self.rate_limit = self.services.allowances.request(principal.account, self.started)
        except Exceeded as exceeded:
            raise self._too_much(exceeded, "Too many requests") from None
        if self.rate_limit:
            self._headers["RateLimit"] = self.rate_limit
            self._headers["RateLimit-Policy"] = self.services.allowances.policy

    async def count_computation(self, cost: int) -> None:
        """Count a response that has to be computed for the caller. Raises `Refusal` 429."""
        try:
            self.services.allowances.computation(self.principal.account, cost, self.started)
        except Exceeded as exceeded:
            await self.hold_back()
            raise self._too_much(exceeded, TOO_MANY_COMPUTATIONS) from None

    async def hold_back(self) -> None:
        """Wait before refusing a caller who exceeded a limit, so that a client in a tight loop gets few refusals a second."""
        await asyncio.sleep(self.services.allowances.refusal_pause(self.principal.account, time.perf_counter()))

    def _too_much(self, exceeded: Exceeded, what: str) -> Refusal:
        self.rate_limit = f'"{exceeded.name}";r=0;t={exceeded.wait_seconds}'
        wait = {"Retry-After": str(exceeded.wait_seconds)}
        return Refusal(429, f"{what}; try again in {exceeded.wait_seconds} s", f"{exceeded.name}_limited", wait)

    # -- the response -----------------------------------------------------------------------------------------------

    def set_default_headers(self) -> None:
        if hasattr(self, "services"):
            self._put_common_headers()

    def _put_common_headers(self) -> None:
        for name, value in FIXED_HEADERS.items():
            self._headers[name] = value
        if not hasattr(self, "request_id"):
            self.request_id = os.urandom(8).hex()
        self._headers["X-Request-Id"] = self.request_id
        if self.services.settings.server.tls_certificate_file is not None:
            self._headers["Strict-Transport-Security"] = HSTS
        if self.services.settings.mock_data:
            self._headers["X-OWKAI-Mock-Data"] = "true"
        if self.rate_limit and self.services.allowances.policy:
            self._headers["RateLimit"] = self.rate_limit
            self._headers["RateLimit-Policy"] = self.services.allowances.policy
        for name, value in self.cors.items():
            self._headers[name] = value

    def vary(self, names: str) -> str:
        """The value of Vary for a response that depends on these request headers."""
        return f"{names}, Origin" if self.shared else names

    def compute_etag(self) -> None:
        """Switches off the framework's tag: views have their own, other responses have none."""

    def send_problem(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.clear()
        self.set_status(refusal.status, phrase(refusal.status))
        for name, value in refusal.headers.items():
            self.set_header(name, value)
        self.set_header("Content-Type", PROBLEM_TYPE)
        self.set_header("Vary", self.vary(VARY))
        extra = dict(refusal.extra)
        if self.services.settings.mock_data:
            extra["mock_data"] = True
        self.finish(problem_body(refusal.status, refusal.detail, self.request_id, extra))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        self.send_problem(self._as_refusal(status_code, error))

    def _as_refusal(self, status: int, error: BaseException | None) -> Refusal:
        if isinstance(error, BacklogFullError):
            return self._too_much(Exceeded(COMPUTATIONS, error.wait_seconds), TOO_MANY_COMPUTATIONS)
        return refusal_for(status, error, self.route.allow, self.services.board.current.progress)

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        if isinstance(value, EXPECTED):
            return
        log.error(
            "%s failed; request %s",
            self.route.name,
            self.request_id,
            exc_info=(typ, value, tb) if typ is not None and value is not None else None,
            extra={"request_id": self.request_id},
        )

    def on_finish(self) -> None:
        services = self.services
        services.metrics.open_requests -= 1
        seconds = time.perf_counter() - self.started
        status = self.get_status()
        services.metrics.count(self.route.name, self.request.method or "", status, seconds)
        path = shown_path(self.request.path)
        reason = self.refusal.reason if self.refusal else None
        log_request(self.request.method or "", path, status, seconds * 1000, self.request_id, reason)
        if services.settings.audit.enabled:
            services.audit.record(self.audit_entry(path, status))

    def audit_entry(self, path: str, status: int) -> dict[str, Any]:
        """The record of this access: no query, no header value, no credential."""
        return access_record(
            time=self.services.clock(),
            request_id=self.request_id,
            method=self.request.method or "",
            path=path,
            route=self.route.name,
            status=status,
            outcome=self.outcome,
            reason=self.refusal.reason if self.refusal else None,
            address=self.address,
            caller=self.caller,
            client_request_id=client_request_id(self.request.headers.get("X-Request-Id")),
        )
