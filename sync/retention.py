"""Retention: which rows of the source are copied and kept."""

from __future__ import annotations

from datetime import datetime, timedelta

from psycopg import sql

from analytics.state.tables import ColumnKind
from config.enumerations import WHITE_SPACE
from config.settings import Settings
from sync.source.schema import SourceTable
from sync.values.times import utc_time

TIMED_TABLES = {"agent_actions": ("timestamp", "created_at"), "audit_logs": ("created_at",)}


def kept_rows(table: SourceTable, settings: Settings, now: datetime) -> sql.Composable:
    """The WHERE clause of retention: recent rows, rows without a time, and pending actions of any age."""
    times = [_as_utc(table, name) for name in TIMED_TABLES.get(table.table.name, ())]
    present = [time for time in times if time is not None]
    if not present:
        return sql.SQL("")
    horizon = retention_horizon(settings, now)
    recent = sql.SQL("(coalesce({}) < {}) IS NOT TRUE").format(sql.SQL(", ").join(present), horizon)
    status = table.source_name("status")
    if status is None:
        return sql.SQL(" WHERE {}").format(recent)
    pending = sql.SQL("lower(btrim(({})::text, {})) = ANY ({})").format(
        sql.Identifier(status), WHITE_SPACE, list(settings.meaning.pending_statuses)
    )
    return sql.SQL(" WHERE {} OR {}").format(recent, pending)


def retention_mark(settings: Settings) -> str:
    """Changes with the retention rule: rows that an earlier rule left out can only come with a new copy."""
    return f"{settings.cache.keep_days}:{','.join(sorted(settings.meaning.pending_statuses))}"


def retention_horizon(settings: Settings, now: datetime) -> datetime:
    """Rows dated before this are not kept. Midnight, in the zone of `now`."""
    return (now - timedelta(days=settings.cache.keep_days)).replace(hour=0, minute=0, second=0, microsecond=0)


def _as_utc(table: SourceTable, column: str) -> sql.Composable | None:
    found = next((candidate for candidate in table.columns if candidate.column.name == column), None)
    if found is None or found.column.kind is not ColumnKind.TIME:
        return None
    return utc_time(found)
