"""What is expected of an organization, and what was out of the ordinary: made from its history, at one moment. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from analytics.predictive.anomalies import Anomaly, find_anomalies
from analytics.predictive.classical import Counts
from analytics.predictive.history import DailyCounts, Days, Hours
from analytics.predictive.ledger import Accuracy
from analytics.predictive.levels import MINIMUM_DAYS
from analytics.predictive.usual import Trend, factors, trend, usual

if TYPE_CHECKING:
    from analytics.predictive.forecast import SeriesForecast

AHEAD = 7  # days shown, from tomorrow on
PEAK_DAYS = 30


@dataclass(frozen=True, slots=True)
class DayForecast:
    """High-risk actions of an organization on one UTC day.

    `confidence` (0–1) is the backtested probability that the day's count lands in [`lower`, `upper`]; `usual` the mean of
    the same weekday in the last four weeks, which `trend` compares with.
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
    """Made from the complete days before `today`; `digest` is that of those days.

    `last_week`: high-risk actions of the last seven complete days. `backtest_errors`: mean absolute errors on held-out days
    of the organization's own history, of the forecast ("combined") and of each baseline; empty where there are too few.
    """

    digest: str
    today: date
    risk: tuple[DayForecast, ...]
    workload: tuple[AgentForecast, ...]
    last_week: float
    backtest_errors: dict[str, float]

    @property
    def data_through(self) -> date:
        """The last complete day."""
        return self.today - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Outlook:
    """All of it for one organization. `forecasts` is None while there are too few days; `made_at` is aware.

    `data_version` is the cache's version of the table of actions that was read, or an earlier one.
    """

    organization_id: int
    made_at: datetime
    data_version: int
    forecasts: Forecasts | None
    hours_digest: str
    hours_end: datetime
    anomalies: tuple[Anomaly, ...]
    accuracy: Accuracy


def make_forecasts(days: Days) -> Forecasts | None:
    """Forecasts from daily counts; None for a history of fewer than four days."""
    from analytics.predictive.forecast import (
        forecast_many,
    )  # scipy: a sixth of the server's start, and not needed for it

    whole = days.organization
    if len(whole.elevated) < MINIMUM_DAYS:
        return None
    (risk,) = forecast_many([(whole.elevated, whole.start)], horizon=AHEAD + 1)
    agents = [(name, padded(days.agents[name], days.today)) for name in days.busiest]
    found = forecast_many([(counts.actions, counts.start) for _, counts in agents], horizon=2) if agents else []
    return Forecasts(
        days.digest,
        days.today,
        tuple(day_forecast(risk, ahead, whole, days.today) for ahead in range(1, AHEAD + 1)),
        tuple(agent_forecast(name, one, counts, days.today) for (name, counts), one in zip(agents, found, strict=True)),
        float(whole.elevated[-7:].sum()),
        risk.backtest_errors,
    )


def make_anomalies(hours: Hours, now: datetime) -> tuple[Anomaly, ...]:
    """The anomalies of the last seven days, newest first."""
    return find_anomalies(
        hours.organization, hours.agents, first_seen=hours.first_seen, established=hours.established, now=now
    )


def day_forecast(found: SeriesForecast, ahead: int, history: DailyCounts, today: date) -> DayForecast:
    """The day `ahead` days after `today`, which is day 0 of the forecast."""
    day = today + timedelta(days=ahead)
    point = float(found.point[ahead])
    ordinary = usual(history.elevated, day, history.start)
    return DayForecast(
        day,
        point,
        float(found.lower[ahead]),
        float(found.upper[ahead]),
        float(found.confidence[ahead]),
        ordinary,
        trend(point, ordinary),
        factors(history.elevated, day, history.start),
        members(found),
    )


def agent_forecast(name: str, found: SeriesForecast, history: DailyCounts, today: date) -> AgentForecast:
    """The day after `today`."""
    day = today + timedelta(days=1)
    point = float(found.point[1])
    ordinary = usual(history.actions, day, history.start)
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
        trend(point, ordinary),
        float(history.actions[-PEAK_DAYS:].max()),
        elevated / actions if actions else 0.0,
        members(found),
    )


def members(found: SeriesForecast) -> str:
    """The estimators that make up a forecast, the weightiest first."""
    weights = sorted(found.weights.items(), key=lambda one: (-one[1], one[0]))
    return "+".join(name for name, weight in weights if round(weight, 2) > 0)


def padded(counts: DailyCounts, today: date) -> DailyCounts:
    """At least four days: an agent that is younger did nothing before."""
    missing = MINIMUM_DAYS - (today - counts.start).days
    if missing <= 0:
        return counts

    def longer(values: Counts) -> Counts:
        return np.concatenate([np.zeros(missing), values])

    return DailyCounts(counts.start - timedelta(days=missing), longer(counts.actions), longer(counts.elevated))
