"""A packed server inside a bare Debian, on a Postgres outside of it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.binary.chroot import ACCOUNT, ENVIRONMENT, HOME, Chroot
from tests.contract.platform_rows import fill, make_key
from tests.owkai.servers import SECRET, Server
from tests.postgres import Database
from tests.sync.running import slot_name

DAYS = 7
COUNTS = """
select (created at time zone 'UTC')::date::text as day, count(*) from (
    select coalesce("timestamp", created_at at time zone 'UTC') as created, lower(risk_level) as risk, is_false_positive
    from agent_actions where organization_id = %s
) rows
where risk in ('high', 'critical') and is_false_positive is not true
    and (created at time zone 'UTC')::date > (now() at time zone 'UTC')::date - %s and created <= now()
group by 1"""


def filled(database: Database) -> str:
    """Rows of three organizations; returns an admin's key of the first."""
    fill(database)
    return make_key(database, 1, "admin", "ada@example.com")


def settings(database: Database) -> dict[str, str]:
    return {
        "OWKAI_SOURCE_DSN": database.dsn, "OWKAI_SOURCE_SLOT": slot_name(database), "OWKAI_AUTH_JWT_SECRET": SECRET,
        "OWKAI_SERVER_PORT": "0", "OWKAI_CACHE_DIRECTORY": f"{HOME}/data", "OWKAI_LOG_FORMAT": "json",
    }  # fmt: skip


@contextmanager
def serving(
    chroot: Chroot,
    *command: str,
    log: Path,
    user: str = ACCOUNT,
    env: Mapping[str, str] = ENVIRONMENT,
    before: Sequence[str] = (),
) -> Iterator[Server]:
    """`command` inside, which becomes a server; killed at the end if it still runs.

    `log` lies outside; `before` are words that run the command, on the outside.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*before, *chroot.command(*command, user=user, env=env)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd="/",
        )
    try:
        yield Server(process, log, patience_seconds=120)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def trends(server: Server, key: str) -> dict[str, Any]:
    status, body = server.get(f"/api/analytics/trends?days={DAYS}", {"X-API-Key": key})
    assert status == 200, json.dumps(body)
    assert isinstance(body, dict)
    return body


def assert_answers_are_those_of_the_source(server: Server, key: str, database: Database) -> None:
    """/trends against SQL on the source, as soon as the cache has all of it."""
    expected = dict(database.execute(COUNTS, [1, DAYS]).fetchall())
    assert sum(expected.values()) > 100
    deadline = time.monotonic() + 30
    while True:
        found = {day["date"]: day["count"] for day in trends(server, key)["high_risk_actions_by_day"]}
        if {day: count for day, count in found.items() if count} == expected:
            assert len(found) == DAYS
            return
        assert time.monotonic() < deadline, (found, expected)
        time.sleep(0.1)
