"""Authorization and tenancy: who gets what, and that nobody gets another organization's numbers."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

import pytest
from tornado.web import RequestHandler

from analytics.state.cache import Cache
from handlers.routes import Access, Route, UndeclaredAccessError, check_routes
from tests.analytics.rows import action, arrow, ids
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Served
from tests.handlers.world import (
    ADMIN_1,
    ADMIN_2,
    CANARY,
    NOW,
    SHARED_1,
    SHARED_2,
    STAFF,
    USER_1,
    USER_2,
    LocalKeys,
    Person,
)


def test_az_01_a_route_without_an_access_rule_stops_the_start() -> None:
    for rule in (None, Access.PUBLIC, Access.LOCAL):
        with pytest.raises(UndeclaredAccessError, match="forgotten"):
            check_routes([Route("/api/analytics/new", RequestHandler, rule, "forgotten")])
    check_routes([Route("/api/analytics/new", RequestHandler, Access.ORGANIZATION, "ruled")])


@pytest.mark.gen_test
async def test_az_01_failures_say_what_the_platforms_clients_know(served: Served) -> None:
    nobody = await served.get("/trends")
    assert nobody.detail == "Authentication required"
    assert nobody.header("WWW-Authenticate") == "Bearer"
    assert (await served.get("/executive/dashboard", key=USER_1.key)).detail == "Admin access required"
    staff = await served.get("/trends", key=STAFF.key)
    assert staff.detail == "Organization context required for this operation"


@pytest.mark.gen_test
async def test_az_02_a_user_never_gets_the_dashboard_in_any_form(served: Served) -> None:
    for target, method in (
        ("/executive/dashboard?format=csv", "GET"),
        ("/executive/dashboard?format=pdf", "GET"),
        ("/executive/dashboard", "HEAD"),
        ("/executive/dashboard/", "GET"),
        ("/Executive/Dashboard", "GET"),
    ):
        answer = await served.get(target, method=method, token=USER_1.token())
        assert answer.status in (403, 404), target


@pytest.mark.gen_test
async def test_az_03_disguised_paths_reach_no_route(served: Served) -> None:
    for target in (
        "/api//analytics/executive/dashboard",
        "/api/analytics/./executive/dashboard",
        "/api/analytics/x/../executive/dashboard",
        "/api/analytics/%65xecutive/dashboard",
        "/api/analytics/executive/dashboard;a=b",
        "/api/analytics/executive/dashboard%2f",
        "/api/analytics/executive%2Fdashboard",
        "//api/analytics/executive/dashboard",
        "/API/analytics/executive/dashboard",
        "/api/analytics/executive/dashboard\\",
    ):
        for how in ({"token": USER_1.token()}, {"token": ADMIN_1.token()}, {}):
            answers = await served.send(
                (
                    f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                    + (f"Authorization: Bearer {how['token']}\r\n" if how else "")
                    + "\r\n"
                ).encode()
            )
            assert [answer.status for answer in answers] in ([403], [404], [400]), target


@pytest.mark.gen_test
async def test_az_04_the_organization_comes_from_the_credential_alone(served: Served) -> None:
    own = (await served.get("/debug", token=USER_1.token())).body
    assert CANARY[1].encode() in own
    for name in ("X-Organization-Id", "X-Scope-OrgID", "X-Tenant", "X-Org-Id"):
        assert (await served.get("/debug", (name, "2"), token=USER_1.token())).body == own
    assert (await served.get("/debug", ("Cookie", "org=2; organization_id=2"), token=USER_1.token())).body == own
    for query in ("organization_id=2", "org=2", "tenant=2"):
        assert (await served.get(f"/debug?{query}", token=USER_1.token())).status == 400


@pytest.mark.gen_test
async def test_az_08_two_hundred_interleaved_requests_never_mix_organizations(serve: Serve) -> None:
    served = serve()
    views = ("/trends", "/debug", "/realtime/metrics", "/trends?days=30")
    people = (USER_1, USER_2)
    jobs = [(views[n % 4], people[(n // 4) % 2]) for n in range(200)]
    answers = await asyncio.gather(*(served.get(view, token=person.token()) for view, person in jobs))
    for (view, person), answer in zip(jobs, answers, strict=True):
        assert answer.status == 200
        own, other = (person.organization_id or 0), 3 - (person.organization_id or 0)
        assert CANARY[other].encode() not in answer.body
        if view in ("/trends", "/debug"):
            assert CANARY[own].encode() in answer.body
    totals = {
        (await served.get("/realtime/metrics", token=p.token())).json()["real_time_overview"]["actions_last_24h"]
        for p in people
    }
    assert totals == {12, 31}


@pytest.mark.gen_test
async def test_az_10_debug_can_be_switched_off_for_everybody(serve: Serve) -> None:
    served = serve(server={"debug_endpoint": False})
    for how in ({}, {"token": USER_1.token()}, {"token": ADMIN_1.token()}, {"key": ADMIN_2.key}):
        assert (await served.get("/debug", **how)).status == 404


@pytest.mark.gen_test
async def test_az_11_operations_name_nobody_and_metrics_are_local(serve: Serve) -> None:
    served = serve(server={"trusted_proxies": ["127.0.0.1"]})
    await served.get("/trends", key=USER_1.key)
    for target in ("/healthz", "/readyz", "/metrics"):
        text = (await served.ask(target)).body.decode()
        for word in ("CANARY", "example", "admin@", "owkai_user", "postgres", "dsn", "127.0.0.1"):
            assert word not in text, (target, word)
    forwarded = ("X-Forwarded-For", "203.0.113.9")
    assert (await served.ask("/metrics", forwarded)).status == 401
    assert (await served.ask("/metrics", forwarded, key=USER_1.key)).status == 403
    assert (await served.ask("/metrics", forwarded, key=ADMIN_1.key)).status == 200
    for target in ("/healthz", "/readyz"):
        assert (await served.ask(target, forwarded)).status == 200


@pytest.mark.gen_test
async def test_az_11_a_name_that_was_pointed_at_this_machine_reads_no_metrics(serve: Serve) -> None:
    """DNS rebinding: the browser of somebody on this machine asks 127.0.0.1 under the name of another site."""

    async def ask(served: Served, host: str, *lines: str) -> int:
        head = "\r\n".join(["GET /metrics HTTP/1.1", f"Host: {host}", "Connection: close", *lines])
        return (await served.send(head.encode() + b"\r\n\r\n"))[0].status

    served = serve()
    for host in (
        "evil.example",
        f"evil.example:{served.port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "x",
    ):
        assert await ask(served, host) == 400, host
        assert await ask(served, host, f"X-API-Key: {USER_1.key}") == 403
        assert await ask(served, host, f"X-API-Key: {ADMIN_1.key}") == 200
    for host in (
        "127.0.0.1",
        served.authority,
        "localhost",
        "LOCALHOST:1",
        "[::1]:80",
        "127.9.9.9",
        socket.gethostname(),
    ):
        assert await ask(served, host) == 200, host
    listed = serve(server={"allowed_hosts": ["metrics.example"]})
    assert await ask(listed, "metrics.example") == 200
    assert await ask(listed, "evil.example") == 400


@pytest.mark.gen_test
async def test_az_14_the_user_id_decides_and_the_row_gives_the_email(served: Served) -> None:
    stolen = USER_1.token(email=ADMIN_2.email)
    assert (await served.get("/debug", token=stolen)).body == (await served.get("/debug", token=USER_1.token())).body
    assert served.records()[0]["principal"] == USER_1.email
    by_email_alone = USER_1.token(user_id=..., sub="someone", email=ADMIN_1.email, role="admin")
    assert (await served.get("/trends", token=by_email_alone)).status == 401
    one, two = [(await served.get("/debug", token=person.token())).body for person in (SHARED_1, SHARED_2)]
    assert CANARY[1].encode() in one
    assert CANARY[2].encode() in two


@pytest.mark.gen_test
async def test_az_15_only_the_listed_roles_are_admin(serve: Serve, own_cache: tuple[Cache, LocalKeys]) -> None:
    cache, _ = own_cache
    served = serve(cache=own_cache)
    roles = ("superadmin", "administrator", "platform_admin", "root", "admins", "a dmin", "")
    people = [Person(100 + n, 1, f"r{n}@one.example", role) for n, role in enumerate(roles)]
    write(cache, "users", [person.row() for person in people])
    for person in people:
        assert (await served.get("/executive/dashboard", token=person.token())).status == 403, person.role
        assert (await served.get("/executive/dashboard", token=person.token(role="admin"))).status == 403, person.role


@pytest.mark.gen_test
async def test_az_15_an_admin_role_counts_however_it_is_spelled(
    serve: Serve, own_cache: tuple[Cache, LocalKeys]
) -> None:
    cache, _ = own_cache
    served = serve(cache=own_cache, auth={"admin_roles": [" Org_Admin", "ADMIN"]})
    roles = ("Admin", " admin\t", "ORG_ADMIN", "org_admin")
    people = [Person(100 + n, 1, f"r{n}@one.example", role) for n, role in enumerate(roles)]
    write(cache, "users", [person.row() for person in people])
    for person in people:
        for claimed in ("admin", "Admin ", "ORG_Admin"):
            answer = await served.get("/executive/dashboard", token=person.token(role=claimed))
            assert answer.status == 200, (person.role, claimed)
        assert (await served.get("/executive/dashboard", token=person.token(role="user"))).status == 403


@pytest.mark.gen_test
async def test_az_16_a_moved_row_leaves_no_trace(serve: Serve, own_cache: tuple[Cache, LocalKeys]) -> None:
    cache, _ = own_cache
    served = serve(cache=own_cache)
    moved = action(9000, org=1, now=NOW, ago=timedelta(minutes=1), agent_id="mover", summary="mover")
    write(cache, "agent_actions", [moved])
    assert b"mover" in (await served.get("/debug", token=USER_1.token())).body
    write(cache, "agent_actions", [{**moved, "organization_id": 2}], gone=[9000])
    assert b"mover" not in (await served.get("/debug", token=USER_1.token())).body
    assert b"mover" in (await served.get("/debug", token=USER_2.token())).body


@pytest.mark.gen_test
async def test_az_17_identity_headers_of_proxies_are_no_login(serve: Serve) -> None:
    served = serve(server={"trusted_proxies": ["127.0.0.1"]})
    for name in ("X-Remote-User", "X-WEBAUTH-USER", "X-Forwarded-User", "X-User-Email", "Remote-User"):
        assert (await served.get("/trends", (name, ADMIN_1.email))).status == 401


def write(cache: Cache, table: str, rows: list[dict[str, object]], gone: list[int] | None = None) -> None:
    """What sync does: remove and append in one transaction, then tell readers."""
    store = cache.live
    assert store is not None
    store.begin()
    if gone:
        store.remove(table, ids(gone), min(gone), max(gone))
    store.append(table, arrow(table, rows))
    store.commit(cache.version + 1000)
    cache.touched(table)
