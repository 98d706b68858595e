"""The audit record of one access, and the members of a record that name its caller."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from config.utc_text import utc_text
from handlers.auth.authenticator import Authentication
from handlers.redaction import shown


def access_record(
    *,
    time: datetime,
    request_id: str,
    method: str,
    path: str,
    route: str,
    status: int,
    outcome: str,
    reason: str | None,
    address: str,
    caller: Authentication | None,
    client_request_id: str | None,
) -> dict[str, Any]:
    """The record. `path` is shown text (`redaction.shown_path`); an empty `outcome` follows from the status."""
    record: dict[str, Any] = {
        "time": utc_text(time, milliseconds=True),
        "event": "access",
        "request_id": request_id,
        "method": shown(method, 16),
        "path": path,
        "route": route,
        "status": status,
        "outcome": outcome or outcome_of(status),
        "reason": reason,
        "address": address,
    }
    if caller is not None:
        record |= caller_members(caller)
    if client_request_id is not None:
        record["client_request_id"] = client_request_id
    return record


def caller_members(caller: Authentication) -> dict[str, Any]:
    """The members that name a caller and the credential that was used."""
    return {
        "principal": shown(caller.principal.name),
        "user_id": caller.principal.user_id,
        "organization_id": caller.principal.organization_id,
        "credential": shown(caller.proof.source),
        "credential_id": caller.proof.identifier[:16],
    }


def outcome_of(status: int) -> str:
    """success, denied or error."""
    if status < 400:
        return "success"
    return "denied" if status in (401, 403, 429) else "error"
