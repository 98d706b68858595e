"""Whether the credentials behind open connections still hold: until the moment they expire, and while their rows say so.

Connections opened with one credential stand and fall together. Four things make a credential be looked at again: a timer
set for its expiry, a change of the users or api_keys table, one of the revocation list or the keys for tokens, and, for
credentials those tables do not know, a second gone by.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from analytics.directory import ApiKey
from analytics.state.store import CacheNotReadyError
from handlers.auth.authenticator import Authentication
from handlers.auth.tokens import Claims
from handlers.live.time_slices import SLICE_SECONDS
from handlers.problem import Refusal
from handlers.services import Services

log = logging.getLogger(__name__)

TABLES = ("users", "api_keys")
OUTSIDE_SECONDS = 0.5  # between two looks at credentials that are not in the tables
LONGEST_TIMER_SECONDS = 86_400.0
SHORTEST_TIMER_SECONDS = 0.001

Member = TypeVar("Member")


@dataclass
class WatchedCredential(Generic[Member]):
    """One credential: its open connections and its end, None where it has none."""

    members: set[Member] = field(default_factory=set)
    ends: datetime | None = None
    timer: asyncio.TimerHandle | None = None


class CredentialWatch(Generic[Member]):
    """The credentials of open connections; `dismiss` is called for each connection whose credential has ended.

    Belongs to the event loop.
    """

    def __init__(self, services: Services, dismiss: Callable[[Member], None]) -> None:
        self._services = services
        self._dismiss = dismiss
        self._standings: dict[Authentication, WatchedCredential[Member]] = {}
        self._fresh: set[Authentication] = set()
        self._seen = self._version()
        self._next_look_outside = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._standings)

    def add(self, member: Member, caller: Authentication) -> None:
        standing = self._standings.get(caller)
        if standing is None:
            standing = self._standings[caller] = WatchedCredential()
            self._set_end(caller, standing, stated_end(caller, self._leeway))
            # A row may have changed, and the change been dealt with, between this credential's look-up and now.
            self._fresh.add(caller)
        standing.members.add(member)

    def remove(self, member: Member, caller: Authentication) -> None:
        standing = self._standings.get(caller)
        if standing is None:
            return
        standing.members.discard(member)
        if not standing.members:
            self._disarm(standing)
            del self._standings[caller]

    def due(self, now: datetime) -> list[Authentication]:
        """The credentials to confirm: all of them once a table has changed, otherwise new ones and those whose time has
        come."""
        fresh, self._fresh = self._fresh, set()
        version = self._version()
        if version != self._seen:
            self._seen = version
            return list(self._standings)
        moment = time.monotonic()
        outside = moment >= self._next_look_outside
        if outside:
            self._next_look_outside = moment + OUTSIDE_SECONDS
        return [
            caller
            for caller, standing in self._standings.items()
            if (standing.ends is not None and now >= standing.ends)
            or (outside and not in_tables(caller))
            or (fresh and caller in fresh)
        ]

    async def confirm(self, callers: Iterable[Authentication]) -> None:
        """Dismiss the connections of those credentials that hold no longer."""
        callers = [caller for caller in callers if caller in self._standings]
        if not callers:
            return
        if not await self._look_up(callers):
            return
        began = time.monotonic()
        for caller in callers:
            holds = await self._holds(caller, self._services.clock())
            ends = await self._current_end(caller) if holds else None
            standing = self._standings.get(caller)
            if standing is None:
                continue
            if holds:
                self._set_end(caller, standing, ends)
            else:
                for member in list(standing.members):
                    self._dismiss(member)
            if time.monotonic() - began > SLICE_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()

    async def close(self) -> None:
        """No timer fires any more."""
        for standing in self._standings.values():
            self._disarm(standing)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- one credential --------------------------------------------------------------------------------------------

    async def _look_up(self, callers: list[Authentication]) -> bool:
        """Ask the tables about all of them at once. False while there are no tables: nothing is known against anyone."""
        subjects = [caller.proof.subject for caller in callers]
        users = {caller.principal.user_id for caller in callers}
        users |= {subject.user_id for subject in subjects if isinstance(subject, Claims | ApiKey)}
        prefixes = {caller.proof.prefixes for caller in callers if isinstance(caller.proof.subject, ApiKey)}
        try:
            await self._services.directory.refresh([user for user in users if user is not None], prefixes)
        except CacheNotReadyError:
            return False
        except Exception:
            log.exception("the credentials of live clients could not be looked up together")
        return True

    async def _holds(self, caller: Authentication, now: datetime) -> bool:
        try:
            return await self._services.authenticator.confirm(caller.proof, now) == caller.principal
        except Refusal:
            return False
        except CacheNotReadyError:
            return True  # a copy is under way: nothing is known against the credential
        except Exception:
            log.exception("a live credential could not be confirmed")
            return False

    async def _current_end(self, caller: Authentication) -> datetime | None:
        """As `stated_end`, but a platform key's as its row says now."""
        subject = caller.proof.subject
        if not isinstance(subject, ApiKey):
            return stated_end(caller, self._leeway)
        try:
            rows = await self._services.directory.keys_with_prefix(caller.proof.prefixes)
        except CacheNotReadyError:
            return subject.expires_at
        except Exception:
            log.exception("the end of a live credential could not be looked up")
            return subject.expires_at
        return next((row.expires_at for row in rows if row.id == subject.id), subject.expires_at)

    def _set_end(self, caller: Authentication, standing: WatchedCredential[Member], ends: datetime | None) -> None:
        self._disarm(standing)
        standing.ends = ends
        if ends is not None:
            seconds = (ends - self._services.clock()).total_seconds()
            seconds = min(max(seconds, SHORTEST_TIMER_SECONDS), LONGEST_TIMER_SECONDS)
            standing.timer = asyncio.get_running_loop().call_later(seconds, self._expire, caller)

    def _expire(self, caller: Authentication) -> None:
        task = asyncio.get_running_loop().create_task(self.confirm([caller]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _disarm(standing: WatchedCredential[Member]) -> None:
        if standing.timer is not None:
            standing.timer.cancel()
            standing.timer = None

    @property
    def _leeway(self) -> float:
        return self._services.settings.auth.leeway_seconds

    def _version(self) -> tuple[object, ...]:
        services = self._services
        keys = services.verifier.ring.version(services.clock().timestamp())
        return services.cache.table_version(*TABLES), services.revocations.now, keys


def stated_end(caller: Authentication, leeway_seconds: float) -> datetime | None:
    """When the credential is refused from (aware UTC): a token's exp plus the leeway, a key's expiry; None: never."""
    subject = caller.proof.subject
    if isinstance(subject, Claims):
        return datetime.fromtimestamp(subject.expires_at, UTC) + timedelta(seconds=leeway_seconds)
    return subject.expires_at


def in_tables(caller: Authentication) -> bool:
    """Whether nothing but time and the tables can end the credential; a session of the page ends by sign-out too."""
    return caller.proof.session is None and isinstance(caller.proof.subject, Claims | ApiKey)
