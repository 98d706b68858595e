"""GET /trends: high-risk actions by day, busiest agents and tools, newest actions. Pure: no clock, HTTP or Postgres."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from analytics.calendar import aware_utc, counts_by_day, days_until, naive_utc
from analytics.responses import (
    TEXT_CHARACTERS,
    AgentCount,
    DayCount,
    EnrichedAction,
    RiskLevel,
    ToolCount,
    Trends,
    TrendsMeta,
    cut,
)
from analytics.state.snapshot import ScopedSnapshot
from analytics.view_context import HOUR, ViewContext

DEFAULT_DAYS = 7
DEFAULT_ZONE = "UTC"
TOP = 10
LATEST = 20


class LatestAction(NamedTuple):
    """A row of sql/latest_actions.sql."""

    agent_id: str | None
    action_type: str | None
    risk: RiskLevel | None
    mitre_tactic: str | None
    nist_control: str | None
    recommendation: str | None
    tool_name: str | None
    event_at: datetime


def trends(
    snapshot: ScopedSnapshot,
    context: ViewContext,
    *,
    days: int = DEFAULT_DAYS,
    tz: str = DEFAULT_ZONE,
    limit: int | None = None,
) -> Trends:
    """The `days` calendar days of zone `tz` that end with today, today up to now.

    `limit` bounds each list; without it ten agents, ten tools and twenty actions are listed.
    Dates are of `tz`, times UTC. A date that the zone skipped is listed with 0. Raises `ZoneInfoNotFoundError` for an
    unknown zone; callers check names against their list first.
    """
    calendar = days_until(context.now, ZoneInfo(tz), days)
    meaning = context.settings.meaning
    window = {"start": naive_utc(calendar[0].start), "end": context.end}
    high_risk = snapshot.rows("high_risk_by_quarter", **window, count_false_positives=meaning.count_false_positives)
    agents = snapshot.rows("top_agents", **window, size=limit or TOP)
    tools = snapshot.rows("top_tools", **window, size=limit or TOP)
    latest = snapshot.named(LatestAction, "latest_actions", latest=context.latest, size=limit or LATEST)
    ((pending,),) = snapshot.rows("pending_actions", statuses=list(meaning.pending_statuses))
    recent = bool(latest) and latest[0].event_at >= context.end - HOUR
    return Trends(
        high_risk_actions_by_day=tuple(DayCount(day, count) for day, count in counts_by_day(high_risk, calendar)),
        top_agents=tuple(AgentCount(cut(name), count) for name, count in agents),
        top_tools=tuple(ToolCount(cut(name), count) for name, count in tools),
        enriched_actions=tuple(enriched(action) for action in latest),
        pending_actions_count=pending,
        meta=TrendsMeta(
            version="1.0.0",
            mock_data=context.settings.mock_data,
            real_data_sources=("agent_actions",),
            days=days,
            time_zone=tz,
            data_status=context.data_status(recent=recent),
        ),
    )


def enriched(action: LatestAction) -> EnrichedAction:
    """An action as shown, with the documented words for what the source has not."""
    happened = aware_utc(action.event_at)
    assert happened is not None  # noqa: S101 - the statement leaves out rows without a time
    return EnrichedAction(
        agent_id=cut(action.agent_id or "Unknown"),
        action_type=cut(action.action_type or "Unknown"),
        risk_level=action.risk or "unknown",
        mitre_tactic=cut(action.mitre_tactic or "N/A"),
        nist_control=cut(action.nist_control or "N/A"),
        recommendation=cut(action.recommendation or "No recommendation", TEXT_CHARACTERS),
        tool_name=cut(action.tool_name or "Unknown"),
        timestamp=happened,
    )
