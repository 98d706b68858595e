"""Who is known: the platform's users and API keys, answered from the cache; a bounded part is kept at hand."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from analytics.calendar import aware_utc
from analytics.single_flight import SingleFlight
from analytics.state.cache import Cache
from analytics.state.snapshot import Snapshot

MOST_ENTRIES = 20_000
LOOKUP_TIMEOUT_SECONDS = 5.0
REFRESH_FROM = 8  # fewer look-ups are made one by one

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


@dataclass(frozen=True)
class User:
    """A user of the platform as last synced. `organization_id` None: platform staff. `last_logout` is aware UTC."""

    id: int
    organization_id: int | None
    email: str
    role: str
    active: bool  # neither deactivated nor suspended
    last_logout: datetime | None


@dataclass(frozen=True)
class ApiKey:
    """An API key of the platform as last synced. Its hash and salt stay out of repr and logs."""

    id: int
    user_id: int
    organization_id: int | None
    key_hash: str = field(repr=False)
    salt: str = field(repr=False)
    key_prefix: str
    active: bool  # neither deactivated nor revoked; expiry is the caller's to judge
    expires_at: datetime | None


class CachedLookups(Generic[Key, Found]):
    """Look-ups by key, kept until the table they came from may have changed. Belongs to one event loop."""

    def __init__(self, cache: Cache, workers: Executor, table: str, lookup: Callable[[Snapshot, Key], Found]) -> None:
        self._cache = cache
        self._table = table
        self._lookup = lookup
        self._workers = workers
        self._entries: OrderedDict[Key, tuple[int, Found]] = OrderedDict()
        self._flights: SingleFlight[Key, tuple[int, Found]] = SingleFlight(workers, self._version)

    async def find(self, key: Key) -> Found:
        """Without a worker when the answer is known and the table has not moved. Raises `CacheNotReadyError`."""
        entry = self._entries.get(key)
        if entry is not None and entry[0] == self._version() and self._cache.ready:
            self._entries.move_to_end(key)
            return entry[1]
        _, found = await self._flights.join(key, lambda version: (version, self._read(key)), self._keep)
        return found

    async def refresh(
        self, keys: Iterable[Key], lookup: Callable[[Snapshot, Sequence[Key]], Mapping[Key, Found]]
    ) -> None:
        """Look up in one go what `find` would look up one by one; `look` has an answer for every key it is asked."""
        version = self._version()
        stale = [key for key in keys if key not in self._entries or self._entries[key][0] != version]
        if len(stale) < REFRESH_FROM:
            return

        def read() -> tuple[int, Mapping[Key, Found]]:
            known = self._version()
            with self._cache.read(LOOKUP_TIMEOUT_SECONDS) as snapshot:
                return known, lookup(snapshot, stale)

        known, found = await asyncio.get_running_loop().run_in_executor(self._workers, read)
        for key, value in found.items():
            self._keep(key, (known, value))

    def _version(self) -> int:
        return self._cache.table_version(self._table)

    def _read(self, key: Key) -> Found:
        with self._cache.read(LOOKUP_TIMEOUT_SECONDS) as snapshot:
            return self._lookup(snapshot, key)

    def _keep(self, key: Key, entry: tuple[int, Found]) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > MOST_ENTRIES:
            self._entries.popitem(last=False)


class Directory:
    """Users and API keys by what a credential names. All methods belong to one event loop.

    They raise `analytics.state.cache.CacheNotReadyError` before the first copy is done.
    """

    def __init__(self, cache: Cache, workers: Executor) -> None:
        self._users: CachedLookups[int, User | None] = CachedLookups(cache, workers, "users", find_user)
        self._keys: CachedLookups[tuple[str, ...], tuple[ApiKey, ...]] = CachedLookups(
            cache, workers, "api_keys", find_keys
        )

    async def user(self, user_id: int) -> User | None:
        """The user with this id, of whatever organization; None when there is none."""
        return await self._users.find(user_id)

    async def keys_with_prefix(self, prefixes: tuple[str, ...]) -> tuple[ApiKey, ...]:
        """The keys whose stored prefix is one of `prefixes`, by id; inactive ones too."""
        return await self._keys.find(prefixes)

    async def refresh(self, user_ids: Iterable[int], prefixes: Iterable[tuple[str, ...]]) -> None:
        """Make `user` and `keys_with_prefix` know the answers for many at once, with one question of each table."""
        await self._users.refresh(user_ids, find_users)
        await self._keys.refresh(prefixes, find_many_keys)


def find_user(snapshot: Snapshot, user_id: int) -> User | None:
    return next((_user(row) for row in snapshot.rows_across_organizations("user_by_id", user_id=user_id)), None)


def find_users(snapshot: Snapshot, user_ids: Sequence[int]) -> dict[int, User | None]:
    found: dict[int, User | None] = dict.fromkeys(user_ids)
    for row in snapshot.rows_across_organizations("users_by_ids", user_ids=",".join(map(str, user_ids))):
        found[row[0]] = _user(row)
    return found


def find_keys(snapshot: Snapshot, prefixes: tuple[str, ...]) -> tuple[ApiKey, ...]:
    return find_many_keys(snapshot, [prefixes])[prefixes]


def find_many_keys(snapshot: Snapshot, many: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[ApiKey, ...]]:
    by_prefix: dict[str, list[ApiKey]] = {}
    text = "\n".join(prefix for prefixes in many for prefix in prefixes)
    for row in snapshot.rows_across_organizations("keys_by_prefixes", prefixes=text):
        key = _api_key(row)
        by_prefix.setdefault(key.key_prefix, []).append(key)
    return {
        prefixes: tuple(
            sorted((key for prefix in prefixes for key in by_prefix.get(prefix, ())), key=lambda key: key.id)
        )
        for prefixes in many
    }


def _user(row: tuple[Any, ...]) -> User:
    user_id, organization_id, email, role, active, last_logout = row
    return User(user_id, organization_id, email or "", role or "", active, aware_utc(last_logout))


def _api_key(row: tuple[Any, ...]) -> ApiKey:
    key_id, user_id, organization_id, key_hash, salt, prefix, active, expires_at = row
    return ApiKey(key_id, user_id, organization_id, key_hash or "", salt or "", prefix, active, aware_utc(expires_at))
