"""What an hour should look like, and how far it is from that. Causal: hour t is judged only from hours up to t. Pure.

All arrays are hourly, oldest first, without gaps, not below zero (smaller counts as zero); "not known yet" is nan.

Chosen on eighteen public hourly series (F1 of all of them together as scored by tests/benchmarks/predictive; each pair
with all else equal, at the time of the choice). Neighbouring values of the constants stay between 0.70 and 0.74:

- the weekly lags' mean without two extremes on each side against one on each: 0.72 to 0.71; untrimmed was worse still
  in an earlier version, 0.64 to 0.68;
- the deviance residual against the difference of square roots: 0.72 to 0.70; it is right in both tails of a count;
- one scale for the whole series against one per hour of the day: 0.73 to 0.72; its mean against a winsorised mean,
  which forgets that the series is bursty: 0.73 to 0.69;
- no level factor from the last seven days against one: 0.68 to 0.67; it learnt surges as the new normal;
- the hour of the day weighed by its error against always as one week: 0.72 to 0.73, kept because the other expects
  working days' traffic at weekends and so cannot see a weekend's silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Hours = npt.NDArray[np.float64]

DAY = 24
WEEK = 168
BASELINE_WEEKS = 6
WEEKLY_TRIM = 2
TRIMMED_FROM_WEEKS = 3
WEEKS_BEFORE_WEEKLY = 2  # a single week would repeat its own oddities as expectations
BASELINE_DAYS = 14
DAILY_TRIM = 3
SCALE_HOURS = 28 * DAY
FEWEST_RESIDUALS = 24
COUNT_OFFSET = 0.5  # keeps the likelihood ratio of small counts finite
COUNT_NOISE = 1.0  # standard deviation of a Poisson count's deviance residual
MEAN_ABSOLUTE_TO_DEVIATION = 1.2533  # of a normal distribution
TINY = 1e-6


class Deviation(NamedTuple):
    """Of the last `width` hours together, one value per hour: what was, what was expected, and how far apart.

    `standardised` is signed, in standard deviations; nan while too little is known.
    """

    width: int
    observed: Hours
    expected: Hours
    standardised: Hours


def lags(values: Hours, hours: range) -> Hours:
    """The values `hours` hours earlier: one row per hour of the series, one column per lag; nan before its begin."""
    lead = hours[-1]
    padded = np.concatenate([np.full(lead, np.nan), values])
    behind = np.lib.stride_tricks.sliding_window_view(padded, len(values)) if len(values) else padded[:, None][:, :0]
    earlier: Hours = behind[lead - hours[0] :: -hours.step][: len(hours)].T
    return earlier


def row_quantiles(rows: Hours, shares: Sequence[float]) -> list[Hours]:
    """Quantiles of each row, linear between neighbours, nan left out; nan for a row of nan."""
    ordered = np.sort(rows, axis=1)
    known = np.isfinite(ordered).sum(axis=1)
    row = np.arange(len(ordered))
    quantiles: list[Hours] = []
    for share in shares:
        place = share * (np.maximum(known, 1) - 1)
        low = np.floor(place).astype(np.intp)
        below = ordered[row, low]
        above = ordered[row, np.minimum(low + 1, np.maximum(known - 1, 0))]
        quantiles.append(below + (above - below) * (place - low))
    return quantiles


def trimmed_mean(rows: Hours, trim: npt.NDArray[np.intp]) -> Hours:
    """Mean of each row without its `trim` smallest and largest known values (fewer where few are known)."""
    ordered = np.sort(rows, axis=1)
    known = np.isfinite(ordered).sum(axis=1)
    cut = np.clip(np.minimum(trim, (known - 1) // 2), 0, None)
    place = np.arange(rows.shape[1])
    kept = (place >= cut[:, None]) & (place < (known - cut)[:, None])
    total = np.where(kept, ordered, 0.0).sum(axis=1)
    mean: Hours = np.where(known > 0, total / np.maximum(known - 2 * cut, 1), np.nan)
    return mean


def expected_values(values: Hours) -> Hours:
    """The same hour of the week over six weeks, drawn towards that of the day over fourteen days while weeks are few.

    The hour of the day weighs as one week does; less, by the ratio of their mean square residuals over 28 days, where it
    has been the worse of the two: a weekend is not drawn towards working days.
    """
    weekly = lags(values, range(WEEK, (BASELINE_WEEKS + 1) * WEEK, WEEK))
    weeks = np.isfinite(weekly).sum(axis=1)
    by_week = trimmed_mean(weekly, np.where(weeks >= TRIMMED_FROM_WEEKS, WEEKLY_TRIM, 0))
    daily = lags(values, range(DAY, (BASELINE_DAYS + 1) * DAY, DAY))
    days = np.isfinite(daily).sum(axis=1)
    by_day = trimmed_mean(daily, np.where(days >= 2 * DAILY_TRIM, DAILY_TRIM, 1))
    weekly_error, compared = mean_of_past(residuals(values, by_week) ** 2, SCALE_HOURS)
    daily_error, _ = mean_of_past(residuals(values, by_day) ** 2, SCALE_HOURS)
    worse = (compared >= WEEK) & (daily_error > weekly_error)
    as_weeks = np.where(worse, weekly_error / np.where(worse, daily_error, 1.0), 1.0)
    weight = np.where(weeks >= WEEKS_BEFORE_WEEKLY, weeks / (weeks + as_weeks), 0.0)
    expected: Hours = weight * np.nan_to_num(by_week) + (1 - weight) * by_day
    return expected


def moving_sum(values: Hours, width: int) -> Hours:
    """Sum of the last `width` values; nan where one of them is not known."""
    total = np.full(len(values), np.nan)
    if len(values) >= width:
        total[width - 1 :] = np.lib.stride_tricks.sliding_window_view(values, width).sum(axis=1)
    return total


def counts_so_far(values: Hours) -> npt.NDArray[np.bool_]:
    """Whether the series has held nothing but whole numbers up to each hour."""
    return np.logical_and.accumulate(values == np.round(values))


def largest_so_far(values: Hours) -> Hours:
    """The largest known value up to each hour, at least zero."""
    return np.maximum.accumulate(np.maximum(np.nan_to_num(values), 0.0)) if len(values) else values


def residuals(values: Hours, expected: Hours) -> Hours:
    """Deviance residuals of single hours."""
    offset = np.where(counts_so_far(values), COUNT_OFFSET, 0.0)
    return deviance_residual(values, expected, offset, largest_so_far(values))


def deviance_residual(observed: Hours, expected: Hours, offset: Hours, largest: Hours) -> Hours:
    """Signed square root of the Poisson deviance 2·(x·ln(x/μ) − (x − μ)), x and μ raised by `offset`.

    Of about unit variance for a Poisson count; multiplied by √c when both are multiplied by c, so that amounts of any
    unit can be standardised with it. μ is not below a millionth of `largest`, the largest value so far.
    """
    x = np.maximum(observed, 0.0) + offset
    mu = np.maximum(np.maximum(expected, 0.0) + offset, TINY * largest + np.finfo(np.float64).tiny)
    deviance = 2 * (x * np.log(np.maximum(x, np.finfo(np.float64).tiny) / mu) - (x - mu))
    residual: Hours = np.sign(x - mu) * np.sqrt(np.maximum(deviance, 0.0))
    return residual


def mean_of_past(values: Hours, hours: int) -> tuple[Hours, npt.NDArray[np.intp]]:
    """Mean of the known ones among the `hours` values before each, and how many they are."""
    known = np.isfinite(values)
    counted = np.concatenate([[0], np.cumsum(known)])
    summed = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    end = np.arange(len(values))
    begin = np.maximum(end - hours, 0)
    number = counted[end] - counted[begin]
    return (summed[end] - summed[begin]) / np.maximum(number, 1), number


def deviation(values: Hours, expected: Hours, width: int) -> Deviation:
    """How far the last `width` hours together are from what they should be.

    The scale is the mean absolute residual of the 28 days before, and for a series of whole numbers so far never below
    Poisson noise. Overdispersed and badly predictable series so get a wide scale, quiet ones a narrow one.
    """
    is_count = counts_so_far(values)
    observed = moving_sum(np.where(np.isfinite(expected), values, np.nan), width)
    total = moving_sum(expected, width)
    largest = largest_so_far(observed)
    residual = deviance_residual(observed, total, np.where(is_count, COUNT_OFFSET, 0.0), largest)
    mean, number = mean_of_past(np.abs(residual), SCALE_HOURS)
    scale = np.maximum(MEAN_ABSOLUTE_TO_DEVIATION * mean, np.where(is_count, COUNT_NOISE, 0.0))
    scale = np.maximum(scale, TINY * np.sqrt(largest) + np.finfo(np.float64).tiny)
    standardised = np.where(number >= FEWEST_RESIDUALS, residual / scale, np.nan)
    return Deviation(width, observed, total, standardised)
