"""What is expected of an organization, and what was out of the ordinary: made from its history, at one moment. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from analytics.predictive.anomalies.detection import find_anomalies
from analytics.predictive.anomalies.findings import Acknowledgement, Anomaly
from analytics.predictive.forecast_record import Accuracy
from analytics.predictive.forecasting.classical import Counts
from analytics.predictive.forecasting.typical_day import WEEK, Trend, drift_of, factors, trend, typical_count
from analytics.predictive.history import DailyCounts, Days, Hours
from analytics.predictive.history_levels import MINIMUM_DAYS

if TYPE_CHECKING:
    from analytics.predictive.forecasting.daily_forecast import SeriesForecast

AHEAD = 7  # days shown, from tomorrow on
PEAK_DAYS = 30
BAND_LEVEL = 0.8  # coverage that the bands aim at
BAND_DEVIATIONS = 2 * 1.2816  # width of a normal distribution's 80 % band
MOST_SKEW = 0.5  # actions that the mean of a day's count exceeds its median by, at most


@dataclass(frozen=True, slots=True)
class DayForecast:
    """High-risk actions of an organization on one UTC day.

    `point` is the median: the actual count is as likely above it as below. `mean` is what to add up over days; it is
    larger for small counts. `confidence` (0–1) is the backtested probability that the day's count lands in
    [`lower`, `upper`]; `usual` the robust mean of the same weekday in the last four weeks. `trend` is that of the week:
    the sum of the means ahead against the sum of what is usual, where the history has evidence of one.
    """

    day: date
    point: float
    lower: float
    upper: float
    confidence: float
    usual: float
    trend: Trend
    factors: tuple[str, ...]
    method: str
    mean: float


@dataclass(frozen=True, slots=True)
class AgentForecast:
    """Actions of one agent on the next UTC day, with the band as in `DayForecast`.

    `peak`: its busiest day of the last 30; `high_risk_ratio`: share (0–1) of high and critical risk in those 30 days.
    """

    agent_id: str
    day: date
    point: float
    lower: float
    upper: float
    confidence: float
    usual: float
    trend: Trend
    peak: float
    high_risk_ratio: float
    method: str

    @property
    def utilization(self) -> float:
        """The forecast as a share of the agent's busiest day of the last 30, at most 1."""
        return min(1.0, self.point / self.peak) if self.peak > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Forecasts:
    """ComputedOutlook from the complete days before `today`; `digest` is that of those days.

    `last_week`: high-risk actions of the last seven complete days, None where the history is shorter. `backtest_errors`:
    mean absolute errors on held-out days of the organization's own history, of the forecast ("combined") and of each
    baseline; empty where there are too few.
    """

    digest: str
    today: date
    risk: tuple[DayForecast, ...]
    workload: tuple[AgentForecast, ...]
    last_week: float | None
    backtest_errors: dict[str, float]

    @property
    def data_through(self) -> date:
        """The last complete day."""
        return self.today - timedelta(days=1)

    @property
    def week_ahead(self) -> float:
        """High-risk actions expected in all on the days forecast: the sum of means."""
        return sum(day.mean for day in self.risk)


@dataclass(frozen=True, slots=True)
class Outlook:
    """All of it for one organization. `forecasts` is None while there are too few days; `made_at` is aware.

    `data_version` is the cache's version of the table of actions that was read, or an earlier one. `began`: the
    organization's first action, aware. `source` tells its source from others in the record (`analytics.predictive.forecast_record`).
    """

    organization_id: int
    made_at: datetime
    data_version: int
    forecasts: Forecasts | None
    hours_digest: str
    hours_end: datetime
    anomalies: tuple[Anomaly, ...]
    accuracy: Accuracy
    began: datetime | None = None
    source: str = ""
    acknowledged: tuple[Acknowledgement, ...] = ()

    def acknowledgement(self, one: Anomaly) -> Acknowledgement | None:
        """The newest acknowledgement of an anomaly; None without one."""
        return next(
            (acknowledgement for acknowledgement in reversed(self.acknowledged) if acknowledgement.covers(one)), None
        )


def make_forecasts(days: Days) -> Forecasts | None:
    """Forecasts from daily counts; None for a history of fewer than four days."""
    from analytics.predictive.forecasting.daily_forecast import (
        forecast_many,
    )  # scipy: a sixth of the server's start, and not needed for it

    whole = days.organization
    if len(whole.elevated) < MINIMUM_DAYS:
        return None
    (risk,) = forecast_many([(whole.elevated, whole.start)], AHEAD + 1, BAND_LEVEL)
    agents = [(name, days.agents[name]) for name in days.busiest]
    found = forecast_many([padded(counts, days.today) for _, counts in agents], 2, BAND_LEVEL) if agents else []
    return Forecasts(
        days.digest,
        days.today,
        week_forecast(risk, whole, days.today),
        tuple(agent_forecast(name, one, counts, days.today) for (name, counts), one in zip(agents, found, strict=True)),
        float(whole.elevated[-WEEK:].sum()) if len(whole.elevated) >= WEEK else None,
        risk.backtest_errors,
    )


def make_anomalies(hours: Hours, now: datetime) -> tuple[Anomaly, ...]:
    """The anomalies of the last seven days and those that still last, newest first."""
    return find_anomalies(
        hours.organization, hours.agents, first_seen=hours.first_seen, established=hours.established, now=now
    )


def week_forecast(found: SeriesForecast, history: DailyCounts, today: date) -> tuple[DayForecast, ...]:
    """The days after `today`, which is day 0 of the forecast."""
    places = range(1, AHEAD + 1)
    days = [today + timedelta(days=ahead) for ahead in places]
    ordinary = [typical_count(history.elevated, day, history.start) for day in days]
    means = mean_counts(found)
    week_trend = trend(float(means[1 : AHEAD + 1].sum()), sum(ordinary), drift_of(history.elevated))
    return tuple(
        DayForecast(
            day,
            float(found.point[ahead]),
            float(found.lower[ahead]),
            float(found.upper[ahead]),
            float(found.confidence[ahead]),
            usual_count,
            week_trend,
            factors(history.elevated, day, history.start),
            members(found),
            float(means[ahead]),
        )
        for ahead, day, usual_count in zip(places, days, ordinary, strict=True)
    )


def mean_counts(found: SeriesForecast) -> Counts:
    """The means of the days' counts, whose medians are the points.

    The square root of a count is about normal, so the mean exceeds the median by its variance, which the band's width
    gives. Never by more than half an action: wide bands of short histories are wide by what is not known yet, not by skew.
    Measured on the benchmark's 30 series: sums of points are 6 % low for series of under 40 a day, sums of means 2 % high.
    """
    spread = (np.sqrt(found.upper) - np.sqrt(found.lower)) / BAND_DEVIATIONS
    return np.asarray(found.point + np.minimum(spread**2, MOST_SKEW), dtype=np.float64)


def agent_forecast(name: str, found: SeriesForecast, history: DailyCounts, today: date) -> AgentForecast:
    """The day after `today`."""
    day = today + timedelta(days=1)
    point, mean = float(found.point[1]), float(mean_counts(found)[1])
    ordinary = typical_count(history.actions, day, history.start)
    actions = float(history.actions[-PEAK_DAYS:].sum())
    elevated = float(history.elevated[-PEAK_DAYS:].sum())
    return AgentForecast(
        name,
        day,
        point,
        float(found.lower[1]),
        float(found.upper[1]),
        float(found.confidence[1]),
        ordinary,
        trend(mean, ordinary, drift_of(history.actions)),
        float(history.actions[-PEAK_DAYS:].max()),
        elevated / actions if actions else 0.0,
        members(found),
    )


def members(found: SeriesForecast) -> str:
    """The estimators that make up a forecast, the weightiest first."""
    weights = sorted(found.weights.items(), key=lambda one: (-one[1], one[0]))
    return "+".join(name for name, weight in weights if round(weight, 2) > 0)


def padded(counts: DailyCounts, today: date) -> tuple[Counts, date]:
    """An agent's actions, and their first day, of at least four days: one that is younger did nothing before."""
    missing = max(0, MINIMUM_DAYS - (today - counts.start).days)
    return np.concatenate([np.zeros(missing), counts.actions]), counts.start - timedelta(days=missing)
