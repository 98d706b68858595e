"""The whole road of a live number: a commit in Postgres, and the frame that a client of another make receives."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.contract.platform_rows import make_key
from tests.owkai.servers import Server, serving, wait_for
from tests.postgres import Database
from tests.sync.running import slot_name

CRITICAL = (
    'insert into agent_actions (agent_id, action_type, risk_level, status, "timestamp", created_at, organization_id)'
    " values ('agent-7', 'delete', 'critical', 'pending_approval', now(), now() at time zone 'UTC', %s)"
)


def live(server: Server, org: int, key: str) -> Any:
    target = f"ws://127.0.0.1:{server.port}/api/analytics/ws/realtime/person@org{org}.example"
    return connect(target, additional_headers={"X-API-Key": key})


def high_risk(client: ClientConnection, seconds: float = 30) -> int:
    return int(json.loads(client.recv(timeout=seconds))["metrics"]["high_risk_actions_last_hour"])


def test_a_critical_action_is_seen_within_a_second_of_its_commit_and_by_its_organization_alone(
    database: Database, tmp_path: Path
) -> None:
    keys = {org: make_key(database, org, "user", f"person@org{org}.example") for org in (1, 2)}
    for org in (1, 2):
        database.execute(CRITICAL, [org])
    with serving(
        tmp_path, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database), WEBSOCKET_INTERVAL_SECONDS="600"
    ) as server:
        wait_for(lambda: server.get("/readyz")[1].get("state") == "streaming", "the stream")
        with live(server, 1, keys[1]) as mine, live(server, 2, keys[2]) as theirs:
            for client in (mine, theirs):
                assert '"connection"' in str(client.recv(timeout=30))
                assert high_risk(client) == 1
            for count in (2, 3):
                database.execute(CRITICAL, [1])
                assert high_risk(mine) == count, "an early update: no tick is due for ten minutes"
            others = []
            with contextlib.suppress(TimeoutError):
                while True:
                    others.append(high_risk(theirs, 0.5))
            assert others in ([], [1]), "a tick at the most, and never another's number"
