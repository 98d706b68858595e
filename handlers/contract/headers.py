"""The response headers: the meaning and form of each, and which responses carry them."""

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
            "private, no-cache: the caller's own cache may keep the response but must revalidate it. no-store: caches must not "
            "keep it. no-cache: the public pages.",
            "^(private, no-cache|no-store|no-cache)$",
            always=True,
        ),
        "Content-Disposition": header("File name, for format=csv and format=pdf.", '^attachment; filename="[^"]+"$'),
        "Content-Encoding": header("gzip, if Accept-Encoding allows it and it makes the response smaller.", "^gzip$"),
        "Content-Security-Policy": header(
            "What a browser may do with the response.", "^default-src 'none'", always=True
        ),
        "ETag": header("Entity tag of these exact bytes, for If-None-Match.", '^"[0-9a-f]{32}(-gzip)?"$', always=True),
        "RateLimit": header(
            "The rest of the caller's allowance and the seconds until it is full again "
            "(draft-ietf-httpapi-ratelimit-headers). Absent if there is no limit.",
            '^"(requests|computations)";r=[0-9]+;t=[0-9]+$',
        ),
        "RateLimit-Policy": header(
            "The caller's allowances: quota and window in seconds.", '^"(requests|computations)";q=[0-9]+;w=[0-9]+'
        ),
        "Retry-After": header("Seconds to wait before the next attempt.", SECONDS, always=True),
        "Vary": header("The request headers that the response depends on.", always=True),
        "WWW-Authenticate": header("How to authenticate.", "^Bearer$", always=True),
        "X-Request-Id": header(
            "Identifies this request in the server's log and audit trail.", "^[0-9a-f]{16}$", always=True
        ),
        "X-OWKAI-Mock-Data": header("true: the server shows generated data (owkai demo).", "^true$"),
        "Set-Cookie": header("Sets or removes the page's session cookie.", "^(__Host-)?owkai_page="),
        "Strict-Transport-Security": header("Sent only over TLS: use TLS for later requests.", "^max-age="),
        "Sec-WebSocket-Accept": header("As in RFC 6455.", always=True),
        "Sec-WebSocket-Version": header("The supported WebSocket version.", "^13$"),
        "Upgrade": header("websocket.", "(?i)^websocket$", always=True),
        "Access-Control-Allow-Origin": header("The page's origin, if server.cors_origins lists it."),
        "Access-Control-Allow-Credentials": header("true, if server.cors_credentials is on.", "^true$"),
        "Access-Control-Expose-Headers": header("The headers that pages of that origin may read."),
        "Access-Control-Allow-Methods": header("In response to a preflight from a listed origin."),
        "Access-Control-Allow-Headers": header("In response to a preflight from a listed origin."),
        "Access-Control-Max-Age": header("Seconds for which the browser may cache the preflight.", SECONDS),
        "X-Content-Type-Options": fixed(
            "X-Content-Type-Options", "Browsers must not guess a type other than Content-Type."
        ),
        "Referrer-Policy": fixed("Referrer-Policy", "Browsers send no address of this server to other sites."),
        "Cross-Origin-Opener-Policy": fixed(
            "Cross-Origin-Opener-Policy", "Pages of other origins get no reference to this page's window."
        ),
        "Cross-Origin-Resource-Policy": fixed(
            "Cross-Origin-Resource-Policy", "Other origins must not embed the response."
        ),
        "Permissions-Policy": fixed("Permissions-Policy", "The pages use no device."),
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
    """The headers of a response, by reference. Those in `optional` may be missing here, although other responses always have them."""
    found: dict[str, Header] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    for name in optional:
        found[name] = {**HEADERS[name], "required": False}
    return found
