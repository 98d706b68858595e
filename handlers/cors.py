"""Pages of other origins: those that the settings list may read the API, character by character; all others may not.

Never `*`, never an origin that merely begins or ends like a listed one. A preflight needs no credential and touches no data.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from config.settings import ServerSettings

API = "/api/"
EXPOSED = "Content-Disposition, ETag, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
REQUEST_HEADERS = "Authorization, If-None-Match, X-API-Key, X-Request-Id"
PREFLIGHT_SECONDS = 600
READING = ("GET", "HEAD")
NOTHING: MappingProxyType[str, str] = MappingProxyType({})


def is_shared(pattern: str, methods: Sequence[str]) -> bool:
    """Whether a route may be read by other origins at all: one of the API that reads, not the handshake (it has no HEAD)."""
    return pattern.startswith(API) and set(methods) == set(READING)


def granted(origins: Sequence[str], server: ServerSettings) -> MappingProxyType[str, str]:
    """The headers for the Origin lines of a request; empty when there is not exactly one, listed one."""
    if len(origins) != 1 or origins[0] not in server.cors_origins:
        return NOTHING
    headers = {"Access-Control-Allow-Origin": origins[0], "Access-Control-Expose-Headers": EXPOSED}
    if server.cors_credentials:
        headers["Access-Control-Allow-Credentials"] = "true"
    return MappingProxyType(headers)


def preflight(methods: Sequence[str]) -> dict[str, str]:
    """What a page of a listed origin may send."""
    return {
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": REQUEST_HEADERS,
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
    }
