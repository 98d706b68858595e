"""The classical forecasters: exact on series made for them, alike in the limit, sober on degenerate ones."""

from __future__ import annotations

import numpy as np
import pytest

from analytics.predictive.forecasting.backtest import actual_after, backtested, rolling_origins
from analytics.predictive.forecasting.classical import (
    Forecaster,
    Naive,
    SeasonalNaive,
    SeasonalSmoothing,
    SimpleSmoothing,
    Theta,
    WeekdayMean,
)

ALL: list[type[Forecaster]] = [Naive, SeasonalNaive, WeekdayMean, SimpleSmoothing, SeasonalSmoothing, Theta]
WEEK = np.array([9.0, 16.0, 25.0, 16.0, 9.0, 1.0, 0.0])


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("days", [1, 4, 7, 8, 20, 90])
def test_a_constant_series_goes_on_exactly(kind: type[Forecaster], days: int) -> None:
    np.testing.assert_allclose(kind().fit(np.full((2, days), 9.0)).predict(10), np.full((2, 10), 9.0))


@pytest.mark.parametrize("kind", ALL)
def test_counts_stay_finite_and_not_negative(kind: type[Forecaster]) -> None:
    generator = np.random.default_rng(4)
    bursts = generator.poisson(0.2, (20, 45)) * generator.integers(0, 10**6, (20, 45))
    said = kind().fit(bursts.astype(np.float64)).predict(14)
    assert said.shape == (20, 14)
    assert np.isfinite(said).all()
    assert (said >= 0).all()


@pytest.mark.parametrize("kind", [SeasonalNaive, WeekdayMean])
@pytest.mark.parametrize("days", [28, 31])
def test_a_weekly_pattern_repeats_exactly(kind: type[Forecaster], days: int) -> None:
    pattern = np.resize(WEEK, days + 7)
    np.testing.assert_allclose(kind().fit(pattern[None, :days]).predict(7)[0], pattern[days:])


@pytest.mark.parametrize("kind", [SeasonalSmoothing, Theta])
@pytest.mark.parametrize("days", [84, 87])
def test_the_smooth_ones_learn_the_week(kind: type[Forecaster], days: int) -> None:
    pattern = np.resize(WEEK, days + 7)
    said = kind().fit(pattern[None, :days]).predict(7)[0]
    assert np.abs(said - pattern[days:]).max() < 2.5


def test_smoothing_at_rate_one_is_the_naive_forecast() -> None:
    counts = np.random.default_rng(1).poisson(8, (5, 40)).astype(np.float64)
    np.testing.assert_allclose(SimpleSmoothing(rates=(1.0,)).fit(counts).predict(7), Naive().fit(counts).predict(7))


def test_series_do_not_touch_each_other() -> None:
    counts = np.random.default_rng(2).poisson(8, (5, 40)).astype(np.float64)
    for kind in ALL:
        np.testing.assert_allclose(kind().fit(counts).predict(7)[3], kind().fit(counts[3:4]).predict(7)[0])


def test_a_backtest_never_sees_the_days_it_is_held_against() -> None:
    counts = np.random.default_rng(3).poisson(8, (2, 60)).astype(np.float64)
    origins = rolling_origins(60, 7)
    before = backtested(Theta, counts, origins, 7)
    changed = counts.copy()
    changed[:, origins[-1] :] += 1000
    np.testing.assert_array_equal(before[-1], backtested(Theta, changed, origins, 7)[-1])
    np.testing.assert_array_equal(actual_after(counts, origins, 7)[-1], counts[:, 53:])


def test_origins_stand_a_week_apart_with_a_week_known_after_each() -> None:
    assert rolling_origins(20, 7) == []
    assert rolling_origins(21, 7) == [14]
    assert rolling_origins(200, 7) == [144, 151, 158, 165, 172, 179, 186, 193]


def test_another_shape_and_no_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not \(3,\)"):
        Naive().fit(np.ones(3))
    with pytest.raises(ValueError, match="finite and not negative"):
        Naive().fit(np.array([[1.0, -1.0]]))
