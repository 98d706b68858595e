"""No number of one organization is moved by another's rows; every number equals a recomputation from plain rows."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.analytics import recomputation
from tests.analytics.asking import Asker, asking
from tests.analytics.rows import NOW, Row
from tests.analytics.rows import settings as server_settings

VIEWS = ("trends", "realtime", "performance", "predictive", "executive", "debug", "metrics_update")
ORGANIZATIONS = (1, 2, 3)

# Mostly near the edges of windows, some anywhere, a few ahead of the clock.
AGES = st.one_of(
    st.timedeltas(timedelta(seconds=-400), timedelta(days=40)),
    st.sampled_from([timedelta(0), timedelta(minutes=5), timedelta(hours=1), timedelta(days=1), timedelta(days=7)]),
    st.timedeltas(timedelta(microseconds=1), timedelta(minutes=70)),
    st.timedeltas(timedelta(hours=1), timedelta(days=2)),
)
MOMENTS = st.builds(lambda age: NOW - age, AGES)


def perhaps(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


ACTIONS = st.fixed_dictionaries(
    {
        "organization_id": st.sampled_from(ORGANIZATIONS),
        "agent_id": st.sampled_from([f"agent-{number}" for number in range(13)] + ["é", "\U0001f600", "\uffee"]),
        "action_type": st.sampled_from(["email_send", "query"]),
        "risk_level": perhaps(st.sampled_from(["low", "Medium", "HIGH", "critical ", "Critical", "severe"])),
        "status": perhaps(st.sampled_from(["completed", "pending", "pending_approval", "denied"])),
        "is_false_positive": perhaps(st.booleans()),
        "tool_name": perhaps(st.sampled_from([f"tool-{number}" for number in range(12)])),
        "mitre_tactic": perhaps(st.just("TA0002")),
        "recommendation": perhaps(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)),
        "timestamp": perhaps(MOMENTS),
        "created_at": perhaps(MOMENTS),
    }
)
USERS = st.fixed_dictionaries(
    {
        "organization_id": perhaps(st.sampled_from(ORGANIZATIONS)),
        "email": st.just("someone@example.com"),
        "role": st.just("user"),
        "last_login": perhaps(MOMENTS),
    }
)
AUDIT = st.fixed_dictionaries(
    {
        "organization_id": perhaps(st.sampled_from(ORGANIZATIONS)),
        "user_id": perhaps(st.integers(1, 12)),
        "action": st.just("READ"),
        "created_at": MOMENTS,
    }
)


def numbered(rows: list[Row]) -> list[Row]:
    return [{"id": number, **row} for number, row in enumerate(rows, 1)]


def of(organization: int, rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["organization_id"] == organization]


def answers(ask: Asker, organization: int, days: int, zone: str) -> dict[str, bytes]:
    found = {view: ask.body(view, organization) for view in VIEWS}
    found["trends of the zone"] = ask.body("trends", organization, days=days, tz=zone)
    return found


@given(
    actions=st.lists(ACTIONS, max_size=80).map(numbered),
    users=st.lists(USERS, max_size=10).map(numbered),
    audit=st.lists(AUDIT, max_size=15).map(numbered),
    days=st.sampled_from([1, 2, 7, 30]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_az_05_answers_equal_those_of_a_cache_with_the_organizations_rows_alone_and_a_recomputation(
    actions: list[Row], users: list[Row], audit: list[Row], days: int, zone: str
) -> None:
    tables: dict[str, Any] = {"agent_actions": actions, "users": users, "audit_logs": audit}
    with tempfile.TemporaryDirectory() as directory:
        shared = server_settings(Path(directory) / "shared", cache={"in_memory": True})
        with asking(shared, now=NOW, **tables) as ask:
            together = {each: answers(ask, each, days, zone) for each in ORGANIZATIONS}
        for each in ORGANIZATIONS:
            alone = server_settings(Path(directory) / f"alone-{each}", cache={"in_memory": True})
            own: dict[str, Any] = {name: of(each, rows) for name, rows in tables.items()}
            with asking(alone, now=NOW, **own) as ask:
                assert answers(ask, each, days, zone) == together[each]
            compare_with_recomputation(together[each], each, tables, days, zone)


def compare_with_recomputation(
    bodies: dict[str, bytes], organization: int, tables: dict[str, list[Row]], days: int, zone: str
) -> None:
    found = {view: json.loads(body) for view, body in bodies.items()}
    actions = of(organization, tables["agent_actions"])

    for view, span, place in (("trends", 7, "UTC"), ("trends of the zone", days, zone)):
        expected = recomputation.trends(actions, NOW, span, place)
        assert {key: found[view][key] for key in expected} == expected

    overview = recomputation.overview(organization, actions, tables["users"], tables["audit_logs"], NOW)
    shown = dict(found["realtime"]["real_time_overview"])
    status = shown.pop("status")
    assert {**shown, "data_age_minutes": status["data_age_minutes"]} == overview
    assert status["has_data"] is (overview["total_actions_last_hour"] > 0)

    live = found["metrics_update"]["metrics"]
    assert live["recent_actions_last_hour"] == overview["total_actions_last_hour"]
    assert live["high_risk_actions_last_hour"] == overview["recent_high_risk_actions"]
    assert live["active_agents_last_hour"] == overview["active_agents"]
    assert live["active_users"] == overview["active_sessions"]

    queries = found["performance"]["database_metrics"]["query_performance"]
    assert (queries["recent_queries"], queries["slow_queries_estimate"]) == recomputation.slow(actions, NOW)

    data = found["predictive"]["data_collection"]
    assert (data["days_collected"], data["total_actions"]) == recomputation.collected(actions, NOW)

    dated = recomputation.newest_first(actions, NOW)
    timeless = sorted((row for row in actions if recomputation.event_at(row) is None), key=lambda row: -row["id"])
    assert [entry["id"] for entry in found["debug"]] == [row["id"] for row in (dated + timeless)[:5]]
    assert [entry["risk_level"] for entry in found["debug"]] == [
        recomputation.risk(row) for row in (dated + timeless)[:5]
    ]


def test_the_recomputation_itself_knows_a_worked_case() -> None:
    row = {
        "id": 1,
        "agent_id": "a",
        "action_type": "t",
        "risk_level": "HIGH",
        "timestamp": datetime(2025, 1, 14, 23, 30, tzinfo=UTC),
    }
    by_day = recomputation.trends([row], NOW, 2, "Europe/Berlin")["high_risk_actions_by_day"]
    assert by_day == [{"date": "2025-01-14", "count": 0}, {"date": "2025-01-15", "count": 1}]
    assert recomputation.overview(1, [row], [], [], NOW)["data_age_minutes"] == 900
