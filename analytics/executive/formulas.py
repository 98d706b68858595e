"""How each figure of the executive report is computed, in words: what the PDF prints below the numbers.

`docs/reference/numbers.md` lists the same formulas; a test keeps them equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analytics.executive.responses import ExecutiveDashboard
from analytics.executive.rules import Figures


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the report: where it stands in the response, what it is called in print, its unit and formula."""

    section: str
    name: str
    label: str
    unit: str
    formula: str

    def of(self, dashboard: ExecutiveDashboard) -> Any:
        part = (
            dashboard.executive_kpis if hasattr(dashboard.executive_kpis, self.section) else dashboard.business_metrics
        )
        return getattr(getattr(part, self.section), self.name)

    def measured(self, figures: Figures) -> bool:
        """Whether the response has more than the neutral value."""
        needed = MEASURED_BY.get((self.section, self.name))
        return needed is None or bool(getattr(figures.measured, needed))


HEALTH, SECURITY, EFFICIENCY = "platform_health", "security_posture", "operational_efficiency"
COMPLIANCE, USERS, UTILIZATION = "compliance_status", "user_growth", "system_utilization"

# Which field of `MeasuredFigures` tells; every other figure is a count that is always known.
MEASURED_BY = {
    (HEALTH, "score"): HEALTH,
    (HEALTH, "success_rate"): HEALTH,
    (HEALTH, "trend"): "platform_health_trend",
    (SECURITY, "score"): SECURITY,
    (SECURITY, "trend"): "security_posture_trend",
    (EFFICIENCY, "score"): EFFICIENCY,
    (EFFICIENCY, "automation_rate"): EFFICIENCY,
    (EFFICIENCY, "manual_interventions"): EFFICIENCY,
    (COMPLIANCE, "score"): COMPLIANCE,
    (USERS, "growth_rate"): "growth_rate",
    (USERS, "trend"): "growth_rate",
    (UTILIZATION, "efficiency_score"): EFFICIENCY,
}

SECTION_TITLES = {
    HEALTH: "Platform health",
    SECURITY: "Security posture",
    EFFICIENCY: "Operational efficiency",
    COMPLIANCE: "Compliance",
    USERS: "Users",
    UTILIZATION: "Utilization",
}

TREND_TEST = (
    "two-proportion test against the period before, 5 % level, exact for small counts; "
    "a difference below 0.1 percent points is stable"
)

FIGURES: tuple[Figure, ...] = (
    Figure(HEALTH, "score", "Score", "percent", "the success rate"),
    Figure(
        HEALTH,
        "success_rate",
        "Success rate",
        "percent",
        "100 x succeeded / (succeeded + failed); decisions of governance are neither",
    ),
    Figure(HEALTH, "trend", "Trend", "word", f"share of successes: {TREND_TEST}"),
    Figure(
        HEALTH,
        "status",
        "Status",
        "word",
        "excellent from 95, good from 85, fair from 75, else poor; no_data when nothing finished",
    ),
    Figure(HEALTH, "total_actions", "Actions", "actions", "all actions of the period"),
    Figure(
        SECURITY,
        "score",
        "Score",
        "percent",
        "100 x actions / (actions + 4 x medium + 8 x high + 16 x critical); each level weighs twice the one below",
    ),
    Figure(SECURITY, "trend", "Trend", "word", f"share of actions of elevated risk, fewer is improving: {TREND_TEST}"),
    Figure(SECURITY, "critical_issues", "Critical", "actions", "actions of critical risk, false positives left out"),
    Figure(
        SECURITY,
        "high_risk_actions",
        "High risk",
        "actions",
        "actions of high risk, without critical ones and false positives",
    ),
    Figure(
        SECURITY, "medium_risk_actions", "Medium risk", "actions", "actions of medium risk, false positives left out"
    ),
    Figure(EFFICIENCY, "score", "Score", "percent", "100 x the automation rate"),
    Figure(
        EFFICIENCY,
        "automation_rate",
        "Automation rate",
        "share",
        "decided without a person / decided; decided: a terminal decision or a person's; by a person: a reviewer, an "
        "approver or a review time is recorded",
    ),
    Figure(
        EFFICIENCY, "manual_interventions", "Manual decisions", "actions", "actions of the period decided by a person"
    ),
    Figure(EFFICIENCY, "pending_actions", "Pending approval", "actions", "actions of any time that wait for approval"),
    Figure(
        COMPLIANCE,
        "score",
        "Score",
        "percent",
        "100 x (due - violations) / due; due: elevated risk, older than the review limit, no false positive; "
        "100 when none is due",
    ),
    Figure(
        COMPLIANCE,
        "violations",
        "Violations",
        "actions",
        "elevated-risk actions of the period that were due for review and ran without a recorded decision",
    ),
    Figure(COMPLIANCE, "pending_reviews", "Pending approval", "actions", "actions of any time that wait for approval"),
    Figure(
        COMPLIANCE, "compliance_actions", "Review events", "events", "audit events APPROVE, DENY, REVIEW of the period"
    ),
    Figure(USERS, "current_users", "Users", "users", "users that are not switched off"),
    Figure(
        USERS, "active_users", "Active users", "users", "of these, users with a login or an audit event in the period"
    ),
    Figure(
        USERS,
        "growth_rate",
        "Growth",
        "share",
        "(users now - users at the start) / users at the start of the period, or after the first day of users inside it; a "
        "user switched off counts then if a login shows it",
    ),
    Figure(USERS, "trend", "Trend", "word", "positive, stable or negative: the sign of the growth rate"),
    Figure(USERS, "new_users_this_week", "New this week", "users", "users created in the last 7 days"),
    Figure(
        UTILIZATION,
        "avg_actions_per_day",
        "Daily average",
        "actions per day",
        "actions of the period / its days, counted from the first day of data",
    ),
    Figure(
        UTILIZATION,
        "peak_day_actions",
        "Busiest day",
        "actions",
        "most actions on one calendar day of the time zone within the period",
    ),
    Figure(UTILIZATION, "efficiency_score", "Efficiency", "share", "the automation rate"),
    Figure(UTILIZATION, "total_actions_month", "Actions", "actions", "all actions of the period"),
)

OVERALL_HEALTH = (
    "grade of the mean of the platform, security and compliance scores; good at best with a critical action, "
    "fair at best with a poor score"
)
