"""The types of bodies other than analytics: health and readiness, failed messages and refused requests.

`handlers.ops`, `handlers.live.broadcaster` and `handlers.problem` make them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from analytics.responses import LiveDataQuality

EstimatedRows = Annotated[int, Field(description="The source's own estimate; the copy may exceed it.")]
ABSENT: Any = None  # the default of a member that not every document has


@dataclass(frozen=True, slots=True)
class Alive:
    """GET /healthz."""

    status: Literal["alive"]


@dataclass(frozen=True, slots=True)
class CopyUnderWay:
    """Progress of a copy of the source."""

    table: str
    rows: int
    rows_estimated: EstimatedRows
    percent: float


@dataclass(frozen=True, slots=True)
class LastVerification:
    """The last verification of the cache against the source."""

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
    reason: Annotated[str | None, Field(description="Why accesses cannot be recorded.")]
    anchor_failure: Annotated[
        str | None, Field(description="Why the head of the audit trail cannot be written to the anchor.")
    ]


@dataclass(frozen=True, slots=True)
class Ready:
    """GET /readyz. 200 while `ready`, 503 otherwise. Stale data is served and marked `stale`."""

    ready: bool
    state: Annotated[str, Field(description="Phase of sync, or draining.")]
    mode: Annotated[str, Field(description="stream, poll, or unknown before the first connection.")]
    mode_reason: str | None
    guarantee: Annotated[str, Field(description="exact or eventual.")]
    stale: bool
    needs_attention: Annotated[
        bool,
        Field(
            description="An operator must act: sync is paused, data stopped moving, or writes are rejected. The log names the cause."
        ),
    ]
    lag_bytes: int | None
    lag_seconds: Annotated[float | None, Field(description="Time since the cache was last known to equal the source.")]
    lsn: str | None
    cache_version: int
    retained_wal_bytes: int | None
    copy: CopyUnderWay | None
    verify: LastVerification | None
    failing_jobs: Annotated[
        tuple[str, ...], Field(description="Background threads that failed in the last two minutes and were restarted.")
    ]
    audit: Recording
    settings_warnings: Annotated[
        int, Field(description="Settings with unusual values; the server logs their names at startup.")
    ]
    mock_data: bool


@dataclass(frozen=True, slots=True)
class FailureText:
    """Why metrics are unavailable."""

    status: Literal["error"]
    message: str


@dataclass(frozen=True, slots=True)
class MetricsFailure:
    """Sent when metrics could not be computed. The next message follows at the usual time."""

    type: Literal["metrics_update"]
    status: Literal["error"]
    timestamp: datetime
    metrics: FailureText
    data_quality: LiveDataQuality


@dataclass(frozen=True, slots=True)
class Account:
    """The signed-in user."""

    email: str
    role: str
    admin: bool
    organization_id: int
    organization_name: Annotated[str | None, Field(description="Name of the organization; null: the source has none.")]
    may_acknowledge: Annotated[
        bool, Field(description="May acknowledge anomalies: an administrator, or a role of auth.analyst_roles.")
    ]
    signed_in_by: Literal["page", "platform", "credential"]
    expires_at: Annotated[
        datetime | None, Field(description="Latest end of the session; null: the credential does not expire.")
    ]
    idle_seconds: Annotated[
        float | None,
        Field(
            description="A session of the page ends after this many seconds without a request; null: not such a session."
        ),
    ]
    live_path: Annotated[
        str | None, Field(description="Path of the live connection; null: the caller has no e-mail address.")
    ]
    live_seconds: Annotated[float, Field(description="Interval between live messages.")]
    mock_data: bool


@dataclass(frozen=True)
class SignIn:
    """The credential for signing in on the page: an API key, or a session token of the platform."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    api_key: str


@dataclass(frozen=True)
class Problem:
    """RFC 9457. Clients of the platform read detail."""

    @dataclass(frozen=True)
    class CopyProgress:
        """Progress of the initial copy of the source."""

        percent: float
        rows: int
        rows_estimated: EstimatedRows
        table: str

    type: Literal["about:blank"]
    title: Annotated[str, Field(description="The standard phrase of the status.")]
    status: int
    detail: Annotated[str, Field(description="What is wrong, for people to read.")]
    request_id: Annotated[str, Field(description="As in X-Request-Id, the log and the audit trail.")]
    parameter: Annotated[str, Field(description="The query parameter that was refused.")] = ABSENT
    session_ended: Annotated[
        Literal[True], Field(description="The page's session has ended; its cookie is removed.")
    ] = ABSENT
    progress: CopyProgress = ABSENT
    mock_data: Annotated[Literal[True], Field(description="The server shows generated data (owkai demo).")] = ABSENT


@dataclass(frozen=True)
class Acknowledged:
    """Response to PUT of an anomaly's acknowledgement: who acknowledged it, and when."""

    acknowledged_at: datetime
    acknowledged_by: str
