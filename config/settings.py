"""The settings tree: every key with its type, default and meaning, in one place.

`config.load` reads it; the sample file and the reference page are generated from it (`config.reference`). Field names
carry their unit. Secrets are `SecretStr`: no repr, log or error shows their value.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from config.enumerations import Enumerated

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[float, Field(gt=0)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_$]{0,62}$")]
SlotName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,63}$")]
ByteSize = Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s*(KB|MB|GB|TB|KiB|MiB|GiB|TiB)$")]
ColumnMap = dict[str, Identifier]


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("must be a time zone of the IANA database, e.g. Europe/Berlin")
    return name


TimeZone = Annotated[str, AfterValidator(_known_zone)]

# Too well known to sign with: texts of documentation and samples, ours and other people's.
SAMPLE_SECRETS = re.compile(r"(?i)change.?me|example|your.?secret|secret.?key.?here|256.?bit|^(.)\1*$")
MINIMUM_SECRET_BYTES = 32


class Section(BaseModel):
    """A part of the tree. Frozen; an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=False, allow_inf_nan=False
    )


class SourceTables(Section):
    """Names of the source's tables; empty text: the source has no such table."""

    agent_actions: Identifier = Field("agent_actions", description="Table of the agents' actions.")
    users: Identifier | Literal[""] = Field("users", description="Table of the platform's users; empty: none.")
    audit_logs: Identifier | Literal[""] = Field("audit_logs", description="Table of audit events; empty: none.")
    api_keys: Identifier | Literal[""] = Field("api_keys", description="Table of API keys; empty: none.")
    organizations: Identifier | Literal[""] = Field(
        "organizations",
        description="Table with the columns id and name, read for the organization's name in reports, where it exists and the "
        "role may read both columns; it need not be in the publication. Empty: none.",
    )


class SourceColumns(Section):
    """Where a source names a column otherwise: `agent_actions = { agent_id = "agent" }` (ours = theirs)."""

    agent_actions: ColumnMap = Field(
        default_factory=dict, description="Renamed columns of agent_actions: ours = theirs."
    )
    users: ColumnMap = Field(default_factory=dict, description="Renamed columns of users.")
    audit_logs: ColumnMap = Field(default_factory=dict, description="Renamed columns of audit_logs.")
    api_keys: ColumnMap = Field(default_factory=dict, description="Renamed columns of api_keys.")


class SourceZones(Section):
    """Zone of the times in columns without one (`timestamp`, `date`); columns with a zone need no setting."""

    agent_actions: TimeZone = Field("UTC", description="Zone of agent_actions' columns without one, e.g. Asia/Kolkata.")
    users: TimeZone = Field("UTC", description="Zone of users' columns without one.")
    audit_logs: TimeZone = Field("UTC", description="Zone of audit_logs' columns without one.")
    api_keys: TimeZone = Field("UTC", description="Zone of api_keys' columns without one.")


class SourceSettings(Section):
    """The operator's Postgres."""

    dsn: SecretStr = Field(
        SecretStr(""),
        description="Connection string of the source, URL or key=value form. Required by `owkai serve`. "
        "Hosts other than this machine are verified with sslmode=verify-full unless the string sets another sslmode.",
    )
    password: SecretStr = Field(SecretStr(""), description="Password of the source role, if the DSN has none.")
    password_file: Path | None = Field(None, description="File that holds the password; readable only by its owner.")
    schema_: Identifier = Field("public", alias="schema", description="Schema of the mapped tables.")
    slot: SlotName = Field("owkai", description="Replication slot of this installation; one per server.")
    publication: Identifier = Field("owkai", description="Publication that the slot streams.")
    manage_publication: bool = Field(
        True, description="Create and adjust the publication where the role may; false: it is the operator's."
    )
    connect_timeout_seconds: Positive = Field(10, description="Bound on opening a connection.")
    statement_timeout_seconds: Positive = Field(
        60, description="Bound on a catalogue or sampling query; never on the copy."
    )
    tables: SourceTables = Field(default_factory=SourceTables, description="Table names.")
    columns: SourceColumns = Field(default_factory=SourceColumns, description="Column names.")
    zones: SourceZones = Field(default_factory=SourceZones, description="Zones of times without one.")


class SyncSettings(Section):
    """How changes come from the source into the cache."""

    mode: Literal["auto", "stream", "poll"] = Field(
        "auto",
        description="stream: logical replication; poll: repeated queries, no slot and no publication; "
        "auto: stream where the source allows it, else poll.",
    )
    poll_seconds: Positive = Field(2, description="Pause between two looks at a polled source.")
    reconcile_seconds: Positive = Field(
        300, description="Interval at which a polled source is compared for deletes and silent changes."
    )
    batch_rows: int = Field(20_000, ge=100, le=1_000_000, description="Most changes applied at once.")
    batch_milliseconds: float = Field(25, ge=0, le=5000, description="How long a batch may gather changes.")
    stale_after_seconds: Positive = Field(
        30, description="Behind the source by more than this, responses report `stale`."
    )
    sample_seconds: Positive = Field(
        5, description="Interval of samples of the source: connections, lag, retained WAL."
    )
    survey_seconds: Positive = Field(
        10, description="Interval of looks at the shape of the source's tables and the publication."
    )
    verify_seconds: float = Field(
        900, ge=0, description="Interval of light checks of cache against source (the last two days); 0: none."
    )
    reply_timeout_seconds: Positive = Field(20, description="A source that is silent for longer counts as gone.")
    backoff_max_seconds: Positive = Field(30, description="Longest pause between attempts to reach the source.")


class CacheSettings(Section):
    """The DuckDB cache."""

    directory: Path = Field(
        Path("data"),
        description="Directory of the cache, keys and audit log (0700). Relative paths start at the settings file.",
    )
    in_memory: bool = Field(False, description="Keep the cache in memory only: every start makes a new copy.")
    keep_days: int = Field(400, ge=1, le=36500, description="Days of actions and audit events kept.")
    memory_limit: ByteSize = Field(
        "512MiB", description="DuckDB's memory bound; beyond it, it spills to the directory."
    )
    temp_limit: ByteSize = Field("10GiB", description="Bound on what DuckDB spills to disk.")
    threads: int = Field(
        1,
        ge=1,
        le=256,
        description="DuckDB's threads per query; responses are computed in parallel (server.workers) anyway.",
    )
    views_megabytes: int = Field(64, ge=1, le=65536, description="Bound on published responses kept as bytes.")
    checkpoint_seconds: Positive = Field(300, description="Interval of checkpoints of the cache file.")
    log_megabytes: int = Field(
        64,
        ge=1,
        le=65536,
        description="Size of the cache's write-ahead log at which a checkpoint comes before its time.",
    )


class ServerSettings(Section):
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8480, description="Port to listen on; 0 takes a free one.")
    debug_endpoint: bool = Field(True, description="Serve /api/analytics/debug; false: 404.")
    allowed_hosts: tuple[str, ...] = Field((), description="Host names accepted in the Host header; empty: any.")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Addresses or networks of proxies whose X-Forwarded-For counts."
    )
    tls_certificate_file: Path | None = Field(
        None,
        description="PEM file of the server's certificate, followed by its chain; with tls_key_file the port speaks TLS. "
        "Looked at every second, and on SIGHUP.",
    )
    tls_key_file: Path | None = Field(None, description="PEM file of the certificate's private key (0600).")
    tls_key_password_file: Path | None = Field(
        None, description="File that holds the pass phrase of tls_key_file (0600), if it has one."
    )
    behind_proxy: bool = Field(
        False, description="A TLS proxy named in trusted_proxies stands before this port, which no one else can reach."
    )
    require_tls: bool = Field(
        False,
        description="Accept credentials only over TLS: our own, that of a trusted proxy (X-Forwarded-Proto: https), or from "
        "this machine; 403 otherwise.",
    )
    cors_origins: tuple[str, ...] = Field(
        (), description='Origins whose pages may read the API, e.g. "https://soc.example.com"; never "*". Empty: none.'
    )
    cors_credentials: bool = Field(False, description="Let those pages send the session cookie too.")
    reference: bool = Field(
        True, description="Serve /reference and the OpenAPI and AsyncAPI documents; false: 404. They name no data."
    )
    requests_per_second: float = Field(
        1000, ge=0, description="Requests of one user in the long run, beyond it 429; 0: no limit."
    )
    requests_burst: int = Field(2000, ge=1, description="Requests of one user at once.")
    computations_per_second: float = Field(
        100,
        ge=0,
        description="Responses computed for one user in the long run, beyond it 429; what is computed already is not "
        "counted, a PDF or CSV counts as 20. 0: no limit.",
    )
    computations_burst: int = Field(
        500, ge=1, description="Responses computed for one user at once, before that limit applies."
    )
    computations_at_once: int = Field(
        0,
        ge=0,
        le=64,
        description="Responses being computed for one user at the same time; more wait their turn. 0: from the number of workers, "
        "half of what an organization gets.",
    )
    organization_computations_at_once: int = Field(
        0,
        ge=0,
        le=64,
        description="Responses being computed for one organization at the same time. 0: all workers but one, at least one.",
    )
    drain_seconds: float = Field(10, ge=0, le=600, description="How long a stopping server finishes open requests.")
    idle_timeout_seconds: float = Field(
        10, gt=0, le=3600, description="A connection without a complete request is closed after this."
    )
    max_connections: int = Field(20_000, ge=10, description="Connections accepted at once.")
    workers: int = Field(2, ge=1, le=64, description="Threads that compute responses.")
    query_timeout_seconds: Positive = Field(10, description="Bound on computing one response; beyond it 503.")


class AuthSettings(Section):
    """Authentication."""

    cookie_names: tuple[str, ...] = Field(
        ("access_token", "owai_session"), description="Session cookies, in the order tried."
    )
    jwt_enabled: bool = Field(True, description="Accept session cookies and bearer tokens; false: only API keys.")
    jwt_algorithm: Literal["HS256", "RS256", "ES256"] = Field(
        "HS256", description="The one signature algorithm accepted."
    )
    jwt_secret: SecretStr = Field(SecretStr(""), description="HS256 secret, at least 32 bytes.")
    jwt_secret_file: Path | None = Field(None, description="File that holds the HS256 secret.")
    jwt_public_key_file: Path | None = Field(None, description="PEM or JWKS file with the RS256/ES256 public keys.")
    jwt_overlap_seconds: float = Field(
        300,
        ge=0,
        le=86_400,
        description="How long the keys before an exchange still verify (their files are looked at every second); 0: not at "
        "all, for a key that others may know. After a restart only the new keys verify.",
    )
    revoked_file: Path | None = Field(
        None,
        description="List of revoked credentials, one entry per line: jti ID, token CREDENTIAL-ID (of an audit record), "
        "key PREFIX, user ID. Looked at every second.",
    )
    issuer: str = Field("", description="Required `iss` claim; empty: not checked.")
    audience: tuple[str, ...] = Field((), description="Accepted `aud` claims; empty: not checked.")
    token_types: tuple[str, ...] = Field(("access",), description="Accepted `type` claims, where the claim is present.")
    leeway_seconds: float = Field(30, ge=0, le=300, description="Clock difference allowed for exp, nbf and iat.")
    max_lifetime_seconds: Positive = Field(86_400, description="Longest exp − iat accepted.")
    admin_roles: tuple[Enumerated, ...] = Field(
        ("admin", "org_admin", "owner", "super_admin"),
        description="Roles that are admin, compared ignoring case and surrounding white space.",
    )
    analyst_roles: tuple[str, ...] = Field(
        default=("analyst", "security_analyst", "manager"),
        description="Roles that may acknowledge anomalies, besides admin roles.",
    )
    key_hash_order: Literal["key_salt", "salt_key"] = Field(
        "key_salt", description="What the platform hashed: SHA-256(key + salt) or SHA-256(salt + key)."
    )
    failed_limit: int = Field(30, ge=1, description="Failed attempts per address and window before 429.")
    failed_limit_per_key: int = Field(
        100,
        ge=1,
        description="Failed attempts with keys of one prefix, from all addresses, before failing ones get 429.",
    )
    failed_window_seconds: Positive = Field(60, description="Window of the failed attempts.")
    session_idle_seconds: float = Field(
        3600, ge=10, le=2_592_000, description="A sign-in on the page ends after this long without a request."
    )
    session_max_seconds: float = Field(
        43_200, ge=60, le=2_592_000, description="A sign-in on the page ends after this, however busy it is."
    )
    max_sessions: int = Field(10_000, ge=1, le=1_000_000, description="Sign-ins open at once; beyond it 503.")
    max_sessions_per_user: int = Field(20, ge=1, description="Sign-ins of one user; one more ends the oldest.")


class WebSocketSettings(Section):
    """Live updates."""

    interval_seconds: float = Field(10, ge=0.05, le=3600, description="Time between two metrics_update messages.")
    allowed_origins: tuple[str, ...] = Field(
        (),
        description="Origins of pages that may sign in and connect, as the browser shows them, e.g. "
        '"https://soc.example.com"; never "*". Empty: the server\'s own on this machine, where it listens on loopback.',
    )
    push_on_change: bool = Field(
        True,
        description="Send an update before its time when a number has changed in the source, at most once a second and "
        "organization.",
    )
    max_per_user: int = Field(20, ge=1, description="Open sockets of one user.")
    max_total: int = Field(10_000, ge=1, description="Open sockets in all.")
    ping_seconds: Positive = Field(30, description="Interval of pings; a client silent for two of them is gone.")
    max_backlog_bytes: int = Field(
        262_144, ge=4096, description="Unsent bytes after which a client that does not read is dropped."
    )


class MeaningSettings(Section):
    """What counts as what in the numbers. Statuses are compared ignoring case and surrounding white space."""

    pending_statuses: tuple[Enumerated, ...] = Field(
        ("pending_approval",), description="Statuses that wait for a decision."
    )
    success_statuses: tuple[Enumerated, ...] = Field(
        ("completed", "executed", "success", "approved", "auto_approved"),
        description="Statuses of finished work that succeeded.",
    )
    failure_statuses: tuple[Enumerated, ...] = Field(
        ("failed", "error", "execution_failed"), description="Statuses of finished work that failed."
    )
    other_statuses: tuple[Enumerated, ...] = Field(
        ("pending", "processing", "in_progress", "escalated", "imported", "deleted"),
        description="Other known statuses that count as neither success nor failure. A status in no list is named "
        "in `meta.caveats`.",
    )
    review_hours: Positive = Field(
        24, description="An action of elevated risk without a decision is a violation after this."
    )
    count_false_positives: bool = Field(
        False, description="Let rows marked false positive, by the flag or the status, count as risk."
    )
    future_tolerance_seconds: float = Field(
        300, ge=0, description="Rows dated further ahead than this are left out of lists."
    )


class PredictiveSettings(Section):
    """Forecasts and anomalies."""

    refresh_seconds: Positive = Field(
        30,
        description="How soon, at the earliest, a change of past actions leads to new forecasts when they are "
        "requested; a new hour or day always does.",
    )


class TelemetrySettings(Section):
    """Where machine and application metrics come from."""

    source: Literal["none", "host", "cloudwatch"] = Field(
        "none",
        description="none: the documented responses without telemetry; host: this machine and this server's own requests; "
        "cloudwatch: an ECS service and its logs, with credentials from the AWS default chain.",
    )
    period_seconds: float = Field(
        60, ge=0.1, le=3600, description="Interval of collections; they run in the background."
    )
    max_age_seconds: Positive = Field(
        300, description="Oldest sample shown when collecting fails; after that /performance answers 503."
    )
    strict: bool = Field(
        False,
        description="Let /realtime/metrics respond with 503 too, and either of them for any part that is unavailable.",
    )
    region: str = Field("", description="AWS region, e.g. us-east-2. Required for cloudwatch.")
    cluster: str = Field("", description="Name of the ECS cluster. Required for cloudwatch.")
    service: str = Field("", description="Name of the ECS service. Required for cloudwatch.")
    log_group: str = Field(
        "", description="Log group of the service, for request metrics; empty: from the load balancer, if one is named."
    )
    load_balancer: str = Field(
        "",
        description="The LoadBalancer dimension of the service's ALB, e.g. app/platform/50dc6c495c0c9188; empty: none.",
    )
    container_insights: bool = Field(
        False, description="Container Insights is on for the cluster: read the storage in use from it."
    )
    endpoint_url: str = Field("", description="Address of CloudWatch, e.g. of a VPC endpoint; empty: AWS' own.")
    logs_endpoint_url: str = Field("", description="Address of CloudWatch Logs; empty: as endpoint_url.")
    timeout_seconds: float = Field(10, gt=0, le=60, description="Bound on one response of AWS, and on one logs query.")
    metric_period_seconds: int = Field(
        60, ge=60, le=3600, description="Resolution of the metrics, a multiple of 60; ECS publishes every minute."
    )
    log_window_seconds: int = Field(300, ge=60, le=3600, description="How far back request metrics look in the logs.")
    log_status_pattern: str = Field(
        "",
        description="Regular expression that finds the status of a request line as group `status`; lines without a match "
        "are no requests. Empty: uvicorn's access lines and JSON lines with status or status_code.",
    )
    log_duration_pattern: str = Field(
        "",
        description="Regular expression that finds a request's duration as group `duration`. Empty: duration_ms and its "
        "like, or a number followed by ms.",
    )
    log_duration_unit: Literal["milliseconds", "seconds"] = Field("milliseconds", description="Unit of that duration.")
    log_errors: Literal["5xx", "4xx_and_5xx"] = Field(
        "5xx", description="Which responses count as errors; 4xx are the callers' own."
    )


class LogSettings(Section):
    """The log, on standard error."""

    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else json.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity that is written.")


class AuditSettings(Section):
    """The record of every access."""

    enabled: bool = Field(True, description="Write one JSON line per access.")
    file: Path | None = Field(None, description="The audit file; default: audit.jsonl in the cache directory.")
    key_file: Path | None = Field(
        None,
        description="File with the key of the chain (0600, at least 32 characters; further lines are earlier keys): records "
        "carry an HMAC that cannot be made without it. Without: plain hashes.",
    )
    anchor_file: Path | None = Field(
        None,
        description="A second place, on another disk or machine, that receives the newest record, so that a truncated "
        "trail is detected.",
    )
    anchor_seconds: Positive = Field(60, description="Interval of writes to the anchor.")
    rotate_megabytes: int = Field(
        100, ge=0, le=100_000, description="Size at which a new audit file is begun; 0: never for its size."
    )
    rotate_hours: float = Field(
        24, ge=0, le=8784, description="Age at which a new audit file is begun; 0: never for its age."
    )
    on_failure: Literal["refuse", "continue"] = Field(
        "refuse",
        description="What happens when accesses cannot be recorded. refuse: protected routes answer 503; continue: they "
        "are served, and their records are counted together until they can be written.",
    )


class Settings(Section):
    """The whole tree."""

    source: SourceSettings = Field(default_factory=SourceSettings, description="The operator's Postgres.")
    sync: SyncSettings = Field(default_factory=SyncSettings, description="Bringing changes in.")
    cache: CacheSettings = Field(default_factory=CacheSettings, description="The DuckDB cache.")
    server: ServerSettings = Field(default_factory=ServerSettings, description="The HTTP server.")
    auth: AuthSettings = Field(default_factory=AuthSettings, description="Authentication.")
    websocket: WebSocketSettings = Field(default_factory=WebSocketSettings, description="Live updates.")
    meaning: MeaningSettings = Field(default_factory=MeaningSettings, description="What counts as what.")
    predictive: PredictiveSettings = Field(default_factory=PredictiveSettings, description="Forecasts and anomalies.")
    telemetry: TelemetrySettings = Field(
        default_factory=TelemetrySettings, description="Machine and application metrics."
    )
    log: LogSettings = Field(default_factory=LogSettings, description="The log.")
    audit: AuditSettings = Field(default_factory=AuditSettings, description="The record of every access.")
    mock_data: bool = Field(
        False, description="The source is the demo generator; every response states so. Set by `owkai demo`."
    )

    @property
    def audit_file(self) -> Path:
        return self.audit.file or self.cache.directory / "audit.jsonl"

    @property
    def keys_file(self) -> Path:
        return self.cache.directory / "keys.json"
