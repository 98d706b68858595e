"""The response to a refused or failed request: RFC 9457 problem documents, one shape for every error.

`detail` is the text that the platform's clients already read; it never contains text of an exception, a path or a secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from analytics.state.store import CacheDamagedError, CacheNotReadyError
from analytics.state.sync_status import InitialCopyProgress
from analytics.telemetry import TelemetryUnavailableError
from analytics.views import ViewTimeoutError

RETRY_SECONDS = 2
PROBLEM_TYPE = "application/problem+json"
AUTHENTICATION_REQUIRED = "Authentication required"
ADMIN_REQUIRED = "Admin access required"
ANALYST_REQUIRED = "Analyst or admin access required"
ORGANIZATION_REQUIRED = "Organization context required for this operation"


@dataclass
class Refusal(Exception):
    """Ends a request with a problem document.

    `reason` is the code of the audit record and the log; clients never see it. `extra` holds additional members of the body.
    """

    status: int
    detail: str
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status} {self.reason}"


def unauthenticated(reason: str) -> Refusal:
    """401, with the same response for every reason, so that it reveals nothing about the credential."""
    return Refusal(401, AUTHENTICATION_REQUIRED, reason, {"WWW-Authenticate": "Bearer"})


def forbidden(detail: str, reason: str) -> Refusal:
    return Refusal(403, detail, reason)


def bad_request(detail: str, reason: str, **extra: Any) -> Refusal:
    return Refusal(400, detail, reason, extra=extra)


def refusal_for(status: int, error: BaseException | None, allow: str, progress: InitialCopyProgress | None) -> Refusal:
    """The refusal that an error ends a request with. `status` is the framework's; `allow` lists the methods of the route."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, CacheDamagedError):
        return Refusal(
            503,
            "Part of the cache cannot be read; it is copied from the source again",
            "cache_damaged",
            {"Retry-After": str(RETRY_SECONDS)},
        )
    if isinstance(error, CacheNotReadyError):
        return _not_ready(progress)
    if isinstance(error, ViewTimeoutError):
        return Refusal(
            503,
            "The answer took too long to compute; try again",
            "view_timeout",
            {"Retry-After": str(RETRY_SECONDS)},
        )
    if isinstance(error, TelemetryUnavailableError):
        return Refusal(503, str(error), "telemetry_unavailable", {"Retry-After": str(error.retry_seconds)})
    if status == 405:
        return Refusal(405, "Method Not Allowed", "method", {"Allow": allow})
    if 400 <= status < 500:
        return Refusal(status, phrase(status), f"http_{status}")
    return Refusal(500, "Internal Server Error", "unexpected")


def _not_ready(progress: InitialCopyProgress | None) -> Refusal:
    extra: dict[str, Any] = {}
    if progress is not None:
        extra["progress"] = {
            "percent": progress.percent,
            "rows": progress.rows_copied,
            "rows_estimated": progress.rows_estimated,
            "table": progress.table,
        }
    return Refusal(
        503,
        "The first copy of the source is not complete",
        "cache_not_ready",
        {"Retry-After": str(RETRY_SECONDS)},
        extra,
    )


def problem_body(status: int, detail: str, request_id: str, extra: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of a problem document; `title` is the standard phrase of the status."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": phrase(status),
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    document.update(extra or {})
    return json.dumps(document).encode()


def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
