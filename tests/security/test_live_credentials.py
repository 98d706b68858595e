"""A connection lives no longer than its credential and shows its own organization alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from analytics.cache import Cache
from analytics.views import ViewKey
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Served, until
from tests.handlers.sockets import (
    live,
    message,
    path,
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
            await client.recv()
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
                await client.recv()
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
            await client.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4401


@pytest.mark.gen_test
async def test_ws_22_every_frame_is_of_the_own_organization(served: Served) -> None:
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
