"""Which pages may sign in and open live connections: exact origins, as a browser sends them."""

from __future__ import annotations

from config.rules import loopback
from config.settings import Settings

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
STANDARD_PORTS = {"http": 80, "https": 443}


class Origins:
    """The origins of `websocket.allowed_origins`, compared character by character.

    While none is listed and the server listens on loopback only, its own addresses there count, so that a browser on
    the same machine needs no setting. A name that an attacker points at 127.0.0.1 is in neither list: the browser sends
    that name as the origin.
    """

    def __init__(self, settings: Settings) -> None:
        self._listed = settings.websocket.allowed_origins
        self._implied = not self._listed and loopback(settings.server.host)
        self._port = settings.server.port
        self._scheme = "http" if settings.server.tls_certificate_file is None else "https"

    def bound(self, port: int) -> None:
        """The port that the server has taken."""
        self._port = port

    def __contains__(self, origin: str) -> bool:
        return origin in self.all()

    def all(self) -> tuple[str, ...]:
        if not self._implied:
            return self._listed
        tail = "" if self._port == STANDARD_PORTS[self._scheme] else f":{self._port}"
        return tuple(f"{self._scheme}://{name}{tail}" for name in LOOPBACK_NAMES)

    def live_sources(self, host: str) -> tuple[str, ...]:
        """ws/wss sources for the page's policy: of the known origins whose authority is `host`, never of others."""
        return tuple(
            f"{'wss' if scheme == 'https' else 'ws'}://{authority}"
            for scheme, _, authority in (origin.partition("://") for origin in self.all())
            if authority == host.lower()
        )
