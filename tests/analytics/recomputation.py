"""The same questions answered from plain rows in plain Python: the other opinion that views are compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.analytics.rows import Row

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TOLERANCE = timedelta(seconds=300)


def event_at(row: Row) -> datetime | None:
    found = row.get("timestamp") or row.get("created_at")
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def risk(row: Row) -> str | None:
    level = row.get("risk_level")
    if level is None:
        return None
    return level.strip().lower() if level.strip().lower() in {"low", "medium", "high", "critical"} else "unknown"


def normal(text: str | None) -> str | None:
    return None if text is None else text.strip().lower()


def counts_as_high(row: Row) -> bool:
    marked = row.get("is_false_positive") is True or normal(row.get("status")) == "false_positive"
    return risk(row) in {"high", "critical"} and not marked


def within(rows: Iterable[Row], start: datetime, end: datetime) -> list[Row]:
    return [row for row in rows if (at := event_at(row)) is not None and start <= at < end]


def newest_first(rows: Iterable[Row], now: datetime) -> list[Row]:
    dated = [(at, row["id"], row) for row in rows if (at := event_at(row)) is not None and at <= now + TOLERANCE]
    return [row for _, _, row in sorted(dated, key=lambda item: item[:2], reverse=True)]


def top(names: Iterable[str | None], size: int = 10) -> list[tuple[str, int]]:
    counts = Counter(name for name in names if name is not None)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0].encode("utf-8")))[:size]


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def trends(actions: Sequence[Row], now: datetime, days: int, tz: str) -> dict[str, Any]:
    zone = ZoneInfo(tz)
    today = now.astimezone(zone).date()
    dates = [today - timedelta(days=back) for back in reversed(range(days))]

    def local(row: Row) -> date | None:
        at = event_at(row)
        return at.astimezone(zone).date() if at is not None and at < now else None

    window = [row for row in actions if local(row) in dates]
    high = Counter(local(row) for row in window if counts_as_high(row))
    return {
        "high_risk_actions_by_day": [{"date": day.isoformat(), "count": high[day]} for day in dates],
        "top_agents": [{"agent": name, "count": count} for name, count in top(row["agent_id"] for row in window)],
        "top_tools": [{"tool": name, "count": count} for name, count in top(row.get("tool_name") for row in window)],
        "enriched_actions": [
            {
                "agent_id": row["agent_id"],
                "action_type": row["action_type"],
                "risk_level": risk(row) or "unknown",
                "mitre_tactic": row.get("mitre_tactic") or "N/A",
                "nist_control": row.get("nist_control") or "N/A",
                "recommendation": row.get("recommendation") or "No recommendation",
                "tool_name": row.get("tool_name") or "Unknown",
                "timestamp": stamp(event_at(row) or now),
            }
            for row in newest_first(actions, now)[:20]
        ],
        "pending_actions_count": sum(normal(row.get("status")) == "pending_approval" for row in actions),
    }


def people(organization: int, users: Sequence[Row], audit: Sequence[Row], now: datetime) -> int:
    seen = {
        row["user_id"]
        for row in audit
        if row["organization_id"] == organization
        and row["user_id"] is not None
        and now - HOUR <= row["created_at"] < now
    }
    for user in users:
        login = user.get("last_login")
        if user["organization_id"] == organization and login is not None and now - HOUR <= login < now:
            seen.add(user["id"])
    return len(seen)


def overview(
    organization: int, actions: Sequence[Row], users: Sequence[Row], audit: Sequence[Row], now: datetime
) -> Any:
    hour = within(actions, now - HOUR, now)
    newest = newest_first(actions, now)
    age = None if not newest else max(0, int((now - (event_at(newest[0]) or now)).total_seconds() // 60))
    return {
        "active_sessions": people(organization, users, audit, now),
        "recent_high_risk_actions": sum(map(counts_as_high, hour)),
        "active_agents": len({row["agent_id"] for row in hour}),
        "total_actions_last_hour": len(hour),
        "actions_last_24h": len(within(actions, now - DAY, now)),
        "data_age_minutes": age,
    }


def slow(actions: Sequence[Row], now: datetime) -> tuple[int, int]:
    hour = within(actions, now - HOUR, now)
    waiting = within(hour, now - HOUR, now - timedelta(minutes=5))
    return len(hour), sum(normal(row.get("status")) in {"pending", "pending_approval"} for row in waiting)


def collected(actions: Sequence[Row], now: datetime) -> tuple[int, int]:
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    found = within(actions, today - 30 * DAY, now)
    moments = [at for row in actions if (at := event_at(row)) is not None and at < now]
    first = min(moments, default=now)
    partial = first.date() if first >= first.replace(hour=1, minute=0, second=0, microsecond=0) else None
    complete = {at.date() for row in found if (at := event_at(row)) is not None and at < today} - {partial}
    return len(complete), len(found)
