"""What is usual for a day, and whether a series is rising or falling rather than scattering. Pure."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Literal

import numpy as np

from analytics.predictive.forecasting.classical import Counts

Trend = Literal["increasing", "stable", "decreasing"]

WEEK = 7
WEEKS = 4
WEEKDAYS_FROM_DAYS = 14  # with fewer days a weekday was seen once at most
NOTICEABLE_SHARE = 0.10
OUTLYING = 3.0  # robust deviations from the median
MEDIAN_DEVIATION_TO_DEVIATION = 1.4826  # of a normal distribution
EVIDENCE_WEEKS = (4, 8)  # whole weeks whose totals are tested for drift, as far as the history reaches
CRITICAL_Z = {1: 2.4, 2: 2.6}  # by the number of tests: at most 1.5 % false in all, two-sided


def typical_count(values: Counts, day: date, start: date) -> float:
    """Robust mean count of the weekday of `day` in the last four weeks of a history that begins on `start`.

    Of all of the last 14 days where the history has fewer than 14.
    """
    if len(values) < WEEKDAYS_FROM_DAYS:
        return robust_mean(values[-WEEKDAYS_FROM_DAYS:])
    recent = values[-WEEK * WEEKS :]
    first = start + timedelta(days=len(values) - len(recent))
    return robust_mean(recent[(day - first).days % WEEK :: WEEK])


def robust_mean(values: Counts) -> float:
    """The mean without outliers: values more than three deviations from the median.

    The deviation is the median absolute one, and never below that of a Poisson count of the median's size. So one burst
    changes nothing, and ordinary counts give their plain mean, which a sum may be compared with.
    """
    center, reach = ordinary_range(values)
    return float(values[np.abs(values - center) <= reach].mean())


def ordinary_range(values: Counts) -> tuple[Counts, Counts]:
    """The median along the first axis, and how far from it a value is no outlier."""
    center = np.median(values, axis=0)
    distance = np.median(np.abs(values - center), axis=0)
    scale = np.maximum(MEDIAN_DEVIATION_TO_DEVIATION * distance, np.sqrt(np.maximum(center, 1.0)))
    return center, OUTLYING * scale


def trend(ahead: float, usual_count: float, drift: Trend) -> Trend:
    """The word for a forecast of `ahead` where `usual_count` is usual for the same days: both whole weeks, or one day.

    It is that of the evidence in the history (`drift_of`), where the forecast goes the same way by at least a tenth;
    else "stable".
    """
    difference = ahead - usual_count
    if difference == 0 or abs(difference) < NOTICEABLE_SHARE * usual_count:
        return "stable"
    return drift if drift == ("increasing" if difference > 0 else "decreasing") else "stable"


def drift_of(values: Counts) -> Trend:
    """Whether the totals of the last four and eight whole weeks rise or fall, beyond chance (at most 1.5 % false).

    ReadBody weeks, so that no weekday pattern is taken for a trend. A score test for a linear drift of counts whose variance
    is a multiple of their mean, estimated from the days within weeks; below two whole weeks there is no evidence.
    """
    whole = len(values) // WEEK
    if whole < 2:
        return "stable"
    tested = {min(most, whole) for most in EVIDENCE_WEEKS}
    z = max((drift_statistic(values[-weeks * WEEK :].reshape(weeks, WEEK)) for weeks in sorted(tested)), key=abs)
    if abs(z) < CRITICAL_Z[len(tested)]:
        return "stable"
    return "increasing" if z > 0 else "decreasing"


def drift_statistic(days: Counts) -> float:
    """About standard normal for a series without drift; `days` of shape (weeks, 7). One burst counts as an outlier's size."""
    weeks = len(days)
    center, reach = ordinary_range(days)
    days = np.clip(days, center - reach, center + reach)
    totals = days.sum(axis=1)
    mean = float(totals.mean())
    if mean == 0:
        return 0.0
    place = np.arange(weeks) - (weeks - 1) / 2
    return float(place @ totals) / math.sqrt(dispersion_within(days) * mean * float(place @ place))


def dispersion_within(days: Counts) -> float:
    """Pearson's statistic over its degrees of freedom for counts = week's total x weekday's share; at least 1 (Poisson)."""
    totals, weekdays = days.sum(axis=1), days.sum(axis=0)
    expected = np.outer(totals, weekdays) / days.sum()
    seen = expected > 0
    square = float((((days - expected) ** 2)[seen] / expected[seen]).sum())
    return max(1.0, square / ((len(days) - 1) * (WEEK - 1)))


def factors(values: Counts, day: date, start: date) -> tuple[str, ...]:
    """What a forecast for `day` rests on, in words with figures: level, weekday, season."""
    week = values[-WEEK:]
    found = [f"level: {week.mean():,.1f} a day over the last {len(week)} days"]
    month = values[-WEEK * WEEKS :]
    if len(values) >= WEEKDAYS_FROM_DAYS and month.mean() > 0:
        ratio = typical_count(values, day, start) / month.mean() - 1
        if abs(ratio) >= NOTICEABLE_SHARE:
            side = "above" if ratio > 0 else "below"
            found.append(f"weekday: {day:%A}s run {abs(ratio):.0%} {side} the mean of the last {len(month)} days")
    place = (day - start).days - 364  # the same weekday a year ago
    if place >= 3:
        season = values[place - 3 : place + 4]
        if len(season) == WEEK:
            found.append(f"season: {season.mean():,.1f} a day at this time last year")
    return tuple(found)
