"""Bands with a stated confidence, calibrated on held-out days. Pure.

A model's own band is stretched by one factor per series so that it would have held `level` of the days of the
backtest (split conformal prediction on normalised residuals); a prior sample, drawn from a Gaussian, stands in for
the days a short history lacks. The confidence is the share of held-out days the stretched band held, not the wish.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from analytics.predictive.forecasting.classical import Counts
from analytics.predictive.forecasting.estimator import Estimator

PRIOR_DAYS = 28  # held-out days that the Gaussian prior counts for
PRIOR_DAYS_AHEAD = 8  # days that the coverage over all days ahead counts for in that of one
PRIOR_POINTS = 50
MODEL_LEVEL = 0.8  # of the band the model itself gives
FEWEST_HALF_WIDTH = 1e-9


class Band(NamedTuple):
    """Bounds and the probability that the actual lands inside (0-1); each of shape (series, horizon)."""

    lower: Counts
    upper: Counts
    confidence: Counts


class ConformalBand(Estimator):
    """Learns from held-out days how far to stretch a model's own 80 % band for `level` coverage (0 < level < 1).

    `fit` takes the held-out actuals and the forecasts of them, each of shape (origins, series, horizon); there may be
    no origin at all. It learns `factor_`, shape (series,), and `confidence_`, shape (series, horizon).
    """

    def __init__(self, level: float = 0.8) -> None:
        self.level = level

    def fit(self, actual: Counts, point: Counts, lower: Counts, upper: Counts) -> Self:
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1, not {self.level}")
        origins, series, _ = actual.shape
        scores = normalised_residuals(actual, point, lower, upper).transpose(1, 0, 2).reshape(series, -1)
        prior = gaussian_scores()
        weights = np.concatenate([np.ones(scores.shape[1]), np.full(PRIOR_POINTS, PRIOR_DAYS / PRIOR_POINTS)])
        both = np.concatenate([scores, np.broadcast_to(prior, (series, PRIOR_POINTS))], axis=1)
        # The day to come is one more of these days, and counts as a miss until it is seen (split conformal prediction).
        coming = 1.0 if origins else 0.0
        held = float(weights.sum())
        self.factor_ = weighted_quantile(both, weights, min(self.level * (held + coming) / held, 1.0))
        low, high = stretched(point, lower, upper, self.factor_[None, :, None])
        inside = ((actual >= low) & (actual <= high)).sum(axis=0).astype(np.float64)
        overall = (inside.sum(axis=1) + self.level * PRIOR_DAYS) / (held + coming)
        inside *= held / (held + coming)
        self.confidence_ = (inside + overall[:, None] * PRIOR_DAYS_AHEAD) / (origins + PRIOR_DAYS_AHEAD)
        return self

    def band(self, point: Counts, lower: Counts, upper: Counts) -> Band:
        """The stretched band around forecasts of shape (series, horizon), never below zero."""
        self.require_fit()
        low, high = stretched(point, lower, upper, self.factor_[:, None])
        return Band(low, high, np.clip(self.confidence_, 0.01, 0.99))


def stretched(point: Counts, lower: Counts, upper: Counts, factor: npt.NDArray[np.float64]) -> tuple[Counts, Counts]:
    """Both bounds moved away from the point by `factor`; the lower one stops at zero."""
    return np.maximum(point - factor * (point - lower), 0.0), point + factor * (upper - point)


def normalised_residuals(actual: Counts, point: Counts, lower: Counts, upper: Counts) -> Counts:
    """Distance of the actual from the point, in half-widths of the band on its side."""
    above, below = np.maximum(upper - point, FEWEST_HALF_WIDTH), np.maximum(point - lower, FEWEST_HALF_WIDTH)
    return np.where(actual >= point, (actual - point) / above, (point - actual) / below)


def gaussian_scores() -> npt.NDArray[np.float64]:
    """Normalised residuals of a Gaussian whose band is right, at evenly spread probabilities up to almost one."""
    normal = NormalDist()
    half_width = normal.inv_cdf((1 + MODEL_LEVEL) / 2)
    shares = (np.arange(PRIOR_POINTS) + 1) / (PRIOR_POINTS + 1e-3)
    return np.array([normal.inv_cdf((1 + share) / 2) / half_width for share in shares])


def weighted_quantile(values: Counts, weights: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.float64]:
    """Per row of `values`, the least value that at least `share` of the weight lies at or below."""
    order = np.argsort(values, axis=1, kind="stable")
    reached = np.cumsum(weights[order], axis=1)
    place = (reached >= share * weights.sum() - 1e-9).argmax(axis=1)
    rows = np.arange(values.shape[0])
    return np.asarray(values[rows, order[rows, place]], dtype=np.float64)
