"""GET /predictive/trends without a forecast, and GET /debug."""

from __future__ import annotations

from datetime import timedelta

import pytest

from config.settings import Settings
from tests.analytics.asking import asking
from tests.analytics.rows import action
from tests.contract.structure import assert_documented, example

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("days_ago", "collected", "progress", "ready_on"),
    [
        ([], 0, 0.0, "2025-01-19"),
        ([0], 0, 0.0, "2025-01-19"),  # today is not complete
        ([0, 1, 1, 2], 1, 25.0, "2025-01-18"),  # nor is the first day
        ([1, 2, 40], 2, 50.0, "2025-01-17"),
        ([1, 5, 30], 2, 50.0, "2025-01-17"),
        ([1, 5, 30, 31], 3, 75.0, "2025-01-16"),
        ([1, 5, 31], 2, 50.0, "2025-01-17"),
        ([1, 2, 3, 4, 5], 4, 100.0, "2025-01-15"),
    ],
)
def test_complete_days_with_actions_are_what_is_collected(
    given: Settings, days_ago: list[int], collected: int, progress: float, ready_on: str
) -> None:
    rows = [action(number, ago=days * DAY + timedelta(minutes=1)) for number, days in enumerate(days_ago)]
    with asking(given, agent_actions=[*rows, action(99, org=2, ago=3 * DAY)]) as ask:
        answer = ask("predictive")
    assert_documented("predictive_trends_collecting", answer)
    data = answer["data_collection"]
    assert data["days_collected"] == collected
    assert data["collection_progress"] == progress
    assert data["estimated_ready_date"] == ready_on
    assert data["ready"] is (collected >= 4)
    assert data["total_actions"] == sum(days <= 30 for days in days_ago)


def test_before_the_first_outlook_it_says_that_one_is_being_made(given: Settings) -> None:
    with asking(given, agent_actions=[action(day, ago=day * DAY) for day in range(1, 26)]) as ask:
        answer = ask("predictive")
    assert answer["status"] == "collecting_data"
    assert answer["message"].startswith("24 days of data are collected, enough for forecasting.")
    assert answer["planned_features"] == example("predictive_trends_collecting")["planned_features"]
    assert "risk_forecast" not in answer


def test_too_little_data_says_the_documented_sentence(given: Settings) -> None:
    with asking(given) as ask:
        assert ask("predictive")["message"] == example("predictive_trends_collecting")["message"]


def test_debug_is_the_five_latest_with_gaps_kept(given: Settings) -> None:
    rows = [action(number, ago=timedelta(hours=number), risk_level="MEDIUM") for number in range(1, 5)]
    rows += [
        action(10, ago=timedelta(0), risk_level=None),
        action(11, ago=timedelta(0), risk_level="urgent", summary="s", mitre_tactic="TA0002"),
        action(12, ago=-DAY),
        action(13, timestamp=None),
        action(14, org=2),
    ]
    with asking(given, agent_actions=rows) as ask:
        answer = ask("debug")
    assert_documented("debug", answer)
    assert [entry["id"] for entry in answer] == [11, 10, 1, 2, 3]
    assert [entry["risk_level"] for entry in answer] == ["unknown", None, "medium", "medium", "medium"]
    assert list(answer[0]) == list(example("debug")[0])
    assert answer[0]["summary"] == "s"
    assert answer[1]["summary"] is None
