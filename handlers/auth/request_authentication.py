"""Authentication of one request: which credentials it presents, how they arrived, and the failure limits around checking them."""

from __future__ import annotations

from typing import NoReturn

from tornado.httputil import HTTPServerRequest

from handlers.auth.authenticator import SESSION_ENDED, Authentication, Principal, WrongKey, require_organization
from handlers.auth.credentials import Presented, find_credentials
from handlers.auth.sessions import digest as digest_of
from handlers.connections.address import limiter_bucket
from handlers.connections.tls import arrived_safely, came_over_tls
from handlers.problem import ADMIN_REQUIRED, ANALYST_REQUIRED, RETRY_SECONDS, Refusal, forbidden, unauthenticated
from handlers.routes import Access
from handlers.services import Services

NOT_RECORDED = "Accesses cannot be recorded at the moment"


def may_analyze(principal: Principal, analyst_roles: tuple[str, ...]) -> bool:
    """Whether the caller may use routes of `Access.ANALYST`: an administrator, or a role of `auth.analyst_roles`."""
    return principal.admin or principal.role in analyst_roles


def require_access(principal: Principal, access: Access | None, analyst_roles: tuple[str, ...]) -> None:
    """Raises `Refusal` 403 where an authenticated caller may not use a route with this access rule."""
    if access is not Access.LOCAL:
        require_organization(principal)
    if access is Access.ANALYST and not may_analyze(principal, analyst_roles):
        raise forbidden(ANALYST_REQUIRED, "not_analyst")
    if access in (Access.ADMIN, Access.LOCAL) and not principal.admin:
        raise forbidden(ADMIN_REQUIRED, "not_admin")


class RequestAuthentication:
    """Authenticates one request. `peer` is the address of the TCP peer, `address` that of the client behind trusted proxies.

    `is_recorded`: the request is refused while its access cannot be recorded.
    """

    __slots__ = ("_address", "_is_recorded", "_peer", "_request", "_services")

    def __init__(
        self, services: Services, request: HTTPServerRequest, peer: str, address: str, *, is_recorded: bool
    ) -> None:
        self._services = services
        self._request = request
        self._peer = peer
        self._address = address
        self._is_recorded = is_recorded

    def require_safe_arrival(self) -> None:
        """Before a credential is read: it came over TLS where the settings ask for that, and its use can be recorded.

        Raises `Refusal` 403 or 503.
        """
        if self._is_recorded and not self._services.audit.accepting:
            raise Refusal(503, NOT_RECORDED, "audit_unavailable", {"Retry-After": str(RETRY_SECONDS)})
        if self._services.settings.server.require_tls and not arrived_safely(
            self._request.protocol,
            self._peer,
            self.was_forwarded,
            self._request.headers.get_list("X-Forwarded-Proto"),
            self._services.trusted_proxies,
        ):
            raise forbidden("Credentials are accepted over TLS only", "plain_http")

    @property
    def was_forwarded(self) -> bool:
        """Whether the request has headers of a proxy."""
        return any(name in self._request.headers for name in ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via"))

    async def authenticate(self) -> Authentication:
        """The caller; raises `Refusal` 401, 400, 403, 429 or 503. Failures count against the address."""
        self.require_safe_arrival()
        services = self._services
        try:
            presented = self.find_presented(services.settings.auth.cookie_names)
        except Refusal:
            await self._count_failure(limiter_bucket(self._address), services.clock().timestamp())
            raise
        return await self.verify(presented)

    def find_presented(self, cookie_names: tuple[str, ...]) -> tuple[Presented, ...]:
        """The credentials of this request, as `find_credentials` returns them."""
        headers = self._request.headers
        over_tls = came_over_tls(
            self._request.protocol, headers.get_list("X-Forwarded-Proto"), headers.get_list("Origin")
        )
        return find_credentials(headers, cookie_names, over_tls=over_tls)

    def is_known(self, credential: Presented) -> bool:
        """Whether a credential was verified before: by this process, or, for a session, at its sign-in."""
        services = self._services
        if credential.kind == "session":
            return services.sessions.find(digest_of(credential.text), services.clock()) is not None
        return services.limiter.knows(credential.fingerprint())

    async def verify(self, presented: tuple[Presented, ...]) -> Authentication:
        """The caller who presents these; raises as `authenticate` does."""
        services = self._services
        now = services.clock()
        bucket = limiter_bucket(self._address)
        if not presented:
            services.metrics.credential_missing.inc()
            raise unauthenticated("no_credential")
        fingerprints = [credential.fingerprint() for credential in presented]
        attempt = None
        if not all(self.is_known(credential) for credential in presented):
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
            # Nobody guesses an id of 256 random bits. After a restart every open page presents a session that has ended,
            # which must not lock out its address.
            failed = refusal.reason != SESSION_ENDED
            services.metrics.credential_invalid.inc()
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
        """Whether a prefix has too many failures and this address has at least one of its own (`handlers.auth.failure_limits`)."""
        services = self._services
        return services.limiter.failures(bucket, now) > 0 and any(
            services.prefix_limiter.exhausted(prefix, now) for prefix in prefixes
        )

    async def _count_failure(self, bucket: str, now: float) -> None:
        attempt = await self._services.limiter.enter(bucket, now)
        if attempt is None:
            self._refuse_limited(bucket, now)
        attempt.end(failed=True)
        self._services.metrics.credential_invalid.inc()

    def _refuse_limited(self, bucket: str, now: float) -> NoReturn:
        self._services.metrics.credential_limited.inc()
        wait = self._services.limiter.retry_after(bucket, now)
        raise Refusal(429, "Too many failed attempts; try again later", "address_limited", {"Retry-After": str(wait)})
