"""The source as it may be: oddly set up, with forged rows, with huge ones; and how our own sessions are bound."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from analytics.state.clock import utc_now
from analytics.views import Publisher, ViewKey
from sync.source.connections import connection_string
from tests.contract.platform_rows import fill, make_key
from tests.owkai.servers import serving, wait_for
from tests.postgres import Database
from tests.sync.running import RunningSync, assert_equal, running_sync, settings_for, slot_name

ODD = (
    "timezone = 'Pacific/Apia'",
    "datestyle = 'SQL, DMY'",
    "intervalstyle = 'sql_standard'",
    "standard_conforming_strings = off",
    "bytea_output = 'escape'",
    "extra_float_digits = -5",
    "client_encoding = 'LATIN1'",
    "lc_messages = 'C'",
    "search_path = 'pg_temp'",
    "default_transaction_isolation = 'serializable'",
)


def test_rep_10_a_source_set_up_unusually_gives_the_same_numbers(database: Database, tmp_path: Path) -> None:
    fill(database, 300)
    database.execute(
        "update agent_actions set risk_score = 12.345678901234567, description = E'\\\\ back ''quote'' \\u00e9 €'"
        " where id % 3 = 0"
    )
    for setting in ODD:
        database.execute(f'alter database "{database.name}" set {setting}')
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        with database.connect() as writer:
            writer.execute("set search_path = public")
            writer.execute("set datestyle = 'German'")
            writer.execute(
                "insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, timestamp, risk_score)"
                " values ('late', 'x', 1, 'high', 'completed', '1.2.2025 03:04:05.678901+05:45', 0.1 + 0.2)"
            )
        assert assert_equal(sync, database) > 300


@pytest.mark.parametrize("bounded", [True, False])
def test_rep_11_our_sessions_are_bound(database: Database, tmp_path: Path, bounded: bool) -> None:
    settings = settings_for(database, tmp_path, source={"statement_timeout_seconds": 7})
    with psycopg.connect(connection_string(settings, statement_timeout=bounded)) as session:
        found = {
            name: session.execute(f"show {name}").fetchone()
            for name in ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout", "search_path")
        }
    limit = ("7s",) if bounded else ("0",)
    assert found["statement_timeout"] == found["idle_in_transaction_session_timeout"] == limit
    assert found["lock_timeout"] == ("10s",)
    assert found["search_path"] == ("pg_catalog",)


def test_rep_12_forged_ids_of_another_organization_count_under_the_rows_own(database: Database, tmp_path: Path) -> None:
    """A row of organization 1 that names people of organization 2: their addresses stay theirs."""
    keys = {org: make_key(database, org, "admin", f"admin@org{org}.example.com") for org in (1, 2)}
    row = database.execute(
        "insert into users (email, role, is_active, organization_id, password) values"
        " ('victim@org2.example.com', 'user', true, 2, 'x') returning id"
    ).fetchone()
    assert row is not None
    victim = row[0]
    database.execute(
        "insert into audit_logs (organization_id, user_id, action, created_at)"
        " select 1, %s, 'LOGIN', now() at time zone 'UTC' from generate_series(1, 5)",
        [victim],
    )
    database.execute(
        "insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, user_id, timestamp)"
        " select 'forger', 'x', 1, 'high', 'completed', %s, now() from generate_series(1, 7)",
        [victim],
    )

    def ask(path: str, org: int) -> Any:
        status, body = server.get(f"/api/analytics{path}", {"X-API-Key": keys[org]})
        assert status == 200, body
        return body

    with serving(tmp_path, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database)) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, f"readiness: {server.messages()}")
        assert ask("/realtime/metrics", 1)["real_time_overview"]["actions_last_24h"] == 7
        assert ask("/realtime/metrics", 2)["real_time_overview"]["actions_last_24h"] == 0
        assert ask("/trends", 2)["top_agents"] == []
        for path in ("/trends", "/debug", "/realtime/metrics", "/executive/dashboard", "/predictive/trends"):
            assert "org2.example.com" not in str(ask(path, 1)), path
            assert "forger" not in str(ask(path, 2)), path


def test_dos_06_huge_and_deep_json_is_not_copied_and_sync_goes_on(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        database.execute(
            "insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, timestamp, extra_data)"
            " values ('big', 'x', 1, 'low', 'completed', now(), jsonb_build_object('v', repeat('x', 50 * 1024 * 1024))),"
            " ('deep', 'x', 1, 'low', 'completed', now(), (repeat('[', 3000) || repeat(']', 3000))::jsonb)"
        )
        assert assert_equal(sync, database, "agent_actions") == 2
        with sync.cache.read() as snapshot:
            names = snapshot._connection.execute("select * from agent_actions limit 0").description or []
        assert "extra_data" not in [column[0] for column in names]
        assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("cache-*")) < 20 * 1024 * 1024


def test_a_row_of_a_wrong_clock_never_freezes_the_list_of_the_newest(database: Database, tmp_path: Path) -> None:
    database.execute(
        "insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, timestamp)"
        " values ('ahead', 'x', 1, 'low', 'completed', now() + interval '9 years'),"
        " ('now', 'x', 1, 'low', 'completed', now())"
    )
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        assert newest(sync) == ["now"]


def newest(sync: RunningSync) -> list[str]:
    """Agents of the latest actions of organization 1, as the view has them."""

    async def ask() -> list[str]:
        publisher = Publisher(sync.cache, sync.board, sync.settings, utc_now)
        try:
            body = (await publisher.get(ViewKey("trends", 1))).body
        finally:
            publisher.close()
        return [action["agent_id"] for action in json.loads(body)["enriched_actions"]]

    return asyncio.run(ask())
