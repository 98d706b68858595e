"""PUT and DELETE …/predictive/anomalies/{id}/acknowledgement: an analyst marks an anomaly as known, or withdraws that.

It changes something, so a request that a cookie authenticates needs the exact origin of one of our pages.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from typing import Any

from config.utc_text import utc_text
from handlers.base import ApiHandler
from handlers.parameters import read_options
from handlers.problem import Refusal, forbidden

log = logging.getLogger(__name__)

NAME = "/api/analytics/predictive/anomalies/acknowledgement"
PATTERN = "/api/analytics/predictive/anomalies/([0-9a-f]{16})/acknowledgement"
METHODS = ("PUT", "DELETE")
ORIGIN_REFUSED = "This page may not acknowledge anomalies; its address is not in websocket.allowed_origins"
NO_SUCH_ANOMALY = "No current anomaly of the organization has this id; read /predictive/trends again"
NOT_KEPT = "The acknowledgement cannot be recorded at the moment; see the server's log"
RETRY_SECONDS = 30


class AcknowledgementHandler(ApiHandler):
    """PUT: 200 with who acknowledged and when; again: the newer one counts. DELETE: 204. 404 for an unknown anomaly."""

    SUPPORTED_METHODS = ("PUT", "DELETE", "OPTIONS")

    async def put(self, anomaly_id: str) -> None:
        self._check_request()
        try:
            acknowledgement = await self.services.forecasting.acknowledge(
                self.organization_id, anomaly_id, self.principal.name
            )
        except sqlite3.Error as error:
            raise self._not_kept(error) from error
        if acknowledgement is None:
            raise Refusal(404, NO_SUCH_ANOMALY, "unknown_anomaly")
        self.set_header("Content-Type", "application/json")
        body = {
            "acknowledged_at": utc_text(acknowledgement.acknowledged_at, milliseconds=True),
            "acknowledged_by": acknowledgement.acknowledged_by,
        }
        self.finish(json.dumps(body).encode())

    async def delete(self, anomaly_id: str) -> None:
        self._check_request()
        try:
            known = await self.services.forecasting.withdraw(self.organization_id, anomaly_id)
        except sqlite3.Error as error:
            raise self._not_kept(error) from error
        if not known:
            raise Refusal(404, NO_SUCH_ANOMALY, "unknown_anomaly")
        self.set_status(204)
        self.clear_header("Content-Type")

    def _check_request(self) -> None:
        read_options(self.request.query_arguments, (), self.services.zones)
        headers = self.request.headers
        if self.caller is None or not self.caller.by_cookie:
            return
        origins = headers.get_list("Origin")
        if (
            len(origins) != 1
            or origins[0] not in self.services.origins
            or headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
        ):
            raise forbidden(ORIGIN_REFUSED, "origin_not_allowed")

    def _not_kept(self, error: sqlite3.Error) -> Refusal:
        log.error("an acknowledgement cannot be recorded: %s", error)
        return Refusal(503, NOT_KEPT, "acknowledgement_not_kept", {"Retry-After": str(RETRY_SECONDS)})

    def audit_entry(self, path: str, status: int) -> dict[str, Any]:
        """An access with an event name of its own, because it changes what others see."""
        event = "acknowledge" if self.request.method == "PUT" else "withdraw_acknowledgement"
        return super().audit_entry(path, status) | {"event": event}
