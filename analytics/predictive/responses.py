"""The two responses of /predictive/trends: names, types and order of fields. The other responses are in `analytics.responses`.

What the deployed web client reads beside the documented names is listed in `analytics.responses.DEPLOYED_CLIENT_FIELDS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from analytics.predictive.forecasting.typical_day import Trend
from analytics.predictive.history_levels import Method, Quality


@dataclass(frozen=True, slots=True)
class RiskForecast:
    """High-risk actions of one UTC day. `confidence` (0–1): backtested probability that the count lands in the band.

    The prediction is the median: as many days end above it as below. Medians of several days must not be added up where
    counts are small; the recommendations add means. `trend` is that of the week, "stable" without evidence of another.
    """

    date: date
    predicted_high_risk_actions: int
    confidence: float
    trend: Trend
    lower: float
    upper: float
    usual: float  # mean of the weekday in the last four weeks, without outliers
    method: str  # the estimators combined, the weightiest first
    factors: tuple[str, ...]
    predicted_high_risk: int


@dataclass(frozen=True, slots=True)
class WorkloadForecast:
    """Actions of one agent on the next UTC day."""

    agent_id: str
    predicted_actions: int
    confidence: float
    recommendation: str
    date: date
    lower: float
    upper: float
    usual: float
    method: str
    agent: str
    capacity_utilization: float  # 0–1: of its busiest day of the last 30
    trend: Trend
    high_risk_ratio: float  # 0–1: of its actions of the last 30 days


@dataclass(frozen=True, slots=True)
class AnomalyReport:
    """One incident from `timestamp` on, for `hours` hours; `ends_at` null while it lasts.

    `observed`, `expected`: actions in these hours, or shares 0–1 of elevated risk for risk_shift.
    """

    type: Literal["spike", "drop", "new_agent", "risk_shift"]
    description: str
    severity: Literal["low", "medium", "high"]
    timestamp: datetime
    agent_id: str | None  # null: the whole organization
    observed: float
    expected: float
    hours: int
    ends_at: datetime | None
    probability: float | None  # of the like under ordinary conditions, adjusted for everything tested; null: not a test
    value: float
    baseline: float
    deviation: float  # observed less expected
    id: str  # for its acknowledgement
    acknowledged_at: datetime | None
    acknowledged_by: str | None


@dataclass(frozen=True, slots=True)
class RiskPredictions:
    recommended_actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ActiveCollection:
    days_collected: int
    total_actions: int
    collection_progress: float
    ready: bool
    quality: str
    minimum_required: int
    optimal_required: int


@dataclass(frozen=True, slots=True)
class LiveScore:
    """How issued forecasts turned out, of days of the last 90 that are over; null before the first. Counts a day."""

    forecasts_scored: int
    within_band: float | None
    stated_confidence: float | None
    mean_absolute_error: float | None
    usual_absolute_error: float | None  # of the same weekday's four-week mean
    since: date | None


@dataclass(frozen=True, slots=True)
class LiveAccuracy:
    risk_forecast: LiveScore
    agent_workload_forecast: LiveScore


@dataclass(frozen=True, slots=True)
class BacktestErrors:
    """Mean absolute errors on held-out days of this organization's own history; null where it is too short."""

    forecast: float | None
    naive: float | None
    seasonal_naive: float | None
    weekday_mean: float | None


@dataclass(frozen=True, slots=True)
class PredictionsMeta:
    version: str
    mock_data: bool
    prediction_method: Method
    confidence_range: tuple[float, float]
    phase: str
    time_zone: str
    computed_at: datetime
    data_through: date  # the last complete day
    anomalies_through: datetime  # end of the last complete hour
    backtest: BacktestErrors
    live_accuracy: LiveAccuracy


@dataclass(frozen=True, slots=True)
class Predictions:
    """GET /predictive/trends with a forecast."""

    status: Literal["active"]
    prediction_quality: Quality
    risk_forecast: tuple[RiskForecast, ...]
    agent_workload_forecast: tuple[WorkloadForecast, ...]
    anomalies: tuple[AnomalyReport, ...]
    risk_predictions: RiskPredictions
    data_collection: ActiveCollection
    meta: PredictionsMeta
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class DataCollection:
    days_collected: int
    minimum_required: int
    optimal_required: int
    total_actions: int
    collection_progress: float
    estimated_ready_date: date
    ready: bool


@dataclass(frozen=True, slots=True)
class PlannedFeature:
    feature: str
    description: str
    accuracy_target: str
    benefit: str


@dataclass(frozen=True, slots=True)
class CollectingMeta:
    version: str
    mock_data: bool
    phase: str


@dataclass(frozen=True, slots=True)
class CollectingData:
    """GET /predictive/trends while there is no forecast."""

    status: Literal["collecting_data"]
    message: str
    data_collection: DataCollection
    planned_features: tuple[PlannedFeature, ...]
    meta: CollectingMeta
    timestamp: datetime
