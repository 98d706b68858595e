"""The bodies that are no analytics, as types: of health and readiness, of failed messages and refused requests.

`handlers.ops`, `handlers.live.broadcaster` and `handlers.problem` make them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from analytics.responses import LiveDataQuality
from handlers.contract.schemas import constant


@dataclass(frozen=True, slots=True)
class Alive:
    """GET /healthz."""

    status: Literal["alive"]


@dataclass(frozen=True, slots=True)
class CopyUnderWay:
    """How far a copy of the source is."""

    table: str
    rows: int
    rows_estimated: int  # the source's own estimate, which may be passed
    percent: float


@dataclass(frozen=True, slots=True)
class LastVerification:
    """The newest comparison of cache and source."""

    equal: bool | None
    at: datetime | None
    lsn: str | None
    scope: str
    rows: int
    differing_buckets: int
    seconds: float
    last_attempt_failed: bool


@dataclass(frozen=True, slots=True)
class Recording:
    """Whether accesses are recorded."""

    state: Literal["off", "recording", "failing"]
    reason: str | None  # why they cannot be
    anchor_failure: str | None  # why the head of the trail cannot be kept in its second place


@dataclass(frozen=True, slots=True)
class Ready:
    """GET /readyz. 200 while `ready`, 503 otherwise; stale data is served and said so."""

    ready: bool
    state: str  # phase of sync, or draining
    mode: str  # stream or poll
    mode_reason: str | None
    guarantee: str  # exact or eventual
    stale: bool
    needs_attention: (
        bool  # a person must act: sync is paused, data stopped moving, or writes are rejected; the log names the cause
    )
    lag_bytes: int | None
    lag_seconds: float | None  # since the cache was last known to equal the source
    lsn: str | None
    cache_version: int
    retained_wal_bytes: int | None
    copy: CopyUnderWay | None
    verify: LastVerification | None
    failing_jobs: tuple[str, ...]  # background threads that failed in the last two minutes and were started again
    audit: Recording
    settings_warnings: int  # settings that are seldom meant; the log names them at the start
    mock_data: bool


@dataclass(frozen=True, slots=True)
class FailureText:
    """Why there are no metrics."""

    status: Literal["error"]
    message: str


@dataclass(frozen=True, slots=True)
class MetricsFailure:
    """The message on a socket in place of metrics that could not be computed; the next one is tried as ever."""

    type: Literal["metrics_update"]
    status: Literal["error"]
    timestamp: datetime
    metrics: FailureText
    data_quality: LiveDataQuality


@dataclass(frozen=True, slots=True)
class Account:
    """Who is signed in."""

    email: str
    role: str
    admin: bool
    organization_id: int
    organization_name: str | None  # null: no table provides it
    may_acknowledge: bool  # may acknowledge anomalies: an admin, or a role of auth.analyst_roles
    signed_in_by: str  # page | platform | credential
    expires_at: datetime | None  # at the latest; null: the credential has no end of its own
    idle_seconds: float | None  # a sign-in on the page ends after this long without a request; null: no such sign-in
    live_path: str | None  # path of the live connection; null: no address is known
    live_seconds: float  # between two of its messages
    mock_data: bool


SIGN_IN = {
    "type": "object",
    "description": "What signs in on the page: an API key, or a session token of the platform.",
    "properties": {"api_key": {"type": "string"}},
    "required": ["api_key"],
    "additionalProperties": False,
}
PROBLEM = {
    "type": "object",
    "description": "RFC 9457. Clients of the platform read detail.",
    "properties": {
        "type": constant("about:blank"),
        "title": {"type": "string", "description": "The standard phrase of the status."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, for people."},
        "request_id": {"type": "string", "description": "As in X-Request-Id; the log and the audit trail have it too."},
        "parameter": {"type": "string", "description": "The query parameter that was refused."},
        "session_ended": {**constant(True), "description": "The page's session is over; its cookie is taken back."},
        "progress": {"$ref": "#/components/schemas/CopyProgress"},
        "mock_data": {**constant(True), "description": "The server shows made-up data (owkai demo)."},
    },
    "required": ["type", "title", "status", "detail", "request_id"],
}
COPY_PROGRESS = {
    "type": "object",
    "description": "How far the first copy of the source is.",
    "properties": {
        "percent": {"type": "number"},
        "rows": {"type": "integer"},
        "rows_estimated": {"type": "integer", "description": "The source's own estimate, which may be passed."},
        "table": {"type": "string"},
    },
    "required": ["percent", "rows", "rows_estimated", "table"],
}


@dataclass(frozen=True)
class Acknowledged:
    """PUT of an anomaly's acknowledgement: who knows of it since when."""

    acknowledged_at: datetime
    acknowledged_by: str
