"""The anomalies of an organization and its agents: spikes, drops, new agents, shifts of the risk mix. Pure.

Incidents of each hourly series (analytics/predictive/incidents.py), held to one false discovery rate over all series
and days, and told once each: who, when, how much was observed and how much expected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import numpy as np

from analytics.predictive.baseline import DAY, Deviation, Hours
from analytics.predictive.incidents import (
    Incident,
    checked,
    detect_hourly,
    deviations,
    eventful,
    incidents,
    strengths,
)
from analytics.proportions import direction

__all__ = ["Anomaly", "HourlyCounts", "detect_hourly", "find_anomalies"]

Kind = Literal["spike", "drop", "new_agent", "risk_shift"]
Severity = Literal["low", "medium", "high"]

FALSE_DISCOVERY_RATE = 0.1
RISK_FALSE_DISCOVERY_RATE = 0.05
LEARNING_HOURS = 7 * DAY
REPORTED = timedelta(days=7)
NEW_AGENT = timedelta(days=7)
ESTABLISHED = timedelta(days=14)
RISK_HOURS = DAY
RISK_BEFORE_HOURS = 28 * DAY
RISK_BEFORE_LEAST_HOURS = 7 * DAY
RISK_ACTIONS_LEAST = 20
RISK_DIFFERENCE_LEAST = 0.05
EXPLAINS = 0.5  # of an organization's excess: that agent's incident and the organization's are one
NAMED = 3
STRONG = {"high": (1e-4, 3.0), "medium": (1e-2, 2.0)}  # adjusted tail at most, factor at least


@dataclass(frozen=True, slots=True)
class HourlyCounts:
    """Actions per complete hour, oldest first, the last one ending at the current hour; `elevated`: those of high risk."""

    actions: Hours
    elevated: Hours | None = None


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One incident. `timestamp`: the start of the hour that raised it (new_agent: first seen), aware, UTC as given.

    `observed`, `expected`: actions over the `hours` hours that end with the incident's strongest (spike, drop); shares
    0–1 of elevated risk (risk_shift); actions so far against 0 (new_agent). `ends_at`: end of its last odd hour, None
    while it lasts. `agent_id`: None for the whole organization. `tail`: probability of the like under ordinary
    conditions, adjusted for everything tested at once.
    """

    type: Kind
    description: str
    severity: Severity
    timestamp: datetime
    agent_id: str | None
    observed: float
    expected: float
    ends_at: datetime | None
    tail: float
    hours: int = 1


class Finding(NamedTuple):
    """An incident of one series, its hours counted back from the end; the series' measures, not cut the same way."""

    agent_id: str | None
    incident: Incident
    measures: list[Deviation]


class RiskShift(NamedTuple):
    agent_id: str | None
    share: float
    before: float
    actions: int
    tail: float


def find_anomalies(
    organization: HourlyCounts,
    agents: Mapping[str, HourlyCounts],
    *,
    first_seen: Mapping[str, datetime],
    established: datetime | None,
    now: datetime,
) -> tuple[Anomaly, ...]:
    """What was out of the ordinary in the last seven days, newest first, one entry per incident.

    Series end with the last complete hour before `now` (aware) and may begin at different times. `first_seen`: when
    each agent acted first, aware; `established`: when the organization did, None where it never did. Spikes and drops
    of all series and days are held to a false discovery rate of 10 %, shifts of all risk mixes to one of 5 %
    (Benjamini–Hochberg). An agent's incident that makes most of one of its organization is told once, with the agent's
    name. ValueError for a naive `now`, gaps (nan), or `elevated` of another length.
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone; pass an aware datetime")
    end = now.replace(minute=0, second=0, microsecond=0)
    series: dict[str | None, HourlyCounts] = {None: organization}
    series.update(agents.items())
    found = [
        *activity(series, end),
        *new_agents(agents, first_seen, established, now),
        *risk_shifts(series, end),
    ]
    return tuple(sorted(found, key=lambda one: (-one.timestamp.timestamp(), one.type, one.agent_id or "")))


def activity(series: Mapping[str | None, HourlyCounts], end: datetime) -> list[Anomaly]:
    """Spikes and drops."""
    findings: list[Finding] = []
    tests = 0
    reported_hours = REPORTED // timedelta(hours=1)
    for agent_id, counts in series.items():
        values = begun(checked(counts.actions))
        score_from = max(LEARNING_HOURS, len(values) - reported_hours)
        if score_from >= len(values):
            continue
        tests += -(-(len(values) - score_from) // DAY)
        measures = deviations(values)
        if not eventful(measures):
            continue
        # From the start, so that what began before the days reported and still lasts is not told as new.
        whole = incidents(measures, strengths(measures), LEARNING_HOURS)
        findings += [Finding(agent_id, shifted(one, len(values)), measures) for one in whole if one.alarm >= score_from]
    adjusted = adjusted_tails([one.incident.tail for one in findings], tests)
    kept = [(one, tail) for one, tail in zip(findings, adjusted, strict=True) if tail <= FALSE_DISCOVERY_RATE]
    return [described(one, tail, end, others) for one, tail, others in told_once(kept)]


def begun(values: Hours) -> Hours:
    """The series from its first action on: an agent was not silent before it existed."""
    acted = np.flatnonzero(values)
    return values[acted[0] :] if len(acted) else values[:0]


def shifted(incident: Incident, length: int) -> Incident:
    """With its hours counted from the end of the series (the last hour is -1), which all series share."""
    return incident._replace(alarm=incident.alarm - length, peak=incident.peak - length, last=incident.last - length)


def adjusted_tails(tails: Sequence[float], tests: int) -> list[float]:
    """Benjamini–Hochberg: the false discovery rate at which each would be reported, of `tests` tests made in all."""
    order = sorted(range(len(tails)), key=lambda place: tails[place], reverse=True)
    adjusted = [1.0] * len(tails)
    least = 1.0
    for behind, place in enumerate(order):
        least = min(least, tails[place] * max(tests, len(tails)) / (len(tails) - behind))
        adjusted[place] = least
    return adjusted


def told_once(kept: Sequence[tuple[Finding, float]]) -> list[tuple[Finding, float, tuple[str, ...]]]:
    """Each incident once: the organization's and those of its agents at the same time in the same direction are one.

    It is the agent's where one agent makes most of it, else the organization's with the names of those that took part.
    """
    of_agents = [(one, tail) for one, tail in kept if one.agent_id is not None]
    absorbed: set[int] = set()
    told: list[tuple[Finding, float, tuple[str, ...]]] = []
    for one, tail in kept:
        if one.agent_id is not None:
            continue
        partners = [
            place
            for place, (other, _) in enumerate(of_agents)
            if place not in absorbed and same_time(one.incident, other.incident)
        ]
        excess = one.incident.observed - one.incident.expected
        parts = {place: excess_at(of_agents[place][0], one.incident) / excess for place in partners}
        partners.sort(key=lambda place: -parts[place])
        if len(partners) == 1 and parts[partners[0]] >= EXPLAINS:
            continue  # the agent's incident tells it
        absorbed.update(partners)
        names = tuple(str(of_agents[place][0].agent_id) for place in partners)
        told.append((one, tail, names))
    told += [(one, tail, ()) for place, (one, tail) in enumerate(of_agents) if place not in absorbed]
    return told


def same_time(one: Incident, other: Incident) -> bool:
    return (
        one.rising == other.rising
        and one.alarm - one.width < other.last + 1
        and other.alarm - other.width < one.last + 1
    )


def excess_at(finding: Finding, incident: Incident) -> float:
    """Observed less expected of that series over the hours of `incident`, which may be another's."""
    for measure in finding.measures:
        if measure.width == incident.width and -incident.peak <= len(measure.observed):
            return float(np.nan_to_num(measure.observed[incident.peak] - measure.expected[incident.peak]))
    return 0.0


def described(finding: Finding, tail: float, end: datetime, others: tuple[str, ...]) -> Anomaly:
    incident = finding.incident
    hour = timedelta(hours=1)
    kind: Kind = "spike" if incident.rising else "drop"
    who = finding.agent_id if finding.agent_id is not None else "the organization"
    until = end + (incident.peak + 1) * hour
    span = f"in the hour from {until - hour:%Y-%m-%d %H:%M}"
    if incident.width > 1:
        span = f"in the {incident.width} hours up to {until:%Y-%m-%d %H:%M}"
    word = (
        "Unusual activity"
        if incident.rising
        else "Unusual silence"
        if incident.observed == 0
        else "Unusually low activity"
    )
    text = f"{word} of {who}: {incident.observed:,.0f} actions {span}, where {amount(incident.expected)} were expected"
    if others:
        text += f"; {listed(others)} took part"
    factor = ratio_between(incident.observed, incident.expected)
    return Anomaly(
        kind,
        text,
        severity(tail, factor),
        end + incident.alarm * hour,
        finding.agent_id,
        incident.observed,
        round(incident.expected, 2),
        end + (incident.last + 1) * hour if incident.over else None,
        tail,
        incident.width,
    )


def amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown


def ratio_between(one: float, other: float) -> float:
    """How many times the larger is the smaller, both at least one action."""
    return max(one, other, 1.0) / max(min(one, other), 1.0)


def severity(tail: float, factor: float) -> Severity:
    """By how unlikely and by how large: both must be reached."""
    for name in ("high", "medium"):
        most, least = STRONG[name]
        if tail <= most and factor >= least:
            return "high" if name == "high" else "medium"
    return "low"


def new_agents(
    agents: Mapping[str, HourlyCounts],
    first_seen: Mapping[str, datetime],
    established: datetime | None,
    now: datetime,
) -> list[Anomaly]:
    """Agents first seen within seven days, in an organization that has acted for more than fourteen."""
    if established is None or now - established <= ESTABLISHED:
        return []
    found: list[Anomaly] = []
    for agent_id, seen in first_seen.items():
        if not now - NEW_AGENT < seen <= now:
            continue
        counts = agents.get(agent_id)
        actions = float(counts.actions.sum()) if counts is not None else 0.0
        elevated = float(counts.elevated.sum()) if counts is not None and counts.elevated is not None else 0.0
        text = f"New agent {agent_id}: first seen {seen:%Y-%m-%d %H:%M}"
        if actions:
            text += f", {actions:,.0f} actions since"
        if elevated:
            text += f", {elevated:,.0f} of them with elevated risk"
        level: Severity = "medium" if elevated else "low"
        found.append(Anomaly("new_agent", text, level, seen, agent_id, actions, 0.0, None, 0.0))
    return found


def risk_shifts(series: Mapping[str | None, HourlyCounts], end: datetime) -> list[Anomaly]:
    """Shares of elevated risk in the last 24 hours that differ from those of the four weeks before."""
    tested = [shift for agent_id, counts in series.items() if (shift := risk_shift(agent_id, counts)) is not None]
    adjusted = adjusted_tails([one.tail for one in tested], len(tested))
    kept = [
        (one, tail)
        for one, tail in zip(tested, adjusted, strict=True)
        if tail <= RISK_FALSE_DISCOVERY_RATE and abs(one.share - one.before) >= RISK_DIFFERENCE_LEAST
    ]
    whole = next((one for one, _ in kept if one.agent_id is None), None)
    same = [
        one
        for one, _ in kept
        if one.agent_id is not None and whole and (one.share > one.before) == (whole.share > whole.before)
    ]
    start = end - timedelta(hours=RISK_HOURS)
    found: list[Anomaly] = []
    for one, tail in kept:
        # One agent alone tells the shift of its organization; several are told by their organization's.
        if whole is not None and ((one is whole and len(same) == 1) or (one in same and len(same) > 1)):
            continue
        who = one.agent_id if one.agent_id is not None else "the organization"
        rising = one.share > one.before
        text = (
            f"{'More' if rising else 'Less'} elevated risk than usual in the actions of {who}: {one.share:.0%} of "
            f"{one.actions:,} in the 24 hours up to {end:%Y-%m-%d %H:%M}, where {one.before:.0%} were expected"
        )
        if one is whole and same:
            text += f"; {listed([str(other.agent_id) for other in same])} took part"
        difference = one.share - one.before
        level: Severity = "low"
        if rising:
            level = (
                "high" if difference >= 0.25 and tail <= STRONG["high"][0] else "medium" if difference >= 0.1 else "low"
            )
        found.append(
            Anomaly("risk_shift", text, level, start, one.agent_id, one.share, one.before, None, tail, RISK_HOURS)
        )
    return found


def risk_shift(agent_id: str | None, counts: HourlyCounts) -> RiskShift | None:
    """The test of one series; None where too little is known to test.

    Two-proportion test (analytics.proportions), its z divided by the square root of how much more the shares of single
    days before differ among themselves than chance would have it.
    """
    if counts.elevated is None:
        return None
    actions, elevated = checked(counts.actions), checked(counts.elevated)
    if len(actions) != len(elevated):
        raise ValueError(
            f"{len(elevated)} hours of elevated actions beside {len(actions)} hours of actions of {agent_id!r}"
        )
    before_actions = actions[-RISK_BEFORE_HOURS - RISK_HOURS : -RISK_HOURS]
    before_elevated = elevated[-RISK_BEFORE_HOURS - RISK_HOURS : -RISK_HOURS]
    trials, hits = round(actions[-RISK_HOURS:].sum()), round(elevated[-RISK_HOURS:].sum())
    before_trials, before_hits = round(before_actions.sum()), round(before_elevated.sum())
    if len(before_actions) < RISK_BEFORE_LEAST_HOURS or min(trials, before_trials) < RISK_ACTIONS_LEAST:
        return None
    share, before = hits / trials, before_hits / before_trials
    tail = 1.0
    if direction(before_hits, before_trials, hits, trials) != "flat":
        # One hit and one miss more: no share is taken for impossible because it has not been seen.
        pooled = (hits + before_hits + 1) / (trials + before_trials + 2)
        deviation_of_share = math.sqrt(
            pooled * (1 - pooled) * (1 / trials + 1 / before_trials) * dispersion(before_actions, before_elevated)
        )
        tail = math.erfc(abs(share - before) / deviation_of_share / math.sqrt(2))
    return RiskShift(agent_id, share, before, trials, tail)


def dispersion(actions: Hours, elevated: Hours) -> float:
    """Pearson's χ² of the daily shares over its degrees of freedom, at least 1 (1: they differ as chance has it)."""
    days = len(actions) // DAY
    trials = actions[-days * DAY :].reshape(days, DAY).sum(axis=1)
    hits = elevated[-days * DAY :].reshape(days, DAY).sum(axis=1)
    trials, hits = trials[trials > 0], hits[trials > 0]
    share = (hits.sum() + 0.5) / (trials.sum() + 1)
    if len(trials) < 2:
        return 1.0
    square = float(((hits - trials * share) ** 2 / (trials * share * (1 - share))).sum())
    return max(1.0, square / (len(trials) - 1))
