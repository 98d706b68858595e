"""Two organizations with marked rows, their people and credentials: what every test of this room asks about."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from handlers.auth.key_store import KeyStore
from tests.analytics.rows import Row, action

NOW = datetime(2025, 1, 15, 14, 30, 0, 250_000, tzinfo=UTC)
SECRET = "b6f0c1d2-test-signing-secret-2c91a7e4f0"
CANARY = {1: "CANARY-ORG1", 2: "CANARY-ORG2"}
SALT = "0123456789abcdef0123456789abcdef"


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Person:
    """A row of the users table and the platform key that belongs to it."""

    id: int
    organization_id: int | None
    email: str
    role: str
    columns: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        """The text of this person's platform key: the documented form, 43 url-safe characters."""
        digest = hashlib.sha256(f"key of {self.id}".encode()).digest()
        return f"owkai_{self.role}_" + base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def claims(self, **changes: Any) -> dict[str, Any]:
        claims = {
            "sub": str(self.id),
            "user_id": self.id,
            "email": self.email,
            "role": self.role,
            "organization_id": self.organization_id,
            "type": "access",
            "jti": f"jti-{self.id}",
            "iat": int(NOW.timestamp()) - 60,
            "exp": int(NOW.timestamp()) + 3600,
        }
        claims.update(changes)
        return {name: value for name, value in claims.items() if value is not ...}

    def token(self, **changes: Any) -> str:
        """A session token; `...` as a value leaves the claim out."""
        return sign(self.claims(**changes))

    def row(self) -> Row:
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "email": self.email,
            "role": self.role,
            "is_active": True,
            "created_at": NOW - timedelta(days=90),
            **self.columns,
        }


ADMIN_1 = Person(1, 1, "admin@one.example", "admin")
USER_1 = Person(2, 1, "user@one.example", "user")
ADMIN_2 = Person(3, 2, "admin@two.example", "admin")
USER_2 = Person(4, 2, "user@two.example", "user")
STAFF = Person(5, None, "staff@platform.example", "admin")
INACTIVE = Person(6, 1, "gone@one.example", "admin", {"is_active": False})
SUSPENDED = Person(7, 1, "held@one.example", "admin", {"is_suspended": True})
DEMOTED = Person(8, 1, "demoted@one.example", "user")
LOGGED_OUT = Person(9, 1, "out@one.example", "user", {"last_logout": NOW - timedelta(seconds=30)})
SHARED_1 = Person(10, 1, "same@both.example", "user")
SHARED_2 = Person(11, 2, "same@both.example", "user")
PEOPLE = (
    ADMIN_1, USER_1, ADMIN_2, USER_2, STAFF, INACTIVE, SUSPENDED, DEMOTED, LOGGED_OUT, SHARED_1, SHARED_2,
)  # fmt: skip


def sign(payload: dict[str, Any] | bytes, secret: str | bytes = SECRET, header: dict[str, Any] | None = None) -> str:
    """An HS256 token over exactly these bytes, whatever the header says."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    shown = json.dumps({"alg": "HS256", "typ": "JWT"} if header is None else header).encode()
    return sign_bytes(shown, body, secret)


def sign_bytes(header: bytes, body: bytes, secret: str | bytes = SECRET) -> str:
    signing_input = encode(header) + "." + encode(body)
    algorithm = jwt.get_algorithm_by_name("HS256")
    key = secret.encode() if isinstance(secret, str) else secret
    return f"{signing_input}.{encode(algorithm.sign(signing_input.encode(), key))}"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def key_row(number: int, owner: Person, *, text: str | None = None, prefix: int = 32, **columns: Any) -> Row:
    text = text or owner.key
    return {
        "id": number,
        "user_id": owner.id,
        "organization_id": owner.organization_id,
        "key_hash": hashlib.sha256((text + SALT).encode()).hexdigest(),
        "salt": SALT,
        "key_prefix": text[:prefix],
        "is_active": True,
        **columns,
    }


def tables() -> dict[str, list[Row]]:
    """The rows of the world: marked in agent, tool and summary with the organization they belong to."""
    actions = [
        action(
            number,
            org=org,
            now=NOW,
            ago=timedelta(minutes=5 + number % 7),
            agent_id=f"{CANARY[org]}-agent",
            tool_name=f"{CANARY[org]}-tool",
            summary=f"{CANARY[org]} summary",
            risk_level="high",
            status="pending_approval",
        )
        for org, count in ((1, 12), (2, 31))
        for number in range(org * 1000, org * 1000 + count)
    ]
    return {
        "agent_actions": actions,
        "users": [person.row() for person in PEOPLE],
        "audit_logs": [],
        "api_keys": [key_row(person.id, person) for person in PEOPLE],
    }


@dataclass(frozen=True)
class LocalKeys:
    """Texts of local keys in a store, by the person they stand for."""

    admin_1: str
    user_1: str
    user_2: str


def make_local_keys(store: KeyStore) -> LocalKeys:
    return LocalKeys(
        store.create(1, "admin", ADMIN_1.email)[0],
        store.create(1, "user", USER_1.email)[0],
        store.create(2, "user", USER_2.email)[0],
    )


def every_credential(local: LocalKeys) -> list[str]:
    """All fixture credentials: none of them may ever be found in a log or record."""
    return [SECRET, *(person.key for person in PEOPLE), *(person.token() for person in PEOPLE), *vars(local).values()]
