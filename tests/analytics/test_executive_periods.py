"""What the executive dashboard counts from when data is young, and what it names that no rule knows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics.executive.dashboard import NO_EARLIER_PERIOD, NO_EARLIER_USERS
from config.settings import Settings
from tests.analytics.asking import asking
from tests.analytics.rows import NOW, action, settings

DAY = timedelta(days=1)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)


def user(number: int, age: timedelta, **columns: Any) -> dict[str, Any]:
    return {
        "id": number,
        "organization_id": 1,
        "email": f"u{number}@one.example",
        "role": "user",
        "created_at": NOW - age,
        **columns,
    }


def test_averages_start_at_the_first_day_of_data_and_say_so(given: Settings) -> None:
    # Twelve actions an hour since the midnight nine days ago.
    since = MIDNIGHT - 9 * DAY
    every = timedelta(minutes=5)
    rows = [action(i, ago=NOW - since - i * every) for i in range(int((NOW - since) / every))]
    with asking(given, agent_actions=rows) as ask:
        answer = ask("executive", days=30, tz="UTC")
        use = answer["business_metrics"]["system_utilization"]
        assert use["avg_actions_per_day"] == pytest.approx(288, abs=1)
        assert use["peak_day_actions"] == 288
        assert answer["meta"]["averages_since"] == "2025-01-06T00:00:00Z"
        assert (
            "The data starts on 2025-01-06, inside the period: averages count from that day."
            in answer["meta"]["caveats"]
        )
        # A period that lies within the data is counted whole.
        week = ask("executive", days=7, tz="UTC")
        assert week["business_metrics"]["system_utilization"]["avg_actions_per_day"] == pytest.approx(288, abs=0.2)
        assert week["meta"]["averages_since"] == week["data_period"]["start_date"]
        assert not [text for text in week["meta"]["caveats"] if "inside the period" in text]


def test_the_first_day_is_one_of_the_reports_zone(given: Settings) -> None:
    rows = [action(1, ago=NOW - (MIDNIGHT - 3 * DAY - timedelta(hours=1)))]
    with asking(given, agent_actions=rows) as ask:
        for zone, day in (("UTC", "2025-01-11"), ("Asia/Tokyo", "2025-01-12")):
            caveats = ask("executive", days=30, tz=zone)["meta"]["caveats"]
            assert f"The data starts on {day}, inside the period: averages count from that day." in caveats


def test_data_of_the_last_minutes_is_not_multiplied(given: Settings) -> None:
    rows = [action(i, ago=timedelta(minutes=i)) for i in range(1, 6)]
    with asking(given, agent_actions=rows) as ask:
        use = ask("executive", days=30, tz="UTC")["business_metrics"]["system_utilization"]
        assert (use["avg_actions_per_day"], use["peak_day_actions"]) == (5.0, 5)


def test_a_silent_month_after_older_data_is_no_start(given: Settings) -> None:
    rows = [action(1, ago=100 * DAY), *(action(i, ago=i * timedelta(hours=1)) for i in range(2, 62))]
    with asking(given, agent_actions=rows) as ask:
        answer = ask("executive", days=30, tz="UTC")
        assert answer["business_metrics"]["system_utilization"]["avg_actions_per_day"] == 2.0
        assert NO_EARLIER_PERIOD in answer["meta"]["caveats"]
        assert not [text for text in answer["meta"]["caveats"] if "inside the period" in text]


def test_without_an_earlier_period_no_trend_is_measured(given: Settings) -> None:
    now = [action(i, ago=DAY, risk_level="high" if i % 2 else "low") for i in range(1, 40)]
    before = [action(100 + i, ago=40 * DAY) for i in range(1, 40)]
    with asking(given, agent_actions=now) as ask:
        answer = ask("executive", days=30, tz="UTC")
        assert answer["executive_kpis"]["security_posture"]["trend"] == "stable"  # the documented neutral value
        assert answer["meta"]["measured"]["security_posture_trend"] is False
        assert answer["meta"]["measured"]["platform_health_trend"] is False
        assert NO_EARLIER_PERIOD in answer["meta"]["caveats"]
    with asking(given, agent_actions=now + before) as ask:
        answer = ask("executive", days=30, tz="UTC")
        assert answer["executive_kpis"]["security_posture"]["trend"] == "declining"
        assert answer["meta"]["measured"]["security_posture_trend"] is True
        assert answer["meta"]["measured"]["platform_health_trend"] is True
        assert NO_EARLIER_PERIOD not in answer["meta"]["caveats"]


def test_growth_starts_with_the_first_day_of_users(given: Settings) -> None:
    first = [user(i, 10 * DAY) for i in range(1, 6)]
    later = [user(10 + i, 3 * DAY) for i in range(1, 3)]
    with asking(given, users=first + later) as ask:
        answer = ask("executive", days=30, tz="UTC")
        growth = answer["business_metrics"]["user_growth"]
        assert (growth["current_users"], growth["growth_rate"], growth["trend"]) == (7, 0.4, "positive")
        assert (
            "The first users were created on 2025-01-05, inside the period: growth counts from that day."
            in answer["meta"]["caveats"]
        )
        assert answer["meta"]["measured"]["growth_rate"] is True
    with asking(given, users=[user(1, timedelta(hours=1))]) as ask:
        answer = ask("executive", days=30, tz="UTC")
        assert answer["business_metrics"]["user_growth"]["growth_rate"] == 0
        assert answer["meta"]["measured"]["growth_rate"] is False
        assert NO_EARLIER_USERS in answer["meta"]["caveats"]


def test_active_users_are_some_of_the_current_ones(given: Settings) -> None:
    users = [
        user(1, 90 * DAY, last_login=NOW - DAY),
        user(2, 90 * DAY),
        user(3, 90 * DAY, is_active=False, last_login=NOW - DAY),
        user(4, 90 * DAY, is_active=False),
        user(5, 90 * DAY, last_login=NOW - 50 * DAY),
    ]
    events = [
        {"id": n, "organization_id": 1, "user_id": person, "action": "READ", "created_at": NOW - DAY}
        for n, person in enumerate((2, 4, 77))
    ]
    with asking(given, users=users, audit_logs=events) as ask:
        growth = ask("executive", days=30, tz="UTC")["business_metrics"]["user_growth"]
        assert (growth["current_users"], growth["active_users"]) == (3, 2)


@pytest.mark.parametrize("spelled", ["{}", " {} ", "\t{}\n", "\u00a0{}"])
@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_a_status_means_the_same_however_it_is_spelled(given: Settings, spelled: str, change: Any) -> None:
    def as_written(word: str) -> str:
        return spelled.format(change(word))

    rows = [
        action(1, status=as_written("completed")),
        action(2, status=as_written("execution_failed")),
        action(3, status=as_written("denied"), risk_level=as_written("high"), ago=2 * DAY),
        action(4, status=as_written("pending_approval"), risk_level=as_written("critical"), ago=2 * DAY),
        action(5, status=as_written("false_positive"), risk_level=as_written("critical"), ago=2 * DAY),
    ]
    events = [
        {"id": n, "organization_id": 1, "user_id": 1, "action": as_written(verb), "created_at": NOW - DAY}
        for n, verb in enumerate(("approve", "deny", "review", "login"))
    ]
    with asking(given, agent_actions=rows, audit_logs=events) as ask:
        answer = ask("executive", days=30, tz="UTC")
        kpis = answer["executive_kpis"]
        assert kpis["platform_health"]["success_rate"] == 50.0
        security = kpis["security_posture"]
        assert (security["critical_issues"], security["high_risk_actions"], security["score"]) == (1, 1, 17.2)
        assert kpis["compliance_status"] == {
            "score": 50.0,
            "violations": 1,
            "pending_reviews": 1,
            "compliance_actions": 3,
        }
        assert not [text for text in answer["meta"]["caveats"] if "no known" in text]
        assert sum(day["count"] for day in ask("trends", days=7)["high_risk_actions_by_day"]) == 2
        assert ask("trends", days=7)["pending_actions_count"] == 1


def test_a_recorded_approver_or_reviewer_is_a_decision_and_a_blank_name_is_none(given: Settings) -> None:
    rows = [
        action(1, risk_level="high", ago=2 * DAY, approved_by="ann@one.example"),
        action(2, risk_level="high", ago=2 * DAY, reviewed_by="ann@one.example"),
        action(3, risk_level="high", ago=2 * DAY, reviewed_at=NOW - DAY),
        action(4, risk_level="high", ago=2 * DAY, approved_by="  ", reviewed_by=""),
        action(5, risk_level="high", ago=2 * DAY),
    ]
    with asking(given, agent_actions=rows) as ask:
        answer = ask("executive", days=30, tz="UTC")
        assert answer["executive_kpis"]["compliance_status"]["violations"] == 2
        assert answer["executive_kpis"]["operational_efficiency"]["manual_interventions"] == 3


def test_values_that_no_rule_knows_are_counted_and_named(given: Settings, tmp_path: Path) -> None:
    rows = [action(i, status="Timed_Out") for i in range(4)]
    rows += [
        action(10, status="cancelled "),
        action(11, status=None),
        action(12, status=" "),
        action(13, status="other"),
    ]
    rows += [action(20 + i, status=f"kind {i}") for i in range(7)]
    rows += [
        action(40, risk_level="Severe", decision="Maybe"),
        action(41, decision=" Allow"),
        action(42, risk_level=None),
    ]
    rows += [action(50, org=2, status="not yours", risk_level="not yours", decision="not yours")]
    rows += [action(51, status="long ago", ago=40 * DAY)]
    users = [user(1, DAY, role=" Auditor"), user(2, DAY, role="ADMIN"), user(3, DAY, role="viewer")]
    events = [{"id": 1, "organization_id": 1, "user_id": 1, "action": "Export", "created_at": NOW - DAY}]
    with asking(given, agent_actions=rows, users=users, audit_logs=events) as ask:
        found = [text for text in ask("executive", days=30, tz="UTC")["meta"]["caveats"] if "no known" in text]
        assert found == [
            '15 actions have no known status (neither success nor failure, decided nor pending): "timed_out" (4), '
            'none (2), "cancelled" (1), "kind 0" (1), "kind 1" (1), 6 more.',
            '2 actions have no known risk level (no weight in security_posture): "severe" (1), none (1).',
            '1 action has no known decision (no number uses the column): "maybe" (1).',
            '1 audit event has no known action (not counted in compliance_actions): "export" (1).',
            '1 user has no known role (not admin): "auditor" (1).',
        ]
    named = settings(tmp_path / "other", meaning={"other_statuses": ["TIMED_OUT", "cancelled"]})
    with asking(named, agent_actions=rows[:5]) as ask:
        assert not [
            text for text in ask("executive", days=30, tz="UTC")["meta"]["caveats"] if "no known status" in text
        ]
