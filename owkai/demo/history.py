"""Ninety days of realistic activity that end now, as rows for the platform's tables.

`generate` is pure: the same seed and the same time give the same rows. Times are aware UTC; columns without a time
zone get the naive UTC value. `load` writes the rows with COPY, then deletes and changes some of them as people do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from owkai.demo.action_lifecycle import level_of, outcome
from owkai.demo.catalog import HOURS, ORGANIZATIONS, WEEKEND, Agent, Organization, Rhythm
from owkai.demo.people import Person, audit_of_people, people_of, staff

DAYS = 90
GROWTH = 0.35  # of activity over the 90 days
DEFAULT_SEED = 20_250_115
HOUR = timedelta(hours=1)

# Writers outside the platform's models spell the level as they like and give no score.
SPELLINGS = {
    "low": ("LOW", "Low", "low"),
    "medium": ("MEDIUM", "Medium", "medium"),
    "high": ("HIGH", "High", "high"),
    "critical": ("CRITICAL", "Critical", "critical"),
}

ACTION_COLUMNS = (
    "id", "organization_id", "agent_id", "action_type", "description", "risk_level", "risk_score", "status", "approved",
    "requires_approval", "is_false_positive", "tool_name", "summary", "nist_control", "mitre_tactic", "mitre_technique",
    "recommendation", "target_system", "decision", "processing_time_ms", "user_id", "reviewed_by", "approved_by",
    "timestamp", "created_at", "updated_at", "reviewed_at", "extra_data",
)  # fmt: skip
AUDIT_COLUMNS = (
    "organization_id", "user_id", "action", "resource_type", "resource_id", "ip_address", "created_at", "risk_level",
    "compliance_impact",
)  # fmt: skip
USER_COLUMNS = (
    "id", "email", "role", "is_active", "is_suspended", "created_at", "last_login", "last_logout", "organization_id",
    "first_name", "last_name", "department", "is_platform_user", "is_org_admin", "scope",
)  # fmt: skip


@dataclass(frozen=True)
class History:
    """Rows in the order of the columns above. `cleaned` are ids of actions that `load` deletes again."""

    people: tuple[Person, ...]
    users: list[tuple[Any, ...]]
    actions: list[tuple[Any, ...]]
    audit: list[tuple[Any, ...]]
    cleaned: list[int] = field(default_factory=list)
    corrected: list[int] = field(default_factory=list)  # ids marked as false positives after the fact


def generate(seed: int, now: datetime, organizations: Sequence[Organization] = ORGANIZATIONS) -> History:
    """The history of `organizations` in the 90 days before `now` (aware)."""
    random = np.random.default_rng(seed)
    people: list[Person] = []
    for organization in organizations:
        people += people_of(organization, now, random, first_id=len(people) + 1)
    people += staff(now, first_id=len(people) + 1)
    events, last_seen = audit_of_people(people, now, DAYS, random)
    rows: list[tuple[datetime, tuple[Any, ...]]] = []
    for organization in organizations:
        members = [person for person in people if person.organization_id == organization.id]
        made, reviews = _actions(organization, members, now, random)
        rows += made
        events += reviews
    rows.sort(key=lambda row: row[0])
    actions = [(number, *row) for number, (_, row) in enumerate(rows, 1)]
    events.sort(key=lambda event: event[6])
    doomed = random.random((2, len(actions))) < np.array([[0.006], [0.002]])
    return History(
        people=tuple(people),
        users=[_user_row(person, last_seen.get(person.id), now) for person in people],
        actions=actions,
        audit=events,
        cleaned=[int(index) + 1 for index in np.flatnonzero(doomed[0])],
        corrected=[int(index) + 1 for index in np.flatnonzero(doomed[1])],
    )


def load(
    connection: psycopg.Connection[Any], history: History, organizations: Sequence[Organization] = ORGANIZATIONS
) -> None:
    """Write `history` into the empty tables of the platform, in one transaction."""
    with connection.transaction(), connection.cursor() as cursor:
        _copy(
            cursor,
            "organizations",
            ("id", "name", "slug"),
            [(organization.id, organization.name, organization.slug) for organization in organizations],
        )
        _copy(cursor, "users", USER_COLUMNS, history.users)
        _copy(cursor, "agent_actions", ACTION_COLUMNS, history.actions)
        _copy(cursor, "audit_logs", AUDIT_COLUMNS, history.audit)
        for table in ("organizations", "users", "agent_actions"):
            cursor.execute(
                sql.SQL("select setval(pg_get_serial_sequence({}, 'id'), max(id)) from public.{}").format(
                    sql.Literal(f"public.{table}"), sql.Identifier(table)
                )
            )
        cursor.execute("delete from public.agent_actions where id = any(%s)", (history.cleaned,))
        cursor.execute(
            "update public.agent_actions set is_false_positive = true where id = any(%s)", (history.corrected,)
        )


def _copy(cursor: psycopg.Cursor[Any], table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    with cursor.copy(sql.SQL("copy public.{} ({}) from stdin").format(sql.Identifier(table), names)) as copy:
        for row in rows:
            copy.write_row(row)


def _user_row(person: Person, seen: datetime | None, now: datetime) -> tuple[Any, ...]:
    return (
        person.id, person.email, person.role, person.active, person.suspended, person.created_at.replace(tzinfo=None),
        None if seen is None else seen.replace(tzinfo=None), None, person.organization_id, person.first_name,
        person.last_name, person.department, person.organization_id is None, person.role in ("admin", "org_admin"),
        "platform" if person.organization_id is None else "org",
    )  # fmt: skip


def activity_by_hour(
    agent: Agent, starts: Sequence[datetime], utc_offset_hours: int, now: datetime
) -> NDArray[np.float64]:
    """Relative activity of `agent` in each of the hours that begin at `starts`; the last one may be partial."""
    hours, weekend = HOURS[agent.rhythm], WEEKEND[agent.rhythm]
    weights = np.zeros(len(starts))
    for index, start in enumerate(starts):
        age_days = (now - start).total_seconds() / 86_400
        if (agent.since_days is not None and age_days > agent.since_days) or (
            agent.until_days is not None and age_days < agent.until_days
        ):
            continue
        local = start + timedelta(hours=utc_offset_hours)
        weekday = local.weekday()
        day = 1.0 if weekday < 5 else weekend[weekday - 5]
        if agent.rhythm is Rhythm.OFFICE and weekday in (0, 4):
            day = 0.9 if weekday else 1.08
        growth = 1 + GROWTH * (1 - age_days / DAYS)
        weights[index] = hours[local.hour] * day * growth * min(1.0, (now - start) / HOUR)
    total = weights.sum()
    if total == 0:
        return weights
    # An agent that came or left has its share only while it is there.
    present = (agent.since_days or DAYS) / DAYS if agent.until_days is None else 1 - agent.until_days / DAYS
    scaled: NDArray[np.float64] = weights / total * agent.share * present
    return scaled


def _bursts(
    expected: NDArray[np.float64],
    organization: Organization,
    starts: Sequence[datetime],
    now: datetime,
    random: np.random.Generator,
) -> None:
    """The organization's scripted incidents, and some hours in which single agents ran hot before the last week."""
    agents, hours = expected.shape
    names = [agent.name for agent in organization.agents]
    ages = np.array([(now - start) / HOUR for start in starts])
    busiest = expected.max(axis=1)  # before any burst, so that none builds on another
    for one in organization.incidents:
        row = expected[names.index(one.agent)]
        during = (ages <= one.from_hours) & (ages > one.until_hours)
        row[during] = 0.0 if one.silent else row[during] + one.busy * busiest[names.index(one.agent)]
    for _ in range(7):
        agent = int(random.integers(agents))
        start = int(random.integers(0, hours - 24 * 8))
        length = int(random.integers(2, 5))
        expected[agent, start : start + length] += busiest[agent] * random.uniform(2.5, 6)


def actions_a_second(agent: Agent, organization: Organization, now: datetime) -> float:
    """How dense the history of `agent` is at this hour of its week, at the end of the 90 days."""
    if agent.until_days is not None:
        return 0.0
    hours, weekend = HOURS[agent.rhythm], WEEKEND[agent.rhythm]
    local = now + timedelta(hours=organization.utc_offset_hours)
    day = 1.0 if local.weekday() < 5 else weekend[local.weekday() - 5]
    mean = sum(hours) / 24 * (5 + sum(weekend)) / 7
    share = agent.share / sum(one.share for one in organization.agents)
    growth = (1 + GROWTH) / (1 + GROWTH / 2)
    return organization.actions / (DAYS * 86_400) * share * growth * hours[local.hour] * day / mean


def _actions(
    organization: Organization, people: Sequence[Person], now: datetime, random: np.random.Generator
) -> tuple[list[tuple[datetime, tuple[Any, ...]]], list[tuple[Any, ...]]]:
    """Rows of one organization with their times, without ids, and the audit events of their reviews."""
    first = (now - timedelta(days=DAYS)).replace(minute=0, second=0, microsecond=0) + HOUR
    starts = [first + index * HOUR for index in range(math.ceil((now - first) / HOUR))]
    expected = np.array(
        [activity_by_hour(agent, starts, organization.utc_offset_hours, now) for agent in organization.agents]
    )
    _bursts(expected, organization, starts, now, random)
    counts = random.multinomial(organization.actions, (expected / expected.sum()).ravel())
    cells = np.repeat(np.arange(counts.size), counts)
    size = len(cells)
    riskier = [
        (one.agent, now - one.from_hours * HOUR, now - one.until_hours * HOUR, one.riskier)
        for one in organization.incidents
        if one.riskier
    ]
    agent_of, hour_of = (part.tolist() for part in np.divmod(cells, len(starts)))
    offsets = random.random(size).tolist()
    scatter = np.clip(random.normal(0, 9, size), -30, 30).tolist()
    durations = random.lognormal(0, 0.5, size).tolist()
    chances = random.random((size, 14)).tolist()
    reviewers = [person for person in people if person.reviews and person.active]
    rows: list[tuple[datetime, tuple[Any, ...]]] = []
    events: list[tuple[Any, ...]] = []
    for position in range(size):
        agent, start, chance = organization.agents[agent_of[position]], starts[hour_of[position]], chances[position]
        span = min(HOUR, now - start)
        at = start + span * offsets[position]
        task = agent.tasks[int(chance[6] * len(agent.tasks))]
        points = organization.risk_points + sum(
            more for name, since, until, more in riskier if name == agent.name and since <= at < until
        )
        score = round(min(99.5, max(0.5, task.score + scatter[position] + points)), 1)
        level = level_of(score)
        age = (now - at).total_seconds()
        ended = outcome(level, age, chance[:6], organization.recorded)
        reviewer = reviewers[int(chance[7] * len(reviewers))] if ended.human else None
        spelled = chance[8] < 0.07
        odd = chance[8] < 0.0008
        raw_writer = chance[9] < 0.02
        updated = at + timedelta(seconds=ended.updated_after)
        reviewed = None
        if reviewer is not None and ended.decided_after is not None:
            reviewed = at + timedelta(seconds=ended.decided_after)
            updated = max(updated, reviewed)
            if chance[10] < 0.8:
                verb = "DENY" if ended.decision == "DENY" else "REVIEW" if ended.false_positive else "APPROVE"
                events.append(
                    (
                        organization.id,
                        reviewer.id,
                        verb,
                        "agent_action",
                        None,
                        None,
                        reviewed.replace(tzinfo=None),
                        level,
                        "SOX",
                    )
                )
        written = SPELLINGS[level][int(chance[8] / 0.07 * 3)] if spelled else level
        # Rows of the models carry the start of the process that wrote them, one every three days.
        process_start = at - timedelta(seconds=(at.timestamp() + organization.id * 20_000) % 259_200)
        person = people[int(chance[11] * len(people))] if chance[12] < 0.62 else None
        rows.append(
            (
                at,
                (
                    organization.id,
                    agent.name,
                    task.action_type,
                    None if raw_writer else f"{task.summary} ({task.target})",
                    "informational" if odd else written,
                    None if spelled else score,
                    ended.status,
                    ended.approved,
                    ended.requires_approval,
                    ended.false_positive,
                    None if chance[13] < 0.08 else task.tool,
                    None if raw_writer else task.summary,
                    task.nist_control,
                    task.mitre_tactic,
                    task.mitre_technique,
                    None if raw_writer else task.recommendation,
                    task.target,
                    ended.decision,
                    round(task.milliseconds * durations[position]),
                    None if person is None else person.id,
                    None if reviewer is None else reviewer.email,
                    None if reviewer is None or not ended.approved else reviewer.email,
                    None if raw_writer else at,
                    (at if raw_writer else process_start).replace(tzinfo=None),
                    updated,
                    reviewed,
                    '{"channel": "api"}' if chance[13] > 0.7 else None,
                ),
            )
        )
    return rows, events
