"""/api/analytics/ws/realtime/{user_email}: everything is decided before the upgrade; afterwards clients only listen."""

from __future__ import annotations

import asyncio
import base64
import binascii
import socket
from typing import Any

from tornado.websocket import WebSocketHandler, WebSocketProtocol, _WebSocketParams

from analytics.responses import connection_message, encode
from config.utc_text import utc_text
from handlers.audit.access_record import caller_members
from handlers.base import ApiHandler
from handlers.live.broadcaster import Broadcaster
from handlers.live.frames import PING_FRAME, StrictProtocol, text_frame
from handlers.parameters import read_options
from handlers.problem import Refusal, bad_request, forbidden

MAX_CLIENT_MESSAGE = 4096
KERNEL_BUFFER_BYTES = 65_536
CLOSE_SECONDS = 2.0
NOT_YOURS = "This live feed belongs to another user"
ORIGIN_REFUSED = "This page may not open a live connection"


class LiveHandler(ApiHandler, WebSocketHandler):
    """One live connection.

    The Origin must be one of the services' `origins`, character by character; only a client that shows a key or
    bearer token may come without one. The path's e-mail must be the caller's own; any other gives one and the same 403.
    """

    def initialize(self, broadcaster: Broadcaster, **common: object) -> None:  # type: ignore[override]
        super().initialize(**common)  # type: ignore[arg-type]
        self._broadcaster = broadcaster
        self._counted = False
        self._wire: StrictProtocol | None = None
        self._end_event = "ws_closed"

    # -- handshake -------------------------------------------------------------------------------------------------

    async def get(self, email: str) -> None:
        read_options(self.request.query_arguments, (), self.services.zones)
        self._check_handshake()
        self._check_origin_header()
        own = self.principal.email
        if not own or email.lower() != own.lower():
            raise forbidden(NOT_YOURS, "email_of_another")
        if self.services.draining.is_set():
            raise Refusal(503, "The server is stopping", "draining", {"Retry-After": "2"})
        assert self.caller is not None  # noqa: S101 - the access rule has seen to it
        self._broadcaster.reserve(self.caller)
        self._counted = True
        try:
            await super().get(email)
        finally:
            self._release()

    def _check_handshake(self) -> None:
        headers = self.request.headers
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        if headers.get("Upgrade", "").lower() != "websocket":
            raise Refusal(426, "This path speaks WebSocket only", "no_upgrade", upgrade)
        if headers.get("Sec-WebSocket-Version") != "13":
            raise Refusal(426, "WebSocket version 13 is needed", "websocket_version", upgrade)
        connection = {token.strip().lower() for token in headers.get("Connection", "").split(",")}
        if "upgrade" not in connection or self.request.version != "HTTP/1.1":
            raise bad_request("The handshake needs HTTP/1.1 and Connection: Upgrade", "websocket_connection")
        if headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers:
            raise bad_request("The handshake has no body", "websocket_body")
        if not _sixteen_bytes(headers.get_list("Sec-WebSocket-Key")):
            raise bad_request("Sec-WebSocket-Key must be 16 bytes in base64", "websocket_key")

    def _check_origin_header(self) -> None:
        origins = self.request.headers.get_list("Origin")
        if len(origins) > 1:
            raise bad_request("The Origin header must be given once", "origin_repeated")
        if not origins:
            if self.caller is not None and self.caller.by_cookie:
                raise forbidden(ORIGIN_REFUSED, "origin_missing")
            return
        if origins[0] not in self.services.origins:
            raise forbidden(ORIGIN_REFUSED, "origin_not_allowed")

    def check_origin(self, origin: str) -> bool:
        return True  # decided by _check_origin_header, more strictly than the framework does

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        # Tornado's pings are off, as they need a task and a timer per client; the broadcaster pings all clients in one round.
        self._wire = StrictProtocol(self, False, _WebSocketParams(max_message_size=MAX_CLIENT_MESSAGE))
        return self._wire

    # -- the open connection ---------------------------------------------------------------------------------------

    def open(self, email: str) -> None:
        self.set_nodelay(True)
        self._bound_kernel_buffer()
        assert self._wire is not None  # noqa: S101 - it is what opened this connection
        outlet = self._wire.open_outlet()
        message = encode(connection_message(self.principal.email, self.services.clock()))
        outlet.send(memoryview(text_frame(message)))
        self._broadcaster.join(self, self.organization_id, outlet)

    def _bound_kernel_buffer(self) -> None:
        """By default the kernel buffers megabytes for a client that does not read, which hides that it does not."""
        if self._wire is not None and not self._wire.stream.closed():
            self._wire.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)

    def on_close(self) -> None:
        self._broadcaster.leave(self, self.organization_id)
        self._release()
        if self.services.settings.audit.enabled and self.caller is not None:
            self.services.audit.record(
                {
                    "time": utc_text(self.services.clock(), milliseconds=True),
                    "event": self._end_event,
                    "route": self.route.name,
                    "request_id": self.request_id,
                    "close_code": self.close_code,
                    "address": self.address,
                    **caller_members(self.caller),
                }
            )

    def audit_entry(self, path: str, status: int) -> dict[str, Any]:
        entry = super().audit_entry(path, status)
        return entry | {"event": "ws_open", "outcome": "success"} if status == 101 else entry

    def probe(self) -> bool:
        """Ping. False, without a ping, if no frame arrived since the last one."""
        if self._wire is None or self._wire.outlet is None or not self._wire.heard:
            return False
        self._wire.heard = False
        self._wire.outlet.send(PING_FRAME)
        return True

    def end(self, code: int, reason: str, event: str, cut_event: str = "") -> None:
        """Close with a code after the unread bytes; abort if the client does not close in turn.

        `event` names the end in the audit record; `cut_event`, if given, names it after an abort.
        """
        self._broadcaster.leave(self, self.organization_id)
        if self._wire is not None and not self._wire.is_closing():
            self._end_event = event
            self._wire.close(code, reason)
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.abort, cut_event or event)

    def abort(self, event: str) -> None:
        """End without a close frame; a connection that has already ended keeps its event."""
        if self._wire is not None and not self._wire.stream.closed():
            self._end_event = event
            self._wire.abort()

    def _release(self) -> None:
        if self._counted and self.caller is not None:
            self._counted = False
            self._broadcaster.release(self.caller)


def _sixteen_bytes(keys: list[str]) -> bool:
    if len(keys) != 1:
        return False
    try:
        return len(base64.b64decode(keys[0], validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
