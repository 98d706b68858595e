"""What is usual, and words for a trend: outliers move neither, chance rarely makes one, growth does."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from analytics.predictive.forecasting.typical_day import drift_of, robust_mean, trend, typical_count
from analytics.predictive.history import DailyCounts, Days
from analytics.predictive.outlook import Forecasts, make_forecasts

Counts = npt.NDArray[np.float64]

TODAY = date(2025, 1, 15)
DAY = timedelta(days=1)
OFFICE = np.array([1.2, 1.25, 1.3, 1.25, 1.1, 0.5, 0.4])


def weekly(level: float, days: int, growth: float = 0.0) -> Counts:
    """Expected counts a day with a weekly pattern, the last of them yesterday; `level` that of the first week's mean."""
    start = TODAY - days * DAY
    place = np.arange(days)
    return level * OFFICE[(start.weekday() + place) % 7] * (1 + growth) ** place


def forecasts_of(counts: Counts) -> Forecasts:
    history = DailyCounts(TODAY - len(counts) * DAY, counts, counts)
    made = make_forecasts(Days(TODAY, history, {}, ()))
    assert made is not None
    return made


@pytest.mark.parametrize("values", [[10, 12, 11, 100], [10, 12, 11, 11], [11, 0, 10, 12]])
def test_one_burst_or_one_silence_in_four_weeks_does_not_move_what_is_usual(values: list[float]) -> None:
    assert robust_mean(np.array(values)) == pytest.approx(11, abs=0.5)


def test_ordinary_counts_keep_their_plain_mean() -> None:
    random = np.random.default_rng(1)
    for level in (3, 30, 300):
        samples = random.poisson(level, (2000, 4)).astype(np.float64)
        means = [robust_mean(row) for row in samples]
        assert np.mean(means) == pytest.approx(level, rel=0.02)


def test_the_typical_count_is_of_the_same_weekday_in_the_last_four_weeks() -> None:
    values = np.tile(np.arange(7.0) * 10, 8)
    values[-7] = 500.0
    start = TODAY - 56 * DAY
    for ahead in range(7):
        assert typical_count(values, TODAY + ahead * DAY, start) == ahead * 10


def test_a_word_needs_evidence_and_a_forecast_that_goes_the_same_way() -> None:
    assert trend(120, 100, "increasing") == "increasing"
    assert trend(120, 100, "stable") == "stable"
    assert trend(120, 100, "decreasing") == "stable"
    assert trend(105, 100, "increasing") == "stable"
    assert trend(80, 100, "decreasing") == "decreasing"
    assert trend(0, 0, "increasing") == "stable"


@pytest.mark.parametrize("level", [3, 10, 30])
@pytest.mark.parametrize("days", [14, 21, 28, 60])
def test_chance_is_taken_for_a_drift_in_at_most_two_percent(level: int, days: int) -> None:
    random = np.random.default_rng(level + days)
    false = sum(drift_of(random.poisson(weekly(level, days)).astype(np.float64)) != "stable" for _ in range(3000))
    assert false / 3000 <= 0.02


@pytest.mark.parametrize("level", [3, 10, 30])
def test_trend_words_of_the_week_are_right(level: int) -> None:
    random = np.random.default_rng(level)

    def words(growth: float, series: int) -> list[str]:
        return [
            day.trend
            for _ in range(series)
            for day in forecasts_of(random.poisson(weekly(level, 56, growth)).astype(np.float64)).risk
        ]

    stationary, growing = words(0.0, 100), words(0.03, 30)
    # 2 % of days; all days of a week share a word, so the bound leaves room for two series of a hundred by chance.
    assert sum(word != "stable" for word in stationary) <= 4 * 7
    assert growing.count("increasing") / len(growing) >= 0.5
    assert "decreasing" not in growing


def test_a_burst_is_no_trend_and_a_new_level_is() -> None:
    random = np.random.default_rng(8)
    counts = random.poisson(weekly(20, 56)).astype(np.float64)
    burst = counts.copy()
    burst[-3] += 300
    assert drift_of(burst) == "stable"
    higher = counts.copy()
    higher[-14:] = random.poisson(2 * weekly(20, 56)[-14:])
    assert drift_of(higher) == "increasing"
    assert drift_of(counts[:13]) == "stable"
    assert drift_of(np.zeros(28)) == "stable"


@pytest.mark.parametrize("level", [0.5, 2, 10, 100])
def test_the_week_ahead_is_a_sum_of_means_where_points_are_medians(level: float) -> None:
    random = np.random.default_rng(int(10 * level))
    flat = [random.poisson(level, 60).astype(np.float64) for _ in range(40)]
    made = [forecasts_of(counts) for counts in flat]
    assert np.mean([one.week_ahead for one in made]) == pytest.approx(7 * level, rel=0.08)
    for one in made:
        assert all(day.point <= day.mean <= day.point + 0.5 for day in one.risk)


def test_a_history_of_less_than_a_week_has_no_last_week() -> None:
    assert forecasts_of(np.full(6, 9.0)).last_week is None
    assert forecasts_of(np.full(7, 9.0)).last_week == 63
