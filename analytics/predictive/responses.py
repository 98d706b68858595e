"""The two responses of /predictive/trends: names, types and order of fields. The other responses are in `analytics.responses`.

What the deployed web client reads beside the documented names is listed in `analytics.responses.DEPLOYED_CLIENT_FIELDS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field

from analytics.predictive.forecasting.typical_day import Trend
from analytics.predictive.history_levels import Method, Quality
from analytics.responses import CalendarDate, Rate


@dataclass(frozen=True, slots=True)
class RiskForecast:
    """High-risk actions of one UTC day. `confidence` (0–1): backtested probability that the count lands in the band.

    The prediction is the median: as many days end above it as below. Medians of several days must not be added up where
    counts are small; the recommendations add means. `trend` is that of the week, "stable" without evidence of another.
    """

    date: CalendarDate
    predicted_high_risk_actions: int
    confidence: Rate
    trend: Trend
    lower: float
    upper: float
    usual: Annotated[float, Field(description="Mean of the same weekday over the last four weeks, without outliers.")]
    method: Annotated[str, Field(description="The estimators combined, the heaviest weight first.")]
    factors: tuple[str, ...]
    predicted_high_risk: int


@dataclass(frozen=True, slots=True)
class WorkloadForecast:
    """Actions of one agent on the next UTC day."""

    agent_id: str
    predicted_actions: int
    confidence: Rate
    recommendation: str
    date: CalendarDate
    lower: float
    upper: float
    usual: float
    method: str
    agent: str
    capacity_utilization: Annotated[
        float, Field(description="Predicted actions as a share (0–1) of the agent's busiest day in the last 30.")
    ]
    trend: Trend
    high_risk_ratio: Annotated[
        Rate, Field(description="Share of high-risk actions among the agent's actions of the last 30 days.")
    ]


@dataclass(frozen=True, slots=True)
class AnomalyReport:
    """One incident from `timestamp` on, for `hours` hours; `ends_at` null while it lasts.

    `observed`, `expected`: actions in these hours, or shares 0–1 of elevated risk for risk_shift.
    """

    type: Literal["spike", "drop", "new_agent", "risk_shift"]
    description: str
    severity: Literal["low", "medium", "high"]
    timestamp: datetime
    agent_id: Annotated[str | None, Field(description="Null: the whole organization.")]
    observed: float
    expected: float
    hours: int
    ends_at: datetime | None
    probability: Annotated[
        float | None,
        Field(
            description="Probability of such a deviation in normal operation, adjusted for multiple tests; null: not a statistical test."
        ),
    ]
    value: float
    baseline: float
    deviation: Annotated[float, Field(description="Observed minus expected.")]
    id: Annotated[str, Field(description="Identifies the anomaly when you acknowledge it.")]
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
    usual_absolute_error: Annotated[
        float | None, Field(description="Mean absolute error of the four-week mean of the same weekday.")
    ]
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
    data_through: Annotated[date, Field(description="The last complete day.")]
    anomalies_through: Annotated[datetime, Field(description="End of the last complete hour.")]
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
