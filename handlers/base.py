"""What every answer has in common: identity of the request, address, authentication, headers, problems, records."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from types import TracebackType
from typing import Any, NoReturn

from tornado.web import HTTPError, RequestHandler

from analytics.fair_workers import BacklogFullError
from analytics.state.store import CacheDamagedError, CacheNotReadyError
from analytics.telemetry import TelemetryUnavailableError
from analytics.views import ViewTimeoutError
from config.utc_text import utc_text
from handlers import cors
from handlers.allowance import COMPUTATIONS, Exceeded
from handlers.auth.authenticator import SESSION_ENDED, Authentication, Principal, WrongKey, require_organization
from handlers.auth.credentials import Presented, find_credentials
from handlers.auth.sessions import digest as digest_of
from handlers.connections.address import client_address, is_loopback, limiter_bucket, parse_address
from handlers.connections.tls import HSTS, arrived_safely, came_over_tls
from handlers.problem import (
    ADMIN_REQUIRED,
    ANALYST_REQUIRED,
    PROBLEM_TYPE,
    Refusal,
    bad_request,
    forbidden,
    phrase,
    problem_body,
    unauthenticated,
)
from handlers.redaction import client_request_id, shown, shown_path
from handlers.request_log import log_request
from handlers.routes import Access, Route
from handlers.services import Services

log = logging.getLogger(__name__)

RETRY_SECONDS = 2
TOO_MANY_COMPUTATIONS = "Too many answers to compute"
NOT_RECORDED = "Accesses cannot be recorded at the moment"
HOST_NOT_LOCAL = (
    "The Host header names another machine. Ask for this address by number or as localhost, add the name to "
    "server.allowed_hosts, or send an administrator's key"
)
VARY = "Cookie, Authorization, X-API-Key"
EXPECTED = (  # what a request may end with that is no fault of ours
    Refusal, HTTPError, BacklogFullError, CacheNotReadyError, ViewTimeoutError, TelemetryUnavailableError,
)  # fmt: skip
FIXED_HEADERS = {
    "Server": "owkai-analytics",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class ApiHandler(RequestHandler):
    """Authenticates by its route's access rule before anything else happens, and answers every error as a problem."""

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
        services.metrics.open_requests += 1
        self._put_common_headers()

    # -- the request -----------------------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        """The address of the TCP peer."""
        return str(getattr(getattr(self.request.connection, "context", None), "remote_ip", "0.0.0.0"))

    @property
    def principal(self) -> Principal:
        """The caller; only behind an access rule that asks for a credential."""
        assert self.caller is not None  # noqa: S101 - the access rule has seen to it
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
            raise bad_request("The Host header names no host that is served here", "host_not_allowed")

    def _names_this_machine(self) -> bool:
        """Whether the Host header is no name that a page elsewhere could have pointed at this machine (DNS rebinding)."""
        name = self.request.host_name.lower()
        if self.services.settings.server.allowed_hosts:  # checked before anything else
            return True
        return name in ("localhost", socket.gethostname().lower()) or parse_address(name.strip("[]")) is not None

    # -- authentication --------------------------------------------------------------------------------------------

    async def _authorize(self) -> None:
        access = self.route.access
        if access is Access.PUBLIC:
            return
        if access is Access.LOCAL and is_loopback(self.peer) and not self._was_forwarded():
            if self._names_this_machine():
                return
            if not any(name in self.request.headers for name in ("Cookie", "Authorization", "X-Api-Key")):
                raise bad_request(HOST_NOT_LOCAL, "host_not_local")
        self.caller = await self._authenticate()
        try:
            self._count_request(self.caller.principal)
        except Refusal:
            await self.hold_back()
            raise
        if access is not Access.LOCAL:
            require_organization(self.caller.principal)
        principal = self.caller.principal
        if access is Access.ANALYST and not principal.admin and principal.role not in self._analyst_roles:
            raise forbidden(ANALYST_REQUIRED, "not_analyst")
        if access in (Access.ADMIN, Access.LOCAL) and not principal.admin:
            raise forbidden(ADMIN_REQUIRED, "not_admin")

    @property
    def _analyst_roles(self) -> tuple[str, ...]:
        return self.services.settings.auth.analyst_roles

    def _require_fit_way(self) -> None:
        """Before a credential is looked at: it came over TLS where that is asked for, and its use can be recorded."""
        if self.route.access is not Access.LOCAL and not self.services.audit.accepting:
            raise Refusal(503, NOT_RECORDED, "audit_unavailable", {"Retry-After": str(RETRY_SECONDS)})
        if self.services.settings.server.require_tls and not arrived_safely(
            self.request.protocol,
            self.peer,
            self._was_forwarded(),
            self.request.headers.get_list("X-Forwarded-Proto"),
            self.services.trusted_proxies,
        ):
            raise forbidden("Credentials are taken over TLS alone", "plain_http")

    def _was_forwarded(self) -> bool:
        return any(name in self.request.headers for name in ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via"))

    async def _authenticate(self) -> Authentication:
        """The caller; raises `Refusal` 401, 400 or 429. Failures count against the address."""
        self._require_fit_way()
        services = self.services
        try:
            presented = self._presented(services.settings.auth.cookie_names)
        except Refusal:
            await self._count_failure(limiter_bucket(self.address), services.clock().timestamp())
            raise
        return await self._verify(presented)

    def _presented(self, cookie_names: tuple[str, ...]) -> tuple[Presented, ...]:
        """The credentials of this request, as `find_credentials`."""
        headers = self.request.headers
        over_tls = came_over_tls(
            self.request.protocol, headers.get_list("X-Forwarded-Proto"), headers.get_list("Origin")
        )
        return find_credentials(headers, cookie_names, over_tls=over_tls)

    def _is_known(self, credential: Presented) -> bool:
        """Whether a credential was verified before: by this process, or, for a session, at its sign-in."""
        services = self.services
        if credential.kind == "session":
            return services.sessions.find(digest_of(credential.text), services.clock()) is not None
        return services.limiter.knows(credential.fingerprint())

    async def _verify(self, presented: tuple[Presented, ...]) -> Authentication:
        """The caller who presents these; as `_authenticate`."""
        services = self.services
        now = services.clock()
        bucket = limiter_bucket(self.address)
        if not presented:
            services.metrics.authentication_failures["missing"] += 1
            raise unauthenticated("no_credential")
        fingerprints = [credential.fingerprint() for credential in presented]
        attempt = None
        if not all(self._is_known(credential) for credential in presented):
            attempt = await services.limiter.enter(bucket, now.timestamp())
            if attempt is None:
                self._refuse_limited(bucket, now.timestamp())
        prefixes = [found for credential in presented if (found := credential.prefix_bucket()) is not None]
        if attempt is not None and self._prefix_limited(prefixes, bucket, now.timestamp()):
            attempt.end(failed=True)
            self._refuse_limited(bucket, now.timestamp())
        failed = False
        try:
            caller = await services.authenticator.authenticate(presented, now)
        except Refusal as refusal:
            # An id of 256 random bits is no guess. After a restart every open page presents one that has ended, and
            # must not lock its address out.
            failed = refusal.reason != SESSION_ENDED
            services.metrics.authentication_failures["invalid"] += 1
            for fingerprint in fingerprints:
                services.limiter.forget(fingerprint)
            if isinstance(refusal, WrongKey) and (prefix := refusal.presented.prefix_bucket()) is not None:
                services.prefix_limiter.count(prefix, now.timestamp())
            raise
        finally:
            if attempt is not None:
                attempt.end(failed=failed)
        if attempt is not None:
            for fingerprint in fingerprints:
                services.limiter.remember(fingerprint)
        return caller

    def _prefix_limited(self, prefixes: list[str], bucket: str, now: float) -> bool:
        """Too many failures with this key's prefix, and this address has part in failing: see `handlers.auth.failure_limits`."""
        services = self.services
        return services.limiter.failures(bucket, now) > 0 and any(
            services.prefix_limiter.exhausted(prefix, now) for prefix in prefixes
        )

    async def _count_failure(self, bucket: str, now: float) -> None:
        attempt = await self.services.limiter.enter(bucket, now)
        if attempt is None:
            self._refuse_limited(bucket, now)
        attempt.end(failed=True)
        self.services.metrics.authentication_failures["invalid"] += 1

    def _refuse_limited(self, bucket: str, now: float) -> NoReturn:
        self.services.metrics.authentication_failures["limited"] += 1
        wait = self.services.limiter.retry_after(bucket, now)
        raise Refusal(429, "Too many failed attempts; try again later", "address_limited", {"Retry-After": str(wait)})

    def _count_request(self, principal: Principal) -> None:
        try:
            self.rate_limit = self.services.allowances.request(principal.account, self.started)
        except Exceeded as exceeded:
            raise self._too_much(exceeded, "Too many requests") from None
        if self.rate_limit:
            self._headers["RateLimit"] = self.rate_limit
            self._headers["RateLimit-Policy"] = self.services.allowances.policy

    async def count_computation(self, cost: int) -> None:
        """Before an answer is computed for the caller; raises `Refusal` 429."""
        try:
            self.services.allowances.computation(self.principal.account, cost, self.started)
        except Exceeded as exceeded:
            await self.hold_back()
            raise self._too_much(exceeded, TOO_MANY_COMPUTATIONS) from None

    async def hold_back(self) -> None:
        """Wait before a caller is refused for asking too much: one who asks again at once gets few refusals a second."""
        await asyncio.sleep(self.services.allowances.refusal_pause(self.principal.account, time.perf_counter()))

    def _too_much(self, exceeded: Exceeded, what: str) -> Refusal:
        self.rate_limit = f'"{exceeded.name}";r=0;t={exceeded.wait_seconds}'
        wait = {"Retry-After": str(exceeded.wait_seconds)}
        return Refusal(429, f"{what}; try again in {exceeded.wait_seconds} s", f"{exceeded.name}_limited", wait)

    # -- the answer ------------------------------------------------------------------------------------------------

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
        """The value of Vary where an answer depends on these request headers."""
        return f"{names}, Origin" if self.shared else names

    def compute_etag(self) -> None:
        """No tag of the framework's: views carry their own, other answers have none."""

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
        if isinstance(error, Refusal):
            return error
        if isinstance(error, CacheDamagedError):
            return Refusal(
                503,
                "Part of the cache cannot be read; it is copied from the source again",
                "cache_damaged",
                {"Retry-After": str(RETRY_SECONDS)},
            )
        if isinstance(error, CacheNotReadyError):
            return self._not_ready()
        if isinstance(error, BacklogFullError):
            return self._too_much(Exceeded(COMPUTATIONS, error.wait_seconds), TOO_MANY_COMPUTATIONS)
        if isinstance(error, ViewTimeoutError):
            return Refusal(
                503,
                "The answer took too long to compute; try again",
                "view_timeout",
                {"Retry-After": str(RETRY_SECONDS)},
            )
        if isinstance(error, TelemetryUnavailableError):
            return Refusal(503, str(error), "telemetry_unavailable", {"Retry-After": str(error.retry_seconds)})
        if status == 405:
            return Refusal(405, "Method Not Allowed", "method", {"Allow": self.route.allow})
        if 400 <= status < 500:
            return Refusal(status, phrase(status), f"http_{status}")
        return Refusal(500, "Internal Server Error", "unexpected")

    def _not_ready(self) -> Refusal:
        progress = self.services.board.current.progress
        extra: dict[str, Any] = {}
        if progress is not None:
            extra["progress"] = {
                "percent": progress.percent,
                "rows": progress.rows_copied,
                "rows_estimated": progress.rows_estimated,
                "table": progress.table,
            }
        return Refusal(
            503,
            "The first copy of the source is not complete",
            "cache_not_ready",
            {"Retry-After": str(RETRY_SECONDS)},
            extra,
        )

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

    # -- records ---------------------------------------------------------------------------------------------------

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
        entry: dict[str, Any] = {
            "time": utc_text(self.services.clock(), milliseconds=True),
            "event": "access",
            "request_id": self.request_id,
            "method": shown(self.request.method or "", 16),
            "path": path,
            "route": self.route.name,
            "status": status,
            "outcome": self.outcome or outcome_of(status),
            "reason": self.refusal.reason if self.refusal else None,
            "address": self.address,
        }
        if self.caller is not None:
            entry |= describe(self.caller)
        if (theirs := client_request_id(self.request.headers.get("X-Request-Id"))) is not None:
            entry["client_request_id"] = theirs
        return entry


def describe(caller: Authentication) -> dict[str, Any]:
    """The members of an audit record that say who it was and by which credential."""
    return {
        "principal": shown(caller.principal.name),
        "user_id": caller.principal.user_id,
        "organization_id": caller.principal.organization_id,
        "credential": shown(caller.proof.source),
        "credential_id": caller.proof.identifier[:16],
    }


def outcome_of(status: int) -> str:
    if status < 400:
        return "success"
    return "denied" if status in (401, 403, 429) else "error"


class UnknownPath(ApiHandler):
    """Every path that no route has."""

    async def prepare(self) -> None:
        self._check_host()
        raise Refusal(404, "Not Found", "unknown_path")


UNKNOWN_ROUTE = Route("", UnknownPath, Access.PUBLIC, "other")
