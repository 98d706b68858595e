"""Sentences of the executive dashboard: one table of rules for each kind, each rule with a condition on the figures. Pure.

A rule never fires on a figure that was not measured. Sentences print the figures' own numbers. If one rule criticizes a
category, no other rule praises it. So no sentence contradicts a number or another sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from analytics.executive.responses import (
    BusinessMetrics,
    ExecutiveKpis,
    MeasuredFigures,
    Priority,
    StrategicInsight,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """The input of the rules. `reviews_due` counts the actions of the period that were due for review."""

    kpis: ExecutiveKpis
    business: BusinessMetrics
    days: int
    has_activity: bool
    measured: MeasuredFigures
    reviews_due: int

    @property
    def period(self) -> str:
        return "this month" if self.days == 30 else f"in the last {self.days} days"

    @property
    def success(self) -> float:
        return self.kpis.platform_health.success_rate

    @property
    def success_measured(self) -> bool:
        return self.measured.platform_health

    @property
    def risk_measured(self) -> bool:
        return self.measured.security_posture

    @property
    def automation_measured(self) -> bool:
        return self.measured.operational_efficiency

    @property
    def automation_percent(self) -> int:
        return round(100 * self.kpis.operational_efficiency.automation_rate)

    @property
    def critical(self) -> int:
        return self.kpis.security_posture.critical_issues

    @property
    def high(self) -> int:
        return self.kpis.security_posture.high_risk_actions

    @property
    def security(self) -> float:
        return self.kpis.security_posture.score

    @property
    def violations(self) -> int:
        return self.kpis.compliance_status.violations

    @property
    def compliance(self) -> float:
        return self.kpis.compliance_status.score

    @property
    def pending(self) -> int:
        return self.kpis.operational_efficiency.pending_actions

    @property
    def growth(self) -> float:
        return self.business.user_growth.growth_rate


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def without_decision(figures: Figures) -> str:
    """A violation is an action that ran, not one that waits."""
    return f"{counted(figures.violations, 'elevated-risk action')} ran without a recorded decision"


Condition = Callable[[Figures], bool]
Sentence = Callable[[Figures], str]
Tone = Literal["praise", "blame", "neutral"]


@dataclass(frozen=True, slots=True)
class Rule:
    category: str
    condition: Condition
    sentence: Sentence


ACHIEVEMENTS: tuple[Rule, ...] = (
    Rule(
        "security", lambda f: f.risk_measured and f.critical == 0,
        lambda f: f"Zero critical security incidents {f.period}",
    ),
    Rule(
        "reliability", lambda f: f.success_measured and f.success >= 95,
        lambda f: f"{f.success}% system reliability achieved",
    ),
    Rule(
        "efficiency", lambda f: f.automation_measured and f.automation_percent >= 75,
        lambda f: f"{f.automation_percent}% workflow automation rate",
    ),
    Rule(
        "compliance", lambda f: f.reviews_due > 0 and f.violations == 0 and f.pending == 0,
        lambda f: f"Every elevated-risk action due for review {f.period} has a recorded decision",
    ),
)  # fmt: skip
NO_ACHIEVEMENT = "No notable achievements {period}"
NO_ACTIVITY = "No agent activity {period}"

# Each rule criticizes its category. No rule praises growth.
FOCUS: tuple[Rule, ...] = (
    Rule("status", lambda f: not f.has_activity, lambda f: "Check that agents are connected to the platform"),
    Rule("security", lambda f: f.critical > 0, lambda f: f"Investigate {counted(f.critical, 'critical-risk action')}"),
    Rule(
        "security", lambda f: f.risk_measured and f.security < 90,
        lambda f: f"Reduce elevated-risk actions: security score {f.security}",
    ),
    Rule(
        "security", lambda f: f.has_activity and not f.risk_measured,
        lambda f: "Have agents report a risk level: no action has a known risk level",
    ),
    Rule(
        "compliance", lambda f: f.violations > 5 or f.compliance < 80,
        without_decision,
    ),
    Rule(
        "reliability", lambda f: f.success_measured and f.success < 85,
        lambda f: f"Investigate the success rate of {f.success}%",
    ),
    Rule(
        "efficiency", lambda f: f.automation_measured and f.automation_percent < 60,
        lambda f: f"Automate more decisions: only {f.automation_percent}% are automated",
    ),
    Rule("waiting", lambda f: f.pending > 20, lambda f: f"Clear {counted(f.pending, 'pending approval')}"),
    Rule(
        "security", lambda f: f.kpis.security_posture.trend == "declining",
        lambda f: "The share of elevated-risk actions has risen since the previous period",
    ),
    Rule(
        "reliability", lambda f: f.kpis.platform_health.trend == "declining",
        lambda f: "The success rate has fallen since the previous period",
    ),
    Rule(
        "growth", lambda f: f.growth < 0,
        lambda f: f"Investigate the loss of users: {round(-100 * f.growth)}% fewer than at the start of the period",
    ),
    Rule("growth", lambda f: f.growth > 0.2, lambda f: f"Plan capacity for user growth of {round(100 * f.growth)}%"),
)  # fmt: skip
NO_FOCUS = "Continue monitoring system health and performance"


@dataclass(frozen=True, slots=True)
class InsightRule:
    category: str
    tone: Tone
    priority: Priority
    data_source: str
    condition: Condition
    insight: Sentence
    action: str


RISK, OUTCOMES, WORKFLOW, REVIEWS, GROWTH = (
    "agent_actions_risk_analysis",
    "agent_actions_outcomes",
    "approval_workflow_metrics",
    "compliance_review_metrics",
    "user_growth_metrics",
)
# Each category contributes the first rule that fires.
INSIGHTS: tuple[InsightRule, ...] = (
    InsightRule(
        "status", "neutral", "medium", "agent_actions", lambda f: not f.has_activity,
        lambda f: NO_ACTIVITY.format(period=f.period),
        "Check that agents are connected to the platform",
    ),
    InsightRule(
        "security", "blame", "critical", RISK, lambda f: f.critical > 0,
        lambda f: f"{counted(f.critical, 'critical-risk action')} {f.period}",
        "Investigate critical actions and the agents behind them now",
    ),
    InsightRule(
        "security", "blame", "high", RISK, lambda f: f.risk_measured and f.security < 75,
        lambda f: f"Weak security posture: score {f.security} with {counted(f.high, 'high-risk action')}",
        "Tighten the policies of the agents with the most high-risk actions",
    ),
    InsightRule(
        "security", "blame", "medium", RISK, lambda f: f.risk_measured and f.security < 90,
        lambda f: f"Security posture needs attention: score {f.security} with {counted(f.high, 'high-risk action')}",
        "Review the sources of elevated-risk actions",
    ),
    InsightRule(
        "security", "blame", "medium", RISK, lambda f: f.kpis.security_posture.trend == "declining",
        lambda f: f"Elevated risk is becoming more frequent: score {f.security} with {counted(f.high, 'high-risk action')}",
        "Review the sources of elevated-risk actions",
    ),
    InsightRule(
        "security", "praise", "low", RISK, lambda f: f.risk_measured,
        lambda f: f"Strong security posture maintained (only {counted(f.high, 'high-risk action')})",
        "Continue current security protocols",
    ),
    InsightRule(
        "reliability", "blame", "high", OUTCOMES, lambda f: f.success_measured and f.success < 85,
        lambda f: f"Low success rate ({f.success}%)",
        "Review the agents and tools with the most failures",
    ),
    InsightRule(
        "efficiency", "blame", "high", WORKFLOW, lambda f: f.automation_measured and f.automation_percent < 50,
        lambda f: f"Low automation rate ({f.automation_percent}%)",
        "Identify approvals that rules could decide automatically",
    ),
    InsightRule(
        "efficiency", "praise", "low", WORKFLOW, lambda f: f.automation_measured and f.automation_percent > 80,
        lambda f: f"Excellent automation rate ({f.automation_percent}%)",
        "Maintain current automation strategies",
    ),
    InsightRule(
        "compliance", "blame", "high", REVIEWS, lambda f: f.violations > 10 or f.compliance < 80,
        lambda f: f"{without_decision(f)} (compliance {f.compliance}%)",
        "Require a decision before elevated-risk actions run, and record who decided",
    ),
    InsightRule(
        "growth", "neutral", "medium", GROWTH, lambda f: f.growth > 0.2,
        lambda f: f"Users grew by {round(100 * f.growth)}%",
        "Plan licenses and capacity for this growth",
    ),
    InsightRule(
        "growth", "blame", "medium", GROWTH, lambda f: f.growth < 0,
        lambda f: f"Users declined by {round(-100 * f.growth)}%",
        "Investigate why users leave",
    ),
)  # fmt: skip
NO_INSIGHT = StrategicInsight(
    "status", "No notable changes in this period", "Continue monitoring", "low", "agent_actions"
)


def faulted(figures: Figures) -> frozenset[str]:
    """The categories that a rule criticizes."""
    return frozenset(rule.category for rule in FOCUS if rule.condition(figures)) | frozenset(
        rule.category for rule in INSIGHTS if rule.tone == "blame" and rule.condition(figures)
    )


def achievements(figures: Figures) -> tuple[str, ...]:
    """What went well, by `ACHIEVEMENTS`; at least one sentence."""
    faults = faulted(figures)
    found = tuple(
        rule.sentence(figures) for rule in ACHIEVEMENTS if rule.category not in faults and rule.condition(figures)
    )
    none = NO_ACHIEVEMENT if figures.has_activity else NO_ACTIVITY
    return found or (none.format(period=figures.period),)


def focus(figures: Figures) -> tuple[str, ...]:
    """What needs work, by `FOCUS`; at least one sentence."""
    return tuple(rule.sentence(figures) for rule in FOCUS if rule.condition(figures)) or (NO_FOCUS,)


def insights(figures: Figures) -> tuple[StrategicInsight, ...]:
    """The first rule of each category that fires, in the order of `INSIGHTS`."""
    faults = faulted(figures)
    found: dict[str, StrategicInsight] = {}
    for rule in INSIGHTS:
        if rule.category in found or (rule.tone == "praise" and rule.category in faults):
            continue
        if rule.condition(figures):
            found[rule.category] = StrategicInsight(
                rule.category, rule.insight(figures), rule.action, rule.priority, rule.data_source
            )
    return tuple(found.values()) or (NO_INSIGHT,)
