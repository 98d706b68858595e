"""GET /realtime/metrics and metrics_update."""

from __future__ import annotations

from datetime import timedelta

import pytest

from analytics.state.sync_status import StatusBoard
from config.settings import Settings
from tests.analytics.asking import asking
from tests.analytics.rows import NOW, action, fresh_board, settings
from tests.contract.structure import assert_documented, example

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def test_structure_holds_both_documented_forms(given: Settings) -> None:
    with asking(given, agent_actions=[action(1)]) as ask:
        answer = ask("realtime")
    assert_documented("realtime_metrics_without_cloudwatch", answer)
    assert_documented("realtime_metrics_cloudwatch", answer, without=("system_health", "performance_metrics"))
    documented = example("realtime_metrics_without_cloudwatch")
    assert answer["system_health"] == documented["system_health"]
    assert answer["performance_metrics"] == documented["performance_metrics"]
    assert answer["meta"]["cloudwatch_enabled"] is False
    assert answer["meta"]["real_data_sources"] == ["postgresql_rds"]


def test_numbers_of_the_last_hour_and_day_are_half_open_windows(given: Settings) -> None:
    rows = [
        action(1, ago=HOUR, risk_level="High"),
        action(2, ago=HOUR + timedelta(microseconds=1), risk_level="high"),
        action(3, ago=timedelta(0), agent_id="at now"),
        action(4, ago=timedelta(microseconds=1), agent_id="just now", risk_level="critical", is_false_positive=True),
        action(5, ago=24 * HOUR),
        action(6, ago=24 * HOUR + timedelta(microseconds=1)),
    ]
    with asking(given, agent_actions=rows) as ask:
        overview = ask("realtime")["real_time_overview"]
    assert overview["total_actions_last_hour"] == 2
    assert overview["recent_high_risk_actions"] == 1
    assert overview["active_agents"] == 2
    assert overview["actions_last_24h"] == 4


def test_az_07_sessions_are_people_of_the_organization_each_once(given: Settings) -> None:
    audit = [
        {"id": 1, "organization_id": 1, "user_id": 7, "action": "READ", "created_at": NOW - MINUTE},
        {"id": 2, "organization_id": 1, "user_id": 7, "action": "LOGIN", "created_at": NOW - 2 * MINUTE},
        {"id": 3, "organization_id": 1, "user_id": 8, "action": "READ", "created_at": NOW - 61 * MINUTE},
        {"id": 4, "organization_id": None, "user_id": 9, "action": "READ", "created_at": NOW - MINUTE},
        {"id": 5, "organization_id": 2, "user_id": 10, "action": "READ", "created_at": NOW - MINUTE},
        {"id": 6, "organization_id": 1, "user_id": None, "action": "CREATE", "created_at": NOW - MINUTE},
    ]
    users = [
        {"id": 7, "organization_id": 1, "email": "a@x", "role": "user", "last_login": NOW - MINUTE},
        {"id": 11, "organization_id": 1, "email": "b@x", "role": "user", "last_login": NOW - HOUR},
        {"id": 12, "organization_id": None, "email": "staff@x", "role": "user", "last_login": NOW - MINUTE},
        {"id": 13, "organization_id": 1, "email": "c@x", "role": "user", "last_login": None},
    ]
    with asking(given, audit_logs=audit, users=users) as ask:
        assert ask("realtime", 1)["real_time_overview"]["active_sessions"] == 2
        assert ask("realtime", 2)["real_time_overview"]["active_sessions"] == 1
        assert ask("metrics_update", 1)["metrics"]["active_users"] == 2


@pytest.mark.parametrize(
    ("ago", "age", "message"),
    [
        (timedelta(seconds=119), 1, "Live data from production database"),
        (90 * MINUTE, 90, "No actions in the last hour; the last one was 1 hour ago"),
        (timedelta(days=3), 4320, "No actions in the last hour; the last one was 3 days ago"),
    ],
)
def test_age_and_message_tell_when_the_last_action_was(given: Settings, ago: timedelta, age: int, message: str) -> None:
    with asking(given, agent_actions=[action(1, ago=ago)]) as ask:
        answer = ask("realtime")
    status = answer["real_time_overview"]["status"]
    assert (status["data_age_minutes"], status["message"]) == (age, message)
    assert status["has_data"] is (ago < HOUR)
    assert answer["data_quality"]["data_status"] == ("live" if ago < HOUR else "no_recent_activity")
    assert answer["data_quality"]["has_historical_data"] is True


def test_no_action_at_all_is_said_plainly(given: Settings) -> None:
    with asking(given, agent_actions=[action(1, org=2)]) as ask:
        answer = ask("realtime")
    assert answer["real_time_overview"]["status"] == {
        "has_data": False,
        "message": "No actions recorded yet",
        "data_age_minutes": None,
    }
    assert answer["data_quality"]["has_historical_data"] is False


def test_dos_04_a_future_row_does_not_make_the_age_negative(given: Settings) -> None:
    ahead = action(1, ago=-2 * MINUTE)
    far = action(2, ago=timedelta(days=-30))
    with asking(given, agent_actions=[ahead, far, action(3, ago=5 * MINUTE)]) as ask:
        assert ask("realtime")["real_time_overview"]["status"]["data_age_minutes"] == 0
    with asking(given, agent_actions=[far, action(3, ago=5 * MINUTE)]) as ask:
        assert ask("realtime")["real_time_overview"]["status"]["data_age_minutes"] == 5


def test_being_behind_the_source_is_said_even_with_recent_actions(given: Settings) -> None:
    behind = fresh_board(NOW - timedelta(seconds=31))
    with asking(given, board=behind, agent_actions=[action(1)]) as ask:
        answer = ask("realtime")
        assert answer["data_quality"]["data_status"] == "stale"
        assert "out of date" in answer["real_time_overview"]["status"]["message"]
        assert ask("trends")["meta"]["data_status"] == "stale"
    within_bound = fresh_board(NOW - timedelta(seconds=30))
    with asking(given, board=within_bound, agent_actions=[action(1)]) as ask:
        assert ask("realtime")["data_quality"]["data_status"] == "live"
        assert ask("trends")["meta"]["data_status"] == "live"
    with asking(given, board=StatusBoard(), agent_actions=[action(1)]) as ask:
        assert ask("realtime")["data_quality"]["data_status"] == "stale"


def test_metrics_update_is_the_documented_message_with_the_fields_the_page_reads(given: Settings) -> None:
    rows = [action(1, risk_level="critical"), action(2, agent_id="other"), action(3, org=2)]
    with asking(given, agent_actions=rows) as ask:
        message = ask("metrics_update", connections=5)
    assert_documented("ws_metrics_update", message)
    assert message["metrics"] == {
        "active_websocket_connections": 5,
        "recent_actions_last_hour": 2,
        "high_risk_actions_last_hour": 1,
        "active_agents_last_hour": 2,
        "active_users": 0,
        "cpu_usage": None,
        "memory_usage": None,
        "response_time": None,
    }
    assert message["system_metrics"]["status"] == "unavailable"
    assert message["data_quality"] == {"source": "real_database", "mock_data": False, "has_activity": True}


def test_every_answer_of_the_demo_says_so(given: Settings) -> None:
    demo = settings(given.cache.directory).model_copy(update={"mock_data": True})
    with asking(demo, agent_actions=[action(1)]) as ask:
        for view in ("trends", "realtime", "performance", "predictive"):
            assert ask(view)["meta"]["mock_data"] is True, view
        assert ask("metrics_update")["data_quality"]["mock_data"] is True
        assert "demo" in ask("realtime")["real_time_overview"]["status"]["message"]
