"""The demo's ninety days, asked in SQL: as uneven as a real platform's, and never ahead of the clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from analytics.state.tables import TABLES
from owkai.demo.catalog import ORGANIZATIONS, ScriptedIncident
from owkai.demo.credentials import DemoKey, issue_keys
from owkai.demo.history import actions_a_second, generate, load
from owkai.demo.platform import create_publication, create_sync_role, load_platform
from owkai.demo.postgres import EmbeddedPostgres
from tests.postgres import Database, drop_database

NOW = datetime(2025, 1, 15, 14, 30, tzinfo=UTC)
EVENT_AT = "coalesce(\"timestamp\", created_at at time zone 'utc')"


class Loaded(Database):
    keys: list[DemoKey]

    def value(self, query: str, params: tuple[Any, ...] = ()) -> Any:
        row = self.execute(query, params).fetchone()
        assert row is not None
        return row[0]


@pytest.fixture(scope="module")
def history(postgres: EmbeddedPostgres) -> Iterator[Loaded]:
    """A database that holds the demo's history as of 2025-01-15 14:30 UTC."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute("create database demo_history template template0")
    loaded = Loaded(postgres, "demo_history")
    try:
        made = generate(7, NOW)
        with loaded.connect() as owner:
            load_platform(owner)
            load(owner, made)
            loaded.keys = issue_keys(owner, made.people, NOW)
        yield loaded
    finally:
        drop_database(loaded)


def test_same_seed_and_moment_give_the_same_rows() -> None:
    few = [organization for organization in ORGANIZATIONS if organization.id == 3]
    assert generate(7, NOW, few) == generate(7, NOW, few)
    assert generate(8, NOW, few).actions != generate(7, NOW, few).actions


def test_organizations_differ_in_size_and_share_no_agent(history: Loaded) -> None:
    counts = history.execute("select count(*) from agent_actions group by organization_id order by organization_id")
    large, middle, small = (row[0] for row in counts.fetchall())
    assert large > 2 * middle > 4 * small > 10_000
    shared = "select agent_id from agent_actions group by agent_id having count(distinct organization_id) > 1"
    assert history.execute(shared).fetchall() == []


def test_history_fills_ninety_days_and_ends_now(history: Loaded) -> None:
    for organization in ORGANIZATIONS:
        days = history.value(
            f"select count(distinct ({EVENT_AT} at time zone 'utc')::date) from agent_actions where organization_id = %s",
            (organization.id,),
        )
        assert days in (90, 91)
    newest = history.value(f"select max({EVENT_AT}) from agent_actions where organization_id = 1")
    assert 0 <= (NOW - newest).total_seconds() < 3600


def test_nothing_is_ahead_of_the_clock_or_decided_before_it_happened(history: Loaded) -> None:
    for table, column in (
        ("agent_actions", '"timestamp"'),
        ("agent_actions", "created_at at time zone 'utc'"),
        ("agent_actions", "reviewed_at"),
        ("users", "last_login at time zone 'utc'"),
        ("users", "created_at at time zone 'utc'"),
        ("audit_logs", "created_at at time zone 'utc'"),
    ):
        assert history.value(f"select max({column}) from {table}") <= NOW, (table, column)
    early = f"select count(*) from agent_actions where reviewed_at < {EVENT_AT} or updated_at < {EVENT_AT}"
    assert history.value(early) == 0


def test_some_rows_have_no_timestamp_but_all_have_a_creation(history: Loaded) -> None:
    share = history.value('select avg(("timestamp" is null)::int) from agent_actions')
    assert 0.01 < share < 0.04
    assert history.value('select count(*) from agent_actions where "timestamp" is null and created_at is null') == 0


def test_risk_levels_come_in_every_case(history: Loaded) -> None:
    spelled = {row[0] for row in history.execute("select distinct risk_level from agent_actions").fetchall()}
    assert {"high", "HIGH", "High", "low", "LOW", "critical", "CRITICAL", "medium", "Medium"} <= spelled
    assert "informational" in spelled


def test_rows_were_changed_and_deleted_after_their_insert(history: Loaded) -> None:
    assert history.value("select max(id) - count(*) from agent_actions") > 200
    assert history.value(f"select count(*) from agent_actions where updated_at > {EVENT_AT} + interval '1 hour'") > 300
    reviewed = "select count(*) from agent_actions where reviewed_at is not null and reviewed_by is not null"
    assert history.value(reviewed) > 500
    assert history.value("select count(*) from agent_actions where is_false_positive") > 200


def test_organizations_differ_in_what_waits_and_in_how_risky_they_are(history: Loaded) -> None:
    waiting = "select count(*) from agent_actions where status = 'pending_approval' and organization_id = %s"
    assert history.value(waiting, (1,)) > 0
    assert history.value(waiting, (3,)) > 0
    score = (
        "select 100.0 * count(*) / (count(*) + 4 * count(*) filter (where risk_score >= 40 and risk_score < 70) + 8 * "
        "count(*) filter (where risk_score >= 70 and risk_score < 90) + 16 * count(*) filter (where risk_score >= 90)) "
        f"from agent_actions where organization_id = %s and {EVENT_AT} > %s"
    )
    retail, insurance, clinics = (
        float(history.value(score, (organization, NOW - timedelta(days=30)))) for organization in (1, 2, 3)
    )
    assert insurance > 75 > retail > clinics + 5


def test_scripted_incidents_lie_in_the_last_seven_days(history: Loaded) -> None:
    in_span = f"select count(*) from agent_actions where agent_id = %s and {EVENT_AT} > %s and {EVENT_AT} <= %s"
    for organization in ORGANIZATIONS:
        for one in organization.incidents:
            assert one.until_hours < one.from_hours < 7 * 24

            def count(weeks: int, one: ScriptedIncident = one) -> int:
                since = NOW - timedelta(weeks=weeks, hours=one.from_hours - 1)
                found: int = history.value(
                    in_span, (one.agent, since, NOW - timedelta(weeks=weeks, hours=one.until_hours))
                )
                return found

            usual = sum(count(weeks) for weeks in (2, 3, 4)) / 3
            assert count(0) == 0 < usual if one.silent else count(0) > 2 * usual


def test_live_activity_is_as_dense_as_the_end_of_the_history(history: Loaded) -> None:
    last_weeks = f"select count(*) from agent_actions where organization_id = %s and {EVENT_AT} > %s"
    for organization in ORGANIZATIONS:
        days = 21
        lived = history.value(last_weeks, (organization.id, NOW - timedelta(days=days)))
        hours = [NOW - timedelta(hours=back) for back in range(24 * days)]
        live = 3600 * sum(actions_a_second(agent, organization, at) for agent in organization.agents for at in hours)
        assert live == pytest.approx(lived, rel=0.35), organization.name


def test_tools_are_missing_here_and_there(history: Loaded) -> None:
    assert 0.05 < history.value("select avg((tool_name is null)::int) from agent_actions") < 0.2


def test_weekends_are_quiet_and_nights_more_so(history: Loaded) -> None:
    per_day = (
        f"select avg(n) from (select {EVENT_AT}::date as day, count(*) as n from agent_actions where organization_id = 1 "
        "group by 1) as days where extract(isodow from day) {} and day < '2025-01-15' and day > '2024-10-17'"
    )
    weekend, working_day = history.value(per_day.format(">= 6")), history.value(per_day.format("< 6"))
    assert 0.15 < weekend / working_day < 0.7
    per_hour = (
        f"select count(*) from agent_actions where organization_id = 1 and agent_id = 'data-analysis-agent' "
        f"and extract(hour from {EVENT_AT}) between %s and %s"
    )
    assert history.value(per_hour, (0, 3)) < 0.1 * history.value(per_hour, (9, 12))


def test_agents_come_and_go_and_burst(history: Loaded) -> None:
    since = f"select min({EVENT_AT}) from agent_actions where agent_id = 'returns-fraud-agent'"
    until = f"select max({EVENT_AT}) from agent_actions where agent_id = 'price-crawler-agent'"
    assert (NOW - history.value(since)).days in (10, 11, 12)
    assert (NOW - history.value(until)).days in (20, 21, 22)
    bursts = (
        f"with hours as (select agent_id, date_trunc('hour', {EVENT_AT}) as hour, count(*) as n from agent_actions "
        "group by 1, 2), usual as (select agent_id, percentile_cont(0.98) within group (order by n) as high from hours "
        "group by 1) select count(*) from hours join usual using (agent_id) where n > 2 * high and n > 8"
    )
    assert history.value(bursts) > 5


def test_people_include_inactive_ones_and_staff_without_an_organization(history: Loaded) -> None:
    assert history.value("select count(*) from users where not is_active") > 3
    assert history.value("select count(*) from users where organization_id is null") == 3
    assert history.value("select count(*) from users where last_login is null") > 0
    twice = "select email from users group by organization_id, email having count(*) > 1"
    assert history.execute(twice).fetchall() == []
    actions = {row[0] for row in history.execute("select distinct action from audit_logs").fetchall()}
    assert {"LOGIN", "LOGOUT", "APPROVE", "DENY", "REVIEW", "READ", "CREATE", "UPDATE", "DELETE"} <= actions


def test_keys_are_stored_as_hash_with_both_prefix_lengths(history: Loaded) -> None:
    assert [(key.organization_id, key.role) for key in history.keys] == [
        (organization, role) for organization in (1, 2, 3) for role in ("admin", "user")
    ]
    lengths = {row[0] for row in history.execute("select distinct length(key_prefix) from api_keys").fetchall()}
    assert lengths == {16, 32}
    for key in history.keys:
        matching = history.execute(
            "select u.email, u.role, k.organization_id from api_keys k join users u on u.id = k.user_id "
            "where k.key_hash = encode(sha256(convert_to(%s || k.salt, 'utf8')), 'hex') and left(%s, length(k.key_prefix)) "
            "= k.key_prefix and k.is_active and k.expires_at > now() - interval '100 years' and u.is_active",
            (key.key, key.key),
        ).fetchall()
        assert matching == [(key.email, key.role, key.organization_id)]
    assert history.value("select count(*) from api_keys where revoked_at is not null") == 3
    assert history.value("select count(*) from api_keys where expires_at < %s", (NOW,)) == 3


def test_sync_role_reads_what_is_mapped_and_nothing_else(history: Loaded) -> None:
    with history.connect() as owner:
        create_publication(owner, "owkai_demo_test")
        create_sync_role(owner, "owkai_demo_test", "only-for-this-test")
    try:
        dsn = history.server.dsn(history.name, "owkai_demo_test", "only-for-this-test")
        with psycopg.connect(dsn, autocommit=True) as role:
            for table in TABLES:
                columns = ", ".join(f'"{name}"' for name in table.column_names)
                assert role.execute(f"select {columns} from {table.name} limit 1").fetchone() is not None
            for forbidden in (
                "select password from users",
                "select * from organizations",
                "insert into audit_logs (action) values ('LOGIN')",
                "update agent_actions set status = 'approved'",
                "delete from api_keys",
                "create table public.made (id int)",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    role.execute(forbidden)
    finally:
        history.execute("drop owned by owkai_demo_test")
        history.execute("drop role owkai_demo_test")
