"""What a refused or failed request is answered with: RFC 9457 problem documents, one shape for every error.

`detail` is the text that the platform's clients already read; nothing of an exception, a path or a secret ever enters it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

PROBLEM_TYPE = "application/problem+json"
AUTHENTICATION_REQUIRED = "Authentication required"
ADMIN_REQUIRED = "Admin access required"
ANALYST_REQUIRED = "Analyst or admin access required"
ORGANIZATION_REQUIRED = "Organization context required for this operation"


@dataclass
class Refusal(Exception):
    """Ends a request with a problem document.

    `reason` is the code of the audit record and the log; clients never see it. `extra` are further members of the body.
    """

    status: int
    detail: str
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status} {self.reason}"


def unauthenticated(reason: str) -> Refusal:
    """401: one answer for every reason, so that it tells nothing about the credential."""
    return Refusal(401, AUTHENTICATION_REQUIRED, reason, {"WWW-Authenticate": "Bearer"})


def forbidden(detail: str, reason: str) -> Refusal:
    return Refusal(403, detail, reason)


def bad_request(detail: str, reason: str, **extra: Any) -> Refusal:
    return Refusal(400, detail, reason, extra=extra)


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
