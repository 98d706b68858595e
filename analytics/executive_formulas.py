"""How each figure of the executive report is computed, in words: what the CSV and the PDF print beside the number.

`docs/numbers.md` lists the same formulas; a test keeps them equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analytics.executive_responses import ExecutiveDashboard


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the report: where it stands in the response, what it is called in print, its unit and " "formula."""

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


HEALTH, SECURITY, EFFICIENCY = "platform_health", "security_posture", "operational_efficiency"
COMPLIANCE, USERS, UTILIZATION = "compliance_status", "user_growth", "system_utilization"

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
        "100 - 100 x (9 x critical + 7 x high + 4 x medium) / all actions, at least 0; weights are CVSS v3.1 "
        "severity floors",
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
        "decided without a person / decided; decided: a terminal decision; by a person: a reviewer or a "
        "review time is recorded",
    ),
    Figure(
        EFFICIENCY, "manual_interventions", "Decided by people", "actions", "actions of the period decided by a person"
    ),
    Figure(EFFICIENCY, "pending_actions", "Pending now", "actions", "actions of any time that wait for a person"),
    Figure(
        COMPLIANCE,
        "score",
        "Score",
        "percent",
        "100 x (due - violations) / due; due: elevated risk, older than the review bound, no false positive; "
        "100 when none is due",
    ),
    Figure(
        COMPLIANCE,
        "violations",
        "Violations",
        "actions",
        "actions of the period that were due for review and are not decided",
    ),
    Figure(COMPLIANCE, "pending_reviews", "Pending reviews", "actions", "actions of any time that wait for a person"),
    Figure(
        COMPLIANCE, "compliance_actions", "Review events", "events", "audit events APPROVE, DENY, REVIEW of the period"
    ),
    Figure(USERS, "current_users", "Users", "users", "users that are not switched off"),
    Figure(USERS, "active_users", "Active users", "users", "users with a login or an audit event in the period"),
    Figure(
        USERS,
        "growth_rate",
        "Growth",
        "share",
        "(users now - users when the period began) / users when the period began; a user switched off counts "
        "for then if a login shows it",
    ),
    Figure(USERS, "trend", "Trend", "word", "positive, stable or negative: the sign of the growth rate"),
    Figure(USERS, "new_users_this_week", "New this week", "users", "users created in the last 7 days"),
    Figure(
        UTILIZATION, "avg_actions_per_day", "Actions per day", "actions per day", "actions of the period / its days"
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
DAILY_ACTIONS = (
    "actions of each calendar day of the time zone within the period; the first and the last day are partial"
)
DAILY_HIGH_RISK = "of these, of high or critical risk, false positives left out"
