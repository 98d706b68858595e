"""Who is known: the platform's users and API keys, answered from the cache; a bounded part is kept at hand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from analytics.cache import Cache, Snapshot
from analytics.calendar import aware_utc
from analytics.flights import Flights

KEPT_ENTRIES = 20_000
LOOKUP_TIMEOUT_SECONDS = 5.0

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


class Kept(Generic[Key, Found]):
    """Look-ups by key, kept until the table they came from may have changed. Belongs to one event loop."""

    def __init__(self, cache: Cache, workers: Executor, table: str, look: Callable[[Snapshot, Key], Found]) -> None:
        self._cache = cache
        self._table = table
        self._look = look
        self._entries: OrderedDict[Key, tuple[int, Found]] = OrderedDict()
        self._flights: Flights[Key, tuple[int, Found]] = Flights(workers, self._version)

    async def find(self, key: Key) -> Found:
        """Without a worker when the answer is known and the table has not moved. Raises `CacheNotReadyError`."""
        entry = self._entries.get(key)
        if entry is not None and entry[0] == self._version() and self._cache.ready:
            self._entries.move_to_end(key)
            return entry[1]
        _, found = await self._flights.join(key, lambda version: (version, self._read(key)), self._keep)
        return found

    def _version(self) -> int:
        return self._cache.table_version(self._table)

    def _read(self, key: Key) -> Found:
        with self._cache.read(LOOKUP_TIMEOUT_SECONDS) as snapshot:
            return self._look(snapshot, key)

    def _keep(self, key: Key, entry: tuple[int, Found]) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > KEPT_ENTRIES:
            self._entries.popitem(last=False)


class Directory:
    """Users and API keys by what a credential names. All methods belong to one event loop.

    They raise `analytics.cache.CacheNotReadyError` before the first copy is done.
    """

    def __init__(self, cache: Cache, workers: Executor) -> None:
        self._users: Kept[int, User | None] = Kept(cache, workers, "users", look_for_user)
        self._keys: Kept[tuple[str, ...], tuple[ApiKey, ...]] = Kept(cache, workers, "api_keys", look_for_keys)
        self._any: Kept[None, bool] = Kept(cache, workers, "users", look_for_any_user)

    async def user(self, user_id: int) -> User | None:
        """The user with this id, of whatever organization; None when there is none."""
        return await self._users.find(user_id)

    async def keys_with_prefix(self, prefixes: tuple[str, ...]) -> tuple[ApiKey, ...]:
        """The keys whose stored prefix is one of `prefixes`, by id; inactive ones too."""
        return await self._keys.find(prefixes)

    async def keeps_users(self) -> bool:
        """Whether the source has a users table with anybody in it; if not, users cannot be looked up at all."""
        return await self._any.find(None)


def look_for_user(snapshot: Snapshot, user_id: int) -> User | None:
    for found_id, organization_id, email, role, active, last_logout in snapshot.rows("user_by_id", user_id=user_id):
        return User(found_id, organization_id, email or "", role or "", active, aware_utc(last_logout))
    return None


def look_for_keys(snapshot: Snapshot, prefixes: tuple[str, ...]) -> tuple[ApiKey, ...]:
    return tuple(
        ApiKey(key_id, user_id, organization_id, key_hash or "", salt or "", prefix, active, aware_utc(expires_at))
        for key_id, user_id, organization_id, key_hash, salt, prefix, active, expires_at in snapshot.rows(
            "keys_by_prefix", prefixes=list(prefixes)
        )
    )


def look_for_any_user(snapshot: Snapshot, _: None) -> bool:
    ((found,),) = snapshot.rows("any_user")
    return bool(found)
