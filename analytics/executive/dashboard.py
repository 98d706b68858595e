"""GET /executive/dashboard: the period's key figures against the period before. Pure: no clock, HTTP or Postgres.

Every figure's formula is in this file, every sentence's rule in `analytics.executive.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from analytics.calendar import Day, counts_by_day, day_start, days_until, naive_utc
from analytics.executive.future_rows import future_caveats
from analytics.executive.responses import (
    BusinessMetrics,
    ComplianceStatus,
    DataPeriod,
    ExecutiveDashboard,
    ExecutiveKpis,
    ExecutiveMeta,
    ExecutiveSummary,
    Grade,
    MeasuredFigures,
    OperationalEfficiency,
    PlatformHealth,
    SecurityPosture,
    SystemUtilization,
    Trend,
    UserGrowth,
)
from analytics.executive.rules import Figures, achievements, focus, insights
from analytics.executive.unknown_values import DECIDED_STATUSES, unruled_caveats
from analytics.proportions import direction, rounded_share
from analytics.state.snapshot import ScopedSnapshot
from analytics.view_context import ViewContext

DEFAULT_DAYS = 30
WEEK = timedelta(days=7)
REVIEW_INTERVAL = timedelta(days=7)

DAY = timedelta(days=1)

RISK_WEIGHTS = {"medium": 4, "high": 8, "critical": 16}  # each level weighs twice the one below
GRADES: tuple[tuple[float, Grade], ...] = ((95, "excellent"), (85, "good"), (75, "fair"), (0, "poor"))  # lowest percent

NO_DECISIONS = "No action in the period was decided: automation_rate is not measured (0 means unknown)."
NO_EARLIER_PERIOD = "There is no earlier period to compare with: trends are not measured (stable means unknown)."
NOTHING_FINISHED_BEFORE = (
    "No action finished in the previous period: the trend of platform_health is not measured (stable means unknown)."
)
NO_EARLIER_USERS = "There is no earlier user count to compare with: growth_rate is not measured (0 means unknown)."
NO_REVIEWERS = (
    "The source records no reviewers, so manual and automated decisions cannot be distinguished: "
    "automation_rate and manual_interventions are not measured (0 means unknown)."
)


class Outcomes(NamedTuple):
    """The row of sql/period_outcomes.sql; every field counts actions of one organization."""

    total: int
    assessed: int
    succeeded: int
    failed: int
    critical: int
    high: int
    medium: int
    decided: int
    by_human: int
    due: int
    violations: int

    @property
    def finished(self) -> int:
        """A denied or blocked action is governance at work: neither success nor failure."""
        return self.succeeded + self.failed

    @property
    def elevated(self) -> int:
        return self.critical + self.high + self.medium


class Users(NamedTuple):
    """The row of sql/user_growth.sql; every field but the last counts users of one organization."""

    current: int
    earlier: int
    new: int
    active: int
    first_created: datetime | None  # naive UTC


@dataclass(frozen=True, slots=True)
class Since:
    """From when on something is counted (naive UTC): the start of the period, or later where the data starts inside it."""

    moment: datetime
    inside: bool


def executive(
    snapshot: ScopedSnapshot, question: ViewContext, *, days: int = DEFAULT_DAYS, tz: str = "UTC"
) -> ExecutiveDashboard:
    """Only the response; see `assess`."""
    return assess(snapshot, question, days=days, tz=tz)[0]


def assess(
    snapshot: ScopedSnapshot, question: ViewContext, *, days: int, tz: str
) -> tuple[ExecutiveDashboard, Figures]:
    """The last `days` days, [now − days, now), against as many before. `tz`: the zone of the calendar days for the busiest day.

    An empty denominator gives the neutral value: success 0, security and compliance 100, automation and growth 0; the figures
    beside the response say which were measured.
    """
    end, period, zone = question.end, timedelta(days=days), ZoneInfo(tz)
    start = end - period
    current = period_outcomes(snapshot, question, start, end)
    before = period_outcomes(snapshot, question, start - period, start)
    ((recorded,),) = snapshot.rows("reviewers_recorded")
    averaged = first_day(snapshot, question, start, before, zone)
    users, grown = users_of(snapshot, question, start, zone)
    ((pending,),) = snapshot.rows("pending_actions", statuses=list(question.settings.meaning.pending_statuses))
    ((events,),) = snapshot.rows("compliance_events", start=start, end=end)
    measured = recorded or current.decided == 0
    has = MeasuredFigures(
        platform_health=current.finished > 0,
        security_posture=current.assessed > 0,
        operational_efficiency=current.decided > 0 and measured,
        compliance_status=current.due > 0,
        platform_health_trend=current.finished > 0 and before.finished > 0,
        security_posture_trend=current.total > 0 and before.total > 0,
        growth_rate=users.earlier > 0,
    )
    kpis = ExecutiveKpis(
        platform_health(current, before),
        security_posture(current, before),
        operational_efficiency(current, pending, measured=measured),
        compliance_status(current, pending, events),
    )
    business = BusinessMetrics(
        user_growth(users),
        SystemUtilization(
            avg_actions_per_day=round(current.total / max(1.0, (end - averaged.moment) / DAY), 1),
            peak_day_actions=peak_day(snapshot, question, start, days, zone),
            efficiency_score=kpis.operational_efficiency.automation_rate,
            total_actions_month=current.total,
        ),
    )
    figures = Figures(
        kpis,
        business,
        days,
        has_activity=current.total > 0,
        measured=has,
        reviews_due=current.due,
    )
    dashboard = ExecutiveDashboard(
        report_date=question.now,
        data_period=DataPeriod(question.now - period, question.now, days),
        executive_summary=ExecutiveSummary(
            overall_health(kpis, current),
            achievements(figures),
            focus(figures),
            "demo_database_queries" if question.settings.mock_data else "real_database_queries",
        ),
        executive_kpis=kpis,
        business_metrics=business,
        strategic_insights=insights(figures),
        next_review_date=question.now + REVIEW_INTERVAL,
        meta=ExecutiveMeta(
            version="2.0.0",
            mock_data=question.settings.mock_data,
            real_data_sources=sources(question),
            has_activity=current.total > 0,
            measured=has,
            caveats=(
                *caveats(question, current, days, measured=measured),
                *span_caveats(current, before, users, averaged, grown, zone),
                *unruled_caveats(snapshot, question, start),
                *future_caveats(snapshot, question),
            ),
            time_zone=tz,
            data_status=question.data_status(recent=current.total > 0),
            organization_name=question.organization_name,
            averages_since=aware(averaged.moment),
        ),
    )
    return dashboard, figures


def period_outcomes(snapshot: ScopedSnapshot, question: ViewContext, start: datetime, end: datetime) -> Outcomes:
    meaning = question.settings.meaning
    return snapshot.row(
        Outcomes,
        "period_outcomes",
        start=start,
        end=end,
        review_before=question.end - timedelta(hours=meaning.review_hours),
        count_false_positives=meaning.count_false_positives,
        success_statuses=list(meaning.success_statuses),
        failure_statuses=list(meaning.failure_statuses),
        decided_statuses=list(DECIDED_STATUSES),
    )


def platform_health(current: Outcomes, before: Outcomes) -> PlatformHealth:
    """success_rate = 100 · succeeded / (succeeded + failed); the score is the same number."""
    percent = percentage(current.succeeded, current.finished) if current.finished else 0.0
    return PlatformHealth(
        score=percent,
        trend=trend(direction(before.succeeded, before.finished, current.succeeded, current.finished)),
        status=grade(percent) if current.finished else "no_data",
        total_actions=current.total,
        success_rate=percent,
    )


def security_posture(current: Outcomes, before: Outcomes) -> SecurityPosture:
    """score = 100 · actions / (actions + risk load): in (0, 100], moved by every action; 100 without actions.

    The trend tests the share of actions of elevated risk; fewer is better.
    """
    load = (
        RISK_WEIGHTS["medium"] * current.medium
        + RISK_WEIGHTS["high"] * current.high
        + RISK_WEIGHTS["critical"] * current.critical
    )
    score = round(100 * current.total / (current.total + load), 1) if current.total else 100.0
    return SecurityPosture(
        score=min(score, 99.9) if current.elevated else score,
        trend=trend(direction(before.elevated, before.total, current.elevated, current.total), fewer_is_better=True),
        critical_issues=current.critical,
        high_risk_actions=current.high,
        medium_risk_actions=current.medium,
    )


def operational_efficiency(current: Outcomes, pending: int, *, measured: bool) -> OperationalEfficiency:
    """automation_rate = decided automatically / decided; score = 100 · rate. Unknown where no reviewer is ever recorded."""
    if not current.decided or not measured:
        return OperationalEfficiency(0.0, 0.0, 0, pending)
    automatic = current.decided - current.by_human
    return OperationalEfficiency(
        score=percentage(automatic, current.decided),
        automation_rate=rounded_share(automatic, current.decided, decimals=2),
        manual_interventions=current.by_human,
        pending_actions=pending,
    )


def compliance_status(current: Outcomes, pending: int, events: int) -> ComplianceStatus:
    """score = 100 · (due − violations) / due: elevated-risk actions with a recorded decision; 100 when none is due."""
    score = percentage(current.due - current.violations, current.due) if current.due else 100.0
    return ComplianceStatus(score, current.violations, pending, events)


def user_growth(users: Users) -> UserGrowth:
    """growth_rate = (users now − users when growth starts) / users when growth starts, two decimals; 0 without users then."""
    # "+ 0.0": a tiny loss rounds to minus nought.
    rate = round((users.current - users.earlier) / users.earlier, 2) + 0.0 if users.earlier else 0.0
    return UserGrowth(
        current_users=users.current,
        active_users=users.active,
        growth_rate=rate,
        trend="positive" if rate > 0 else "negative" if rate < 0 else "stable",
        new_users_this_week=users.new,
    )


def first_day(
    snapshot: ScopedSnapshot, question: ViewContext, start: datetime, before: Outcomes, zone: ZoneInfo
) -> Since:
    """Where averages begin: at `start`, or with the first day of the organization's actions when that lies after it."""
    if before.total:
        return Since(start, inside=False)
    ((first,),) = snapshot.rows("first_action", end=question.end)
    if first is None or first < start:
        return Since(start, inside=False)
    return Since(max(start, naive_utc(day_start(local_date(first, zone), zone))), inside=True)


def users_of(snapshot: ScopedSnapshot, question: ViewContext, start: datetime, zone: ZoneInfo) -> tuple[Users, Since]:
    """The users, and from when on growth counts: `start`, or the end of the first day of users when there were none then."""

    def counted(growth_start: datetime) -> Users:
        window = {"start": start, "end": question.end, "week_start": question.end - WEEK}
        return snapshot.row(Users, "user_growth", growth_start=growth_start, **window)

    users = counted(start)
    if users.earlier or users.first_created is None or users.first_created < start:
        return users, Since(start, inside=False)
    next_day = naive_utc(day_start(local_date(users.first_created, zone) + DAY, zone))
    if next_day >= question.end:
        return users, Since(start, inside=False)
    return counted(next_day), Since(next_day, inside=True)


def local_date(moment: datetime, zone: ZoneInfo) -> date:
    """The date in `zone` of a time of the cache."""
    return aware(moment).astimezone(zone).date()


def aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


def peak_day(snapshot: ScopedSnapshot, question: ViewContext, start: datetime, days: int, zone: ZoneInfo) -> int:
    """Most actions on one calendar day of `zone` within the period; its first and last day are partial."""
    return max((count for _, count in actions_by_day(snapshot, question, start, days, zone)), default=0)


def actions_by_day(
    snapshot: ScopedSnapshot, question: ViewContext, start: datetime, days: int, zone: ZoneInfo
) -> list[tuple[date, int]]:
    """Actions of the period for each date of `zone` that it touches, ascending."""
    window = {"start": start, "end": question.end}
    return counts_by_day(snapshot.rows("actions_by_quarter", **window), period_calendar(question.now, days, zone))


def period_calendar(now: datetime, days: int, zone: ZoneInfo) -> tuple[Day, ...]:
    """The dates of `zone` that [now − days, now) touches: days + 1 of them, but for a change of the clocks or a start at midnight."""
    first = (now - timedelta(days=days)).astimezone(zone).date()
    return days_until(now, zone, (now.astimezone(zone).date() - first).days + 1)


def overall_health(kpis: ExecutiveKpis, current: Outcomes) -> Grade:
    """The grade of the mean of platform, security and compliance score.

    A critical action in the period allows "good" at best, a score that is poor by itself "fair".
    """
    if not current.total:
        return "no_data"
    scores = [kpis.security_posture.score, kpis.compliance_status.score]
    if kpis.platform_health.status != "no_data":
        scores.append(kpis.platform_health.score)
    found = grade(sum(scores) / len(scores))
    if grade(min(scores)) == "poor" and found in ("excellent", "good"):
        return "fair"
    return "good" if found == "excellent" and current.critical else found


def caveats(question: ViewContext, current: Outcomes, days: int, *, measured: bool) -> tuple[str, ...]:
    """Limitations of the numbers, and why."""
    found = []
    if not measured:
        found.append(NO_REVIEWERS)
    if current.total and not current.decided:
        found.append(NO_DECISIONS)
    kept = question.settings.cache.keep_days
    if kept < 2 * days:
        what = "the period and the one before it are" if kept < days else "the period before is"
        found.append(f"The server keeps {kept} days (cache.keep_days), so {what} only partly covered.")
    return tuple(found)


def span_caveats(
    current: Outcomes, before: Outcomes, users: Users, averaged: Since, grown: Since, zone: ZoneInfo
) -> tuple[str, ...]:
    """Where there is nothing to compare with, or the data covers only a part of the period."""
    found = []
    if current.total and not before.total:
        found.append(NO_EARLIER_PERIOD)
    elif current.finished and not before.finished:
        found.append(NOTHING_FINISHED_BEFORE)
    if averaged.inside:
        found.append(
            f"The data starts on {local_date(averaged.moment, zone)}, inside the period: averages count from that day."
        )
    if grown.inside:
        first = local_date(grown.moment, zone) - DAY
        found.append(f"The first users were created on {first}, inside the period: growth counts from that day.")
    elif users.current and not users.earlier:
        found.append(NO_EARLIER_USERS)
    return tuple(found)


def percentage(part: int, whole: int) -> float:
    return rounded_share(part, whole, scale=100, decimals=1)


def grade(percent: float) -> Grade:
    return next(name for lowest, name in GRADES if percent >= lowest)


def trend(found: str, *, fewer_is_better: bool = False) -> Trend:
    if found == "flat":
        return "stable"
    return "improving" if (found == "up") != fewer_is_better else "declining"


def sources(question: ViewContext) -> tuple[str, ...]:
    """The tables the numbers were read from; one that the settings switch off is not named."""
    tables = question.settings.source.tables
    return tuple(name for name in ("agent_actions", "users", "audit_logs") if getattr(tables, name))
