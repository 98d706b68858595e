"""A connection lives no longer than its credential and shows its own organization alone."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from analytics.state.cache import Cache
from analytics.state.snapshot import Snapshot
from analytics.views import ViewKey
from handlers.auth.key_store import KeyStore
from tests.analytics.rows import ORIGIN, action, fill
from tests.handlers.fixtures import Serve, make_settings
from tests.handlers.serving import Served, until
from tests.handlers.sockets import (
    live,
    message,
    path,
    raw,
    reading,
    unread,
)
from tests.handlers.world import (
    ADMIN_1,
    ADMIN_2,
    CANARY,
    NOW,
    SHARED_1,
    USER_1,
    USER_2,
    LocalKeys,
    Person,
    key_row,
    make_local_keys,
)
from tests.security.test_authorization import write


@pytest.mark.gen_test
async def test_ws_20_the_connection_ends_with_its_token(served: Served) -> None:
    token = USER_1.token(exp=int(NOW.timestamp()) + 60)
    async with live(served, USER_1, token=token) as client:
        await message(client)
        await message(client)
        served.clock.advance(60)
        await served.server.broadcaster.tick()
        assert (await message(client))["type"] == "metrics_update", "within the leeway"
        served.clock.advance(31)
        await served.server.broadcaster.tick()
        with pytest.raises(ConnectionClosed) as caught:
            await unread(client)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4401
    await until(lambda: "ws_expired" in {record["event"] for record in served.records()})


@pytest.mark.gen_test
async def test_ws_21_the_connection_ends_with_key_user_role_and_organization(
    serve: Serve, own_cache: tuple[Cache, LocalKeys]
) -> None:
    cache, _ = own_cache
    served = serve(cache=own_cache)
    user, admin = USER_1.row(), ADMIN_1.row()
    changes: list[tuple[Person, str, dict[str, Any]]] = [
        (USER_1, "api_keys", key_row(USER_1.id, USER_1, revoked_at=NOW)),
        (USER_2, "users", {**USER_2.row(), "is_active": False}),
        (ADMIN_1, "users", {**admin, "role": "user"}),
        (SHARED_1, "users", {**SHARED_1.row(), "organization_id": 2}),
    ]
    assert user["is_active"]
    for person, table, row in changes:
        async with live(served, person) as client, live(served, ADMIN_2) as other:
            for each in (client, other):
                await message(each)
                await message(each)
            write(cache, table, [row], gone=[row["id"]])
            await served.server.broadcaster.tick()
            with pytest.raises(ConnectionClosed) as caught:
                await unread(client)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 4401
            assert (await message(other))["type"] == "metrics_update"


@pytest.mark.gen_test
async def test_ws_21_the_connection_ends_with_its_local_key(serve: Serve, own_cache: tuple[Cache, LocalKeys]) -> None:
    served = serve(cache=own_cache)
    headers = {"X-API-Key": served.local.user_1}
    async with connect(f"ws://127.0.0.1:{served.port}{path(USER_1)}", additional_headers=headers) as client:
        await message(client)
        await message(client)
        keys = served.services.keys
        keys.revoke(keys.list()[1].id)
        await served.server.broadcaster.tick()
        with pytest.raises(ConnectionClosed) as caught:
            await unread(client)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4401


@pytest.mark.gen_test
async def test_ws_20_a_token_ends_the_connection_at_the_moment_it_expires(serve: Serve) -> None:
    served = serve(clock=lambda: datetime.now(UTC), auth={"leeway_seconds": 0})
    expires = int(time.time()) + 4
    async with live(served, USER_1, token=USER_1.token(iat=expires - 60, exp=expires)) as client:
        await message(client)
        await message(client)
        with pytest.raises(ConnectionClosed) as caught:
            await unread(client)
        assert 0 <= time.time() - expires < 30, "no tick is due for an hour"
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4401


@pytest.mark.gen_test
async def test_ws_20_a_key_ends_the_connection_at_the_moment_its_row_says(
    serve: Serve, own_cache: tuple[Cache, LocalKeys]
) -> None:
    served = serve(cache=own_cache, clock=lambda: datetime.now(UTC))
    async with live(served, USER_1) as client:
        await message(client)
        await message(client)
        expires = datetime.now(UTC) + timedelta(seconds=0.8)
        write(own_cache[0], "api_keys", [key_row(USER_1.id, USER_1, expires_at=expires)], gone=[USER_1.id])
        with pytest.raises(ConnectionClosed) as caught:
            await unread(client)
        assert 0 <= (datetime.now(UTC) - expires).total_seconds() < 30
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4401


@pytest.mark.gen_test
async def test_ws_21_a_revoked_key_ends_the_connection_within_a_second_and_without_a_tick(
    serve: Serve, own_cache: tuple[Cache, LocalKeys]
) -> None:
    served = serve(cache=own_cache)
    headers = {"X-API-Key": served.local.user_1}
    target = f"ws://127.0.0.1:{served.port}{path(USER_1)}"
    async with live(served, USER_2) as platform, connect(target, additional_headers=headers) as local:
        for client in (platform, local):
            await message(client)
            await message(client)
        began = time.monotonic()
        write(own_cache[0], "users", [{**USER_2.row(), "is_active": False}], gone=[USER_2.id])
        with pytest.raises(ConnectionClosed):
            await platform.recv()
        assert time.monotonic() - began < 30, "no tick is due for an hour"
        began = time.monotonic()
        served.services.keys.revoke(served.services.keys.list()[1].id)
        with pytest.raises(ConnectionClosed):
            await local.recv()
        assert time.monotonic() - began < 30, "the key file is looked at once a second"
    for client in (platform, local):
        assert client.close_code == 4401


@pytest.mark.gen_test
async def test_ws_21_a_hundred_credentials_are_looked_up_with_one_question(
    serve: Serve, own_cache: tuple[Cache, LocalKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, _ = own_cache
    people = [Person(10_000 + n, 1, f"many{n}@one.example", "user") for n in range(100)]
    write(cache, "users", [person.row() for person in people])
    served = serve(cache=own_cache)
    sockets = [await raw(served, person, f"Authorization: Bearer {person.token()}") for person in people]
    broadcaster = served.server.broadcaster
    await until(lambda: broadcaster.connections(1) == 100)
    questions: list[str] = []
    rows = Snapshot.rows_across_organizations

    def counted(self: Snapshot, name: str, **parameters: Any) -> Any:
        questions.append(name)
        return rows(self, name, **parameters)

    monkeypatch.setattr(Snapshot, "rows_across_organizations", counted)
    write(cache, "users", [{**people[7].row(), "is_active": False}], gone=[people[7].id])
    await until(lambda: broadcaster.total == 99)
    assert questions.count("users_by_ids") == 1
    assert "user_by_id" not in questions
    for sock in sockets:
        sock.close()
    await until(lambda: broadcaster.total == 0)


@pytest.mark.gen_test(timeout=60)
async def test_ws_22_two_hundred_clients_of_five_organizations_hear_of_their_own(serve: Serve, tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "five")
    cache = Cache(settings.cache)
    store = cache.build(ORIGIN)
    people = [Person(100 * org + n, org, f"p{n}@org{org}.example", "user") for org in range(1, 6) for n in range(40)]
    actions = [
        action(
            org * 1000 + n, org=org, now=NOW, ago=timedelta(minutes=5), agent_id=f"agent-of-{org}", risk_level="high"
        )
        for org in range(1, 6)
        for n in range(org * 11)
    ]
    fill(store, {"agent_actions": actions, "users": [person.row() for person in people]})
    cache.publish(store)
    served = serve(cache=(cache, make_local_keys(KeyStore(settings.keys_file, lambda: NOW))))
    order = people[::7] + [person for n, person in enumerate(people) if n % 7]
    clients = {
        person: await reading(await raw(served, person, f"Authorization: Bearer {person.token()}")) for person in order
    }
    await until(lambda: served.server.broadcaster.total == 200)
    for _ in range(3):
        await served.server.broadcaster.tick()
    for person, client in clients.items():
        org = person.organization_id or 0
        kinds, connections = [], 0
        while connections != 40:  # of the own organization; other ticks may have come in between
            opcode, payload = await client.frame()
            assert opcode == 1
            assert f"org{org}.example".encode() in payload or b"@" not in payload
            update = json.loads(payload)
            kinds.append(update["type"])
            if update["type"] == "metrics_update":
                assert update["metrics"]["recent_actions_last_hour"] == org * 11
                assert update["metrics"]["high_risk_actions_last_hour"] == org * 11
                assert update["metrics"]["active_agents_last_hour"] == 1
                connections = update["metrics"]["active_websocket_connections"]
                assert 1 <= connections <= 40
        assert kinds == ["connection", *["metrics_update"] * (len(kinds) - 1)]
        client.writer.close()
    await until(lambda: served.server.broadcaster.total == 0)
    cache.close()


@pytest.mark.gen_test
async def test_ws_22_the_two_marked_organizations_never_mix(served: Served) -> None:
    people = [USER_1, ADMIN_1, USER_2]
    clients = [await live(served, person) for person in people]
    for client in clients:
        await message(client)
        await message(client)
    await served.server.broadcaster.tick()
    for person, client in zip(people, clients, strict=True):
        update = await message(client)
        count, connections = (12, 2) if person.organization_id == 1 else (31, 1)
        assert update["metrics"]["recent_actions_last_hour"] == count
        assert update["metrics"]["active_websocket_connections"] == connections
        assert not any(mark in json.dumps(update) for mark in CANARY.values())
        await client.close()


@pytest.mark.gen_test
async def test_ws_25_a_failing_organization_gets_an_error_frame_and_others_go_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = served.services.publisher
    real = publisher.get

    async def failing(key: ViewKey) -> Any:
        if key.organization_id == 2:
            raise RuntimeError(f"{CANARY[2]} in /secret/path")
        return await real(key)

    monkeypatch.setattr(publisher, "get", failing)
    async with live(served, USER_2) as broken, live(served, USER_1) as whole:
        for client in (broken, whole):
            assert (await message(client))["type"] == "connection"
        error = await message(broken)
        assert error["metrics"]["status"] == "error"
        assert CANARY[2] not in json.dumps(error)
        assert "secret" not in json.dumps(error)
        assert (await message(whole))["metrics"]["recent_actions_last_hour"] == 12
        await served.server.broadcaster.tick()
        assert (await message(broken))["metrics"]["status"] == "error"
        assert "recent_actions_last_hour" in (await message(whole))["metrics"]
