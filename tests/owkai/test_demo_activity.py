"""The demo's live activity: every kind of change comes, and a lost connection does not end it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from owkai.demo.activity import Activity
from owkai.demo.history import generate, load
from owkai.demo.platform import load_platform
from owkai.demo.postgres import EmbeddedPostgres
from owkai.demo.processes import wait_until
from tests.postgres import Database, drop_database

PATIENCE_SECONDS = 40
STARTED = datetime.now(UTC)


def hurried() -> datetime:
    """A clock that runs two hundred times too fast, so that reviews come within seconds."""
    return STARTED + 200 * (datetime.now(UTC) - STARTED)


@pytest.fixture
def platform(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute("create database demo_activity template template0")
    database = Database(postgres, "demo_activity")
    try:
        with database.connect() as owner:
            load_platform(owner)
        yield database
    finally:
        drop_database(database)


def test_activity_inserts_decides_finishes_and_deletes_until_it_is_stopped(platform: Database) -> None:
    history = generate(3, STARTED)
    with platform.connect() as owner:
        # The people alone: whatever else is found then, the activity wrote.
        load(owner, type(history)(history.people, history.users, [], []))
    activity = Activity(platform.dsn, history.people, rate=250, seed=3, clock=hurried)
    activity.start()

    def seen(query: str) -> Any:
        row = platform.execute(query).fetchone()
        return row and row[0]

    def comes(query: str) -> bool:
        return wait_until(lambda: bool(seen(query)), PATIENCE_SECONDS)

    try:
        for query in (
            "select count(distinct organization_id) = 3 from agent_actions",
            "select count(*) > 0 from agent_actions where status = 'processing'",
            "select count(*) > 3 from agent_actions where status = 'completed' and risk_score is not null",
            "select count(*) > 0 from agent_actions where status = 'pending_approval' and decision = 'PENDING'",
            "select count(*) > 0 from agent_actions where reviewed_at is not null and approved and reviewed_by is not null",
            "select count(*) > 0 from agent_actions where status = 'denied' and not approved",
            "select count(*) > 0 from audit_logs where action = 'APPROVE'",
            "select count(*) > 0 from audit_logs where action = 'LOGIN'",
            "select max(last_login) > now() at time zone 'utc' from users",
            "select max(id) > count(*) from agent_actions",
        ):
            assert comes(query), query

        written = seen("select max(id) from agent_actions")
        others = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        platform.execute(f"select pg_terminate_backend(pid) {others}")
        assert wait_until(lambda: seen("select max(id) from agent_actions") > written + 20, PATIENCE_SECONDS)
    finally:
        activity.stop()
    assert wait_until(lambda: seen(f"select count(*) {others}") == 0, PATIENCE_SECONDS)
    after = seen("select max(id) from agent_actions")
    assert seen("select max(id) from agent_actions, pg_sleep(0.3)") == after
