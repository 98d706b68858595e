"""Daily forecasts of an organization's or an agent's counts: one path for the server and for the benchmark. Pure.

The structural average and classical members are combined with weights from a rolling-origin backtest inside each
history; bands and their confidence come from the same backtest. No setting is chosen per series by hand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from analytics.predictive.forecasting.backtest import actual_after, backtested, mean_absolute_errors, rolling_origins
from analytics.predictive.forecasting.classical import (
    Counts,
    Forecaster,
    Naive,
    SeasonalNaive,
    SeasonalSmoothing,
    Theta,
    WeekdayMean,
)
from analytics.predictive.forecasting.intervals import ConformalBand
from analytics.predictive.forecasting.structural import RECENT_DAYS, YEARLY_READ, Factors, StructuralAverage
from analytics.predictive.history_levels import MINIMUM_DAYS, prediction_method

A_MONDAY = date(2024, 1, 1)
CLASSICAL: dict[str, Callable[[], Forecaster]] = {"smoothing": SeasonalSmoothing, "theta": Theta}
BASELINES: dict[str, Callable[[], Forecaster]] = {
    "naive": Naive,
    "seasonal_naive": SeasonalNaive,
    "weekday_mean": WeekdayMean,
}
CLASSICAL_SHARE = 0.5  # of the weight, at most, before a member's own errors count
CLASSICAL_TRUST = 4.0  # origins by which half of that share is reached
SHARPNESS = 1.0  # how fast, per origin, a member loses weight by its excess error


@dataclass(frozen=True, slots=True)
class SeriesForecast:
    """Forecast of one daily series. Arrays of shape (horizon,), day 0 the day after the history; counts, never negative.

    `confidence` is the backtested probability (0-1) that the day's actual lands in [`lower`, `upper`].
    `backtest_errors` is the mean absolute error, in counts, of the forecast ("combined") and of each baseline on
    held-out days of this history; empty where the history is too short to hold days out. `weights` states what the
    forecast is made of and sums to 1.
    """

    point: npt.NDArray[np.float64]
    lower: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    method: str
    weights: dict[str, float]
    backtest_errors: dict[str, float]


def forecast_series(
    history: npt.NDArray[np.float64],
    start: date,
    horizon: int = 7,
    level: float = 0.8,
) -> SeriesForecast:
    """Forecast the `horizon` days after `history`, complete days with zeros filled, the first of them `start`.

    `level` is the coverage the bands aim at. Raises ValueError for fewer than four days or a value that is not a count.
    """
    return forecast_many([(history, start)], horizon, level)[0]


def forecast_many(
    series: Sequence[tuple[npt.NDArray[np.float64], date]], horizon: int = 7, level: float = 0.8
) -> list[SeriesForecast]:
    """Forecasts of many series, in their order; those that use the same days are fitted together.

    The linear algebra library is held to one thread meanwhile, in the whole process: the matrices are small, and its
    threads, which spin while they wait, made the same fit ten times slower on two busy cores (10 s instead of 1).
    Raises ValueError as `forecast_series` does, and for a horizon below one day.
    """
    if horizon < 1:
        raise ValueError(f"a forecast needs a horizon of one day at least, not {horizon}")
    with threadpool_limits(limits=1, user_api="blas"):
        return forecast_groups(series, horizon, level)


def forecast_groups(
    series: Sequence[tuple[npt.NDArray[np.float64], date]], horizon: int, level: float
) -> list[SeriesForecast]:
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, (history, start) in enumerate(series):
        if len(history) < MINIMUM_DAYS:
            raise ValueError(f"a forecast needs {MINIMUM_DAYS} complete days, series {number} has {len(history)}")
        used = days_read(len(history))
        first = start + timedelta(days=len(history) - used)
        groups[first.weekday(), used].append(number)
    found: dict[int, SeriesForecast] = {}
    factors: Factors | None = None
    for weekday, used in sorted(groups, reverse=True):  # the longest of a weekday first: the shorter use its factors
        members = groups[weekday, used]
        counts = np.stack([np.asarray(series[number][0], dtype=np.float64)[-used:] for number in members])
        structural = StructuralAverage(horizon).fit(counts, A_MONDAY + timedelta(days=weekday), factors)
        factors = structural.factors_
        found.update(zip(members, forecast_same_length(counts, structural, level), strict=True))
    return [found[number] for number in range(len(series))]


def days_read(days: int) -> int:
    """How many of the last days matter: beyond half a year only whole seasons of past years."""
    return next((enough for enough in YEARLY_READ if days >= enough), min(days, RECENT_DAYS))


def forecast_same_length(counts: Counts, structural: StructuralAverage, level: float) -> list[SeriesForecast]:
    """Forecasts of series of one length, shape (series, days), that `structural` has learnt."""
    days, horizon = counts.shape[1], structural.horizon
    now = structural.outlook(structural.days_)
    recent = counts[:, structural.positions_]
    calm = structural.calmed()[:, structural.days_ - structural.recent_days_ :]
    origins = rolling_origins(min(days, structural.recent_days_), horizon)
    skipped = structural.days_ - structural.recent_days_
    origins = [origin + skipped for origin in origins]
    members: dict[str, Callable[[], Forecaster]] = CLASSICAL if origins else {}
    names = ["structural", *members]
    points = np.stack([now.point, *(make().fit(calm).predict(horizon) for make in members.values())])
    held = np.zeros((0, len(counts), horizon))
    errors: dict[str, npt.NDArray[np.float64]] = {}
    if not origins:
        weights = np.ones((1, len(counts)))
        band = ConformalBand(level).fit(held, held, held, held)
    else:
        actual = actual_after(recent, origins, horizon)
        past = [structural.outlook(origin) for origin in origins]
        inside = [origin - skipped for origin in origins]
        rivals = [backtested(make, calm, inside, horizon) for make in members.values()]
        predicted = np.stack([np.stack([outlook.point for outlook in past]), *rivals])
        weights = backtest_weights(predicted, actual)
        combined = np.einsum("ks,kosh->osh", weights, predicted)
        shift = combined - predicted[0]
        band = ConformalBand(level).fit(
            actual,
            combined,
            np.stack([outlook.lower for outlook in past]) + shift,
            np.stack([outlook.upper for outlook in past]) + shift,
        )
        errors = {"combined": mean_absolute_errors(combined, actual)} | {
            name: mean_absolute_errors(backtested(make, recent[:, skipped:], inside, horizon), actual)
            for name, make in BASELINES.items()
        }
    point = np.einsum("ks,ksh->sh", weights, points)
    shift = point - now.point
    lower, upper, confidence = band.band(point, now.lower + shift, now.upper + shift)
    return [
        SeriesForecast(
            point[row],
            lower[row],
            upper[row],
            confidence[row],
            prediction_method(days),
            {name: float(weights[place, row]) for place, name in enumerate(names)},
            {name: float(values[row]) for name, values in errors.items()},
        )
        for row in range(len(counts))
    ]


def backtest_weights(predicted: Counts, actual: Counts) -> npt.NDArray[np.float64]:
    """Weight of each member per series, shape (members, series); `predicted` is (members, origins, series, horizon).

    The first member leads, the others divide a share that grows with the origins there are to tell by; each then loses
    by its excess over the least error, the faster the more origins there are.
    """
    count, origins = predicted.shape[:2]
    others = CLASSICAL_SHARE * origins / (origins + CLASSICAL_TRUST)
    share = np.array([1 - others, *[others / (count - 1)] * (count - 1)])
    errors = np.abs(predicted - actual).mean(axis=(1, 3))
    excess = errors / np.maximum(errors.min(axis=0), 1e-9) - 1
    weight = share[:, None] * np.exp(-SHARPNESS * origins * np.minimum(excess, 50.0))
    return np.asarray(weight / weight.sum(axis=0), dtype=np.float64)
