"""The anomalies of an organization and its agents: spikes, drops, new agents, shifts of the risk mix. Pure.

Incidents of each hourly series (analytics/predictive/anomalies/episodes.py), held to one false discovery rate over all series
and days, and reported once: who, since when, how much was observed and how much expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np

from analytics.predictive.anomalies.episodes import Episode, episodes
from analytics.predictive.anomalies.findings import (
    Anomaly,
    Kind,
    Severity,
    adjusted_tails,
    amount,
    format_time,
    listed,
    rounded,
    severity,
    span,
    subject,
)
from analytics.predictive.anomalies.hourly_baseline import DAY, Hours
from analytics.predictive.anomalies.incidents import checked
from analytics.predictive.anomalies.risk_mix import risk_shifts

FALSE_DISCOVERY_RATE = 0.1
LEARNING_HOURS = 7 * DAY
REPORTED_HOURS = 7 * DAY
NEW_AGENT = timedelta(days=7)
ESTABLISHED = timedelta(days=14)
EXPLAINS = 0.5  # of an organization's excess: that agent's incident and the organization's are one


@dataclass(frozen=True, slots=True)
class HourlyCounts:
    """Actions per complete hour, oldest first, the last one ending at the current hour; `elevated`: those of high risk."""

    actions: Hours
    elevated: Hours | None = None


class Candidate(NamedTuple):
    """An episode of one series; `start` and `end` are its hours counted back from the end (the last hour is -1)."""

    agent_id: str | None
    episode: Episode
    values: Hours
    start: int
    end: int


def find_anomalies(
    organization: HourlyCounts,
    agents: Mapping[str, HourlyCounts],
    *,
    first_seen: Mapping[str, datetime],
    established: datetime | None,
    now: datetime,
) -> tuple[Anomaly, ...]:
    """What was out of the ordinary in the last seven days or still is, newest first, one entry per incident.

    Series end with the last complete hour before `now` (aware) and may begin at different times. `first_seen`: when
    each agent acted first, aware; `established`: when the organization did, None where it never did. Spikes and drops
    of all series and days are held to a false discovery rate of 10 %, shifts of all risk mixes to one of 5 %
    (Benjamini–Hochberg). An agent's incident that accounts for most of its organization's is reported once, with the agent's
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
        *risk_shifts(risk_mixes(series), end, REPORTED_HOURS),
    ]
    return tuple(sorted(found, key=lambda one: (-one.timestamp.timestamp(), one.type, one.agent_id or "")))


def risk_mixes(series: Mapping[str | None, HourlyCounts]) -> dict[str | None, tuple[Hours, Hours]]:
    """(actions, elevated) of the series that have both; ValueError where their lengths differ."""
    mixes: dict[str | None, tuple[Hours, Hours]] = {}
    for agent_id, counts in series.items():
        if counts.elevated is None:
            continue
        actions, elevated = checked(counts.actions), checked(counts.elevated)
        if len(actions) != len(elevated):
            raise ValueError(
                f"{len(elevated)} hours of elevated actions beside {len(actions)} hours of actions of {agent_id!r}"
            )
        mixes[agent_id] = (actions, elevated)
    return mixes


def activity(series: Mapping[str | None, HourlyCounts], end: datetime) -> list[Anomaly]:
    """Spikes and drops."""
    findings: list[Candidate] = []
    tests = 0
    for agent_id, counts in series.items():
        values = begun(checked(counts.actions))
        length = len(values)
        score_from = max(LEARNING_HOURS, length - REPORTED_HOURS)
        if score_from >= length:
            continue
        tests += -(-(length - score_from) // DAY)
        # From the start, so that what began before the days reported and still lasts is reported in full.
        findings += [
            Candidate(agent_id, one, values, one.start - length, one.end - length)
            for one in episodes(values, LEARNING_HOURS)
            if not one.over or one.end > score_from
        ]
    adjusted = adjusted_tails([one.episode.incident.tail for one in findings], tests)
    kept = [(one, tail) for one, tail in zip(findings, adjusted, strict=True) if tail <= FALSE_DISCOVERY_RATE]
    return [described(one, tail, end, others) for one, tail, others in merge_incidents(kept)]


def begun(values: Hours) -> Hours:
    """The series from its first action on: an agent was not silent before it existed."""
    acted = np.flatnonzero(values)
    return values[acted[0] :] if len(acted) else values[:0]


def merge_incidents(kept: Sequence[tuple[Candidate, float]]) -> list[tuple[Candidate, float, tuple[str, ...]]]:
    """Each incident once: the organization's and those of its agents at the same time in the same direction are one.

    It is the agent's where one agent makes most of it, else the organization's with the names of those that took part.
    """
    of_agents = [(one, tail) for one, tail in kept if one.agent_id is not None]
    absorbed: set[int] = set()
    merged: list[tuple[Candidate, float, tuple[str, ...]]] = []
    for one, tail in kept:
        if one.agent_id is not None:
            continue
        excess = one.episode.observed - one.episode.expected
        parts = {
            place: excess_within(other, one) / excess if excess else 0.0
            for place, (other, _) in enumerate(of_agents)
            if place not in absorbed and same_time(one, other)
        }
        partners = sorted(parts, key=lambda place: -parts[place])
        if len(partners) == 1 and parts[partners[0]] >= EXPLAINS:
            continue  # the agent's incident tells it
        # An agent's incident that began long before, or goes on after it, is one of its own.
        absorbed.update(place for place in partners if within(of_agents[place][0], one))
        merged.append((one, tail, tuple(str(of_agents[place][0].agent_id) for place in partners)))
    merged += [(one, tail, ()) for place, (one, tail) in enumerate(of_agents) if place not in absorbed]
    return merged


def same_time(one: Candidate, other: Candidate) -> bool:
    same_direction = one.episode.incident.rising == other.episode.incident.rising
    return same_direction and one.start < other.end and other.start < one.end


def within(one: Candidate, whole: Candidate) -> bool:
    """Whether `one` begins and ends about when `whole` does, give or take a day."""
    return one.start >= whole.start - DAY and one.end <= whole.end + DAY


def excess_within(finding: Candidate, whole: Candidate) -> float:
    """Observed less expected of that series over the hours of `whole`."""
    hours = slice(max(len(finding.values) + whole.start, 0), len(finding.values) + whole.end)
    return float(finding.values[hours].sum() - finding.episode.expected_hours[hours].sum())


def described(finding: Candidate, tail: float, end: datetime, others: tuple[str, ...]) -> Anomaly:
    incident, episode = finding.episode.incident, finding.episode
    kind: Kind = "spike" if incident.rising else "drop"
    word = "Unusual activity"
    if not incident.rising:
        word = "Unusual silence" if episode.observed == 0 else "Unusually low activity"
    start, hours, expected = (
        end + timedelta(hours=finding.start),
        finding.end - finding.start,
        rounded(episode.expected),
    )
    text = (
        f"{word} of {subject(finding.agent_id)}: {episode.observed:,.0f} actions {span(hours, start)}, "
        f"where {amount(expected)} were expected"
    )
    if others:
        text += f"; {listed(others)} took part"
    return Anomaly(
        kind,
        text,
        severity(tail, ratio_between(incident.observed, incident.expected)),
        start,
        finding.agent_id,
        episode.observed,
        expected,
        end + timedelta(hours=finding.end) if episode.over else None,
        tail,
        hours,
    )


def ratio_between(one: float, other: float) -> float:
    """How many times the larger is the smaller, both at least one action."""
    return max(one, other, 1.0) / max(min(one, other), 1.0)


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
        text = f"New agent {agent_id}: first seen {format_time(seen)}"
        if actions:
            text += f", {actions:,.0f} actions since"
        if elevated:
            text += f", {elevated:,.0f} of them with elevated risk"
        level: Severity = "medium" if elevated else "low"
        found.append(Anomaly("new_agent", text, level, seen, agent_id, actions, 0.0, None, 0.0))
    return found
