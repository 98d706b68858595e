"""Forecasts as properties: what holds for every history, and for series whose future is known by construction."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from analytics.predictive.forecasting.classical import SeasonalNaive, WeekdayMean
from analytics.predictive.forecasting.daily_forecast import SeriesForecast, forecast_many, forecast_series

MONDAY = date(2025, 3, 3)
WEEK_SHAPE = np.array([30.0, 34.0, 33.0, 31.0, 28.0, 8.0, 5.0])


def poisson_weeks(days: int, seed: int, level: float = 1.0) -> npt.NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    return generator.poisson(level * np.resize(WEEK_SHAPE, days)).astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 3), st.integers(0, 10**9)), min_size=4, max_size=60))
def test_every_history_gives_finite_ordered_and_no_negative_counts(counts: list[int]) -> None:
    said = forecast_series(np.array(counts, dtype=np.float64), MONDAY)
    for values in (said.point, said.lower, said.upper, said.confidence):
        assert values.shape == (7,)
        assert np.isfinite(values).all()
    assert (said.lower >= 0).all()
    assert (said.lower <= said.point).all()
    assert (said.point <= said.upper).all()
    assert ((said.confidence > 0) & (said.confidence < 1)).all()
    assert sum(said.weights.values()) == pytest.approx(1)


def test_equal_input_gives_equal_output_to_the_last_bit() -> None:
    history = poisson_weeks(120, seed=3)
    first, second = (forecast_series(history.copy(), MONDAY) for _ in range(2))
    assert first.point.tobytes() == second.point.tobytes()
    assert first.upper.tobytes() == second.upper.tobytes()
    assert first.confidence.tobytes() == second.confidence.tobytes()


def test_a_series_is_forecast_alike_alone_and_among_others() -> None:
    series = [(poisson_weeks(90, seed=seed), MONDAY) for seed in range(4)]
    series.insert(2, (poisson_weeks(30, seed=9), MONDAY + timedelta(days=60)))
    together = forecast_many(series)
    for (history, start), said in zip(series, together, strict=True):
        alone = forecast_series(history, start)
        np.testing.assert_allclose(said.point, alone.point, rtol=1e-9)
        np.testing.assert_allclose(said.upper, alone.upper, rtol=1e-9)


@pytest.mark.parametrize("days", [4, 5, 7, 8, 13, 14, 21, 28, 100, 393, 394, 500, 1100])
def test_a_constant_history_goes_on(days: int) -> None:
    said = forecast_series(np.full(days, 12.0), MONDAY)
    np.testing.assert_allclose(said.point, 12.0, rtol=0.02)
    assert (said.lower <= 12).all()
    assert (said.upper >= 12).all()


@pytest.mark.parametrize("days", [4, 9, 60, 400])
def test_a_silent_history_stays_silent(days: int) -> None:
    said = forecast_series(np.zeros(days), MONDAY)
    assert (said.point < 0.5).all()
    assert (said.lower == 0).all()


def test_without_noise_the_forecast_and_the_weekday_mean_agree() -> None:
    history = np.resize(1000 * WEEK_SHAPE, 84)
    exact = WeekdayMean().fit(history[None, :]).predict(7)[0]
    np.testing.assert_allclose(exact, SeasonalNaive().fit(history[None, :]).predict(7)[0])
    np.testing.assert_allclose(forecast_series(history, MONDAY).point, exact, rtol=0.03)


def test_the_calendar_not_the_position_tells_the_weekday() -> None:
    history = np.resize(WEEK_SHAPE, 59)  # ends in mid-week
    said = forecast_series(history, MONDAY)
    expected = np.resize(WEEK_SHAPE, 66)[59:]
    assert np.corrcoef(said.point, expected)[0, 1] > 0.98


def test_a_doubled_level_is_followed_within_two_weeks() -> None:
    history = np.concatenate([poisson_weeks(84, seed=1), poisson_weeks(14, seed=2, level=2)])
    expected = 2 * WEEK_SHAPE.sum()
    ours = forecast_series(history, MONDAY).point.sum() / expected
    mean = WeekdayMean().fit(history[None, :]).predict(7).sum() / expected
    assert abs(ours - 1) < 0.2
    assert abs(ours - 1) < abs(mean - 1)


def test_a_burst_of_one_day_does_not_move_the_week_after_it() -> None:
    calm = poisson_weeks(70, seed=5)
    burst = calm.copy()
    burst[66] *= 40
    before, after = forecast_series(calm, MONDAY), forecast_series(burst, MONDAY)
    change = np.abs(after.point / before.point - 1)
    assert np.delete(change, 3).max() < 0.2
    assert change[3] < 0.5  # the same weekday, that alone was forty times itself


def test_a_holiday_of_last_year_is_expected_again() -> None:
    generator = np.random.default_rng(8)
    history = generator.poisson(100, 730).astype(np.float64)
    feast = 730 + 3 - 365
    history[feast] = 5
    said = forecast_series(history, MONDAY)
    assert said.point.argmin() == 3


def test_it_errs_less_than_the_weekday_mean_on_noisy_weeks() -> None:
    ours, theirs = [], []
    for seed in range(30):
        history = poisson_weeks(56, seed=seed)
        actual = poisson_weeks(63, seed=1000 + seed)[56:]
        ours.append(np.abs(forecast_series(history, MONDAY).point - actual).mean())
        theirs.append(np.abs(WeekdayMean().fit(history[None, :]).predict(7)[0] - actual).mean())
    assert np.mean(ours) < np.mean(theirs)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_the_stated_confidence_is_the_share_of_days_that_land_inside(level: float) -> None:
    whole = [poisson_weeks(84, seed=seed, level=seed % 5 + 0.5) for seed in range(150)]
    said = forecast_many([(counts[:77], MONDAY) for counts in whole], level=level)
    inside = [(one.lower <= counts[77:]) & (counts[77:] <= one.upper) for one, counts in zip(said, whole, strict=True)]
    stated = [one.confidence for one in said]
    assert np.mean(inside) == pytest.approx(np.mean(stated), abs=0.05)


def test_a_higher_level_gives_a_wider_band() -> None:
    history = poisson_weeks(60, seed=2)
    half, most = forecast_series(history, MONDAY, level=0.5), forecast_series(history, MONDAY, level=0.95)
    assert (half.upper - half.lower < most.upper - most.lower).all()


@pytest.mark.parametrize(("days", "method"), [(4, "pattern_based"), (8, "trend_based"), (14, "ml_powered")])
def test_the_documented_method_is_named_by_the_days_of_history(days: int, method: str) -> None:
    assert forecast_series(poisson_weeks(days, seed=1), MONDAY).method == method


def test_three_days_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 4 complete days, series 0 has 3"):
        forecast_series(np.ones(3), MONDAY)


def test_a_horizon_of_no_day_is_refused() -> None:
    with pytest.raises(ValueError, match="horizon of one day at least, not 0"):
        forecast_series(np.ones(9), MONDAY, horizon=0)


def test_no_series_give_no_forecasts() -> None:
    assert forecast_many([]) == []


def test_linear_algebra_has_one_thread_during_a_fit_and_its_own_number_after(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before, during = threads(), []

    def noted(*asked: object) -> list[SeriesForecast]:
        during.append(threads())
        return []

    monkeypatch.setattr("analytics.predictive.forecasting.daily_forecast.forecast_groups", noted)
    forecast_many([(np.ones(9), MONDAY)])
    assert before
    assert during == [[1] * len(before)]
    assert threads() == before


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_what_is_no_count_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        forecast_series(np.array([1.0, 2.0, bad, 3.0, 4.0]), MONDAY)
