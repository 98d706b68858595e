"""Checks the credentials of open connections until they expire or their rows change.

Connections opened with one credential end together. A credential is
checked again when its expiry timer fires, when the users or api_keys table, the revocation list or the token keys change,
and every half second if it is not in those tables.
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
EXTERNAL_CHECK_SECONDS = 0.5  # between two checks of credentials that are not in the tables
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
        self._watched: dict[Authentication, WatchedCredential[Member]] = {}
        self._fresh: set[Authentication] = set()
        self._seen = self._version()
        self._next_external_check = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, member: Member, caller: Authentication) -> None:
        watched = self._watched.get(caller)
        if watched is None:
            watched = self._watched[caller] = WatchedCredential()
            self._set_end(caller, watched, stated_end(caller, self._leeway))
            # A row may have changed, and the change been dealt with, between this credential's look-up and now.
            self._fresh.add(caller)
        watched.members.add(member)

    def remove(self, member: Member, caller: Authentication) -> None:
        watched = self._watched.get(caller)
        if watched is None:
            return
        watched.members.discard(member)
        if not watched.members:
            self._disarm(watched)
            del self._watched[caller]

    def due(self, now: datetime) -> list[Authentication]:
        """The credentials to confirm: all of them once a table has changed, otherwise new ones and those whose time has
        come."""
        fresh, self._fresh = self._fresh, set()
        version = self._version()
        if version != self._seen:
            self._seen = version
            return list(self._watched)
        monotonic_seconds = time.monotonic()
        external_due = monotonic_seconds >= self._next_external_check
        if external_due:
            self._next_external_check = monotonic_seconds + EXTERNAL_CHECK_SECONDS
        return [
            caller
            for caller, watched in self._watched.items()
            if (watched.ends is not None and now >= watched.ends)
            or (external_due and not in_tables(caller))
            or (fresh and caller in fresh)
        ]

    async def confirm(self, callers: Iterable[Authentication]) -> None:
        """Dismiss the connections of credentials that are no longer valid."""
        callers = [caller for caller in callers if caller in self._watched]
        if not callers:
            return
        if not await self._look_up(callers):
            return
        began = time.monotonic()
        for caller in callers:
            holds = await self._holds(caller, self._services.clock())
            ends = await self._current_end(caller) if holds else None
            watched = self._watched.get(caller)
            if watched is None:
                continue
            if holds:
                self._set_end(caller, watched, ends)
            else:
                for member in list(watched.members):
                    self._dismiss(member)
            if time.monotonic() - began > SLICE_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()

    async def close(self) -> None:
        """Stop all timers."""
        for watched in self._watched.values():
            self._disarm(watched)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- one credential --------------------------------------------------------------------------------------------

    async def _look_up(self, callers: list[Authentication]) -> bool:
        """Look up all callers in one query. False while there is no cache, so that no credential is dismissed."""
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
            return True  # a copy is in progress: keep the credential
        except Exception:
            log.exception("a live credential could not be confirmed")
            return False

    async def _current_end(self, caller: Authentication) -> datetime | None:
        """As `stated_end`, but for a platform key the expiry in its current row."""
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

    def _set_end(self, caller: Authentication, watched: WatchedCredential[Member], ends: datetime | None) -> None:
        self._disarm(watched)
        watched.ends = ends
        if ends is not None:
            seconds = (ends - self._services.clock()).total_seconds()
            seconds = min(max(seconds, SHORTEST_TIMER_SECONDS), LONGEST_TIMER_SECONDS)
            watched.timer = asyncio.get_running_loop().call_later(seconds, self._expire, caller)

    def _expire(self, caller: Authentication) -> None:
        task = asyncio.get_running_loop().create_task(self.confirm([caller]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _disarm(watched: WatchedCredential[Member]) -> None:
        if watched.timer is not None:
            watched.timer.cancel()
            watched.timer = None

    @property
    def _leeway(self) -> float:
        return self._services.settings.auth.leeway_seconds

    def _version(self) -> tuple[object, ...]:
        services = self._services
        keys = services.verifier.ring.version(services.clock().timestamp())
        return services.cache.table_version(*TABLES), services.revocations.now, keys


def stated_end(caller: Authentication, leeway_seconds: float) -> datetime | None:
    """When the credential ends (aware UTC): a token's exp plus the leeway, or a key's expiry; None: never."""
    subject = caller.proof.subject
    if isinstance(subject, Claims):
        return datetime.fromtimestamp(subject.expires_at, UTC) + timedelta(seconds=leeway_seconds)
    return subject.expires_at


def in_tables(caller: Authentication) -> bool:
    """Whether nothing but time and the tables can end the credential; a session of the page ends by sign-out too."""
    return caller.proof.session is None and isinstance(caller.proof.subject, Claims | ApiKey)
