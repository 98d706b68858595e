"""Rolling-origin backtest: what an estimator would have forecast on past days, and its errors. Pure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from analytics.predictive.forecasting.classical import WEEK, Counts, Forecaster

MOST_ORIGINS = 8  # a week apart
FEWEST_DAYS = 14  # before an origin


def rolling_origins(days: int, horizon: int) -> list[int]:
    """How many days had been seen at each past origin, oldest first; every origin has `horizon` known days after it.

    Origins stand a week apart (or `horizon` days, where that is more), so that their test days do not overlap.
    """
    stride = max(WEEK, horizon)
    origins = [days - horizon - stride * back for back in range(MOST_ORIGINS)]
    return sorted(origin for origin in origins if origin >= FEWEST_DAYS)


def actual_after(counts: Counts, origins: list[int], horizon: int) -> Counts:
    """The days that followed each origin; shape (origins, series, horizon)."""
    return np.stack([counts[:, origin : origin + horizon] for origin in origins])


def backtested(make: Callable[[], Forecaster], counts: Counts, origins: list[int], horizon: int) -> Counts:
    """Forecasts of a fresh estimator at each origin; shape (origins, series, horizon).

    All origins are fitted in one call, as further series. They see windows of one length, that of the oldest origin.
    """
    length = min(origins)
    windows = np.concatenate([counts[:, origin - length : origin] for origin in origins])
    return make().fit(windows).predict(horizon).reshape(len(origins), counts.shape[0], horizon)


def mean_absolute_errors(forecasts: Counts, actual: Counts) -> npt.NDArray[np.float64]:
    """Per series, over origins and days ahead; both of shape (origins, series, horizon)."""
    return np.asarray(np.abs(forecasts - actual).mean(axis=(0, 2)), dtype=np.float64)
