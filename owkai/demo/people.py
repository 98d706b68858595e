"""The people of the demo's organizations, and the audit events of their daily work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from owkai.demo.catalog import FIRST_NAMES, LAST_NAMES, Organization

ROLES = ("user", "analyst", "user", "viewer", "operator", "user", "manager", "analyst")
DEPARTMENTS = ("Security", "Operations", "Finance", "Engineering", "Compliance", "Support")
REVIEWING_ROLES = frozenset({"admin", "org_admin", "manager", "owner"})
DAILY_EVENTS = (
    ("READ", "dashboard"), ("READ", "agent_action"), ("UPDATE", "policy"), ("CREATE", "workflow"), ("READ", "report"),
    ("UPDATE", "agent"), ("DELETE", "workflow"), ("CREATE", "api_key"),
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """A row of `users`. `diligence` is the chance (0–1) of a login on a working day; `created_at` is aware UTC."""

    id: int
    organization_id: int | None
    email: str
    first_name: str
    last_name: str
    role: str
    department: str
    active: bool
    suspended: bool
    created_at: datetime
    diligence: float
    utc_offset_hours: int = 0

    @property
    def reviews(self) -> bool:
        return self.role in REVIEWING_ROLES


def people_of(organization: Organization, now: datetime, random: np.random.Generator, first_id: int) -> list[Person]:
    """The accounts of one organization: the first is its admin, the second an ordinary user, both active."""
    people = []
    for position in range(organization.people):
        # Steps without a common divisor: no two people of an organization share a name.
        first = FIRST_NAMES[(position + organization.id * 5) % len(FIRST_NAMES)]
        last = LAST_NAMES[(position * 3 + position // len(FIRST_NAMES) + organization.id) % len(LAST_NAMES)]
        role = ("admin", "user", "manager", "org_admin")[position] if position < 4 else ROLES[position % len(ROLES)]
        leading = position < 4
        # Most were there before the history begins; some joined since, a few of them this week.
        age_days = (
            400 - 3 * position
            if leading
            else float(random.choice([random.uniform(92, 420), random.uniform(0.5, 60)], p=[0.82, 0.18]))
        )
        people.append(
            Person(
                id=first_id + position,
                organization_id=organization.id,
                email=f"{first}.{last}@{organization.domain}".lower(),
                first_name=first,
                last_name=last,
                role=role,
                department=DEPARTMENTS[position % len(DEPARTMENTS)],
                active=leading or random.random() > 0.09,
                suspended=not leading and random.random() < 0.03,
                created_at=now - timedelta(days=age_days),
                diligence=0.9 if leading else float(random.choice([0.0, 0.03, 0.35, 0.75], p=[0.05, 0.1, 0.35, 0.5])),
                utc_offset_hours=organization.utc_offset_hours,
            )
        )
    return people


def staff(now: datetime, first_id: int) -> list[Person]:
    """People of the platform itself: they belong to no organization."""
    names = (("Vera", "Sand", "platform_admin"), ("Milan", "Roth", "super_admin"), ("Ines", "Duarte", "user"))
    return [
        Person(
            id=first_id + position,
            organization_id=None,
            email=f"{first}.{last}@platform.example".lower(),
            first_name=first,
            last_name=last,
            role=role,
            department="Platform",
            active=position != 2,
            suspended=False,
            created_at=now - timedelta(days=500 - 40 * position),
            diligence=0.4,
        )
        for position, (first, last, role) in enumerate(names)
    ]


def audit_of_people(
    people: Sequence[Person], now: datetime, days: int, random: np.random.Generator
) -> tuple[list[tuple[Any, ...]], dict[int, datetime]]:
    """Logins, logouts and daily work of `people` in the last `days` days, and each one's last login.

    Rows are (organization_id, user_id, action, resource_type, resource_id, ip_address, created_at naive UTC,
    risk_level, compliance_impact).
    """
    events: list[tuple[Any, ...]] = []
    last_seen: dict[int, datetime] = {}
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)

    def record(person: Person, action: str, resource: str, at: datetime) -> None:
        if at < now:
            address = f"10.{person.organization_id or 0}.4.{person.id % 250 + 1}"
            events.append(
                (
                    person.organization_id,
                    person.id,
                    action,
                    resource,
                    None,
                    address,
                    at.replace(tzinfo=None),
                    "low",
                    None,
                )
            )

    for person in people:
        chances = random.random((days + 1, 4))
        for back in range(days, -1, -1):
            day = midnight - timedelta(days=back)
            come, hour, work, leave = chances[back].tolist()
            if come > person.diligence * (1.0 if day.weekday() < 5 else 0.08) or day < person.created_at:
                continue
            # Deactivated users have not logged in during the last weeks.
            if (not person.active or person.suspended) and back < 25:
                continue
            arrived = day + timedelta(hours=7.5 + 3 * hour - person.utc_offset_hours)
            if arrived >= now:
                continue
            record(person, "LOGIN", "session", arrived)
            last_seen[person.id] = arrived
            for step in range(int(work * 4)):
                verb, resource = DAILY_EVENTS[int(work * 997 + step * 3) % len(DAILY_EVENTS)]
                record(person, verb, resource, arrived + timedelta(minutes=20 + 70 * step + 50 * leave))
            if leave < 0.5:
                record(person, "LOGOUT", "session", arrived + timedelta(hours=8 + leave))
    return events, last_seen
