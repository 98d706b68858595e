"""Recommendations: rules over anomalies, forecast, workload and live accuracy, each naming its cause. One table, pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from analytics.predictive.anomalies.findings import Anomaly
from analytics.predictive.history_levels import OPTIMAL_DAYS
from analytics.predictive.outlook import AgentForecast, Forecasts, Outlook
from analytics.responses import cut

MOST = 5
RECENT = timedelta(hours=48)
RISE = 1.2  # of the next seven days over the last seven
FEWEST_RISKS = 5.0
BUSY = 0.8  # of the busiest day of the last 30
RISKY = 0.5  # share of high and critical risk
RISKY_ACTIONS = 1.0  # forecast for the day
BAND_OFF = 0.15  # stated against observed
SCORED_LEAST = 30

Rule = Callable[[Outlook, Forecasts, int], Iterator[str]]


def recommendations(outlook: Outlook, forecasts: Forecasts, days_collected: int) -> tuple[str, ...]:
    """At most five sentences, the most urgent first; if nothing needs doing, one sentence that states this."""
    found = [sentence for rule in RULES for sentence in rule(outlook, forecasts, days_collected)]
    if not found:
        after = "" if forecasts.last_week is None else f" after {forecasts.last_week:,.0f} in the last 7"
        found = [
            f"No action needed: {forecasts.week_ahead:,.0f} high-risk actions are forecast for the next "
            f"{len(forecasts.risk)} days{after}, and no anomaly of the last 48 hours needs a look"
        ]
    return tuple(found[:MOST])


def grave_anomalies(outlook: Outlook, forecasts: Forecasts, days_collected: int) -> Iterator[str]:
    """Recent spikes, silences and risk shifts of medium and high severity, the graver first."""
    for severity in ("high", "medium"):
        for one in outlook.anomalies:
            if one.type != "new_agent" and one.severity == severity and recent(one, outlook.made_at):
                yield f"{ACTIONS[one.type]}: {one.description}"


def unknown_agents(outlook: Outlook, forecasts: Forecasts, days_collected: int) -> Iterator[str]:
    """New agents, one sentence for all."""
    new = [one for one in outlook.anomalies if one.type == "new_agent" and one.agent_id is not None]
    if new:
        names = ", ".join(cut(str(one.agent_id)) for one in new[:3])
        more = f" and {len(new) - 3} more" if len(new) > 3 else ""
        yield f"Confirm that {names}{more} may act: first seen within the last 7 days"


def rising_risk(outlook: Outlook, forecasts: Forecasts, days_collected: int) -> Iterator[str]:
    """A week with clearly more high-risk actions than the last; a shorter history has no week to compare with."""
    ahead, behind = forecasts.week_ahead, forecasts.last_week
    if behind is None:
        return
    if ahead >= FEWEST_RISKS and ahead >= RISE * behind:
        change = f", {ahead / behind - 1:+.0%}" if behind else ""
        yield (
            f"Review high-risk action patterns from last week: {ahead:,.0f} are forecast for the next 7 days after "
            f"{behind:,.0f} in the last 7{change}"
        )


def busy_agents(outlook: Outlook, forecasts: Forecasts, days_collected: int) -> Iterator[str]:
    """Agents about to exceed their ordinary load."""
    for one in forecasts.workload:
        if overloaded(one):
            yield (
                f"Increase monitoring for {cut(one.agent_id)}: {one.point:,.0f} actions are forecast for {one.day}, "
                f"where {one.usual:,.0f} are usual and {one.peak:,.0f} were its busiest day of the last 30"
            )


def risky_agents(outlook: Outlook, forecasts: Forecasts, days_collected: int) -> Iterator[str]:
    """Agents most of whose actions are of high or critical risk."""
    for one in forecasts.workload:
        if risky(one):
            yield (
                f"Review the approvals of {cut(one.agent_id)}: {one.high_risk_ratio:.0%} of its actions of the last 30 days "
                "were of high or critical risk"
            )


def unproven_bands(outlook: Outlook, forecasts: Forecasts, days_collected: int) -> Iterator[str]:
    """Live scores that contradict the stated confidence."""
    score = outlook.accuracy.high_risk
    if score.forecasts_scored < SCORED_LEAST or score.within_band is None or score.stated_confidence is None:
        return
    if abs(score.within_band - score.stated_confidence) > BAND_OFF:
        yield (
            f"Read forecast bands with care: {score.within_band:.0%} of {score.forecasts_scored} scored forecasts ended "
            f"inside, where {score.stated_confidence:.0%} was stated"
        )


def short_history(outlook: Outlook, forecasts: Forecasts, days_collected: int) -> Iterator[str]:
    """Too few days for good forecasts."""
    if days_collected < OPTIMAL_DAYS:
        yield (
            f"Keep collecting: {days_collected} of {OPTIMAL_DAYS} days are available; weekdays differ reliably from then on, and "
            "until then ranges are wide"
        )


ACTIONS = {"spike": "Investigate a spike", "drop": "Check for an outage", "risk_shift": "Review a risk shift"}
RULES: tuple[Rule, ...] = (
    grave_anomalies,
    unknown_agents,
    rising_risk,
    busy_agents,
    risky_agents,
    unproven_bands,
    short_history,
)


def workload_recommendation(one: AgentForecast) -> str:
    """What to do about one agent's next day, in a few words."""
    if overloaded(one):
        return "Monitor capacity"
    if risky(one):
        return "Review high-risk actions"
    if one.trend == "decreasing":
        return "Check for lower activity"
    return "No action needed"


def overloaded(one: AgentForecast) -> bool:
    return one.trend == "increasing" and one.utilization >= BUSY


def risky(one: AgentForecast) -> bool:
    return one.high_risk_ratio > RISKY and one.point * one.high_risk_ratio >= RISKY_ACTIONS


def recent(one: Anomaly, now: datetime) -> bool:
    """Whether it lasts, or ended within 48 hours."""
    return one.ends_at is None or one.ends_at > now - RECENT
