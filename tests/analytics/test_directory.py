"""Users and API keys by what a credential names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from analytics import directory
from analytics.directory import Directory
from analytics.state.cache import Cache
from analytics.state.store import CacheNotReadyError
from config.settings import Settings
from tests.analytics.rows import fill, filled_cache

THEN = datetime(2025, 1, 1, 12, tzinfo=UTC)


def user(number: int, **columns: Any) -> dict[str, Any]:
    return {"id": number, "organization_id": 1, "email": f"u{number}@x", "role": "user", **columns}


def key(number: int, **columns: Any) -> dict[str, Any]:
    stored = {"key_hash": "h" * 64, "salt": "salt", "key_prefix": f"prefix-{number}"}
    return {"id": number, "user_id": 1, "organization_id": 1, **stored, **columns}


USERS = [
    user(1, last_logout=THEN),
    user(2, is_active=False),
    user(3, is_suspended=True),
    user(4, organization_id=None, is_active=True, is_suspended=False),
]
KEYS = [
    key(1, expires_at=THEN),
    key(2, is_active=False),
    key(3, revoked_at=THEN),
    key(4, key_prefix="prefix-1", is_active=True),
]


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def cache(given: Settings) -> Iterator[Cache]:
    with filled_cache(given, users=USERS, api_keys=KEYS) as cache:
        yield cache


def test_users_are_as_synced(cache: Cache, workers: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        found = Directory(cache, workers)
        first = await found.user(1)
        assert first == directory.User(1, 1, "u1@x", "user", active=True, last_logout=THEN)
        assert [(await found.user(number)).active for number in (2, 3, 4)] == [False, False, True]  # type: ignore[union-attr]
        assert (await found.user(4)).organization_id is None  # type: ignore[union-attr]
        assert await found.user(5) is None
        assert await found.user(2**62) is None

    asyncio.run(scenario())


def test_keys_are_found_by_any_of_the_prefixes_and_their_secrets_are_not_shown(
    cache: Cache, workers: ThreadPoolExecutor
) -> None:
    async def scenario() -> None:
        found = Directory(cache, workers)
        both = await found.keys_with_prefix(("prefix-1", "prefix-2"))
        assert [(each.id, each.active, each.expires_at) for each in both] == [
            (1, True, THEN),
            (2, False, None),
            (4, True, None),
        ]
        assert [each.active for each in await found.keys_with_prefix(("prefix-3",))] == [False]
        assert await found.keys_with_prefix(("' or 1=1 --",)) == ()
        assert await found.keys_with_prefix(()) == ()
        assert "hhh" not in repr(both)
        assert "salt" not in repr(both)

    asyncio.run(scenario())


def test_a_known_entry_is_answered_without_a_worker_until_the_table_moves(cache: Cache) -> None:
    pool = ThreadPoolExecutor(1)

    async def scenario() -> None:
        found = Directory(cache, pool)
        before = await found.user(1)
        nobody = await found.user(9)
        pool.shutdown()
        assert await found.user(1) is before
        assert nobody is None
        assert await found.user(9) is None
        cache.touched("agent_actions")
        assert await found.user(1) is before
        cache.touched("users")
        with pytest.raises(CacheNotReadyError):
            await found.user(1)

    asyncio.run(scenario())


def test_a_change_is_seen_by_the_next_look_up(cache: Cache, workers: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        found = Directory(cache, workers)
        assert await found.user(20) is None
        store = cache.live
        assert store is not None
        fill(store, {"users": [user(20, role="admin")]})
        cache.touched("users")
        newcomer = await found.user(20)
        assert newcomer is not None
        assert newcomer.role == "admin"

    asyncio.run(scenario())


def test_no_more_than_a_bounded_part_is_kept(
    cache: Cache, workers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "MOST_ENTRIES", 10)

    async def scenario() -> None:
        found = Directory(cache, workers)
        for number in range(50):
            await found.user(number)
        assert len(found._users._entries) == 10

    asyncio.run(scenario())
