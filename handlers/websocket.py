"""/api/analytics/ws/realtime/{user_email}: everything is decided before the upgrade; afterwards clients only listen."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from tornado.websocket import WebSocketHandler, WebSocketProtocol, _WebSocketParams

from handlers.base import ApiHandler, describe
from handlers.broadcaster import Broadcaster, stamp
from handlers.frames import StrictProtocol
from handlers.parameters import read_options
from handlers.problem import Refusal, bad_request, forbidden
from handlers.trail.writer import stamp as moment

MAX_CLIENT_MESSAGE = 4096
NOT_YOURS = "This live feed belongs to another user"
ORIGIN_REFUSED = "This page may not open a live connection"


class LiveHandler(ApiHandler, WebSocketHandler):
    """One live connection.

    The Origin must be listed in `websocket.allowed_origins`, character by character; only a client that shows a key or
    bearer token may come without one. The path's e-mail must be the caller's own; any other gives one and the same 403.
    """

    def initialize(self, broadcaster: Broadcaster, **common: object) -> None:  # type: ignore[override]
        super().initialize(**common)  # type: ignore[arg-type]
        self._broadcaster = broadcaster
        self._place_taken = False
        self._end_reason = "ws_closed"

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
        self._place_taken = True
        try:
            await super().get(email)
        finally:
            self._give_back_place()

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
        if origins[0] not in self.services.settings.websocket.allowed_origins:
            raise forbidden(ORIGIN_REFUSED, "origin_not_allowed")

    def check_origin(self, origin: str) -> bool:
        return True  # decided by _check_origin_header, more strictly than the framework does

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        interval = self.services.settings.websocket.ping_seconds
        return StrictProtocol(
            self,
            False,
            _WebSocketParams(ping_interval=interval, ping_timeout=interval, max_message_size=MAX_CLIENT_MESSAGE),
        )

    # -- the open connection ---------------------------------------------------------------------------------------

    def open(self, email: str) -> None:
        self.set_nodelay(True)
        self.write_message(
            json.dumps(
                {
                    "type": "connection",
                    "status": "connected",
                    "message": f"Real-time analytics connected for {self.principal.email}",
                    "timestamp": stamp(self.services.clock()),
                }
            )
        )
        self._broadcaster.join(self, self.organization_id)

    def on_message(self, message: str | bytes) -> None:
        """Clients have nothing to say."""

    def on_close(self) -> None:
        self._broadcaster.leave(self, self.organization_id)
        self._give_back_place()
        if self.services.settings.audit.enabled and self.caller is not None:
            self.services.audit.record(
                {
                    "time": moment(self.services.clock()),
                    "event": self._end_reason,
                    "route": self.route.name,
                    "request_id": self.request_id,
                    "close_code": self.close_code,
                    "address": self.address,
                    **describe(self.caller),
                }
            )

    def audit_entry(self, path: str, status: int) -> dict[str, Any]:
        entry = super().audit_entry(path, status)
        return entry | {"event": "ws_open", "outcome": "success"} if status == 101 else entry

    def send_frame(self, frame: bytes) -> None:
        if isinstance(self.ws_connection, StrictProtocol) and not self.ws_connection.is_closing():
            self.ws_connection.send_frame(frame)

    def unsent_bytes(self) -> int:
        return self.ws_connection.unsent_bytes if isinstance(self.ws_connection, StrictProtocol) else 0

    def end(self, code: int, reason: str) -> None:
        """Close with a code; nothing is sent afterwards."""
        if code == 4401:
            self._end_reason = "ws_expired"
        self._broadcaster.leave(self, self.organization_id)
        if isinstance(self.ws_connection, StrictProtocol):
            self.ws_connection.close(code, reason)

    def abort(self, reason: str) -> None:
        if isinstance(self.ws_connection, StrictProtocol):
            self._end_reason = reason
            self.ws_connection.abort()

    def _give_back_place(self) -> None:
        if self._place_taken and self.caller is not None:
            self._place_taken = False
            self._broadcaster.release(self.caller)


def _sixteen_bytes(keys: list[str]) -> bool:
    if len(keys) != 1:
        return False
    try:
        return len(base64.b64decode(keys[0], validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
