"""Histories as organizations have them: short, silent, bursty, shifted, interrupted by holidays, a year long, huge."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import date

import numpy as np
import numpy.typing as npt
import pytest

from analytics.predictive.forecasting.classical import Naive, SeasonalNaive, WeekdayMean
from analytics.predictive.forecasting.daily_forecast import SeriesForecast, days_read, forecast_many, forecast_series
from analytics.predictive.forecasting.structural import RECENT_DAYS

Counts = npt.NDArray[np.float64]

MONDAY = date(2025, 3, 3)
WEEK_SHAPE = np.array([30.0, 34.0, 33.0, 31.0, 28.0, 8.0, 5.0])
DAYS = (4, 5, 8, 14, 60, 400, 1100)
HORIZONS = tuple(range(1, 15))


def constant(days: int, generator: np.random.Generator) -> Counts:
    return np.full(days, 17.0)


def silent(days: int, generator: np.random.Generator) -> Counts:
    return np.zeros(days)


def one_spike(days: int, generator: np.random.Generator) -> Counts:
    counts = generator.poisson(5, days).astype(np.float64)
    counts[days // 2] = 1e6
    return counts


def zero_inflated(days: int, generator: np.random.Generator) -> Counts:
    return (generator.poisson(9, days) * (generator.random(days) < 0.4)).astype(np.float64)


def bursty(days: int, generator: np.random.Generator) -> Counts:
    return np.floor(generator.pareto(1.1, days) * 3)


def intermittent(days: int, generator: np.random.Generator) -> Counts:
    return (generator.random(days) < 0.1).astype(np.float64)


def level_shifted(days: int, generator: np.random.Generator) -> Counts:
    return generator.poisson(np.where(np.arange(days) < days // 2, 20, 60)).astype(np.float64)


def holiday_ridden(days: int, generator: np.random.Generator) -> Counts:
    counts = generator.poisson(np.resize(WEEK_SHAPE, days)).astype(np.float64)
    counts[::11] = 0
    return counts


def yearly(days: int, generator: np.random.Generator) -> Counts:
    return generator.poisson(expected_in_year(np.arange(days))).astype(np.float64)


def huge(days: int, generator: np.random.Generator) -> Counts:
    return generator.integers(10**11, 10**12, days).astype(np.float64)


def just_begun(days: int, generator: np.random.Generator) -> Counts:
    counts = np.zeros(days)
    counts[-2:] = 40
    return counts


def just_ended(days: int, generator: np.random.Generator) -> Counts:
    counts = generator.poisson(30, days).astype(np.float64)
    counts[-min(days - 1, 10) :] = 0
    return counts


SHAPES = (
    constant,
    silent,
    one_spike,
    zero_inflated,
    bursty,
    intermittent,
    level_shifted,
    holiday_ridden,
    yearly,
    huge,
    just_begun,
    just_ended,
)


def expected_in_year(day: npt.NDArray[np.int64]) -> Counts:
    """A turn within weeks twice a year: what a level that only follows comes to know late."""
    season = 1 + 0.8 * np.tanh(6 * np.sin(2 * np.pi * day / 365.25))
    return np.asarray(6 * np.take(WEEK_SHAPE, day % 7) * season, dtype=np.float64)


@pytest.fixture(autouse=True)
def no_warning_is_let_pass() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="warn", under="ignore"):
        warnings.simplefilter("error")
        yield


def assert_sound(said: SeriesForecast, horizon: int) -> None:
    for values in (said.point, said.lower, said.upper, said.confidence):
        assert values.shape == (horizon,)
        assert np.isfinite(values).all()
    assert (said.lower >= 0).all()
    assert (said.lower <= said.point).all()
    assert (said.point <= said.upper).all()
    assert ((said.confidence > 0) & (said.confidence < 1)).all()


@pytest.mark.parametrize("horizon", HORIZONS)
def test_every_shape_and_length_is_forecast_soundly_at_every_horizon(horizon: int) -> None:
    generator = np.random.default_rng(horizon)
    histories = [shape(days, generator) for shape in SHAPES for days in (*DAYS, horizon + 13, 2 * horizon + 13)]
    histories = [history for history in histories if len(history) >= 4]
    for history, said in zip(
        histories, forecast_many([(history, MONDAY) for history in histories], horizon), strict=True
    ):
        assert_sound(said, horizon)
        assert said.point.max() <= 2 * history.max() + 5


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("days", [5, 60, 400])
def test_equal_input_gives_equal_bytes(shape: object, days: int) -> None:
    assert callable(shape)
    history = shape(days, np.random.default_rng(days))
    companions = [(zero_inflated(days, np.random.default_rng(1)), MONDAY), (history, MONDAY)]
    first, second = (forecast_many([(one.copy(), start) for one, start in companions], 8)[1] for _ in range(2))
    for name in ("point", "lower", "upper", "confidence"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert (first.method, first.weights, first.backtest_errors) == (
        second.method,
        second.weights,
        second.backtest_errors,
    )


@pytest.mark.parametrize("days", [60, 400])
def test_huge_counts_are_forecast_as_well_as_their_thousandth(days: int) -> None:
    history = np.floor(1e9 * np.random.default_rng(days).gamma(20, 1 / 20, days) * np.resize(WEEK_SHAPE, days))
    small, large = forecast_series(history, MONDAY), forecast_series(1000 * history, MONDAY)
    np.testing.assert_allclose(large.point, 1000 * small.point, rtol=1e-3)
    np.testing.assert_allclose(large.upper, 1000 * small.upper, rtol=1e-3)


def test_a_huge_spike_long_ago_is_not_expected_again() -> None:
    history = one_spike(61, np.random.default_rng(3))
    said = forecast_series(history, MONDAY)
    assert said.point.max() < 15
    assert said.upper.max() < 100


@pytest.mark.parametrize("days", [400, 500, 760, 1100])
def test_a_year_of_history_lets_the_season_turn_in_time(days: int) -> None:
    """Forecasts made just before the turn, by the whole history and by its last months alone."""
    turn = next(day for day in range(days, days + 366) if abs(np.sin(2 * np.pi * (day + 3) / 365.25)) < 0.01)
    whole, recent, weekday = [], [], []
    for seed in range(6):
        history = yearly(turn, np.random.default_rng(seed))
        actual = expected_in_year(np.arange(turn, turn + 7))
        part = history[-RECENT_DAYS:]
        start = date.fromordinal(MONDAY.toordinal() + turn - len(part))
        whole.append(np.abs(forecast_series(history, MONDAY).point - actual).mean())
        recent.append(np.abs(forecast_series(part, start).point - actual).mean())
        weekday.append(np.abs(WeekdayMean().fit(history[None, :]).predict(7)[0] - actual).mean())
    assert np.mean(whole) < 0.8 * np.mean(recent)
    assert np.mean(whole) < 0.8 * np.mean(weekday)


@pytest.mark.parametrize("shape", [zero_inflated, intermittent, level_shifted, holiday_ridden, bursty])
def test_no_simple_baseline_is_much_better_on_hard_shapes(shape: object) -> None:
    assert callable(shape)
    whole = [shape(91, np.random.default_rng(seed)) for seed in range(40)]
    history, actual = np.stack(whole)[:, :84], np.stack(whole)[:, 84:]
    ours = np.stack([said.point for said in forecast_many([(counts, MONDAY) for counts in history])])
    error = float(np.abs(ours - actual).mean())
    rivals = [np.abs(kind().fit(history).predict(7) - actual).mean() for kind in (Naive, SeasonalNaive, WeekdayMean)]
    assert error <= 1.05 * min(rivals)


@pytest.mark.parametrize(("before", "after"), [(20, 60), (60, 20), (4, 400)])
def test_a_new_level_of_ten_days_is_believed(before: int, after: int) -> None:
    level = np.where(np.arange(91) < 74, before, after)
    whole = np.stack([np.random.default_rng(seed).poisson(level).astype(np.float64) for seed in range(20)])
    said = np.stack([one.point for one in forecast_many([(counts[:84], MONDAY) for counts in whole])])
    assert said.mean() == pytest.approx(after, rel=0.1)


def test_of_years_of_history_only_recent_days_and_whole_seasons_are_read() -> None:
    assert [days_read(days) for days in (4, 195, 196, 393, 394, 409, 410, 774, 775, 1100)] == [
        4, 195, 196, 196, 394, 394, 410, 410, 775, 775,
    ]  # fmt: skip


def test_what_lies_before_the_days_read_changes_nothing() -> None:
    history = yearly(1100, np.random.default_rng(9))
    other = history.copy()
    other[: 1100 - 775] = 1e5
    first, second = forecast_series(history, MONDAY), forecast_series(other, MONDAY)
    assert first.point.tobytes() == second.point.tobytes()


def test_a_longer_horizon_says_the_same_of_the_first_days() -> None:
    """The server asks for today and seven more where the benchmark asks for seven."""
    generator = np.random.default_rng(11)
    histories = [
        shape(days, generator) for shape in (zero_inflated, holiday_ridden, yearly) for days in (9, 40, 200, 420)
    ]
    seven, eight = (forecast_many([(history, MONDAY) for history in histories], horizon) for horizon in (7, 8))
    for short, long in zip(seven, eight, strict=True):
        np.testing.assert_allclose(long.point[:7], short.point, rtol=0.08, atol=1.0)


@pytest.mark.parametrize("horizon", [1, 2, 8, 14])
def test_the_confidence_holds_at_any_horizon(horizon: int) -> None:
    generator = np.random.default_rng(horizon)
    levels = np.exp(generator.normal(2, 1, 120))
    whole = [generator.poisson(level * np.resize(WEEK_SHAPE / 24, 90)).astype(np.float64) for level in levels]
    said = forecast_many([(counts[: 90 - horizon], MONDAY) for counts in whole], horizon)
    inside = [
        (one.lower <= counts[90 - horizon :]) & (counts[90 - horizon :] <= one.upper)
        for one, counts in zip(said, whole, strict=True)
    ]
    stated = float(np.mean([one.confidence for one in said]))
    assert np.mean(inside) == pytest.approx(stated, abs=0.05 + 0.05 / horizon)
