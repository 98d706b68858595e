"""The response headers: each with its meaning and form, and which answers carry them."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from handlers.connections.fixed_headers import FIXED_HEADERS
from handlers.contract.schemas import constant

Header = dict[str, Any]


def header(description: str, pattern: str = "", *, always: bool = False) -> Header:
    schema: dict[str, Any] = {"type": "string"}
    if pattern:
        schema["pattern"] = pattern
    return {"description": description, "required": always, "schema": schema}


def fixed(name: str, description: str) -> Header:
    return {"description": description, "required": True, "schema": constant(FIXED_HEADERS[name])}


SECONDS = "^[1-9][0-9]*$"
HEADERS: MappingProxyType[str, Header] = MappingProxyType(
    {
        "Allow": header("The methods of the path.", always=True),
        "Cache-Control": header(
            "private, no-cache: the caller's own cache may keep the answer and has to ask before it uses it again. no-store: "
            "nobody keeps it. no-cache: the public pages.",
            "^(private, no-cache|no-store|no-cache)$",
            always=True,
        ),
        "Content-Disposition": header(
            "Name of the file, for format=csv and format=pdf.", '^attachment; filename="[^"]+"$'
        ),
        "Content-Encoding": header("gzip, where Accept-Encoding allows it and it makes the answer smaller.", "^gzip$"),
        "Content-Security-Policy": header("What a browser may do with the answer.", "^default-src 'none'", always=True),
        "ETag": header("Tag of exactly these bytes, for If-None-Match.", '^"[0-9a-f]{32}(-gzip)?"$', always=True),
        "RateLimit": header(
            "What is left of the caller's allowance and in how many seconds it is whole again "
            "(draft-ietf-httpapi-ratelimit-headers). Absent where nothing is limited.",
            '^"(requests|computations)";r=[0-9]+;t=[0-9]+$',
        ),
        "RateLimit-Policy": header(
            "The caller's allowances: quota and window in seconds.", '^"(requests|computations)";q=[0-9]+;w=[0-9]+'
        ),
        "Retry-After": header("Seconds to wait before asking again.", SECONDS, always=True),
        "Vary": header("The request headers that the answer depends on.", always=True),
        "WWW-Authenticate": header("How to authenticate.", "^Bearer$", always=True),
        "X-Request-Id": header("This request in the server's log and audit trail.", "^[0-9a-f]{16}$", always=True),
        "X-OWKAI-Mock-Data": header("true: the server shows made-up data (owkai demo).", "^true$"),
        "Set-Cookie": header("The page's session cookie, or its end.", "^(__Host-)?owkai_page="),
        "Strict-Transport-Security": header("Over TLS alone: come back over TLS.", "^max-age="),
        "Sec-WebSocket-Accept": header("As in RFC 6455.", always=True),
        "Sec-WebSocket-Version": header("The version that is spoken here.", "^13$"),
        "Upgrade": header("websocket.", "(?i)^websocket$", always=True),
        "Access-Control-Allow-Origin": header("The page's origin, where server.cors_origins lists it."),
        "Access-Control-Allow-Credentials": header("true, where server.cors_credentials is on.", "^true$"),
        "Access-Control-Expose-Headers": header("The headers that a page of that origin may read."),
        "Access-Control-Allow-Methods": header("In answer to a preflight of a listed origin."),
        "Access-Control-Allow-Headers": header("In answer to a preflight of a listed origin."),
        "Access-Control-Max-Age": header("Seconds for which the browser may keep the preflight.", SECONDS),
        "X-Content-Type-Options": fixed("X-Content-Type-Options", "The type is what Content-Type says."),
        "Referrer-Policy": fixed("Referrer-Policy", "No address of this server is told to others."),
        "Cross-Origin-Opener-Policy": fixed("Cross-Origin-Opener-Policy", "Pages of other origins get no handle."),
        "Cross-Origin-Resource-Policy": fixed("Cross-Origin-Resource-Policy", "Not to be embedded by other origins."),
        "Permissions-Policy": fixed("Permissions-Policy", "No device is used."),
    }
)
COMMON = (
    "X-Request-Id", "Cache-Control", "Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy",
    "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Permissions-Policy", "X-OWKAI-Mock-Data",
    "Strict-Transport-Security",
)  # fmt: skip
SHARING = ("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers")
PREFLIGHT = ("Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Max-Age")
LIMITS = ("RateLimit", "RateLimit-Policy")


def references(*names: str, optional: tuple[str, ...] = ()) -> dict[str, Header]:
    """The headers of a response, by reference; those in `optional` may be missing here though they are elsewhere always there."""
    found: dict[str, Header] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    for name in optional:
        found[name] = {**HEADERS[name], "required": False}
    return found
