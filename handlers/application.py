"""The application and the server around it: every route with its access rule, in one table, checked at start-up."""

from __future__ import annotations

import asyncio
import logging

from tornado.ioloop import PeriodicCallback
from tornado.netutil import bind_sockets
from tornado.web import Application

from config.settings import ServerSettings, Settings
from config.watched_files import SECONDS_BETWEEN_LOOKS, WatchedFiles
from handlers import acknowledgements as acknowledging
from handlers.auth import signin
from handlers.connections.connection_limits import MAX_BODY_BYTES, BoundedServer, RequestGuard
from handlers.connections.fixed_headers import FIXED_HEADERS
from handlers.connections.overlong_headers import overlong_answer
from handlers.connections.tls import HSTS, CertificateError, ServerCertificate, identity_files, load_identity
from handlers.contract.reference import contract_files, contract_routes
from handlers.dashboard import page
from handlers.live.broadcaster import Broadcaster
from handlers.live.websocket import LiveHandler
from handlers.metrics.status_collector import StatusCollector
from handlers.ops import Health, Metrics, Readiness
from handlers.parameters import DAYS, DEBUG_LIMIT, DECIMAL, FORMAT, LIMIT, REPORT_DAYS, TABLE, ZONE, Parameter
from handlers.request_log import filter_framework_loggers
from handlers.rest import UNKNOWN_ROUTE, HiddenHandler, UnknownPath, ViewHandler
from handlers.routes import Access, Route, url_specs
from handlers.services import Services

log = logging.getLogger(__name__)

API = "/api/analytics"
MAX_HEADER_BYTES = 16 * 1024
MAX_BUFFER_BYTES = 256 * 1024


def api_routes(settings: Settings, broadcaster: Broadcaster | None = None) -> list[Route]:
    """All routes. The order does not matter: no two patterns match one path. A table without a broadcaster is only read."""

    def view(path: str, name: str, *parameters: Parameter, access: Access = Access.ORGANIZATION) -> Route:
        options = {"view": name, "parameters": parameters}
        return Route(f"{API}{path}", ViewHandler, access, f"{API}{path}", options=options)

    debug = view("/debug", "debug", DEBUG_LIMIT)
    if not settings.server.debug_endpoint:
        debug = Route(debug.pattern, HiddenHandler, Access.ORGANIZATION, debug.name)
    return [
        view("/trends", "trends", DAYS, ZONE, LIMIT),
        view("/realtime/metrics", "realtime"),
        view("/predictive/trends", "predictive"),
        Route(
            acknowledging.PATTERN,
            acknowledging.AcknowledgementHandler,
            Access.ANALYST,
            acknowledging.NAME,
            methods=acknowledging.METHODS,
        ),
        view("/performance", "performance"),
        view("/performance/system", "performance"),
        debug,
        view("/executive/dashboard", "executive", REPORT_DAYS, ZONE, FORMAT, TABLE, DECIMAL, access=Access.ADMIN),
        Route(
            f"{API}/ws/realtime/([^/]+)",
            LiveHandler,
            Access.ORGANIZATION,
            f"{API}/ws/realtime",
            methods=("GET",),
            options={"broadcaster": broadcaster},
        ),
        *contract_routes(settings.server.reference),
        *page_routes(),
        Route(signin.PATH, signin.SessionHandler, Access.PUBLIC, signin.PATH, methods=signin.METHODS),
        Route("/healthz", Health, Access.PUBLIC, "/healthz"),
        Route("/readyz", Readiness, Access.PUBLIC, "/readyz"),
        Route("/metrics", Metrics, Access.LOCAL, "/metrics"),
    ]


def page_routes() -> list[Route]:
    """The pages and what they load; public, because they hold no data."""
    files = page.read_files()
    options = {"files": files}
    assets = page.pattern(path for path in files if path not in page.PAGES)
    return [
        *(Route(path, page.PageHandler, Access.PUBLIC, path, options=options) for path in page.PAGES),
        Route(assets, page.PageHandler, Access.PUBLIC, page.ASSETS, options=options),
    ]


def make_application(services: Services) -> Application:
    """The Tornado application; its setting `broadcaster` is the `Broadcaster` that `ApiServer` starts."""
    filter_framework_loggers()
    broadcaster = Broadcaster(services)
    services.metrics.registry.register(StatusCollector(services, broadcaster))
    if services.settings.server.reference:
        contract_files()
    return Application(
        url_specs(api_routes(services.settings, broadcaster), services),
        default_handler_class=UnknownPath,
        default_handler_args={"services": services, "route": UNKNOWN_ROUTE},
        log_function=lambda handler: None,  # ApiHandler.on_finish writes our own line
        broadcaster=broadcaster,
        websocket_max_message_size=4096,
        autoescape=None,
    )


class ApiServer:
    """Serves the services' application. `start` and `drain` belong to one running event loop.

    `connections` bounds those held at once where the process can have fewer than `server.max_connections`.
    Raises `CertificateError` on construction, where certificate or key cannot be used.
    """

    def __init__(self, services: Services, connections: int | None = None) -> None:
        application = make_application(services)
        self._services = services
        self.broadcaster: Broadcaster = application.settings["broadcaster"]
        self._drained = False
        settings = services.settings.server
        self._tls = settings  # in force, SIGHUP may bring others
        self._certificate_files = WatchedFiles(lambda: identity_files(self._tls))
        self._certificate_watch = PeriodicCallback(self._look_at_certificate, SECONDS_BETWEEN_LOOKS * 1000)
        with self._certificate_files.reading():
            self.identity = load_identity(settings, services.clock())
        for warning in self.identity.warnings if self.identity else ():
            log.warning("%s", warning)
        headers = {} if self.identity is None else {"Strict-Transport-Security": HSTS}
        self.http = BoundedServer(
            RequestGuard(application, headers),
            ssl_options=None if self.identity is None else self.identity.context,
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=MAX_BODY_BYTES,
            max_buffer_size=MAX_BUFFER_BYTES,
            idle_connection_timeout=settings.idle_timeout_seconds,
            body_timeout=settings.idle_timeout_seconds,
        )
        self.http.bound = settings.max_connections if connections is None else connections
        self.http.live = lambda: self.broadcaster.total
        self.http.metrics = services.metrics
        self.http.overlong = overlong_answer({**FIXED_HEADERS, **headers})

    def start(self) -> int:
        """Listen; returns the bound port. Raises OSError when the address is taken or not ours."""
        settings = self._services.settings.server
        sockets = bind_sockets(settings.port, settings.host, reuse_port=False)
        self.http.add_sockets(sockets)
        self.broadcaster.start()
        if self.identity is not None:
            self._certificate_watch.start()
        port: int = sockets[0].getsockname()[1]
        self._services.origins.bound(port)
        return port

    def reload_identity(self, settings: ServerSettings) -> bool:
        """Serve new connections with the certificate as it is on disk; whether there is one. Open ones live on.

        Raises `CertificateError`, and the certificate in force stays, where the new one cannot be used.
        """
        if self.identity is None:
            return False
        for warning in self._load_identity(settings).warnings:
            log.warning("%s", warning)
        return True

    def _load_identity(self, settings: ServerSettings) -> ServerCertificate:
        before, self._tls = self._tls, settings
        try:
            with self._certificate_files.reading():
                found = load_identity(settings, self._services.clock())
                if found is None:
                    raise CertificateError("server.tls_certificate_file: going back to plain HTTP needs a restart")
        except CertificateError:
            self._tls = before
            raise
        self.identity, self.http.ssl_options = found, found.context
        return found

    def _look_at_certificate(self) -> None:
        if not self._certificate_files.due:
            return
        before = self.identity
        try:
            found = self._load_identity(self._tls)
        except CertificateError as error:
            if self._certificate_files.is_new_failure(error):
                log.error("the certificate stays as it is: %s", error)
            return
        if before is None or found.fingerprint != before.fingerprint:
            log.info("new connections get the certificate that is valid until %s", f"{found.not_after:%Y-%m-%d}")
            for warning in found.warnings:
                log.warning("%s", warning)

    async def drain(self) -> None:
        """Stop in order: not ready, no new connection, open requests end, live clients get 1001. Idempotent.

        Takes at most `server.drain_seconds`; connections that are still open then are cut. The audit records are written out.
        """
        if self._drained:
            return
        self._drained = True
        services = self._services
        services.draining.set()
        self._certificate_watch.stop()
        self.http.stop()
        self.http.conn_params.no_keep_alive = True  # open connections get one more response each
        loop = asyncio.get_running_loop()
        deadline = loop.time() + services.settings.server.drain_seconds
        await self.broadcaster.drain(services.settings.server.drain_seconds)
        while services.metrics.open_requests > 0 and loop.time() < deadline:
            await asyncio.sleep(0.01)
        if services.metrics.open_requests > 0:
            log.warning("%d requests were cut after the drain bound", services.metrics.open_requests)
        await self.http.close_all_connections()
        await asyncio.to_thread(services.audit.flush)
