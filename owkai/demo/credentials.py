"""API keys for the demo's people, as the platform creates and stores them; new for every run."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from owkai.demo.people import Person

PREFIX_CHARACTERS = 32
OLD_PREFIX_CHARACTERS = 16  # rows from before the platform lengthened its prefixes


@dataclass(frozen=True)
class DemoKey:
    """A working key: who it belongs to, and its text, which the database does not hold."""

    organization_id: int
    role: str
    email: str
    key: str


def issue_keys(connection: psycopg.Connection[Any], people: Sequence[Person], now: datetime) -> list[DemoKey]:
    """Give every organization an admin's and a user's key, and rows of revoked and expired ones beside them.

    The user's key of every third organization is stored with the short prefix of older rows.
    """
    issued = []
    for organization_id in sorted({person.organization_id for person in people if person.organization_id is not None}):
        members = [person for person in people if person.organization_id == organization_id]
        admin = next(person for person in members if person.role == "admin" and person.active)
        user = next(person for person in members if person.role == "user" and person.active and not person.suspended)
        for person in (admin, user):
            old = person is user and organization_id % 3 == 0
            key = _insert(connection, person, now, OLD_PREFIX_CHARACTERS if old else PREFIX_CHARACTERS)
            issued.append(DemoKey(organization_id, person.role, person.email, key))
        _insert(connection, admin, now, PREFIX_CHARACTERS, revoked=True)
        _insert(connection, user, now, PREFIX_CHARACTERS, expired=True)
    return issued


def _insert(
    connection: psycopg.Connection[Any],
    person: Person,
    now: datetime,
    prefix_characters: int,
    *,
    revoked: bool = False,
    expired: bool = False,
) -> str:
    key = f"owkai_{person.role}_{secrets.token_urlsafe(32)}"
    salt = secrets.token_hex(16)
    connection.execute(
        "insert into public.api_keys (user_id, organization_id, key_hash, key_prefix, salt, name, is_active, "
        "expires_at, revoked_at, revoked_reason, created_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            person.id,
            person.organization_id,
            hashlib.sha256((key + salt).encode()).hexdigest(),
            key[:prefix_characters],
            salt,
            f"{person.first_name}'s key",
            not revoked,
            now - timedelta(days=3) if expired else now + timedelta(days=365),
            now - timedelta(days=11) if revoked else None,
            "rotated" if revoked else None,
            now - timedelta(days=40),
        ),
    )
    return key
