"""GET /performance: the database part live, the rest unavailable without telemetry."""

from __future__ import annotations

from datetime import timedelta

import pytest

from analytics.state.sync_status import Connections, Statements
from config.settings import Settings
from tests.analytics.asking import asking
from tests.analytics.rows import NOW, action, fresh_board
from tests.contract.structure import assert_documented

MINUTE = timedelta(minutes=1)


def test_every_documented_key_stays_without_telemetry(given: Settings) -> None:
    with asking(given) as ask:
        answer = ask("performance")
    assert_documented("performance", answer)
    for part in ("system_metrics", "application_metrics"):
        assert "telemetry.source" in answer[part]["message"]
        for name, block in answer[part].items():
            if name != "message":
                assert (block["status"], block["source"]) == ("unavailable", "none")
    assert answer["system_metrics"]["cpu"]["current"] is None
    assert answer["meta"]["cloudwatch_enabled"] is False
    assert answer["meta"]["data_sources"]["system_metrics"] == "none"


@pytest.mark.parametrize(
    ("total", "utilization", "status"), [(20, 20.0, "healthy"), (79, 79.0, "healthy"), (80, 80.0, "high")]
)
def test_connections_are_the_newest_sample(given: Settings, total: int, utilization: float, status: str) -> None:
    board = fresh_board()
    board.update(connections=Connections(active=12, idle=8, total=total, maximum=100, sampled_at=NOW))
    with asking(given, board=board) as ask:
        assert ask("performance")["database_metrics"]["connections"] == {
            "active": 12,
            "idle": 8,
            "total": total,
            "max": 100,
            "utilization": utilization,
            "status": status,
            "source": "postgresql",
        }


def test_connections_are_unavailable_before_the_first_sample(given: Settings) -> None:
    with asking(given) as ask:
        use = ask("performance")["database_metrics"]["connections"]
    assert (use["active"], use["utilization"], use["status"], use["source"]) == (None, None, "unavailable", "none")


def test_slow_are_the_hours_actions_that_wait_longer_than_five_minutes(given: Settings) -> None:
    rows = [
        action(1, status="pending", ago=6 * MINUTE),
        action(2, status="pending_approval", ago=59 * MINUTE),
        action(3, status="pending", ago=5 * MINUTE),
        action(4, status="pending", ago=61 * MINUTE),
        action(5, status="completed", ago=6 * MINUTE),
        action(6, status="pending", ago=6 * MINUTE, org=2),
    ]
    with asking(given, agent_actions=rows) as ask:
        assert ask("performance")["database_metrics"]["query_performance"] == {
            "recent_queries": 4,
            "slow_queries_estimate": 2,
            "status": "degraded",
            "source": "agent_actions_table",
            "average_duration": None,
        }


@pytest.mark.parametrize(("slow", "status"), [(10, "optimal"), (11, "degraded")])
def test_queries_are_the_sources_own_statistics_where_sync_could_read_them(
    given: Settings, slow: int, status: str
) -> None:
    board = fresh_board()
    board.update(statements=Statements(200, slow, 2469.0, 100.0, NOW - timedelta(hours=1), NOW))
    with asking(given, board=board, agent_actions=[action(1)]) as ask:
        assert ask("performance")["database_metrics"]["query_performance"] == {
            "recent_queries": 200,
            "slow_queries_estimate": slow,
            "status": status,
            "source": "pg_stat_statements",
            "average_duration": pytest.approx(12.35, abs=0.01),
        }


@pytest.mark.parametrize(("waiting", "status"), [(0, "optimal"), (1, "optimal"), (2, "degraded")])
def test_degraded_begins_above_one_in_twenty(given: Settings, waiting: int, status: str) -> None:
    rows = [
        action(number, status="pending" if number < waiting else "completed", ago=10 * MINUTE) for number in range(20)
    ]
    with asking(given, agent_actions=rows) as ask:
        assert ask("performance")["database_metrics"]["query_performance"]["status"] == status
