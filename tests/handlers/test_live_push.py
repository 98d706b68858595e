"""Updates before their time: at once for the organization whose numbers changed, and for nobody else."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from analytics.state.cache import Cache
from tests.analytics.rows import action
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Served, until
from tests.handlers.sockets import live, message
from tests.handlers.world import NOW, USER_1, USER_2, LocalKeys
from tests.security.test_authorization import write

World = tuple[Cache, LocalKeys]
NUMBERS: Iterator[int] = itertools.count(50_000)


def commit(cache: Cache, org: int, ago: timedelta = timedelta(seconds=1), **columns: Any) -> None:
    row = {
        **action(next(NUMBERS), org=org, now=NOW, ago=ago),
        "agent_id": "new-agent",
        "risk_level": "critical",
        **columns,
    }
    write(cache, "agent_actions", [row])


async def settled(served: Served, *clients: ClientConnection) -> None:
    """Everyone has the first update, and the first look is over: what is committed from now on is news."""
    for client in clients:
        assert [(await message(client))["type"] for _ in range(2)] == ["connection", "metrics_update"]
    changes = served.server.broadcaster._changes
    assert changes is not None
    await until(lambda: changes._since is not None)


@pytest.mark.gen_test
async def test_a_committed_action_reaches_its_organization_within_a_second_and_no_other(
    serve: Serve, own_cache: World
) -> None:
    served = serve(cache=own_cache)
    async with live(served, USER_1) as mine, live(served, USER_2) as theirs:
        await settled(served, mine, theirs)
        began = time.monotonic()
        commit(own_cache[0], 1)
        update = await message(mine)
        assert time.monotonic() - began < 30, "no tick is due for an hour"
        assert update["metrics"]["recent_actions_last_hour"] == 13
        assert update["metrics"]["high_risk_actions_last_hour"] == 13
        assert update["metrics"]["active_agents_last_hour"] == 2
        assert served.services.metrics.websocket_pushes == 1
        await served.server.broadcaster.tick()
        assert (await message(theirs))["metrics"]["recent_actions_last_hour"] == 31, "the tick's, and nothing before it"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(theirs.recv(), 0.1)


@pytest.mark.gen_test
async def test_an_action_that_leaves_the_hour_shows_at_the_tick_whatever_others_commit(
    serve: Serve, own_cache: World
) -> None:
    served = serve(cache=own_cache)
    commit(own_cache[0], 2, ago=timedelta(minutes=59))
    async with live(served, USER_1) as mine, live(served, USER_2) as theirs:
        await settled(served, mine, theirs)
        told = served.server.broadcaster._delivered[2]
        await until(lambda: asyncio.get_running_loop().time() > told.unsettled_until)
        served.clock.advance(120)
        commit(own_cache[0], 1)
        assert (await message(mine))["metrics"]["recent_actions_last_hour"] == 13
        await until(
            lambda: served.server.broadcaster._changes is not None and not served.server.broadcaster._updating.locked()
        )
        await served.server.broadcaster._watch()
        assert served.services.metrics.websocket_pushes == 1, (
            "it would tell organization 2 when organization 1 is active"
        )
        await served.server.broadcaster.tick()
        assert (await message(theirs))["metrics"]["recent_actions_last_hour"] == 31


@pytest.mark.gen_test
async def test_a_stream_of_commits_makes_one_early_update_a_second(serve: Serve, own_cache: World) -> None:
    served = serve(cache=own_cache)
    async with live(served, USER_1) as client:
        await settled(served, client)
        heard: list[tuple[float, int]] = []
        began = time.monotonic()
        while len(heard) < 3:
            commit(own_cache[0], 1)
            try:
                update = await asyncio.wait_for(client.recv(), 0.05)
            except TimeoutError:
                continue
            assert '"metrics_update"' in str(update)
            heard.append((time.monotonic(), 0))
        gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(heard)]
        assert min(gaps) > 0.9
        assert time.monotonic() - began < 30


@pytest.mark.gen_test
async def test_commits_that_change_no_number_and_no_commits_make_no_early_update(
    serve: Serve, own_cache: World
) -> None:
    served = serve(cache=own_cache)
    async with live(served, USER_1) as client:
        await settled(served, client)
        commit(own_cache[0], 1, ago=timedelta(days=3))
        changes = served.server.broadcaster._changes
        assert changes is not None
        await until(lambda: changes._version == own_cache[0].table_version("agent_actions", "audit_logs", "users"))
        for _ in range(3):
            await served.server.broadcaster._watch()
        assert served.services.metrics.websocket_pushes == 0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.1)


@pytest.mark.gen_test
async def test_a_row_dated_a_little_ahead_of_our_clock_is_shown_when_its_time_has_come(
    serve: Serve, own_cache: World
) -> None:
    served = serve(cache=own_cache)
    async with live(served, USER_1) as client:
        await settled(served, client)
        commit(own_cache[0], 1, ago=timedelta(seconds=-0.5))
        await until(lambda: served.server.broadcaster._delivered[1].next_push > 0)
        assert served.services.metrics.websocket_pushes == 0
        served.clock.advance(1)
        assert (await message(client))["metrics"]["recent_actions_last_hour"] == 13


@pytest.mark.gen_test
async def test_the_setting_switches_early_updates_off(serve: Serve, own_cache: World) -> None:
    served = serve(cache=own_cache, websocket={"push_on_change": False})
    async with live(served, USER_1) as client:
        for _ in range(2):
            await message(client)
        commit(own_cache[0], 1)
        await served.server.broadcaster._watch()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.4)
        await served.server.broadcaster.tick()
        assert (await message(client))["metrics"]["recent_actions_last_hour"] == 13


@pytest.mark.gen_test
async def test_an_update_carries_the_documented_fields_and_those_the_deployed_page_reads(served: Served) -> None:
    async with live(served, USER_1) as client:
        await message(client)
        update = await message(client)
    assert list(update) == ["type", "timestamp", "metrics", "system_metrics", "data_quality"]
    assert set(update["metrics"]) == {
        "active_websocket_connections", "recent_actions_last_hour", "high_risk_actions_last_hour",
        "active_agents_last_hour", "active_users", "cpu_usage", "memory_usage", "response_time",
    }  # fmt: skip
    assert set(update["system_metrics"]) == {"status", "cpu_usage", "memory_usage", "response_time"}
