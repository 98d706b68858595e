"""Recommendations: each rule fires on its cause, names it, and stays silent without it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from analytics.predictive.advice import MOST, recommendations, workload_recommendation
from analytics.predictive.anomalies.findings import Anomaly
from analytics.predictive.forecast_record import UNPROVEN, Accuracy, Score
from analytics.predictive.outlook import AgentForecast, DayForecast, Forecasts, Outlook
from tests.analytics.rows import NOW

TODAY = NOW.date()
DAY = timedelta(days=1)


def agent(**changes: Any) -> AgentForecast:
    calm = AgentForecast("mail-agent", TODAY + DAY, 50, 40, 60, 0.8, 50, "stable", 80, 0.1, "structural")
    return replace(calm, **changes)


def forecasts(point: float = 10, last_week: float | None = 70, *workload: AgentForecast) -> Forecasts:
    days = tuple(
        DayForecast(TODAY + n * DAY, point, point - 2, point + 2, 0.8, point, "stable", (), "structural", point)
        for n in range(1, 8)
    )
    return Forecasts("d", TODAY, days, workload, last_week, {})


def outlook(*anomalies: Anomaly, accuracy: Accuracy = UNPROVEN) -> Outlook:
    return Outlook(1, NOW, 0, None, "h", NOW, anomalies, accuracy)


def anomaly(**changes: Any) -> Anomaly:
    spike = Anomaly(
        "spike", "Unusual activity of a: 90 actions", "high", NOW - 3 * DAY / 24, "a", 90, 5, NOW - DAY / 24, 1e-6
    )
    return replace(spike, **changes)


def test_a_calm_organization_is_told_so_with_its_figures() -> None:
    (sentence,) = recommendations(outlook(), forecasts(), 30)
    assert sentence.startswith("No action needed: 70 high-risk actions are forecast for the next 7 days after 70")


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (anomaly(), "Investigate a spike: Unusual activity of a: 90 actions"),
        (anomaly(type="drop", description="Silence of a"), "Check for an outage: Silence of a"),
        (anomaly(type="risk_shift", severity="medium", description="More risk"), "Review a risk shift: More risk"),
        (anomaly(type="new_agent", severity="low"), "Confirm that a may act: first seen within the last 7 days"),
        (anomaly(ends_at=None, timestamp=NOW - 5 * DAY), "Investigate a spike: Unusual activity of a: 90 actions"),
    ],
)
def test_an_anomaly_leads_to_its_sentence(found: Anomaly, sentence: str) -> None:
    assert recommendations(outlook(found), forecasts(), 30) == (sentence,)


@pytest.mark.parametrize("found", [anomaly(severity="low"), anomaly(ends_at=NOW - 3 * DAY)])
def test_small_and_old_incidents_need_nothing_any_more(found: Anomaly) -> None:
    assert recommendations(outlook(found), forecasts(), 30)[0].startswith("No action needed")


def test_the_graver_come_first_and_five_are_enough() -> None:
    found = [anomaly(severity="medium", description=f"m{n}") for n in range(4)]
    found += [anomaly(description=f"h{n}") for n in range(3)]
    sentences = recommendations(outlook(*found), forecasts(), 30)
    assert len(sentences) == MOST
    assert [sentence[-2:] for sentence in sentences] == ["h0", "h1", "h2", "m0", "m1"]


@pytest.mark.parametrize(
    ("point", "last_week", "said"), [(12, 70, True), (11, 70, False), (0.5, 0, False), (2, 0, True)]
)
def test_a_rising_week_is_named_with_both_sums(point: float, last_week: float, said: bool) -> None:
    text = " ".join(recommendations(outlook(), forecasts(point, last_week), 30))
    assert ("Review high-risk action patterns" in text) is said
    if said:
        assert f"{7 * point:,.0f} are forecast" in text
        assert f"{last_week:,.0f} in the last 7" in text


def test_an_agent_near_its_busiest_day_and_rising_is_named() -> None:
    busy = agent(point=75, trend="increasing")
    assert recommendations(outlook(), forecasts(10, 70, busy), 30) == (
        "Increase monitoring for mail-agent: 75 actions are forecast for 2025-01-16, where 50 are usual and 80 were its "
        "busiest day of the last 30",
    )
    assert workload_recommendation(busy) == "Monitor capacity"


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (agent(), "No action needed"),
        (agent(point=75), "No action needed"),
        (agent(trend="increasing"), "No action needed"),
        (agent(high_risk_ratio=0.9), "Review high-risk actions"),
        (agent(high_risk_ratio=0.9, point=0.2), "No action needed"),
        (agent(trend="decreasing"), "Check for lower activity"),
        (agent(point=0, peak=0), "No action needed"),
    ],
)
def test_an_agents_recommendation_follows_its_numbers(one: AgentForecast, words: str) -> None:
    assert workload_recommendation(one) == words


def test_an_agent_of_mostly_risky_actions_is_named_with_the_share() -> None:
    (sentence,) = recommendations(outlook(), forecasts(10, 70, agent(high_risk_ratio=0.62)), 30)
    assert "mail-agent: 62% of its actions" in sentence


@pytest.mark.parametrize(("inside", "scored", "said"), [(0.5, 40, True), (0.5, 20, False), (0.75, 40, False)])
def test_bands_that_live_scores_contradict_are_called_so(inside: float, scored: int, said: bool) -> None:
    accuracy = Accuracy(high_risk=Score(scored, inside, 0.8, 2.0, 3.0, TODAY))
    text = " ".join(recommendations(outlook(accuracy=accuracy), forecasts(), 30))
    assert ("Read forecast bands with care: 50% of 40" in text) is said


def test_a_short_history_is_said() -> None:
    (sentence,) = recommendations(outlook(), forecasts(), 9)
    assert "9 of 14 days" in sentence


def test_a_week_ahead_is_not_compared_with_fewer_days() -> None:
    calm, rising = (recommendations(outlook(), forecasts(point, None), 30) for point in (10, 1000))
    assert calm[0].startswith("No action needed: 70 high-risk actions are forecast for the next 7 days, and no anomaly")
    assert rising[0].startswith("No action needed: 7,000 high-risk actions are forecast for the next 7 days, and")
