"""The main forecaster: a Bayesian average of structural models of a daily count. Pure; vectorised over series.

A transformed count is level (a random walk) + short-lived deviation + weekday pattern (+ yearly pattern) + noise,
each a Gaussian process; a model is one choice of their variances relative to the noise. The grid of models is fixed;
each series weighs it by marginal likelihood, so a short or shapeless history is answered by shrinkage instead of by a
selected model. One Cholesky factor per model carries everything: its leading block is the factor of every earlier
origin, so the exact forecast made at each past origin, with the weights of that day, falls out of the same factor.
"""

from __future__ import annotations

import itertools
from datetime import date
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dtrtrs
from scipy.special import stdtrit

from analytics.predictive.forecasting.classical import WEEK, Counts, checked_counts
from analytics.predictive.forecasting.estimator import Estimator

YEAR_DAYS = 365.25
RECENT_DAYS = 196  # contiguous days that enter a model
YEARLY_FROM_DAYS = 394  # a year, and the month before it that shows how the season turned
# Days of history from which two past years, one, and one with a shorter season before it are read.
YEARLY_READ = (775, 410, YEARLY_FROM_DAYS)
LEVEL_KNOWN = 100.0  # prior variance of the level: as good as unknown
SCALE_WEIGHT = 2.0  # days of evidence that the prior noise variance counts for
CLIP = 3.0  # innovations beyond this many robust deviations are events, not level
CLIP_ROUNDS = 5  # at most; a drawn-in event gives way to the ones it hid
LASTING_DAYS = 4  # of a week beyond CLIP on one side: a new level after all
BAND = 0.8  # share of the days ahead that a band of a model is made for


class Model(NamedTuple):
    """Variances relative to the noise of one day."""

    level: float
    deviation: float
    weekday: float
    weekday_memory_days: float
    yearly: float


class Factors(NamedTuple):
    """Lower Cholesky factors of the covariances of the days `time`, one per model; shape (models, days, days).

    Day 0 is a `weekday` (0 Monday). Any leading block is the factor of only the first days, so the factors of a long
    history serve every shorter one that begins on the same weekday.
    """

    weekday: int
    time: npt.NDArray[np.int64]
    models: tuple[Model, ...]
    values: npt.NDArray[np.float64]

    def leading(
        self, weekday: int, time: npt.NDArray[np.int64], models: tuple[Model, ...]
    ) -> npt.NDArray[np.float64] | None:
        """The factors of the days `time`, if they are the first ones of these; else None."""
        days = len(time)
        fits = (self.weekday, self.models) == (weekday, models) and np.array_equal(self.time[:days], time)
        return self.values[:, :days, :days] if fits else None


class StructuralForecast(NamedTuple):
    """Forecasts made at one origin. Arrays of shape (series, horizon), in counts; `lower` may lie below zero."""

    point: Counts
    lower: Counts
    upper: Counts


class StructuralAverage(Estimator):
    """Average of structural models on two transforms, the square root and a softened logarithm.

    `fit(counts, first_day)` takes (series, days) counts whose first column is `first_day`; of that date its weekday
    matters. `outlook(origin)` is the forecast made when `origin` of the days used had been seen; `days_` is their
    number, `positions_` where they stand in the history, and `outlook(days_)` the forecast itself. Bounds are those of
    a central 80 % band. `factors_` may be handed to further fits, which use what they can of it.
    """

    def __init__(
        self,
        horizon: int = 7,
        levels: tuple[float, ...] = (0.002, 0.02, 0.2),
        deviations: tuple[float, ...] = (0.0, 1.0),
        weekdays: tuple[float, ...] = (0.3, 3.0, 30.0),
        memories: tuple[float, ...] = (60.0, 1000.0),
    ) -> None:
        self.horizon = horizon
        self.levels = levels
        self.deviations = deviations
        self.weekdays = weekdays
        self.memories = memories

    def fit(self, counts: Counts, first_day: date, factors: Factors | None = None) -> Self:
        values = checked_counts(counts)
        total = values.shape[1]
        yearly = total >= YEARLY_FROM_DAYS
        self.positions_ = days_used(total, yearly)
        used = values[:, self.positions_]
        self.days_ = used.shape[1]
        self.recent_days_ = min(total, RECENT_DAYS)
        time = np.concatenate([self.positions_, total + np.arange(self.horizon)])
        weekday = first_day.weekday()
        models = tuple(
            Model(*choice)
            for choice in itertools.product(
                self.levels, self.deviations, self.weekdays, self.memories, (0.0, 1.0) if yearly else (0.0,)
            )
        )
        known = factors.leading(weekday, time, models) if factors is not None else None
        if factors is None or known is None:
            known = cholesky_factors(models, time, weekday)
            factors = Factors(weekday, time, models, known)
        self.factors_ = factors
        self.factor_ = known
        self._transform(used)
        self._learn()
        return self

    def _transform(self, used: Counts) -> None:
        mean = np.maximum(used.mean(axis=1), 0.1)
        self.soft_ = 0.1 * mean + 0.5
        roots, logs = 2 * np.sqrt(used + 0.375), np.log(used + self.soft_[:, None])
        both = np.concatenate([roots, logs]).T
        self.prior_variance_ = np.concatenate([np.ones_like(mean), 0.01 + 1 / (mean + 1)])
        self.center_ = np.median(both, axis=0)
        self.values_ = both - self.center_

    def _learn(self) -> None:
        days = self.days_
        self.step_ = np.diagonal(self.factor_, axis1=1, axis2=2)[:, :days]
        self.log_determinant_ = np.cumsum(np.log(self.step_), axis=1)
        self._innovate(self.values_)
        for _ in range(CLIP_ROUNDS if days >= 2 * WEEK else 0):
            weight, scale = self._weights(days)
            surprise = np.einsum("ms,mds->ds", weight / np.sqrt(scale), self.innovations_)
            usual = np.maximum(1.4826 * np.median(np.abs(surprise[WEEK:]), axis=0), 0.3)
            excess = surprise - np.clip(surprise, -CLIP * usual, CLIP * usual)
            excess[:WEEK] = 0
            excess[lasting(excess)] = 0
            if not excess.any():
                break
            self.values_ = self.values_ - excess * np.einsum("ms,md->ds", weight * np.sqrt(scale), self.step_)
            self._innovate(self.values_)

    def calmed(self) -> Counts:
        """The counts of the days used with single events drawn in to where they stop being improbable."""
        roots = np.split((self.values_ + self.center_).T, 2)[0]
        return np.asarray(np.maximum(np.square(np.maximum(roots, 0)) / 4 - 0.375, 0.0), dtype=np.float64)

    def _innovate(self, values: Counts) -> None:
        days = self.days_
        # The transposed views are what LAPACK calls column order: nothing is copied but the block itself.
        self.innovations_ = np.stack(
            [dtrtrs(factor[:days, :days].T, values, lower=0, trans=1)[0] for factor in self.factor_]
        )
        self.energy_ = np.cumsum(np.square(self.innovations_), axis=1)

    def _weights(self, origin: int) -> tuple[Counts, Counts]:
        """Posterior weight and noise variance of each model after `origin` days; shape (models, columns)."""
        scale = (SCALE_WEIGHT * self.prior_variance_ + self.energy_[:, origin - 1]) / (SCALE_WEIGHT + origin)
        likelihood = -0.5 * (origin + SCALE_WEIGHT) * np.log(scale) - self.log_determinant_[:, origin - 1, None]
        weight = np.exp(likelihood - likelihood.max(axis=0))
        return weight / weight.sum(axis=0), scale

    def outlook(self, origin: int) -> StructuralForecast:
        """The forecast of the `horizon` days used that follow the first `origin` ones."""
        self.require_fit()
        weight, scale = self._weights(origin)
        ahead = slice(origin, origin + self.horizon)
        means = self.factor_[:, ahead, :origin] @ self.innovations_[:, :origin]
        spread = np.square(self.factor_[:, ahead, ahead]).sum(axis=2)
        mean = np.einsum("ms,mhs->sh", weight, means)
        between = np.einsum("ms,mhs->sh", weight, np.square(means)) - np.square(mean)
        variance = np.maximum(between, 0) + np.einsum("ms,mh->sh", weight * scale, spread)
        deviation = np.sqrt(variance)
        mean = mean + self.center_[:, None]
        # Noise estimated from `origin` days around a level that was unknown: Student's t, wide where days are few.
        width = float(stdtrit(SCALE_WEIGHT + origin - 1, (1 + BAND) / 2)) * deviation
        point, lower, upper = (self._counts(mean + side * width) for side in (0, -1, 1))
        return StructuralForecast(np.maximum(point, 0), lower, np.maximum(upper, 0))

    def _counts(self, transformed: Counts) -> Counts:
        roots, logs = np.split(transformed, 2)
        from_root = np.abs(roots) * roots / 4 - 0.375
        from_log = np.exp(np.minimum(logs, 700.0)) - self.soft_[:, None]
        return np.asarray((from_root + from_log) / 2, dtype=np.float64)

    def predict(self, horizon: int) -> Counts:
        """Points of shape (series, horizon); at most the horizon given to the constructor."""
        self.require_fit()
        if horizon > self.horizon:
            raise ValueError(f"horizon {horizon} is beyond the {self.horizon} days this was fitted for")
        return self.outlook(self.days_).point[:, :horizon]


def lasting(excess: Counts) -> npt.NDArray[np.bool_]:
    """Which excesses, shape (days, columns), are no events but a new level: most of a week about them on their side."""
    found = np.zeros(excess.shape, dtype=np.bool_)
    if len(excess) < WEEK:
        return found
    for side in (excess > 0, excess < 0):
        weeks = np.lib.stride_tricks.sliding_window_view(side, WEEK, axis=0).sum(axis=2) >= LASTING_DAYS
        for offset in range(WEEK):
            found[offset : offset + len(weeks)] |= weeks & side[offset : offset + len(weeks)]
    return found


def days_used(total: int, yearly: bool) -> npt.NDArray[np.int64]:
    """Which of `total` days a model sees: the recent ones and, with a year of them, the same season of past years."""
    recent = np.arange(max(total - RECENT_DAYS, 0), total)
    parts = [recent]
    if yearly:
        for years in (1, 2):
            begin = max(total - round(years * YEAR_DAYS) - 45, 0)
            end = min(total - round(years * YEAR_DAYS) + 25, total - RECENT_DAYS)
            if end - begin > 30:
                parts.append(np.arange(begin, end))
    return np.unique(np.concatenate(parts))


def cholesky_factors(models: tuple[Model, ...], time: npt.NDArray[np.int64], weekday: int) -> npt.NDArray[np.float64]:
    """Lower Cholesky factor of each model's covariance of the days `time` (increasing, day 0 a `weekday`)."""
    weekend = (weekday + time) % WEEK >= 5
    apart = np.abs(time[:, None] - time[None, :]).astype(np.float64)
    elapsed = time - time[0] + 1.0
    walk = np.minimum(elapsed[:, None], elapsed[None, :])
    fleeting = np.exp(-apart / 2.5)
    week = 0.6 * (apart % WEEK == 0) + 0.4 * (weekend[:, None] == weekend[None, :])
    memory = {days: week * np.exp(-apart / days) for days in {model.weekday_memory_days for model in models}}
    turn = np.square(np.sin(np.pi * apart / YEAR_DAYS))
    season, feast = (np.exp(-2 * turn / (2 * np.pi * width / YEAR_DAYS) ** 2) for width in (12.0, 0.7))
    year = 3.0 * season + feast
    factors = np.empty((len(models), len(time), len(time)))
    for factor, model in zip(factors, models, strict=True):
        covariance = LEVEL_KNOWN + model.level * walk + model.deviation * fleeting
        covariance += model.weekday * memory[model.weekday_memory_days]
        if model.yearly:
            covariance += model.yearly * year
        covariance[np.diag_indices(len(time))] += 1.0
        factor[:] = np.linalg.cholesky(covariance)
    return factors
