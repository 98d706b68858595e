"""GET /predictive/trends with an outlook: shapes, meanings, tenancy."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, timedelta

import pytest

from analytics.responses import DEPLOYED_CLIENT_FIELDS, encode
from analytics.views import ViewKey, compute_response
from config.settings import Settings
from tests.analytics.asking import Asker
from tests.analytics.predictive.counts import outlook_of, prediction, rows
from tests.analytics.rows import NOW, action, filled_cache, fresh_board
from tests.contract.structure import assert_documented

DAY = timedelta(days=1)
TODAY = NOW.date()
WEEK = [40, 42, 38, 41, 39, 12, 10]


def month(days: int = 28) -> list[int]:
    """Counts with a weekly shape that end yesterday, a Tuesday."""
    start = TODAY - days * DAY
    return [WEEK[(start + day * DAY).weekday()] for day in range(days)]


def tenth(day: int, number: int) -> int:
    return number // 10


def test_the_active_answer_has_the_documented_structure_and_the_deployed_names(given: Settings) -> None:
    history = rows(month(), risky=lambda day, number: number // 4)
    burst = [
        action(90_000 + number, ago=timedelta(hours=30, seconds=number * 10), agent_id="agent-1")
        for number in range(150)
    ]
    found = prediction(given, [*history, *burst])
    assert_documented("predictive_trends_active", found)
    assert found["anomalies"]
    for path in DEPLOYED_CLIENT_FIELDS["predictive_trends_active"]:
        part, name = path.split(".")
        assert found[part]
        assert all(name in entry for entry in found[part]), path


def test_seven_days_from_tomorrow_follow_the_weekly_shape(given: Settings) -> None:
    found = prediction(given, rows(month(56), risky=lambda day, number: number // 2))
    forecast = found["risk_forecast"]
    assert [day["date"] for day in forecast] == [str(TODAY + ahead * DAY) for ahead in range(1, 8)]
    for day in forecast:
        expected = WEEK[date.fromisoformat(day["date"]).weekday()] // 2
        assert abs(day["predicted_high_risk_actions"] - expected) <= 2
        assert day["lower"] <= expected <= day["upper"]
        assert day["predicted_high_risk"] == day["predicted_high_risk_actions"]
        assert 0 < day["confidence"] < 1
        assert day["usual"] == expected
        assert day["trend"] == "stable"
    saturday = next(day for day in forecast if date.fromisoformat(day["date"]).weekday() == 5)
    assert any("Saturdays run" in factor and "below" in factor for factor in saturday["factors"])
    assert found["meta"]["data_through"] == str(TODAY - DAY)
    assert found["meta"]["prediction_method"] == "ml_powered"


def test_today_is_never_part_of_the_history(given: Settings) -> None:
    history = rows(month(), risky=tenth)
    flood = [action(50_000 + number, ago=timedelta(seconds=number), risk_level="critical") for number in range(1, 2001)]
    without, beside = prediction(given, history), prediction(given, [*history, *flood])
    assert beside["risk_forecast"] == without["risk_forecast"]
    assert beside["agent_workload_forecast"] == without["agent_workload_forecast"]
    assert beside["data_collection"]["total_actions"] == without["data_collection"]["total_actions"] + 2000


def test_the_ten_busiest_agents_and_their_next_day(given: Settings) -> None:
    actions = []
    for number in range(12):
        actions += rows(
            [(number + 1) * 5] * 21, agent=f"agent-{number:02}", first_id=10_000 * number + 1, risky=lambda d, n: n // 5
        )
    found = prediction(given, actions)
    workload = found["agent_workload_forecast"]
    assert [one["agent_id"] for one in workload] == [f"agent-{number:02}" for number in range(11, 1, -1)]
    for one, number in zip(workload, range(11, 1, -1), strict=True):
        assert one["predicted_actions"] == pytest.approx((number + 1) * 5, abs=2)
        assert one["lower"] <= (number + 1) * 5 <= one["upper"]
        assert one["date"] == str(TODAY + DAY)
        assert one["agent"] == one["agent_id"]
        assert one["high_risk_ratio"] == pytest.approx(0.2, abs=0.01)
        assert one["capacity_utilization"] == pytest.approx(1.0, abs=0.06)


def test_false_positives_are_no_risk_unless_the_settings_say_so(given: Settings) -> None:
    history = rows([20] * 20, risky=lambda day, number: 10)
    for row in history:
        row["is_false_positive"] = row["risk_level"] == "CRITICAL"
    found = prediction(given, history)
    assert {day["predicted_high_risk_actions"] for day in found["risk_forecast"]} == {5}


@pytest.mark.parametrize(
    ("days", "quality", "method"),
    [
        (4, "developing", "pattern_based"),
        (7, "developing", "pattern_based"),
        (8, "medium", "trend_based"),
        (13, "medium", "trend_based"),
        (14, "high", "ml_powered"),
        (60, "high", "ml_powered"),
    ],
)
def test_quality_and_method_are_the_documented_words_for_the_days(
    given: Settings, days: int, quality: str, method: str
) -> None:
    found = prediction(given, rows([30] * days, risky=tenth))
    assert found["status"] == "active"
    assert found["prediction_quality"] == quality
    assert found["meta"]["prediction_method"] == method
    assert found["data_collection"]["days_collected"] == min(days, 30)
    shown = [day["confidence"] for day in found["risk_forecast"]]
    shown += [one["confidence"] for one in found["agent_workload_forecast"]]
    assert found["meta"]["confidence_range"] == [min(shown), max(shown)]


def test_three_days_are_too_few_and_a_fourth_is_enough(given: Settings) -> None:
    # The first of these days begins after one o'clock, so it may not be whole.
    found = prediction(given, rows([10, 10, 10, 10]))
    assert found["status"] == "collecting_data"
    assert found["data_collection"]["days_collected"] == 3
    found = prediction(given, rows([10, 10, 0, 10, 10]))
    assert found["status"] == "collecting_data"
    found = prediction(given, rows([10, 10, 10, 0, 10, 10]))
    assert found["status"] == "active"
    # Thirty actions spread over the day begin within its first hour.
    assert prediction(given, rows([30, 30, 30, 30]))["status"] == "active"


def test_a_day_of_half_the_history_does_not_count_as_a_weak_day(given: Settings) -> None:
    whole = rows([48] * 20, risky=lambda day, number: number)
    begun = [row for row in whole if row["timestamp"] >= NOW - 20 * DAY + timedelta(hours=6)]
    found = prediction(given, begun)
    assert {day["usual"] for day in found["risk_forecast"]} == {48}
    assert {day["trend"] for day in found["risk_forecast"]} == {"stable"}


def test_no_high_risk_action_at_all_is_forecast_as_none(given: Settings) -> None:
    found = prediction(given, rows([25] * 30))
    assert {day["predicted_high_risk_actions"] for day in found["risk_forecast"]} == {0}
    assert {day["trend"] for day in found["risk_forecast"]} == {"stable"}


@pytest.mark.parametrize(
    "counts",
    [[7] * 40, [0] * 39 + [5], [1] * 30 + [5000], [3, 0, 0, 0] * 10, [5, 1, 2, 2], list(range(1, 60))],
    ids=["constant", "one day", "one huge day", "every fourth", "four days", "growth"],
)
def test_dos_09_odd_histories_give_finite_numbers(given: Settings, counts: list[int]) -> None:
    found = prediction(given, rows(counts, risky=lambda day, number: number))
    text = json.dumps(found, allow_nan=False)
    assert "null" not in json.dumps(found.get("risk_forecast", []))
    for day in found.get("risk_forecast", []):
        assert 0 <= day["lower"] <= day["predicted_high_risk_actions"] + 0.5
        assert day["predicted_high_risk_actions"] - 0.5 <= day["upper"]
        assert all(math.isfinite(day[name]) for name in ("lower", "upper", "confidence", "usual"))
    assert "Traceback" not in text


def test_another_organizations_rows_change_nothing(given: Settings) -> None:
    own = rows(month(), risky=tenth)
    other = rows([500] * 28, org=2, agent="agent-1", risky=lambda day, number: number, first_id=100_000)
    alone = prediction(given, own)
    assert prediction(given, [*own, *other]) == alone
    assert prediction(given, [*own, *other], org=2)["risk_forecast"] != alone["risk_forecast"]


def test_after_midnight_days_that_have_begun_are_left_out(given: Settings) -> None:
    with filled_cache(given, agent_actions=rows(month())) as cache:
        later = datetime(2025, 1, 16, 0, 0, 5, tzinfo=NOW.tzinfo)
        asker = Asker(cache, given, later, fresh_board(later))
        asker.outlook = outlook_of(cache, now=NOW)
        found = asker("predictive")
    assert [day["date"] for day in found["risk_forecast"]] == [str(date(2025, 1, 16) + n * DAY) for n in range(1, 7)]
    assert found["agent_workload_forecast"] == []


def test_a_number_shown_comes_from_the_outlook_unchanged(given: Settings) -> None:
    with filled_cache(given, agent_actions=rows(month(), risky=tenth)) as cache:
        asker = Asker(cache, given, NOW, fresh_board(NOW))
        asker.outlook = outlook = outlook_of(cache)
        assert outlook.forecasts is not None
        found = asker("predictive")
        for shown, made in zip(found["risk_forecast"], outlook.forecasts.risk, strict=True):
            assert shown["lower"] <= made.lower
            assert made.upper <= shown["upper"]
            assert shown["upper"] - made.upper < 0.011
            assert shown["predicted_high_risk_actions"] == round(made.point)
        assert found["meta"]["backtest"]["forecast"] == round(outlook.forecasts.backtest_errors["combined"], 4)
        with cache.read(30) as snapshot:
            context = asker.context(1)
            assert json.loads(encode(compute_response(ViewKey("predictive", 1), snapshot, context))) == found
