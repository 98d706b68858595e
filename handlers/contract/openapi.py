"""The OpenAPI 3.1 document, from the route table, the parameters, the types of responses and `operations`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from config.settings import Settings
from handlers import acknowledgements as acknowledging
from handlers.application import api_routes
from handlers.auth import signin
from handlers.contract.examples import completed
from handlers.contract.headers import COMMON, HEADERS, LIMITS, PREFLIGHT, SHARING, references
from handlers.contract.operational import Account, Acknowledged, Problem, SignIn
from handlers.contract.operations import JSON, OPERATIONS, Body, Operation
from handlers.contract.schemas import Responses, Schemas
from handlers.cors import is_shared
from handlers.parameters import Parameter
from handlers.problem import (
    ADMIN_REQUIRED,
    ANALYST_REQUIRED,
    AUTHENTICATION_REQUIRED,
    ORGANIZATION_REQUIRED,
    PROBLEM_TYPE,
    phrase,
)
from handlers.routes import Access, Route

Document = dict[str, Any]

TITLE = "OW-kai Analytics API"
VERSION = "1.0.0"
SECURITY: list[dict[str, list[str]]] = [{"apiKey": []}, {"bearer": []}, {"sessionCookie": []}, {"pageCookie": []}]
SCHEMES = {
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "An API key of the platform, or a key of this server (owkai keys create).",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A session token of the platform, or an API key.",
    },
    "sessionCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "access_token",
        "description": "The platform's session cookie. The auth.cookie_names setting lists its names.",
    },
    "pageCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-owkai_page",
        "description": "The session of a user who signed in on the page. Without TLS its name is owkai_page.",
    },
}
INTRODUCTION = """\
Numbers about AI agents and their governance, for the organization that the credential belongs to.

Credentials: X-API-Key, Authorization: Bearer, or the platform's session cookie. Every credential \
in a request must be valid.

Errors are problem documents (RFC 9457). For a method that a path does not support, the server sends 405 with Allow. For a \
request that the HTTP parser rejects, it closes the connection after an empty 400 or without a response.

Times are UTC, whole seconds, with Z. Percentages are 0 to 100, rates 0 to 1. Null means unknown. Ignore members that \
you do not know: later versions may add members but do not remove any.

Responses carry an ETag: send it in If-None-Match to get 304 while nothing has changed. There is no Last-Modified, and \
If-Modified-Since is ignored, because two responses within one second can differ.

HEAD is GET without a body. OPTIONS lists the methods of a path and needs no credential."""
TAGS = [
    {"name": "Analytics", "description": "The numbers."},
    {"name": "Live", "description": "The numbers as they change."},
    {"name": "Page", "description": "The dashboard in a browser."},
    {"name": "Operations", "description": "For operators and orchestrators."},
    {"name": "Reference", "description": "The API contract."},
]
ACCESS = {
    Access.PUBLIC: "No credential needed.",
    Access.LOCAL: "For direct requests from this machine, and for admins.",
    Access.ORGANIZATION: "For any caller who belongs to an organization.",
    Access.ANALYST: "For analysts and admins of an organization.",
    Access.ADMIN: "For admins of an organization.",
}
REFUSED = {
    400: "The request is invalid or ambiguous: an unknown, repeated or invalid query parameter (named in parameter), a "
    "repeated X-API-Key, or a Host that this server does not serve.",
    401: "No valid credential. The response is the same for every reason.",
    403: "The credential is valid but does not permit this, or the server requires TLS and the request did not use it.",
    404: "Disabled by {switch}.",
    413: "The request declares a body larger than 64 KiB.",
    431: "The request line and headers exceed 16 KiB in total.",
    415: "The request has a Content-Encoding, which no path accepts.",
    429: "Too many failed attempts from this address, or too many requests or computed responses for this user.",
    500: "An internal error. The server's log has details under request_id.",
    503: "The initial copy is not complete (see progress), the telemetry source failed, too many "
    "computations are running, the audit trail cannot be written, or the server is shutting down.",
}
DETAILS = {401: AUTHENTICATION_REQUIRED, 500: "Internal Server Error"}


@dataclass
class Parts:
    """What the operations of a document share."""

    schemas: Schemas = field(default_factory=Schemas)
    responses: Responses = field(default_factory=Responses)


def openapi() -> Document:
    """The OpenAPI document. Raises ValueError if a route has no operation or an operation has no route."""
    parts = Parts()
    routes = api_routes(Settings())
    names = {route.name for route in routes}
    if names != OPERATIONS.keys():
        raise ValueError(f"only in the routes or only in OPERATIONS: {', '.join(sorted(names ^ OPERATIONS.keys()))}")
    paths: Document = {}
    for route in routes:
        operation = OPERATIONS[route.name]
        paths[operation.path or route.name] = path_item(route, operation, parts)
    session_operations(paths[signin.PATH], parts)
    acknowledgement_operations(paths[OPERATIONS[acknowledging.NAME].path], parts)
    for kind in (Problem, SignIn):
        parts.schemas.of(kind, "validation")
    schemas = parts.schemas.components()
    fill_examples(paths, schemas)
    return {
        "openapi": "3.1.1",
        "info": {"title": TITLE, "version": VERSION, "description": INTRODUCTION, "license": license_name()},
        "servers": [{"url": "/", "description": "The server that sent you this document."}],
        "tags": TAGS,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": parts.responses.components(),
            "headers": dict(HEADERS),
            "securitySchemes": SCHEMES,
        },
    }


def license_name() -> dict[str, str]:
    return {"name": "Apache-2.0", "identifier": "Apache-2.0"}


def path_item(route: Route, operation: Operation, parts: Parts) -> Document:
    item: Document = {"summary": operation.summary}
    varying = operation.parameter
    if varying is not None:
        item["parameters"] = [
            {
                "name": varying.name, "in": "path", "required": True, "schema": dict(varying.schema),
                "description": varying.meaning,
            }
        ]  # fmt: skip
    for method in route.methods:
        if method in ("GET", "HEAD"):
            item[method.lower()] = reading(route, operation, method == "GET", parts)
    off = (404,) if operation.switchable else ()
    item["options"] = {
        "operationId": f"{operation.id}Options",
        "tags": [operation.tag],
        "summary": "Methods of the path",
        "security": [],
        "responses": {
            "204": parts.responses.shared("Allowed", allowed(route)),
            **refusals(route, operation, (400, *off, 413, 431, 500), True, parts),
        },
    }
    return item


def reading(route: Route, operation: Operation, get: bool, parts: Parts) -> Document:
    """GET, or HEAD, which is the same without bodies."""
    public = route.access is Access.PUBLIC
    statuses = [400, 413, 415, 431, 500] if public else [400, 401, 403, 413, 415, 429, 431, 500, 503]
    if operation.switchable:
        statuses.append(404)
    responses = dict(successes(route, operation, parts, get)) | refusals(route, operation, tuple(statuses), get, parts)
    result: Document = {
        "operationId": operation.id if get else f"{operation.id}Head",
        "tags": [operation.tag],
        "summary": operation.summary if get else f"{operation.summary}: headers only",
        "description": f"{operation.description} {ACCESS[route.access or Access.PUBLIC]}",
        "security": [] if public else [*SECURITY, *([{}] if route.access is Access.LOCAL else [])],
        "parameters": parameters(route, operation),
        "responses": dict(sorted(responses.items())),
    }
    if not result["parameters"]:
        del result["parameters"]
    return result


def session_operations(item: Document, parts: Parts) -> None:
    """The other methods of /session, which have their own rules (`handlers.auth.signin`)."""
    (route,) = [route for route in api_routes(Settings()) if route.name == signin.PATH]
    operation = OPERATIONS[signin.PATH]
    cookie = {"Set-Cookie": {"$ref": "#/components/headers/Set-Cookie"}}
    account: Document = {
        "description": "Signed in.",
        "headers": references(*COMMON, *LIMITS, "Vary") | cookie,
        "content": {"application/json": {"schema": parts.schemas.of(Account)}},
    }
    for method in ("get", "head"):
        found = item[method]["responses"] | refusals(route, operation, (401, 403, 429, 503), method == "get", parts)
        found["200"] = {
            **account,
            "description": "The signed-in user.",
            "headers": references(*COMMON, *LIMITS, "Vary"),
        }
        if method == "head":
            del found["200"]["content"]
        unauthenticated: Document = dict(parts.responses.components()[found["401"]["$ref"].rpartition("/")[2]])
        found["401"] = unauthenticated | {"headers": unauthenticated["headers"] | cookie}
        item[method]["responses"] = dict(sorted(found.items()))
        item[method]["security"] = SECURITY
    common = {"tags": [operation.tag], "security": []}
    own = "Requires the exact Origin of a page of this server (websocket.allowed_origins)."
    item["post"] = common | {
        "operationId": "signIn",
        "summary": "Sign in",
        "description": f"Exchanges a key for a session cookie. {own}",
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/SignIn"}}}},
        "responses": {
            "201": account,
            **refusals(route, operation, (400, 401, 403, 413, 415, 429, 431, 500, 503), True, parts),
        },
    }
    ended = {"description": "Signed out, or there was no session.", "headers": references(*COMMON) | cookie}
    item["delete"] = common | {
        "operationId": "signOut",
        "summary": "Sign out",
        "description": f"Ends the session of the cookie. {own}",
        "responses": {"204": ended, **refusals(route, operation, (400, 403, 413, 415, 431, 500), True, parts)},
    }


def acknowledgement_operations(item: Document, parts: Parts) -> None:
    """PUT and DELETE of an anomaly's acknowledgement."""
    (route,) = [route for route in api_routes(Settings()) if route.name == acknowledging.NAME]
    operation = OPERATIONS[acknowledging.NAME]
    statuses = (400, 401, 403, 404, 413, 415, 429, 500, 503)
    common = {
        "tags": [operation.tag],
        "description": f"{operation.description} {ACCESS[Access.ANALYST]}",
        "security": SECURITY,
    }
    acknowledged: Document = {"description": "Acknowledged.", "headers": references(*COMMON, *LIMITS)}
    refused = refusals(route, operation, statuses, True, parts)
    unknown: Document = {
        "description": "The organization has no current anomaly with this id.",
        "headers": references(*COMMON, "Vary", *LIMITS),
        "content": problem(404, acknowledging.NO_SUCH_ANOMALY),
    }
    refused["404"] = unknown
    item["put"] = common | {
        "operationId": "acknowledgeAnomaly",
        "summary": "Acknowledge an anomaly",
        "responses": {
            "200": acknowledged | {"content": {JSON: {"schema": parts.schemas.of(Acknowledged)}}},
            **refused,
        },
    }
    item["delete"] = common | {
        "operationId": "withdrawAcknowledgement",
        "summary": "Withdraw an acknowledgement",
        "responses": {"204": acknowledged | {"description": "Withdrawn, or there was no acknowledgement."}, **refused},
    }


def parameters(route: Route, operation: Operation) -> list[Document]:
    own: tuple[Parameter, ...] = route.options.get("parameters", ())
    found: list[Document] = [
        {"name": one.name, "in": "query", "description": one.meaning, "schema": dict(one.schema)} for one in own
    ]
    if operation.revalidated:
        found.append(
            {
                "name": "If-None-Match",
                "in": "header",
                "description": "Entity tags of responses that the client has, or *.",
                "schema": {"type": "string"},
            }
        )
    return found


def successes(route: Route, operation: Operation, parts: Parts, get: bool) -> Iterator[tuple[str, Document]]:
    """The responses other than refusals, by status."""
    limits = () if route.access is Access.PUBLIC else LIMITS
    names = [*COMMON, *limits, *(SHARING if shared(route) else ())]
    if operation.bodies:
        if operation.revalidated:
            names += ["ETag", "Vary", "Content-Encoding"]
            known = {"description": "The client already has this response.", "headers": references(*names)}
            yield "304", parts.responses.shared("NotModified", known)
        if operation.file_name:
            names.append("Content-Disposition")
        response: Document = {"description": "Success.", "headers": references(*names)}
        if get:
            response["content"] = {body.media_type: media(body, parts.schemas) for body in operation.bodies}
        yield "200", response if get else parts.responses.shared("Headers", response)
        if operation.id == "readiness":
            headers = response["headers"] | references("Retry-After")
            yield (
                "503",
                response | {"description": "The server has no data yet or is shutting down.", "headers": headers},
            )
    if operation.id == "liveUpdates":
        names = [*COMMON, *limits]
        opened = references(*names, "Upgrade", "Sec-WebSocket-Accept")
        yield "101", {"description": operation.further["101"], "headers": opened}
        refused = references(*names, "Upgrade", "Sec-WebSocket-Version", "Vary")
        yield "426", {"description": operation.further["426"], "headers": refused, "content": problem(426, "")}


def media(body: Body, schemas: Schemas) -> Document:
    if body.kind is None:
        return {"schema": {"type": "string"} if body.text else {}}
    if body.kind is dict:
        return {"schema": {"type": "object"}}
    found: Document = {"schema": schemas.of(body.kind)}
    if body.examples:
        found["examples"] = {name: {} for name in body.examples}
    return found


def counted(route: Route) -> bool:
    """Whether requests count against the caller's allowance."""
    return route.access is not Access.PUBLIC or route.name == signin.PATH


def refusals(route: Route, operation: Operation, statuses: tuple[int, ...], body: bool, parts: Parts) -> Document:
    """Refusals and failures, each a problem document."""
    found: Document = {}
    for status in statuses:
        # 413 and 431 are sent before the request has an id, 401 and 415 before the caller is known.
        limited = LIMITS if counted(route) and status not in (401, 413, 415, 431) else ()
        names = [*COMMON, *(SHARING if shared(route) else ()), "Vary", *limited]
        if status in (413, 431):
            names = [name for name in COMMON if name not in ("X-Request-Id", "X-OWKAI-Mock-Data")]
        names += {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])
        description = REFUSED[status].format(switch=operation.switchable)
        response: Document = {"description": description, "headers": references(*names)}
        if body:
            response["content"] = problem(status, denial(route) if status == 403 else DETAILS.get(status, ""))
        name = "".join(word.capitalize() for word in phrase(status).split()) + ("" if body else "Head")
        if not (status == 503 and operation.id == "readiness"):
            found[str(status)] = parts.responses.shared(name, response)
    return found


def denial(route: Route) -> str:
    if route.access is Access.ANALYST:
        return ANALYST_REQUIRED
    return ADMIN_REQUIRED if route.access in (Access.ADMIN, Access.LOCAL) else ORGANIZATION_REQUIRED


def problem(status: int, detail: str) -> Document:
    media_type: Document = {"schema": {"$ref": "#/components/schemas/Problem"}}
    if detail:
        media_type["example"] = {
            "type": "about:blank",
            "title": phrase(status),
            "status": status,
            "detail": detail,
            "request_id": "5f1d0c2ba7e94d36",
        }
    return {PROBLEM_TYPE: media_type}


def allowed(route: Route) -> Document:
    names = [*COMMON, "Allow"]
    if shared(route):
        names += [*SHARING, *PREFLIGHT]
    headers = references(*names, optional=("Vary",))
    return {"description": "Allow lists the methods of the path.", "headers": headers}


def shared(route: Route) -> bool:
    return is_shared(route.pattern, route.methods)


def fill_examples(paths: Document, components: Document) -> None:
    """Insert the documented examples, completed, where bodies name them."""
    for item in paths.values():
        for media_type in item.get("get", {}).get("responses", {}).get("200", {}).get("content", {}).values():
            for name in media_type.get("examples", ()):
                value = completed(name, media_type["schema"], components)
                media_type["examples"][name] = {"summary": name.replace("_", " ").capitalize(), "value": value}
