"""Activity while the demo runs: actions come, are scored, decided, finished and, rarely, deleted."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from analytics.state.background import BackgroundThread, Jobs
from owkai.demo.action_lifecycle import level_of, outcome
from owkai.demo.catalog import ORGANIZATIONS, Agent, Organization, Task
from owkai.demo.history import actions_a_second
from owkai.demo.people import Person

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0
CHECKS_PER_SECOND = 3.0
VISITS = 0.12  # of what happens: a person does something
# How long a new action stays with the platform before its outcome, and an elevated one with a reviewer.
SETTLE_SECONDS = (1.0, 40.0)
REVIEW_SECONDS = (60.0, 1500.0)
RECENT = 400


@dataclass(frozen=True)
class Step:
    """Something due at `at`: `perform` runs its statements in a transaction of its own."""

    at: datetime
    perform: Callable[[psycopg.Connection[Any]], None]


class Activity:
    """A thread that writes until `stop`: actions as dense as the end of the history at this hour of the week.

    With `rate`, about so many changes a second (inserts, updates, deletes) instead, at any hour.

    It survives a restart of the database: steps that were due are dropped, new activity follows.
    """

    def __init__(
        self,
        dsn: str,
        people: Sequence[Person],
        *,
        rate: float | None = None,
        seed: int,
        clock: Callable[[], datetime],
        organizations: Sequence[Organization] = ORGANIZATIONS,
    ) -> None:
        self._dsn = dsn
        self._rate = rate
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311  invented data, no secret
        self._organizations = organizations
        self._people = {
            organization.id: [
                person
                for person in people
                if person.organization_id == organization.id and person.active and not person.suspended
            ]
            for organization in organizations
        }
        self._due: list[Step] = []
        self._recent: list[int] = []
        self._stopped = threading.Event()
        self._thread = BackgroundThread("demo-activity", self._run, self._stopped, Jobs())

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """End the thread; a transaction in progress is committed or rolled back."""
        self._stopped.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True, connect_timeout=5) as connection:
                    self._write(connection)
            except psycopg.Error as error:
                if self._stopped.wait(RECONNECT_SECONDS):
                    return
                log.info("demo activity pauses: %s", type(error).__name__)
                self._due.clear()

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        while not self._stopped.wait(self._random.expovariate(self._rate or CHECKS_PER_SECOND)):
            now = self._clock()
            ready = [step for step in self._due if step.at <= now]
            # What is due goes first, so that the changes a second stay near the rate.
            with connection.transaction():
                if ready:
                    step = min(ready, key=lambda one: one.at)
                    self._due.remove(step)
                    step.perform(connection)
                elif not self._chance(now):
                    continue
                elif self._random.random() < VISITS:
                    self._visit(connection, now)
                elif self._recent and self._random.random() < 0.04:
                    self._tidy(connection)
                else:
                    self._act(connection, now)

    def _chance(self, now: datetime) -> bool:
        """Whether something new happens at this check."""
        if self._rate is not None:
            return True
        a_second = sum(
            actions_a_second(agent, organization, now)
            for organization in self._organizations
            for agent in organization.agents
        )
        return self._random.random() < a_second / (1 - VISITS) / CHECKS_PER_SECOND

    def _act(self, connection: psycopg.Connection[Any], now: datetime) -> None:
        """A new action, as the platform first writes it; its scoring and its outcome become due."""
        chance = self._random.random
        organization: Organization
        agent: Agent
        choices = [(one, agent) for one in self._organizations for agent in one.agents if agent.until_days is None]
        organization, agent = self._pick(choices, [actions_a_second(agent, one, now) for one, agent in choices])
        task: Task = self._random.choice(agent.tasks)
        person = self._random.choice(self._people[organization.id])
        raw_writer = chance() < 0.02
        row = connection.execute(
            "insert into public.agent_actions (organization_id, agent_id, action_type, description, status, tool_name, "
            "summary, nist_control, mitre_tactic, mitre_technique, recommendation, target_system, user_id, "
            '"timestamp", created_at) '
            "values (%s, %s, %s, %s, 'processing', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) returning id",
            (
                organization.id,
                agent.name,
                task.action_type,
                f"{task.summary} ({task.target})",
                None if chance() < 0.08 else task.tool,
                task.summary,
                task.nist_control,
                task.mitre_tactic,
                task.mitre_technique,
                task.recommendation,
                task.target,
                person.id if chance() < 0.62 else None,
                None if raw_writer else now,
                now.replace(tzinfo=None),
            ),
        ).fetchone()
        if row is None:
            return
        action_id: int = row[0]
        self._recent = [*self._recent[-RECENT:], action_id]
        score = round(min(99.5, max(0.5, self._random.gauss(task.score + organization.risk_points, 9))), 1)
        settle = now + timedelta(seconds=self._random.uniform(*SETTLE_SECONDS))
        self._due.append(Step(settle, lambda live: self._settle(live, organization, action_id, score, now, task)))

    def _settle(
        self,
        connection: psycopg.Connection[Any],
        organization: Organization,
        action_id: int,
        score: float,
        began: datetime,
        task: Task,
    ) -> None:
        """The score arrives, and with it the outcome, or a place in the reviewers' queue."""
        level = level_of(score)
        if level in ("high", "critical"):
            connection.execute(
                "update public.agent_actions set risk_score = %s, status = 'pending_approval', decision = 'PENDING' "
                "where id = %s",
                (score, action_id),
            )
            review = began + timedelta(seconds=self._random.uniform(*REVIEW_SECONDS))
            self._due.append(Step(review, lambda live: self._review(live, organization.id, action_id, level)))
            return
        # Old enough that nothing is left open.
        ended = outcome(level, 120, [self._random.random() for _ in range(6)], organization.recorded)
        connection.execute(
            "update public.agent_actions set risk_score = %s, status = %s, approved = %s, decision = %s, "
            "requires_approval = %s, is_false_positive = %s, processing_time_ms = %s where id = %s",
            (
                score,
                ended.status,
                ended.approved,
                ended.decision,
                ended.requires_approval,
                ended.false_positive,
                round(task.milliseconds * self._random.lognormvariate(0, 0.5)),
                action_id,
            ),
        )

    def _review(self, connection: psycopg.Connection[Any], organization_id: int, action_id: int, level: str) -> None:
        """A reviewer decides: approved and finished, denied, or not a risk at all; with its audit event."""
        reviewers = [person for person in self._people[organization_id] if person.reviews]
        reviewer = self._random.choice(reviewers)
        verb, status, approved = self._pick(
            [("APPROVE", "approved", True), ("DENY", "denied", False), ("REVIEW", "false_positive", None)], [70, 24, 6]
        )
        now = self._clock()
        connection.execute(
            "update public.agent_actions set status = %s, approved = %s, decision = %s, is_false_positive = %s, "
            "reviewed_by = %s, approved_by = %s, reviewed_at = %s where id = %s",
            (
                status,
                approved,
                "DENY" if verb == "DENY" else "ALLOW",
                verb == "REVIEW",
                reviewer.email,
                reviewer.email if approved else None,
                now,
                action_id,
            ),
        )
        self._record(connection, reviewer, verb, "agent_action", str(action_id), now, level)
        if approved:
            finish = now + timedelta(seconds=self._random.uniform(2, 90))
            self._due.append(Step(finish, lambda live: self._finish(live, action_id)))

    def _finish(self, connection: psycopg.Connection[Any], action_id: int) -> None:
        status = "completed" if self._random.random() < 0.94 else "failed"
        connection.execute("update public.agent_actions set status = %s where id = %s", (status, action_id))

    def _visit(self, connection: psycopg.Connection[Any], now: datetime) -> None:
        """A user logs in, or does some other daily work."""
        organization = self._pick(self._organizations, [one.people for one in self._organizations])
        person = self._random.choice(self._people[organization.id])
        if self._random.random() < 0.4:
            connection.execute(
                "update public.users set last_login = %s where id = %s", (now.replace(tzinfo=None), person.id)
            )
            self._record(connection, person, "LOGIN", "session", None, now, "low")
        else:
            verb, resource = self._random.choice((("READ", "dashboard"), ("READ", "report"), ("UPDATE", "policy")))
            self._record(connection, person, verb, resource, None, now, "low")

    def _tidy(self, connection: psycopg.Connection[Any]) -> None:
        """A user deletes a row by hand, or marks one as a false positive after the fact."""
        action_id = self._random.choice(self._recent)
        if self._random.random() < 0.5:
            self._recent.remove(action_id)
            connection.execute("delete from public.agent_actions where id = %s", (action_id,))
        else:
            connection.execute("update public.agent_actions set is_false_positive = true where id = %s", (action_id,))

    def _record(
        self,
        connection: psycopg.Connection[Any],
        person: Person,
        action: str,
        resource: str,
        resource_id: str | None,
        now: datetime,
        level: str,
    ) -> None:
        connection.execute(
            "insert into public.audit_logs (organization_id, user_id, action, resource_type, resource_id, created_at, "
            "risk_level) values (%s, %s, %s, %s, %s, %s, %s)",
            (person.organization_id, person.id, action, resource, resource_id, now.replace(tzinfo=None), level),
        )

    def _pick(self, choices: Sequence[Any], weights: Sequence[float]) -> Any:
        return self._random.choices(choices, weights)[0]
