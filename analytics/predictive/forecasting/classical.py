"""Small classical forecasters of daily counts, vectorised over series. Pure numpy.

All follow the convention of scikit-learn (analytics/predictive/forecasting/estimator.py). `fit(counts)` takes an array of shape
(series, days), oldest day first, complete days with zeros filled in; `predict(horizon)` gives an array of shape
(series, horizon) for the days after the last one, never below zero and always finite.
"""

from __future__ import annotations

import itertools
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from analytics.predictive.forecasting.estimator import Estimator

Counts = npt.NDArray[np.float64]

WEEK = 7


class Forecaster(Protocol):
    """What every estimator of this room offers."""

    def fit(self, counts: Counts) -> Self: ...

    def predict(self, horizon: int) -> Counts: ...


def checked_counts(counts: Counts) -> Counts:
    """`counts` as float64 of shape (series, days); raises ValueError for another shape or a value that is no count."""
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 1:
        raise ValueError(f"counts must have the shape (series, days) with a day at least, not {values.shape}")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("counts must be finite and not negative; fill days without events with zero")
    return values


def repeated_week(week: Counts, horizon: int) -> Counts:
    """The columns of `week` over and over, shape (series, horizon)."""
    return np.asarray(np.take(week, np.arange(horizon) % week.shape[1], axis=1), dtype=np.float64)


class Naive(Estimator):
    """Tomorrow is like today."""

    def fit(self, counts: Counts) -> Self:
        self.last_ = checked_counts(counts)[:, -1:]
        return self

    def predict(self, horizon: int) -> Counts:
        self.require_fit()
        return np.asarray(np.repeat(self.last_, horizon, axis=1), dtype=np.float64)


class SeasonalNaive(Estimator):
    """Like the same weekday of the last week; the last day while there is no whole week."""

    def fit(self, counts: Counts) -> Self:
        values = checked_counts(counts)
        self.week_ = values[:, -WEEK:] if values.shape[1] >= WEEK else values[:, -1:]
        return self

    def predict(self, horizon: int) -> Counts:
        self.require_fit()
        return repeated_week(self.week_, horizon)


class WeekdayMean(Estimator):
    """Mean of the same weekday over the last `weeks` weeks; the plain mean while there is no whole week."""

    def __init__(self, weeks: int = 4) -> None:
        self.weeks = weeks

    def fit(self, counts: Counts) -> Self:
        recent = checked_counts(counts)[:, -self.weeks * WEEK :]
        days = recent.shape[1]
        if days < WEEK:
            self.week_ = recent.mean(axis=1, keepdims=True)
            return self
        after = (np.arange(days) - days) % WEEK
        self.week_ = np.stack([recent[:, after == ahead].mean(axis=1) for ahead in range(WEEK)], axis=1)
        return self

    def predict(self, horizon: int) -> Counts:
        self.require_fit()
        return repeated_week(self.week_, horizon)


class SimpleSmoothing(Estimator):
    """Simple exponential smoothing; the rate with the least squared one-day errors among `rates` (0 < rate <= 1)."""

    def __init__(self, rates: tuple[float, ...] = (0.05, 0.1, 0.2, 0.35, 0.6)) -> None:
        self.rates = rates

    def fit(self, counts: Counts) -> Self:
        level, _ = smoothed_level(checked_counts(counts), self.rates)
        self.level_ = level
        return self

    def predict(self, horizon: int) -> Counts:
        self.require_fit()
        return np.maximum(np.repeat(self.level_[:, None], horizon, axis=1), 0.0)


def smoothed_level(values: Counts, rates: tuple[float, ...]) -> tuple[Counts, Counts]:
    """Last level and chosen rate per series: simple exponential smoothing of `values`, shape (series, days)."""
    rate = np.asarray(rates, dtype=np.float64)[:, None]
    start = values[:, : min(WEEK, values.shape[1])].mean(axis=1)
    level = np.repeat(start[None, :], len(rates), axis=0)
    errors = np.zeros_like(level)
    for day in range(values.shape[1]):
        error = values[:, day] - level
        errors += error**2
        level = level + rate * error
    best = errors.argmin(axis=0)
    return level[best, np.arange(values.shape[0])], rate[best, 0]


def weekday_offsets(values: Counts, strength: float = 0.5) -> Counts:
    """Additive weekday offsets, shape (series, 7), index 0 for the weekday after the last day.

    Means of the deviations from a centred weekly mean, shrunk by weeks / (weeks + `strength`); zero below eight days.
    """
    series, days = values.shape
    if days <= WEEK:
        return np.zeros((series, WEEK))
    width = np.ones(WEEK) / WEEK
    padded = np.pad(values, ((0, 0), (WEEK // 2, WEEK // 2)), mode="edge")
    trend = np.apply_along_axis(np.convolve, 1, padded, width, "valid")
    if days < 3 * WEEK:
        trend = np.repeat(values.mean(axis=1, keepdims=True), days, axis=1)
    deviation = values - trend
    after = (np.arange(days) - days) % WEEK
    offsets = np.stack([deviation[:, after == ahead].mean(axis=1) for ahead in range(WEEK)], axis=1)
    offsets -= offsets.mean(axis=1, keepdims=True)
    weeks = days / WEEK
    return np.asarray(offsets * (weeks / (weeks + strength)), dtype=np.float64)


class SeasonalSmoothing(Estimator):
    """Exponential smoothing with a damped trend and additive weekdays, on the square root of the counts.

    Level rate, trend rate and weekday rate are the combination of the grid with the least squared one-day errors.
    The weekday part starts from shrunk offsets and is left out while there are fewer than eight days.
    """

    def __init__(
        self,
        levels: tuple[float, ...] = (0.03, 0.08, 0.2, 0.4),
        trends: tuple[float, ...] = (0.0, 0.03),
        weekdays: tuple[float, ...] = (0.02, 0.1, 0.25),
        damping: float = 0.95,
    ) -> None:
        self.levels = levels
        self.trends = trends
        self.weekdays = weekdays
        self.damping = damping

    def fit(self, counts: Counts) -> Self:
        values = np.sqrt(checked_counts(counts))
        series, days = values.shape
        seasonal = days > WEEK
        grid = np.array(list(itertools.product(self.levels, self.trends, self.weekdays if seasonal else (0.0,))))
        rise, slope, turn = (grid[:, column, None] for column in range(3))
        offsets = np.roll(weekday_offsets(values), days % WEEK, axis=1).T
        season = np.repeat(offsets[:, None, :], len(grid), axis=1)
        level = np.repeat(values[None, :, : min(WEEK, days)].mean(axis=2), len(grid), axis=0)
        trend = np.zeros_like(level)
        errors = np.zeros_like(level)
        for day in range(days):
            expected = level + self.damping * trend
            error = values[:, day] - expected - season[day % WEEK]
            errors += error**2
            level = expected + rise * error
            trend = self.damping * trend + slope * rise * error
            season[day % WEEK] += turn * error
        best, column = errors.argmin(axis=0), np.arange(series)
        self.level_ = level[best, column]
        self.trend_ = trend[best, column]
        self.season_ = np.roll(season[:, best, column].T, -(days % WEEK), axis=1)
        return self

    def predict(self, horizon: int) -> Counts:
        self.require_fit()
        ahead = np.arange(1, horizon + 1)
        drift = np.cumsum(self.damping**ahead)
        season = np.take(self.season_, (ahead - 1) % WEEK, axis=1)
        root = self.level_[:, None] + self.trend_[:, None] * drift + season
        return np.asarray(np.square(np.maximum(root, 0.0)), dtype=np.float64)


class Theta(Estimator):
    """The Theta method: half the linear trend over a smoothed level, on counts freed of shrunk weekday offsets.

    Assimakopoulos and Nikolopoulos (2000) in the form of Hyndman and Billah (2003): simple exponential smoothing with
    a drift of half the fitted slope. The slope is fitted over the last `days` days.
    """

    def __init__(self, rates: tuple[float, ...] = (0.05, 0.1, 0.2, 0.35, 0.6), days: int = 84) -> None:
        self.rates = rates
        self.days = days

    def fit(self, counts: Counts) -> Self:
        values = np.sqrt(checked_counts(counts))
        days = values.shape[1]
        self.offsets_ = weekday_offsets(values)
        plain = values - np.take(self.offsets_, (np.arange(days) - days) % WEEK, axis=1)
        self.level_, self.rate_ = smoothed_level(plain, self.rates)
        recent = plain[:, -self.days :]
        time = np.arange(recent.shape[1]) - (recent.shape[1] - 1) / 2
        spread = float(np.square(time).sum())
        certain = recent.shape[1] >= 2 * WEEK
        self.drift_ = recent @ time / spread / 2 if certain else np.zeros(len(plain))
        return self

    def predict(self, horizon: int) -> Counts:
        self.require_fit()
        ahead = np.arange(horizon)
        root = self.level_[:, None] + self.drift_[:, None] * ahead + np.take(self.offsets_, ahead % WEEK, axis=1)
        return np.asarray(np.square(np.maximum(root, 0.0)), dtype=np.float64)
