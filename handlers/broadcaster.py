"""Live updates: one computation and one encoded frame per organization and tick, written to all of its clients."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from datetime import datetime
from typing import Any, Protocol

from tornado.ioloop import PeriodicCallback

from analytics.cache import CacheNotReadyError
from analytics.views import ViewKey
from handlers.frames import text_frame
from handlers.principal import Authentication
from handlers.problem import Refusal
from handlers.services import Services

log = logging.getLogger(__name__)

GOING_AWAY = 1001
TRY_AGAIN_LATER = 1013
CREDENTIAL_ENDED = 4401
CLIENTS_BETWEEN_PAUSES = 500
CLOSE_SECONDS = 2.0


class Client(Protocol):
    """An open live connection, as the broadcaster sees it."""

    caller: Authentication | None

    def send_frame(self, frame: bytes) -> None: ...
    def unsent_bytes(self) -> int: ...
    def end(self, code: int, reason: str) -> None: ...
    def abort(self, reason: str) -> None: ...


class Broadcaster:
    """Owns the live clients. Belongs to the event loop.

    A tick first confirms each client's credential, then writes one frame per organization. A client that does not read is
    dropped when its unsent bytes pass the bound; nobody waits for it. A tick that is still running when the next is due
    makes that one fall out.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._clients: dict[int, set[Client]] = {}
        self._per_user: Counter[tuple[Any, ...]] = Counter()
        self._reserved = 0
        self._welcomes: dict[int, list[Client]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: PeriodicCallback | None = None

    @property
    def total(self) -> int:
        """Open connections and handshakes that hold a place."""
        return self._reserved

    @property
    def organizations(self) -> int:
        return len(self._clients)

    def connections(self, organization_id: int) -> int:
        return len(self._clients.get(organization_id, ()))

    # -- places ----------------------------------------------------------------------------------------------------

    def reserve(self, caller: Authentication) -> None:
        """Take a place before the upgrade; raises `Refusal` 429 for one user's many, 503 when all are taken."""
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

    def join(self, client: Client, organization_id: int) -> None:
        """Add an open connection; its first metrics follow as soon as they are computed."""
        self._clients.setdefault(organization_id, set()).add(client)
        waiting = self._welcomes.get(organization_id)
        if waiting is not None:
            waiting.append(client)
            return
        self._welcomes[organization_id] = [client]
        task = asyncio.get_running_loop().create_task(self._welcome(organization_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def leave(self, client: Client, organization_id: int) -> None:
        clients = self._clients.get(organization_id)
        if clients is not None:
            clients.discard(client)
            if not clients:
                del self._clients[organization_id]

    async def _welcome(self, organization_id: int) -> None:
        """First metrics of new clients; those who join during a computation share the next."""
        try:
            while waiting := self._welcomes[organization_id]:
                self._welcomes[organization_id] = []
                frame = await self._frame(organization_id)
                present = self._clients.get(organization_id, set())
                self.deliver([client for client in waiting if client in present], frame)
        finally:
            del self._welcomes[organization_id]

    # -- ticks -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin ticking; needs a running event loop."""
        self._timer = PeriodicCallback(self.tick, self._services.settings.websocket.interval_seconds * 1000)
        self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    async def tick(self) -> None:
        """Confirm credentials, then update every organization that has clients; none waits for another."""
        now = self._services.clock()
        for clients in list(self._clients.values()):
            await self._confirm(list(clients), now)
        await asyncio.gather(*(self._update(organization_id) for organization_id in list(self._clients)))

    async def _update(self, organization_id: int) -> None:
        if not self.connections(organization_id):
            return
        frame = await self._frame(organization_id)
        self.deliver(list(self._clients.get(organization_id, ())), frame)

    def deliver(self, clients: list[Client], frame: bytes) -> None:
        """Write one frame to clients; drops those that have not read what they were sent before."""
        bound = self._services.settings.websocket.max_backlog_bytes
        metrics = self._services.metrics
        for client in clients:
            if client.unsent_bytes() > bound:
                metrics.websockets_dropped_slow += 1
                client.abort("ws_slow")
                continue
            client.send_frame(frame)
            metrics.websocket_messages += 1

    async def _frame(self, organization_id: int) -> bytes:
        key = ViewKey("metrics_update", organization_id, (("connections", self.connections(organization_id)),))
        publisher = self._services.publisher
        try:
            published = publisher.cached(key) or await publisher.get(key)
        except CacheNotReadyError:
            return text_frame(self._failure("The first copy of the source is not complete"))
        except Exception:
            log.exception("live metrics of organization %d failed", organization_id)
            return text_frame(self._failure("Metrics are temporarily unavailable"))
        return text_frame(published.body)

    def _failure(self, message: str) -> bytes:
        settings = self._services.settings
        return json.dumps(
            {
                "type": "metrics_update",
                "status": "error",
                "timestamp": stamp(self._services.clock()),
                "metrics": {"status": "error", "message": message},
                "data_quality": {"source": "real_database", "mock_data": settings.mock_data, "has_activity": False},
            }
        ).encode()

    async def _confirm(self, clients: list[Client], now: datetime) -> None:
        outcomes: dict[Authentication, bool] = {}
        for number, client in enumerate(clients, 1):
            caller = client.caller
            if caller is None:
                continue
            # Sockets opened with one credential stand and fall together.
            if caller not in outcomes:
                outcomes[caller] = await self._still_holds(caller, now)
            if not outcomes[caller]:
                client.end(CREDENTIAL_ENDED, "credential ended")
            if number % CLIENTS_BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)

    async def _still_holds(self, caller: Authentication, now: datetime) -> bool:
        try:
            return await self._services.authenticator.confirm(caller.proof, now) == caller.principal
        except Refusal:
            return False
        except CacheNotReadyError:
            return True  # a copy is under way: nothing is known against the credential
        except Exception:
            log.exception("a live credential could not be confirmed")
            return False

    # -- the end ---------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Close all clients with 1001 and wait for them; what has not answered after `seconds` is cut."""
        self.stop()
        clients = [client for group in list(self._clients.values()) for client in group]
        for client in clients:
            client.end(GOING_AWAY, "server stops")
        deadline = asyncio.get_running_loop().time() + min(seconds, CLOSE_SECONDS)
        while self._clients and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        for client in clients:
            client.abort("ws_drained")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def user_of(caller: Authentication) -> tuple[Any, ...]:
    """Whose connection counts together: a user id, or the e-mail where the source keeps no users."""
    principal = caller.principal
    return principal.organization_id, principal.user_id, principal.email.lower()


def stamp(moment: datetime) -> str:
    """UTC, whole seconds, as in the documented answers."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
