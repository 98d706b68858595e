"""Rows of every kind the platform writes, for three organizations, and callers with keys to ask about them."""

from __future__ import annotations

import hashlib
import secrets

from tests.postgres import Database

ACTIONS = """
insert into agent_actions (agent_id, action_type, description, risk_level, status, "timestamp", created_at, organization_id,
    tool_name, nist_control, mitre_tactic, recommendation, summary, is_false_positive, user_id)
select 'agent-' || (random() * 14)::int, (array['email_send', 'query', 'file_read'])[1 + i %% 3], 'd',
    (array['low', 'MEDIUM', 'High', 'critical', 'CRITICAL', 'high', 'weird', null])[1 + (random() * 7)::int],
    (array['completed', 'failed', 'pending', 'pending_approval', 'approved', 'denied', 'executed', null])[1 + (random() * 7)::int],
    case when i %% 13 > 0 then at end, (at at time zone 'UTC'), 1 + i %% 3,
    case when i %% 5 > 0 then 'tool-' || (random() * 12)::int end, case when i %% 4 > 0 then 'AC-3' end,
    case when i %% 6 > 0 then 'TA0002' end, case when i %% 7 > 0 then 'Verify' end, case when i %% 3 > 0 then 'Summary ' || i end,
    i %% 17 = 0, null
from (select i, now() - interval '1 minute' * power(random(), 3) * 60 * 24 * 20 as at from generate_series(1, %s) i) rows"""


def fill(database: Database, actions: int = 3000) -> None:
    """Actions of the last twenty days, denser towards now; users with logins; audit events."""
    database.execute(ACTIONS, [actions])
    database.execute(
        "insert into users (email, password, role, is_active, organization_id, created_at, last_login)"
        " select 'user' || i || '@example.com', 'x', 'user', i % 9 > 0, 1 + i % 3, now() at time zone 'UTC' - interval '40 days',"
        " case when i % 2 = 0 then now() at time zone 'UTC' - i * interval '3 minutes' end from generate_series(1, 60) i"
    )
    database.execute(
        "insert into audit_logs (organization_id, user_id, action, created_at)"
        " select case when i % 10 > 0 then 1 + i % 3 end, i % 40, 'READ', now() at time zone 'UTC' - i * interval '1 minute'"
        " from generate_series(1, 200) i"
    )


def make_key(database: Database, organization_id: int | None, role: str, email: str) -> str:
    """A user with an API key of the platform; returns the key's text."""
    key = f"owkai_{role}_{secrets.token_urlsafe(32)}"
    salt = secrets.token_hex(16)
    row = database.execute(
        "insert into users (email, password, role, is_active, organization_id) values (%s, 'x', %s, true, %s) returning id",
        [email, role, organization_id],
    ).fetchone()
    assert row is not None
    database.execute(
        "insert into api_keys (user_id, organization_id, key_hash, key_prefix, salt, name, is_active)"
        " values (%s, %s, %s, %s, %s, 'test', true)",
        [row[0], organization_id or 1, hashlib.sha256((key + salt).encode()).hexdigest(), key[:32], salt],
    )
    return key
