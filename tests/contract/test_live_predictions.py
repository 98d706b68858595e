"""Predictions over the whole road: Postgres, `owkai serve` as a process, HTTP."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.contract.platform_rows import make_key
from tests.contract.structure import assert_documented
from tests.owkai.servers import Server, serving, wait_for
from tests.postgres import Database
from tests.sync.running import slot_name

PATH = "/api/analytics/predictive/trends"

# A weekly shape of 28 days for two organizations, hour by hour of the working day; today has a few rows as well.
HISTORY = """
insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, timestamp)
select 'agent-' || (i % 3), 'query', org,
    case when i % 5 = 0 then 'high' when i % 17 = 0 then 'critical' else 'low' end, 'completed',
    date_trunc('day', now() at time zone 'UTC') - make_interval(days => d) + interval '1 hour' * (i % 24) + interval '1 min'
from generate_series(1, 28) d
cross join (values (1, 60), (2, 240)) as o (org, size)
cross join lateral generate_series(
    1, case when extract(isodow from (now() at time zone 'UTC')::date - d) > 5 then size / 4 else size end
) i
"""


class Road(NamedTuple):
    server: Server
    database: Database
    keys: dict[int, str]

    def ask(self, organization: int = 1) -> Any:
        status, body = self.server.get(PATH, {"X-API-Key": self.keys[organization]})
        assert status == 200, body
        return body


@pytest.fixture
def road(database: Database, tmp_path: Path) -> Iterator[Road]:
    keys = {org: make_key(database, org, "user", f"user@org{org}.example.com") for org in (1, 2, 3)}
    with serving(
        tmp_path,
        SOURCE_DSN=database.dsn,
        SOURCE_SLOT=slot_name(database),
        PREDICTIVE_REFRESH_SECONDS="0.2",
    ) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, f"readiness: {server.messages()}")
        yield Road(server, database, keys)


def today() -> date:
    return datetime.now(UTC).date()


def test_history_that_arrives_becomes_a_forecast_of_the_own_organization(road: Road) -> None:
    assert road.ask()["status"] == "collecting_data"
    assert_documented("predictive_trends_collecting", road.ask())
    road.database.execute(HISTORY)
    wait_for(lambda: road.ask()["status"] == "active", "a forecast")
    wait_for(lambda: road.ask(2)["status"] == "active", "a forecast of the other organization")
    mine, other = road.ask(), road.ask(2)
    asked_on = today()
    assert_documented("predictive_trends_active", mine)
    assert road.ask(3)["status"] == "collecting_data"
    assert road.ask(3)["data_collection"]["total_actions"] == 0
    dates = [day["date"] for day in mine["risk_forecast"]]
    # The day may have changed since the forecast was made.
    assert dates in [
        [str(day + timedelta(days=ahead)) for ahead in range(1, 8)] for day in (asked_on, asked_on - timedelta(days=1))
    ]
    for answer, size in ((mine, 60), (other, 240)):
        for day in answer["risk_forecast"]:
            busy = date.fromisoformat(day["date"]).isoweekday() <= 5
            rows = size if busy else size // 4
            risky = sum(1 for i in range(1, rows + 1) if i % 5 == 0 or i % 17 == 0)
            assert abs(day["predicted_high_risk_actions"] - risky) <= max(2, 0.15 * risky), day
    assert {one["agent_id"] for one in mine["agent_workload_forecast"]} == {"agent-0", "agent-1", "agent-2"}
    assert mine["meta"]["live_accuracy"]["risk_forecast"]["forecasts_scored"] == 0
    assert "owkai_forecast_risk_scored 0" in metrics(road)


def test_a_burst_and_a_new_agent_are_told_with_who_when_and_how_much(road: Road) -> None:
    road.database.execute(HISTORY)
    burst = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=26)
    road.database.execute(
        "insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, timestamp)"
        " select 'agent-1', 'query', 1, 'low', 'completed', %(burst)s + interval '5 s' * i from generate_series(1, 400) i"
        " union all select 'newcomer', 'query', 1, 'critical', 'completed', %(burst)s + interval '23 hours'"
        " from generate_series(1, 2)",
        {"burst": burst},
    )

    def told() -> bool:
        return {one["type"] for one in road.ask().get("anomalies", [])} >= {"spike", "new_agent"}

    wait_for(told, "the burst and the newcomer")
    answer = road.ask()
    (spike,) = [one for one in answer["anomalies"] if one["type"] == "spike"]
    assert spike["agent_id"] == "agent-1"
    assert spike["timestamp"] == burst.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert 400 <= spike["observed"] <= 410
    assert spike["expected"] < 10
    assert spike["ends_at"] == (burst + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert "agent-1" in spike["description"]
    new = [one for one in answer["anomalies"] if one["agent_id"] == "newcomer" and one["type"] == "new_agent"]
    assert len(new) == 1
    assert new[0]["observed"] == 2
    advice = answer["risk_predictions"]["recommended_actions"]
    assert any("spike" in sentence and "agent-1" in sentence for sentence in advice)
    assert any("newcomer" in sentence for sentence in advice)
    assert not any(one["agent_id"] == "newcomer" for one in road.ask(2).get("anomalies", []))


def metrics(road: Road) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{road.server.port}/metrics", timeout=10) as response:
        return str(response.read().decode())
