"""The formula of each figure of the executive report as text. The PDF prints them below the numbers.

`docs/reference/numbers.md` lists the same formulas; a test keeps them equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analytics.executive.responses import ExecutiveDashboard
from analytics.executive.rules import Figures


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the report: its place in the response, its printed label, its unit and formula."""

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

# The field of `MeasuredFigures` that covers a figure; all other figures are counts, which are always measured.
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
    "two-proportion test against the previous period, 5 % level, exact for small counts; "
    "a difference below 0.1 percentage points is stable"
)

FIGURES: tuple[Figure, ...] = (
    Figure(HEALTH, "score", "Score", "percent", "the success rate"),
    Figure(
        HEALTH,
        "success_rate",
        "Success rate",
        "percent",
        "100 x succeeded / (succeeded + failed); governance decisions count as neither",
    ),
    Figure(HEALTH, "trend", "Trend", "word", f"share of successes: {TREND_TEST}"),
    Figure(
        HEALTH,
        "status",
        "Status",
        "word",
        "excellent from 95, good from 85, fair from 75, else poor; no_data if no action finished",
    ),
    Figure(HEALTH, "total_actions", "Actions", "actions", "all actions in the period"),
    Figure(
        SECURITY,
        "score",
        "Score",
        "percent",
        "100 x actions / (actions + 4 x medium + 8 x high + 16 x critical); each level weighs twice as much "
        "as the one below",
    ),
    Figure(SECURITY, "trend", "Trend", "word", f"share of elevated-risk actions, lower is better: {TREND_TEST}"),
    Figure(SECURITY, "critical_issues", "Critical", "actions", "critical-risk actions, excluding false positives"),
    Figure(
        SECURITY,
        "high_risk_actions",
        "High risk",
        "actions",
        "high-risk actions, excluding critical ones and false positives",
    ),
    Figure(SECURITY, "medium_risk_actions", "Medium risk", "actions", "medium-risk actions, excluding false positives"),
    Figure(EFFICIENCY, "score", "Score", "percent", "100 x the automation rate"),
    Figure(
        EFFICIENCY,
        "automation_rate",
        "Automation rate",
        "share",
        "decided automatically / decided; decided: a terminal decision, or one by a person; by a person: a "
        "reviewer, an approver or a review time is recorded",
    ),
    Figure(
        EFFICIENCY, "manual_interventions", "Manual decisions", "actions", "actions in the period decided by a person"
    ),
    Figure(
        EFFICIENCY,
        "pending_actions",
        "Pending approval",
        "actions",
        "all actions pending approval, regardless of the period",
    ),
    Figure(
        COMPLIANCE,
        "score",
        "Score",
        "percent",
        "100 x (due - violations) / due; due: elevated risk, older than the review limit, not a false "
        "positive; 100 if none is due",
    ),
    Figure(
        COMPLIANCE,
        "violations",
        "Violations",
        "actions",
        "elevated-risk actions in the period that were due for review and ran without a recorded decision",
    ),
    Figure(
        COMPLIANCE,
        "pending_reviews",
        "Pending approval",
        "actions",
        "all actions pending approval, regardless of the period",
    ),
    Figure(
        COMPLIANCE,
        "compliance_actions",
        "Review events",
        "events",
        "audit events APPROVE, DENY and REVIEW in the period",
    ),
    Figure(USERS, "current_users", "Users", "users", "users that are not deactivated"),
    Figure(
        USERS, "active_users", "Active users", "users", "current users with a login or an audit event in the period"
    ),
    Figure(
        USERS,
        "growth_rate",
        "Growth",
        "share",
        "(users now - users at the start) / users at the start; the start is that of the period, or the end "
        "of the first day with users if later; a deactivated user counts at the start if a login shows it",
    ),
    Figure(USERS, "trend", "Trend", "word", "positive, stable or negative: by the sign of the growth rate"),
    Figure(USERS, "new_users_this_week", "New this week", "users", "users created in the last 7 days"),
    Figure(
        UTILIZATION,
        "avg_actions_per_day",
        "Daily average",
        "actions per day",
        "actions in the period / days in the period, counted from the first day of data",
    ),
    Figure(
        UTILIZATION,
        "peak_day_actions",
        "Peak day",
        "actions",
        "most actions on one calendar day in the period",
    ),
    Figure(UTILIZATION, "efficiency_score", "Efficiency", "share", "the automation rate"),
    Figure(UTILIZATION, "total_actions_month", "Actions", "actions", "all actions in the period"),
)

OVERALL_HEALTH = (
    "grade of the mean of the platform, security and compliance scores; "
    "at most good with a critical action, at most fair with a poor score"
)
