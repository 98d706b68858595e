"""The source's four tables as the cache keeps them: the one statement of every mapped column.

`sync` maps an operator's Postgres onto these columns, `analytics.state.cache` creates DuckDB tables from them and the SQL of
`analytics/sql` reads them. Credential columns (`users.password` and the like) have no place here and are never read.
`agent_actions.extra_data` is not copied: nothing reads it, and it may be 50 MB a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from config.enumerations import normal_duckdb


class ColumnKind(Enum):
    """What a column holds, whatever Postgres type carries it."""

    INTEGER = "BIGINT"
    FLOAT = "DOUBLE"
    TEXT = "VARCHAR"
    BOOLEAN = "BOOLEAN"
    TIME = "TIMESTAMP"  # UTC, microseconds; ±infinity is kept

    @property
    def duckdb_type(self) -> str:
        return self.value


@dataclass(frozen=True)
class Column:
    """One column of the cache. A `required` column must exist in the source; any other is NULL where it is missing.

    `alternatives` are source names probed in order when the column's own name is missing.
    """

    name: str
    kind: ColumnKind
    required: bool = False
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """One table of the cache. `derived` are columns computed by SQL expressions over the mapped ones on every write."""

    name: str
    columns: tuple[Column, ...]
    derived: tuple[tuple[str, str, str], ...] = ()  # (name, DuckDB type, expression)
    key: str = "id"

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def _columns(kind: ColumnKind, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name in names)


# Mixed case in practice; anything else the platform never meant is "unknown", a missing level stays missing. In all of these
# the plain spelling comes first: CASE looks further only for rows that need it, which saves a third of an append.
_LEVEL = normal_duckdb("risk_level")
NORMAL_RISK = (
    "CASE WHEN risk_level IN ('low', 'medium', 'high', 'critical') THEN risk_level WHEN risk_level IS NULL THEN NULL "
    f"WHEN {_LEVEL} IN ('low', 'medium', 'high', 'critical') THEN {_LEVEL} ELSE 'unknown' END"
)
NORMAL_STATUS = (
    "CASE WHEN status IN ('completed', 'approved', 'executed', 'failed', 'denied', 'rejected', 'blocked', 'pending', "
    f"'pending_approval', 'processing') THEN status ELSE {normal_duckdb('status')} END"
)
FALSE_POSITIVE = f"coalesce(is_false_positive, false) OR coalesce(({NORMAL_STATUS}) = 'false_positive', false)"
NORMAL_ACTION = normal_duckdb("action")

AGENT_ACTIONS = Table(
    "agent_actions",
    (
        Column("id", ColumnKind.INTEGER, required=True),
        Column("organization_id", ColumnKind.INTEGER, required=True),
        Column("agent_id", ColumnKind.TEXT, required=True),
        *_columns(ColumnKind.TEXT, "action_type", "description"),
        Column("risk_level", ColumnKind.TEXT, required=True),
        Column("risk_score", ColumnKind.FLOAT),
        Column("status", ColumnKind.TEXT, required=True),
        *_columns(ColumnKind.BOOLEAN, "approved", "requires_approval", "is_false_positive"),
        *_columns(
            ColumnKind.TEXT,
            "tool_name",
            "summary",
            "nist_control",
            "mitre_tactic",
            "mitre_technique",
            "recommendation",
            "target_system",
            "decision",
        ),
        *_columns(ColumnKind.INTEGER, "processing_time_ms", "user_id"),
        *_columns(ColumnKind.TEXT, "reviewed_by", "approved_by"),
        Column("timestamp", ColumnKind.TIME, required=True),
        *_columns(ColumnKind.TIME, "created_at", "updated_at", "reviewed_at"),
    ),
    derived=(
        # Raw SQL writers leave `timestamp` NULL; then the row's creation is its time.
        ("event_at", "TIMESTAMP", 'coalesce("timestamp", created_at)'),
        ("risk", "VARCHAR", NORMAL_RISK),
        ("normal_status", "VARCHAR", NORMAL_STATUS),
        ("false_positive", "BOOLEAN", FALSE_POSITIVE),  # by the flag or the status; never NULL
    ),
)

USERS = Table(
    "users",
    (
        Column("id", ColumnKind.INTEGER, required=True),
        Column("organization_id", ColumnKind.INTEGER, required=True),  # NULL: platform staff
        Column("email", ColumnKind.TEXT, required=True),
        Column("role", ColumnKind.TEXT, required=True),
        *_columns(ColumnKind.BOOLEAN, "is_active", "is_suspended"),
        *_columns(ColumnKind.TIME, "created_at", "last_login", "last_logout"),
    ),
)

AUDIT_LOGS = Table(
    "audit_logs",
    (
        Column("id", ColumnKind.INTEGER, required=True),
        *_columns(ColumnKind.INTEGER, "organization_id", "user_id"),
        Column("action", ColumnKind.TEXT, required=True),
        *_columns(ColumnKind.TEXT, "resource_type", "resource_id"),
        Column("created_at", ColumnKind.TIME, required=True, alternatives=("timestamp",)),
        *_columns(ColumnKind.TEXT, "risk_level", "compliance_impact"),
    ),
    derived=(("normal_action", "VARCHAR", NORMAL_ACTION),),
)

API_KEYS = Table(
    "api_keys",
    (
        Column("id", ColumnKind.INTEGER, required=True),
        Column("user_id", ColumnKind.INTEGER, required=True),
        Column("organization_id", ColumnKind.INTEGER),
        Column("key_hash", ColumnKind.TEXT, required=True),
        Column("salt", ColumnKind.TEXT, required=True),
        Column("key_prefix", ColumnKind.TEXT, required=True),
        Column("is_active", ColumnKind.BOOLEAN),
        *_columns(ColumnKind.TIME, "expires_at", "revoked_at"),
    ),
)

TABLES: tuple[Table, ...] = (AGENT_ACTIONS, USERS, AUDIT_LOGS, API_KEYS)
BY_NAME: dict[str, Table] = {table.name: table for table in TABLES}
