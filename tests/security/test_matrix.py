"""The authorization matrix: every route, method and kind of caller, generated; what must come out follows from the route's rule.

Nothing here lists a route. A route whose rule or handler this file does not know fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from analytics.state.cache import Cache
from config.settings import Settings
from handlers.acknowledgements import AcknowledgementHandler
from handlers.application import api_routes
from handlers.auth.signin import SessionHandler
from handlers.contract.operations import sample_path
from handlers.live.websocket import LiveHandler
from handlers.rest import HiddenHandler
from handlers.routes import Access, Route
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Answer, Lines, Served
from tests.handlers.world import (
    ADMIN_1,
    ADMIN_2,
    CANARY,
    DEMOTED,
    INACTIVE,
    LOGGED_OUT,
    NOW,
    STAFF,
    SUSPENDED,
    USER_1,
    USER_2,
    LocalKeys,
    Person,
    key_row,
    sign,
)
from tests.security.test_authorization import write

FORWARDED = ("X-Forwarded-For", "203.0.113.9")
UPGRADE = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
)
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE")


@dataclass(frozen=True)
class Kind:
    """A kind of caller. `valid`: the credential holds; `organization` and `admin` are then what it gives."""

    name: str
    lines: tuple[tuple[str, str], ...]
    valid: bool = True
    organization: int | None = None
    admin: bool = False
    email: str = ""
    none: bool = False


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {text}"),)


def key(text: str) -> tuple[tuple[str, str], ...]:
    return (("X-API-Key", text),)


REVOKED, EXPIRED, SWITCHED_OFF = (f"owkai_user_{word}_" + "k" * 32 for word in ("revoked", "expired", "off"))
KEY_ROWS = [
    key_row(901, USER_1, text=REVOKED, revoked_at=NOW - timedelta(seconds=1), is_active=False),
    key_row(902, USER_1, text=EXPIRED, expires_at=NOW - timedelta(seconds=1)),
    key_row(903, USER_1, text=SWITCHED_OFF, is_active=False),
]


def good_kinds(local: LocalKeys) -> Iterator[Kind]:
    for name, person, admin in (
        ("user 1", USER_1, False),
        ("admin 1", ADMIN_1, True),
        ("user 2", USER_2, False),
        ("admin 2", ADMIN_2, True),
        ("staff without organization", STAFF, True),
    ):
        facts = {"organization": person.organization_id, "admin": admin, "email": person.email}
        yield Kind(f"{name}, token", bearer(person.token()), **facts)
        yield Kind(f"{name}, key", key(person.key), **facts)
        yield Kind(f"{name}, key as bearer", bearer(person.key), **facts)
        yield Kind(f"{name}, cookie", (("Cookie", f"access_token={person.token()}"),), **facts)
    for name, text, person, admin in (
        ("local user 1", local.user_1, USER_1, False),
        ("local admin 1", local.admin_1, ADMIN_1, True),
        ("local user 2", local.user_2, USER_2, False),
    ):
        yield Kind(name, key(text), organization=person.organization_id, admin=admin, email=person.email)
    demoted = bearer(DEMOTED.token(role="admin"))
    yield Kind("demoted admin", demoted, organization=1, email=DEMOTED.email)
    yield Kind("user who claims admin", bearer(USER_1.token(role="admin")), organization=1, email=USER_1.email)


def bad_kinds() -> Iterator[Kind]:
    yield Kind("nobody", (), valid=False, none=True)
    stranger = Person(777, 1, "new@one.example", "admin")
    for name, lines in (
        ("malformed bearer", bearer("not.a.token")),
        ("malformed key", key("short")),
        ("other scheme", (("Authorization", "Basic YWRtaW46YWRtaW4="),)),
        ("unknown key", key("owkai_admin_" + "x" * 43)),
        ("expired token", bearer(ADMIN_1.token(exp=int(NOW.timestamp()) - 3600))),
        ("token of tomorrow", bearer(ADMIN_1.token(nbf=int(NOW.timestamp()) + 86_400))),
        ("forged token", bearer(sign(ADMIN_1.claims(), "another-secret-of-sufficient-length-00"))),
        ("unsigned token", bearer(sign(ADMIN_1.claims(), header={"alg": "none", "typ": "JWT"}))),
        ("refresh token", bearer(ADMIN_1.token(type="refresh"))),
        ("token of another organization", bearer(ADMIN_1.token(organization_id=2))),
        ("token of an unknown user", bearer(stranger.token())),
        ("revoked key", key(REVOKED)),
        ("expired key", key(EXPIRED)),
        ("key switched off", key(SWITCHED_OFF)),
        ("good key beside a bad token", (*key(ADMIN_1.key), *bearer("a.b.c"))),
        ("logged out", bearer(LOGGED_OUT.token())),
        *((f"{what}, token", bearer(person.token())) for what, person in GONE.items()),
        *((f"{what}, key", key(person.key)) for what, person in GONE.items()),
    ):
        yield Kind(name, lines, valid=False)


GONE = {"inactive": INACTIVE, "suspended": SUSPENDED}


def refusal(access: Access | None, kind: Kind, direct: bool) -> int | None:
    """The status that keeps this caller out of a route of this rule; None: may pass. Unknown rules raise."""
    if access is Access.PUBLIC or (access is Access.LOCAL and direct):
        return None
    if not kind.valid:
        return 401
    needs_organization = {
        Access.LOCAL: False,
        Access.ORGANIZATION: True,
        Access.ANALYST: True,
        Access.ADMIN: True,
    }[access]  # type: ignore[index]
    if needs_organization and kind.organization is None:
        return 403
    if access is not Access.ORGANIZATION and not kind.admin:
        return 403
    return None


def expected(route: Route, kind: Kind, method: str, direct: bool, path: str, upgrade: bool) -> int:
    if route.handler is HiddenHandler:
        return 404 if method in route.handler.SUPPORTED_METHODS else 405  # as any path that does not exist
    if method == "OPTIONS":
        return 204
    if method not in route.methods:
        return 405
    if route.handler is SessionHandler:
        if method not in ("GET", "HEAD"):
            return 403  # no page of ours says so
        return refusal(Access.ORGANIZATION, kind, direct) or 200
    refused = refusal(route.access, kind, direct)
    if refused is not None:
        return refused
    if route.handler is AcknowledgementHandler:
        return 403 if "Cookie" in dict(kind.lines) else 404  # a cookie needs an Origin; no anomaly has this id
    if route.handler is not LiveHandler:
        return 200
    if not upgrade:
        return 426
    if ("Cookie" in dict(kind.lines)) or not path.endswith(f"/{kind.email}"):
        return 403  # a cookie needs an Origin; the address must be the caller's own
    return 101


def targets(route: Route) -> list[str]:
    """The paths that stand for a route; one with an address stands for one of the own and of the other organization."""
    people = (USER_1, ADMIN_1, USER_2, ADMIN_2)
    return list(dict.fromkeys(sample_path(route.name, user_email=person.email) for person in people))


@pytest.mark.parametrize("shown", [True, False], ids=["all on", "switched off"])
@pytest.mark.gen_test(timeout=60)
async def test_az_01_every_route_method_and_kind_of_caller(
    serve: Serve, own_cache: tuple[Cache, LocalKeys], shown: bool
) -> None:
    write(own_cache[0], "api_keys", list(KEY_ROWS))
    served = serve(
        cache=own_cache,
        auth={"failed_limit": 1_000_000},
        server={
            "trusted_proxies": ["127.0.0.1"],
            "debug_endpoint": shown,
            "reference": shown,
            "requests_per_second": 0,
        },
    )
    kinds = [*good_kinds(served.local), *bad_kinds()]
    routes = api_routes(served.services.settings)
    asked = 0
    for route in routes:
        for path in targets(route):
            for kind in kinds:
                await asyncio.gather(*(one(served, route, kind, path, method) for method in METHODS))
                await one(served, route, kind, path, "GET", upgrade=True)
                asked += len(METHODS) + 1
    assert asked >= len(routes) * len(kinds) * len(METHODS)


async def one(served: Served, route: Route, kind: Kind, path: str, method: str, upgrade: bool = False) -> None:
    if upgrade:
        answer = await opened(served, path, (FORWARDED, *kind.lines, *UPGRADE))
    else:
        answer = await served.ask(path, FORWARDED, *kind.lines, method=method)
    due = expected(route, kind, method, False, path, upgrade)
    assert answer.status == due, f"{method} {path} as {kind.name}: {answer.status}, not {due}"
    if kind.organization is not None:
        assert CANARY[3 - kind.organization].encode() not in answer.body
    elif route.access in (Access.ORGANIZATION, Access.ADMIN):
        assert b"CANARY" not in answer.body
    if answer.status == 401:
        assert answer.header("WWW-Authenticate") == "Bearer"


async def opened(served: Served, path: str, lines: Lines) -> Answer:
    """The answer to a handshake; an open connection is not waited for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        head = [f"GET {path} HTTP/1.1", f"Host: {served.authority}", *(f"{name}: {value}" for name, value in lines)]
        writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
        block = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        start, *rest = block.decode("latin-1").strip().split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in rest)]
        answer = Answer(int(start.split(" ")[1]), headers, b"")
        if answer.status != 101 and (length := int(answer.header("Content-Length") or 0)):
            answer = Answer(answer.status, headers, await asyncio.wait_for(reader.readexactly(length), 30))
        return answer
    finally:
        writer.close()


@pytest.mark.gen_test(timeout=60)
async def test_az_01_who_asks_from_this_machine_directly(served: Served) -> None:
    for route in api_routes(served.services.settings):
        for path in targets(route):
            for kind in good_kinds(served.local):
                answer = await served.ask(path, *kind.lines)
                assert answer.status == expected(route, kind, "GET", True, path, False), (path, kind.name)


@pytest.mark.gen_test(timeout=60)
async def test_az_04_no_header_or_parameter_names_another_organization_on_any_route(served: Served) -> None:
    named = (
        ("X-Organization-Id", "2"),
        ("X-Scope-OrgID", "2"),
        ("X-Tenant", "2"),
        ("Cookie", "org=2; organization_id=2"),
    )
    for route in api_routes(served.services.settings):
        if route.access not in (Access.ORGANIZATION, Access.ADMIN) or route.handler is LiveHandler:
            continue
        (path,) = targets(route)
        plain = await served.ask(path, key=ADMIN_1.key)
        told = await served.ask(path, *named, key=ADMIN_1.key)
        assert (told.status, told.body) == (plain.status, plain.body), path
        for query in ("organization_id=2", "org=2", "tenant=2", "user_id=3"):
            assert (await served.ask(f"{path}?{query}", key=ADMIN_1.key)).status == 400, (path, query)


def test_az_01_an_unknown_rule_or_route_has_no_expectation() -> None:
    kind = Kind("x", (), organization=1)
    with pytest.raises(KeyError):
        refusal(None, kind, False)
    known = api_routes(Settings())[0]
    with pytest.raises(KeyError):
        targets(Route("/new", known.handler, Access.PUBLIC, "/new"))
