"""Live updates: one computation and one encoded frame per organization and tick, written to all of its clients."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from tornado.ioloop import PeriodicCallback

from analytics.state.store import CacheNotReadyError
from analytics.views import ViewKey
from config.utc_text import utc_text
from handlers.auth.authenticator import Authentication
from handlers.live.change_detection import ChangeDetector
from handlers.live.credential_watch import CredentialWatch
from handlers.live.frames import CREDENTIAL_ENDED, GOING_AWAY, POLICY_VIOLATION, TRY_AGAIN_LATER, Outlet, text_frame
from handlers.live.time_slices import TimeSlices
from handlers.problem import Refusal
from handlers.services import Services

log = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
CUT_SECONDS = 0.5
WATCH_SECONDS = 0.1  # between two checks for changes
PUSH_SECONDS = 1.0  # between two early updates of one organization
RETRY_SECONDS = 0.25  # between two attempts to see a change
UNSETTLED_SECONDS = 3.0  # how long a change may take to show: its rows may be dated by a clock ahead of ours
PUSHED_NUMBERS = (  # the numbers whose change triggers an early update
    "recent_actions_last_hour",
    "high_risk_actions_last_hour",
    "active_agents_last_hour",
    "active_users",
)

Numbers = tuple[Any, ...]


class Client(Protocol):
    """An open live connection, as the broadcaster sees it."""

    caller: Authentication | None

    def probe(self) -> bool: ...
    def end(self, code: int, reason: str, event: str, cut_event: str = "") -> None: ...
    def abort(self, event: str) -> None: ...


class DeliveredNumbers:
    """The numbers last sent to an organization's clients, and the times that control early updates."""

    def __init__(self, numbers: Numbers | None) -> None:
        self.numbers = numbers
        self.next_push = 0.0
        self.unsettled_until = 0.0


class Broadcaster:
    """Owns the live clients. Belongs to the event loop.

    A tick confirms credentials that are due, then writes one frame per organization. Between ticks, changes of credentials
    and numbers are noticed within a tenth of a second. A client that does not read is closed when its unsent bytes exceed
    the limit; no other client waits for it. If a tick is still running when the next is due, that one is skipped.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._clients: dict[int, set[Client]] = {}
        self._outlets: dict[Client, Outlet] = {}
        self._per_user: Counter[tuple[Any, ...]] = Counter()
        self._reserved = 0
        self._welcomes: dict[int, list[Client]] = {}
        self._delivered: dict[int, DeliveredNumbers] = {}
        self._slices = TimeSlices()
        self._credentials: CredentialWatch[Client] = CredentialWatch(services, _credential_ended)
        self._changes = ChangeDetector(services) if services.settings.websocket.push_on_change else None
        self._updating = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: tuple[PeriodicCallback, ...] = ()

    @property
    def total(self) -> int:
        """Open connections and handshakes that count against the limit."""
        return self._reserved

    @property
    def organizations(self) -> int:
        return len(self._clients)

    def connections(self, organization_id: int) -> int:
        return len(self._clients.get(organization_id, ()))

    # -- limits ----------------------------------------------------------------------------------------------------

    def reserve(self, caller: Authentication) -> None:
        """Count a connection before the upgrade. Raises `Refusal`: 429 at the limit of the user, 503 at the total limit."""
        settings = self._services.settings.websocket
        user = user_of(caller)
        if self._per_user[user] >= settings.max_per_user:
            raise Refusal(429, "Too many live connections of this user", "websockets_of_user", {"Retry-After": "10"})
        if self._reserved >= settings.max_total:
            raise Refusal(503, "Too many live connections", "websockets_in_all", {"Retry-After": "10"})
        self._per_user[user] += 1
        self._reserved += 1

    def release(self, caller: Authentication) -> None:
        user = user_of(caller)
        self._per_user[user] -= 1
        if self._per_user[user] <= 0:
            del self._per_user[user]
        self._reserved -= 1

    def join(self, client: Client, organization_id: int, outlet: Outlet) -> None:
        """Add an open connection; its first metrics follow as soon as they are computed."""
        self._outlets[client] = outlet
        self._clients.setdefault(organization_id, set()).add(client)
        if client.caller is not None:
            self._credentials.add(client, client.caller)
        waiting = self._welcomes.get(organization_id)
        if waiting is not None:
            waiting.append(client)
            return
        self._welcomes[organization_id] = [client]
        self._spawn(self._welcome(organization_id))

    def leave(self, client: Client, organization_id: int) -> None:
        self._outlets.pop(client, None)
        if client.caller is not None:
            self._credentials.remove(client, client.caller)
        clients = self._clients.get(organization_id)
        if clients is not None:
            clients.discard(client)
            if not clients:
                del self._clients[organization_id]
                self._delivered.pop(organization_id, None)

    async def _welcome(self, organization_id: int) -> None:
        """First metrics of new clients; those who join during a computation share the next."""
        try:
            while waiting := self._welcomes[organization_id]:
                self._welcomes[organization_id] = []
                frame, numbers = await self._compose(organization_id)
                present = self._clients.get(organization_id, set())
                if present and organization_id not in self._delivered:
                    self._delivered[organization_id] = self._watch_closely(DeliveredNumbers(numbers))
                await self.deliver([client for client in waiting if client in present], frame)
        finally:
            del self._welcomes[organization_id]

    # -- ticks and changes -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the timers for ticks, checks and pings. Requires an event loop."""
        settings = self._services.settings.websocket
        self._timers = (
            PeriodicCallback(self.tick, settings.interval_seconds * 1000),
            PeriodicCallback(self._watch, WATCH_SECONDS * 1000),
            PeriodicCallback(self._ping, settings.ping_seconds * 1000),
        )
        for timer in self._timers:
            timer.start()

    def stop(self) -> None:
        for timer in self._timers:
            timer.stop()

    async def tick(self) -> None:
        """Confirm credentials, then update all organizations with clients concurrently."""
        if not self._clients:
            return
        async with self._updating:
            await self._credentials.confirm(self._credentials.due(self._services.clock()))
            await asyncio.gather(*(self._update(organization_id) for organization_id in list(self._clients)))

    async def _update(self, organization_id: int) -> None:
        if not self.connections(organization_id):
            return
        frame, numbers = await self._compose(organization_id)
        if self.connections(organization_id):
            self._delivered.setdefault(organization_id, DeliveredNumbers(None)).numbers = numbers
            await self.deliver(list(self._clients[organization_id]), frame)

    async def _watch(self) -> None:
        """Between ticks: credentials that ended, numbers that changed."""
        if not self._clients:
            return
        await self._credentials.confirm(self._credentials.due(self._services.clock()))
        if self._changes is not None and not self._updating.locked():
            async with self._updating:
                await self._push(self._changes)

    async def _push(self, changes: ChangeDetector) -> None:
        for organization_id in await changes.look():
            if organization_id in self._delivered:
                self._watch_closely(self._delivered[organization_id])
        for organization_id, delivered in list(self._delivered.items()):
            now = self._now()
            if delivered.next_push <= now < delivered.unsettled_until:
                await self._push_to(organization_id, delivered)

    async def _push_to(self, organization_id: int, delivered: DeliveredNumbers) -> None:
        """Send the organization's update now if its numbers differ from those its clients have."""
        delivered.next_push = self._now() + RETRY_SECONDS
        frame, numbers = await self._compose(organization_id)
        if numbers is None or numbers == delivered.numbers or not self.connections(organization_id):
            return
        delivered.numbers = numbers
        delivered.unsettled_until = 0.0
        self._services.metrics.websocket_pushes += 1
        await self.deliver(list(self._clients[organization_id]), frame)
        delivered.next_push = self._now() + PUSH_SECONDS

    def _watch_closely(self, delivered: DeliveredNumbers) -> DeliveredNumbers:
        delivered.unsettled_until = self._now() + UNSETTLED_SECONDS
        return delivered

    async def deliver(self, clients: Sequence[Client], frame: bytes) -> None:
        """Write one frame to clients; close those with too many unread bytes with 1013."""
        bound = self._services.settings.websocket.max_backlog_bytes
        shared, outlets = memoryview(frame), self._outlets

        def write(client: Client) -> None:
            outlet = outlets.get(client)
            if outlet is not None and outlet.send(shared) > bound:
                self._services.metrics.websockets_dropped_slow += 1
                client.end(TRY_AGAIN_LATER, "does not read", "ws_slow")

        await self._slices.each(clients, write)
        self._services.metrics.websocket_messages += len(clients)

    async def _compose(self, organization_id: int) -> tuple[bytes, Numbers | None]:
        """The organization's current frame and numbers; the numbers are None if they could not be computed."""
        key = ViewKey("metrics_update", organization_id, (("connections", self.connections(organization_id)),))
        publisher = self._services.publisher
        try:
            published = publisher.cached(key) or await publisher.get(key)
        except CacheNotReadyError:
            return text_frame(self._failure("The first copy of the source is not complete")), None
        except Exception:
            log.exception("live metrics of organization %d failed", organization_id)
            return text_frame(self._failure("Metrics are temporarily unavailable")), None
        metrics = json.loads(published.body)["metrics"]
        return text_frame(published.body), tuple(metrics[name] for name in PUSHED_NUMBERS)

    def _failure(self, message: str) -> bytes:
        settings = self._services.settings
        return json.dumps(
            {
                "type": "metrics_update",
                "status": "error",
                "timestamp": utc_text(self._services.clock()),
                "metrics": {"status": "error", "message": message},
                "data_quality": {"source": "real_database", "mock_data": settings.mock_data, "has_activity": False},
            }
        ).encode()

    # -- pings -----------------------------------------------------------------------------------------------------

    async def _ping(self) -> None:
        """Ping every client and end those that sent no frame since the last ping."""

        def probe(client: Client) -> None:
            if not client.probe():
                self._services.metrics.websockets_silent += 1
                client.end(POLICY_VIOLATION, "no answer to pings", "ws_silent")
                client.abort("ws_silent")

        await self._slices.each(self._everyone(), probe)

    # -- shutdown ---------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Close all clients with 1001 and wait for them; abort those still open after `seconds`."""
        self.stop()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(seconds, CLOSE_SECONDS)
        clients = self._everyone()
        await self._slices.each(
            clients, lambda client: client.end(GOING_AWAY, "server stops", "ws_closed", "ws_drained")
        )
        while self._reserved and loop.time() < deadline:
            await asyncio.sleep(0.01)
        await self._slices.each(clients, lambda client: client.abort("ws_drained"))
        deadline = loop.time() + CUT_SECONDS
        while self._reserved and loop.time() < deadline:
            await asyncio.sleep(0)  # each must leave and be recorded before the audit trail closes
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._credentials.close()

    def _everyone(self) -> list[Client]:
        return [client for clients in self._clients.values() for client in clients]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _credential_ended(client: Client) -> None:
    client.end(CREDENTIAL_ENDED, "credential ended", "ws_expired")


def user_of(caller: Authentication) -> tuple[Any, ...]:
    """Identifies the user that a connection counts for: the user id, or the e-mail if the source has no users."""
    principal = caller.principal
    return principal.organization_id, principal.user_id, principal.email.lower()
