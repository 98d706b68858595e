"""GET /executive/dashboard: the period's key figures against the period before. Pure: no clock, HTTP or Postgres.

Every figure's formula is in this file, every sentence's rule in `analytics.executive_rules`.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from analytics.cache import Snapshot
from analytics.calendar import Day, counts_by_day, days_until
from analytics.executive_responses import (
    BusinessMetrics,
    ComplianceStatus,
    DataPeriod,
    ExecutiveDashboard,
    ExecutiveKpis,
    ExecutiveMeta,
    ExecutiveSummary,
    Grade,
    OperationalEfficiency,
    PlatformHealth,
    SecurityPosture,
    SystemUtilization,
    Trend,
    UserGrowth,
)
from analytics.executive_rules import Figures, achievements, focus, insights
from analytics.future import future_caveats
from analytics.proportions import direction, rounded_share
from analytics.question import Question

DEFAULT_DAYS = 30
WEEK = timedelta(days=7)
REVIEW_INTERVAL = timedelta(days=7)

# CVSS v3.1 severity floors: what an action of that risk weighs, of 10.
SEVERITY = {"critical": 9.0, "high": 7.0, "medium": 4.0}
GRADES: tuple[tuple[float, Grade], ...] = ((95, "excellent"), (85, "good"), (75, "fair"), (0, "poor"))  # lowest percent

DECIDED_STATUSES = (
    "approved",
    "auto_approved",
    "conditional_approved",
    "emergency_approved",
    "denied",
    "rejected",
    "blocked",
    "false_positive",
)

NO_DECISIONS = "No action of the period was decided: automation_rate is not measured (0 stands for unknown)."
NO_REVIEWERS = (
    "The source records no reviewers, so decisions by people cannot be told from automatic ones: "
    "automation_rate and manual_interventions are not measured (0 stands for unknown)."
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
    """The row of sql/user_growth.sql; every field counts users of one organization."""

    current: int
    earlier: int
    new: int
    active: int


def executive(
    snapshot: Snapshot, question: Question, *, days: int = DEFAULT_DAYS, tz: str = "UTC"
) -> ExecutiveDashboard:
    """The response alone; see `assess`."""
    return assess(snapshot, question, days=days, tz=tz)[0]


def assess(snapshot: Snapshot, question: Question, *, days: int, tz: str) -> tuple[ExecutiveDashboard, Figures]:
    """The last `days` days, [now − days, now), against as many before. `tz` says where the days of the busiest day begin.

    An empty denominator gives the neutral value: success 0, security and compliance 100, automation and growth 0; the figures
    beside the response say which were measured.
    """
    end, period = question.end, timedelta(days=days)
    start = end - period
    current = period_outcomes(snapshot, question, start, end)
    before = period_outcomes(snapshot, question, start - period, start)
    ((recorded,),) = snapshot.rows("reviewers_recorded", org=question.organization_id)
    users = snapshot.row(
        Users, "user_growth", org=question.organization_id, start=start, end=end, week_start=end - WEEK
    )
    scope = {"org": question.organization_id}
    ((pending,),) = snapshot.rows("pending_actions", **scope, statuses=list(question.settings.meaning.pending_statuses))
    ((events,),) = snapshot.rows("compliance_events", **scope, start=start, end=end)
    measured = recorded or current.decided == 0
    kpis = ExecutiveKpis(
        platform_health(current, before),
        security_posture(current, before),
        operational_efficiency(current, pending, measured=measured),
        compliance_status(current, pending, events),
    )
    business = BusinessMetrics(
        user_growth(users),
        SystemUtilization(
            avg_actions_per_day=round(current.total / days, 1),
            peak_day_actions=peak_day(snapshot, question, start, days, ZoneInfo(tz)),
            efficiency_score=kpis.operational_efficiency.automation_rate,
            total_actions_month=current.total,
        ),
    )
    figures = Figures(
        kpis,
        business,
        days,
        has_activity=current.total > 0,
        automation_measured=current.decided > 0 and measured,
        risk_measured=current.assessed > 0,
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
            caveats=(*caveats(question, current, days, measured=measured), *future_caveats(snapshot, question)),
            time_zone=tz,
            data_status=question.data_status(recent=current.total > 0),
        ),
    )
    return dashboard, figures


def period_outcomes(snapshot: Snapshot, question: Question, start: datetime, end: datetime) -> Outcomes:
    meaning = question.settings.meaning
    return snapshot.row(
        Outcomes,
        "period_outcomes",
        org=question.organization_id,
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
    """score = max(0, 100 − 100 · Σ severity / total): 100 minus the mean severity in percent points; 100 without actions.

    The trend tests the share of actions of elevated risk; fewer is better.
    """
    weight = (
        SEVERITY["critical"] * current.critical + SEVERITY["high"] * current.high + SEVERITY["medium"] * current.medium
    )
    score = round(max(0.0, 100 - 100 * weight / current.total), 1) if current.total else 100.0
    return SecurityPosture(
        score=min(score, 99.9) if current.elevated else score,
        trend=trend(direction(before.elevated, before.total, current.elevated, current.total), fewer_is_better=True),
        critical_issues=current.critical,
        high_risk_actions=current.high,
        medium_risk_actions=current.medium,
    )


def operational_efficiency(current: Outcomes, pending: int, *, measured: bool) -> OperationalEfficiency:
    """automation_rate = decided without a person / decided; score = 100 · rate. Unknown where no reviewer is ever recorded."""
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
    """score = 100 · (due − violations) / due: reviews of elevated risk done in time; 100 when none is due."""
    score = percentage(current.due - current.violations, current.due) if current.due else 100.0
    return ComplianceStatus(score, current.violations, pending, events)


def user_growth(users: Users) -> UserGrowth:
    """growth_rate = (users now − users when the period began) / users when the period began, two decimals; 0 without users then."""
    # "+ 0.0": a tiny loss rounds to minus nought.
    rate = round((users.current - users.earlier) / users.earlier, 2) + 0.0 if users.earlier else 0.0
    return UserGrowth(
        current_users=users.current,
        active_users=users.active,
        growth_rate=rate,
        trend="positive" if rate > 0 else "negative" if rate < 0 else "stable",
        new_users_this_week=users.new,
    )


def peak_day(snapshot: Snapshot, question: Question, start: datetime, days: int, zone: ZoneInfo) -> int:
    """Most actions on one calendar day of `zone` within the period; its first and last day are partial."""
    return max((count for _, count in actions_by_day(snapshot, question, start, days, zone)), default=0)


def actions_by_day(
    snapshot: Snapshot, question: Question, start: datetime, days: int, zone: ZoneInfo
) -> list[tuple[date, int]]:
    """Actions of the period for each date of `zone` that it touches, ascending."""
    window = {"org": question.organization_id, "start": start, "end": question.end}
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


def caveats(question: Question, current: Outcomes, days: int, *, measured: bool) -> tuple[str, ...]:
    """What the numbers cannot say, and why."""
    found = []
    if not measured:
        found.append(NO_REVIEWERS)
    if current.total and not current.decided:
        found.append(NO_DECISIONS)
    if current.assessed < current.total:
        found.append(
            f"{current.total - current.assessed} of {current.total} actions have no known risk level; "
            "they weigh nothing in security_posture."
        )
    kept = question.settings.cache.keep_days
    if kept < 2 * days:
        what = "the period and the one before it are" if kept < days else "the period before is"
        found.append(f"The server keeps {kept} days (cache.keep_days), so {what} only partly covered.")
    return tuple(found)


def percentage(part: int, whole: int) -> float:
    return rounded_share(part, whole, scale=100, decimals=1)


def grade(percent: float) -> Grade:
    return next(name for lowest, name in GRADES if percent >= lowest)


def trend(found: str, *, fewer_is_better: bool = False) -> Trend:
    if found == "flat":
        return "stable"
    return "improving" if (found == "up") != fewer_is_better else "declining"


def sources(question: Question) -> tuple[str, ...]:
    """The tables the numbers were read from; one that the settings switch off is not named."""
    tables = question.settings.source.tables
    return tuple(name for name in ("agent_actions", "users", "audit_logs") if getattr(tables, name))
