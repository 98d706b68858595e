"""The platform that the pages show: three weeks of three organizations, one of them hostile, and the server before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from owkai.demo.postgres import free_port
from tests.contract.platform_rows import make_key
from tests.owkai.servers import Server, serving, wait_for
from tests.postgres import Database
from tests.sync.running import slot_name

# Organization 1: a weekly shape, hour by hour; organization 3: nothing at all. No row near the edge of a window.
HISTORY = """
insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, tool_name, mitre_tactic,
    nist_control, recommendation, timestamp)
select 'agent-' || (i % 7), (array['query', 'email_send', 'file_read'])[1 + i % 3], 1,
    case when i % 5 = 0 then 'high' when i % 17 = 0 then 'critical' when i % 3 = 0 then 'medium' else 'low' end,
    'completed', 'tool-' || (i % 6), 'TA000' || (i % 9), 'AC-' || (i % 8), 'Look at case ' || i,
    date_trunc('day', now() at time zone 'UTC') - make_interval(days => d) + interval '1 hour' * (i % 24) + interval '1 min'
from generate_series(2, 24) d
cross join lateral generate_series(
    1, case when extract(isodow from (now() at time zone 'UTC')::date - d) > 5 then 15 else 60 end
) i
"""
LAST_HOUR = """
insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, tool_name, timestamp)
select 'agent-' || (i % 4), 'query', 1, case when i <= 3 then 'high' else 'low' end, case when i = 1 then 'pending_approval' end,
    'tool-' || (i % 3), now() - interval '1 minute' * (5 + i)
from generate_series(1, 12) i
"""
# Organization 2: four weeks under one hostile name, and a burst of the hour before this one that stands out.
HOSTILE = """
insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, tool_name, mitre_tactic,
    nist_control, recommendation, summary, timestamp)
select text, left(text, 100), 2, 'critical', 'pending_approval', text, text, text, text, text, at
from (select %(text)s::text as text) as name
cross join (
    select now() - interval '1 hour' * i as at from generate_series(2, 600, 12) i
    union all
    select date_trunc('hour', now()) - interval '30 minutes' from generate_series(1, %(burst)s)
) as moments
"""
PAYLOADS = (
    "<img src=x onerror=alert('agent')>",
    "\"><svg/onload=alert('svg')>",
    "javascript:alert('href')",
    "</script><script>alert('script')</script>",
    "{{constructor.constructor('alert(1)')()}}",
    "<a href='https://evil.example/' target=_blank>click</a>",
    "\u202eevil\u202c \u200b<b>bold</b>",
    "<style>body{display:none}</style>",
)
HOSTILE_EMAIL = "<img src=x onerror=alert(1)>@evil.example"


@dataclass
class Platform:
    """A database with people and their keys."""

    database: Database
    keys: dict[str, str] = field(default_factory=dict)

    def act(self, organization: int, agent: str, *, risk: str = "low", tool: str | None = None, times: int = 1) -> None:
        """Actions of this moment."""
        self.database.execute(
            "insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, tool_name, timestamp)"
            " select %s, 'query', %s, %s, 'completed', %s, now() from generate_series(1, %s)",
            [agent, organization, risk, tool, times],
        )


def make_platform(database: Database) -> Platform:
    keys = {
        "admin": make_key(database, 1, "admin", "admin@one.example"),
        "user": make_key(database, 1, "user", "user@one.example"),
        "hostile": make_key(database, 2, "admin", HOSTILE_EMAIL),
        "empty": make_key(database, 3, "admin", "admin@three.example"),
    }
    database.execute(HISTORY)
    database.execute(LAST_HOUR)
    for number, payload in enumerate(PAYLOADS):
        database.execute(HOSTILE, {"text": payload, "burst": 40 if number == 0 else 2})
    return Platform(database, keys)


@contextmanager
def served(
    platform: Platform, folder: Path, port: int | None = None, *origins: str, dsn: str | None = None
) -> Iterator[Server]:
    """`owkai serve` on the platform, ready; pages of its own address and of `origins` may sign in."""
    port = port or free_port()
    with serving(
        folder,
        SOURCE_DSN=dsn or platform.database.dsn,
        SOURCE_SLOT=slot_name(platform.database),
        SERVER_PORT=str(port),
        WEBSOCKET_ALLOWED_ORIGINS=", ".join((f"http://127.0.0.1:{port}", *origins)),
        WEBSOCKET_INTERVAL_SECONDS="0.5",
        PREDICTIVE_REFRESH_SECONDS="0.2",
        AUTH_MAX_SESSIONS_PER_USER="1000",
        TELEMETRY_SOURCE="host",
        TELEMETRY_PERIOD_SECONDS="0.5",
    ) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, f"readiness: {server.messages()}")
        yield server
