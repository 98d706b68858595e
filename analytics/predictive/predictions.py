"""GET /predictive/trends: the outlook of an organization as the documented answer, or what is collected towards one. Pure.

Nothing is fitted here: `analytics.predictive.schedule` makes outlooks; this module formats them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta

from analytics.predictive.advice import recommendations, workload_recommendation
from analytics.predictive.anomalies.findings import Acknowledgement, Anomaly
from analytics.predictive.collecting import Collected, collected, collecting
from analytics.predictive.forecast_record import Score
from analytics.predictive.history_levels import MINIMUM_DAYS, OPTIMAL_DAYS, Quality, prediction_method, quality
from analytics.predictive.outlook import AgentForecast, DayForecast, Forecasts, Outlook
from analytics.predictive.responses import (
    ActiveCollection,
    AnomalyReport,
    BacktestErrors,
    CollectingData,
    LiveAccuracy,
    LiveScore,
    Predictions,
    PredictionsMeta,
    RiskForecast,
    RiskPredictions,
    WorkloadForecast,
)
from analytics.responses import TEXT_CHARACTERS, cut
from analytics.state.snapshot import ScopedSnapshot
from analytics.view_context import ViewContext

MOST_ANOMALIES = 100
ACKNOWLEDGED_SHOWN = timedelta(days=7)


def predictions(snapshot: ScopedSnapshot, context: ViewContext) -> Predictions | CollectingData:
    """The documented active answer where four complete days are collected and an outlook has been made, else the other.

    Days are UTC. Forecasts of days that have begun meanwhile (after midnight, until the new outlook is there) are left out.
    """
    found = collected(snapshot, context)
    outlook = context.outlook
    if found.days < MINIMUM_DAYS or outlook is None or outlook.forecasts is None:
        return collecting(context, found)
    today = context.end.date()
    risk = tuple(risk_forecast(day) for day in outlook.forecasts.risk if day.day > today)
    workload = tuple(workload_forecast(one) for one in outlook.forecasts.workload if one.day > today)
    if not risk:
        return collecting(context, found)
    shown = [one.confidence for one in risk] + [one.confidence for one in workload]
    return Predictions(
        status="active",
        prediction_quality=quality(found.days),
        risk_forecast=risk,
        agent_workload_forecast=workload,
        anomalies=anomalies(outlook, context.now),
        risk_predictions=RiskPredictions(
            tuple(cut(one, TEXT_CHARACTERS) for one in recommendations(unknown(outlook), outlook.forecasts, found.days))
        ),
        data_collection=active_collection(found),
        meta=meta(context, outlook, outlook.forecasts, found.days, (min(shown), max(shown))),
        timestamp=context.now,
    )


QUALITY_SENTENCES: dict[Quality, str] = {
    "high": "Excellent data for high quality predictions",
    "medium": "Good data for medium quality predictions",
    "developing": "Enough data for first predictions; quality rises until 14 days are collected",
}


def active_collection(found: Collected) -> ActiveCollection:
    return ActiveCollection(
        days_collected=found.days,
        total_actions=found.actions,
        collection_progress=100.0,
        ready=True,
        quality=QUALITY_SENTENCES[quality(found.days)],
        minimum_required=MINIMUM_DAYS,
        optimal_required=OPTIMAL_DAYS,
    )


def risk_forecast(one: DayForecast) -> RiskForecast:
    return RiskForecast(
        date=one.day,
        predicted_high_risk_actions=round(one.point),
        confidence=round(one.confidence, 3),
        trend=one.trend,
        lower=floor(one.lower),
        upper=ceiling(one.upper),
        usual=round(one.usual, 2),
        method=one.method,
        factors=one.factors,
        predicted_high_risk=round(one.point),
    )


def workload_forecast(one: AgentForecast) -> WorkloadForecast:
    return WorkloadForecast(
        agent_id=cut(one.agent_id),
        predicted_actions=round(one.point),
        confidence=round(one.confidence, 3),
        recommendation=workload_recommendation(one),
        date=one.day,
        lower=floor(one.lower),
        upper=ceiling(one.upper),
        usual=round(one.usual, 2),
        method=one.method,
        agent=cut(one.agent_id),
        capacity_utilization=round(one.utilization, 3),
        trend=one.trend,
        high_risk_ratio=round(one.high_risk_ratio, 4),
    )


def unknown(outlook: Outlook) -> Outlook:
    """The outlook without acknowledged anomalies, which need no further action."""
    return replace(outlook, anomalies=tuple(one for one in outlook.anomalies if outlook.acknowledgement(one) is None))


def anomalies(outlook: Outlook, now: datetime) -> tuple[AnomalyReport, ...]:
    """Those of the last seven days and those that last; an acknowledged one for seven days after its acknowledgement."""
    pairs = [(one, outlook.acknowledgement(one)) for one in outlook.anomalies]
    return tuple(
        anomaly_report(one, acknowledgement)
        for one, acknowledgement in pairs
        if acknowledgement is None or max(acknowledgement.acknowledged_at, one.timestamp) > now - ACKNOWLEDGED_SHOWN
    )[:MOST_ANOMALIES]


def anomaly_report(one: Anomaly, acknowledgement: Acknowledgement | None) -> AnomalyReport:
    observed, expected = round(one.observed, 4), round(one.expected, 4)
    return AnomalyReport(
        type=one.type,
        description=cut(one.description, TEXT_CHARACTERS),
        severity=one.severity,
        timestamp=one.timestamp,
        agent_id=None if one.agent_id is None else cut(one.agent_id),
        observed=observed,
        expected=expected,
        hours=one.hours,
        ends_at=one.ends_at,
        probability=None if one.type == "new_agent" else one.tail,
        value=observed,
        baseline=expected,
        deviation=round(one.observed - one.expected, 4),
        id=one.id,
        acknowledged_at=None if acknowledgement is None else acknowledgement.acknowledged_at,
        acknowledged_by=None if acknowledgement is None else cut(acknowledgement.acknowledged_by),
    )


def meta(
    context: ViewContext, outlook: Outlook, forecasts: Forecasts, days: int, confidence: tuple[float, float]
) -> PredictionsMeta:
    errors = forecasts.backtest_errors
    return PredictionsMeta(
        version="1.0.0-phase3",
        mock_data=context.settings.mock_data,
        prediction_method=prediction_method(days),
        confidence_range=confidence,
        phase="3_of_3_active",
        time_zone="UTC",
        computed_at=outlook.made_at,
        data_through=forecasts.data_through,
        anomalies_through=outlook.hours_end,
        backtest=BacktestErrors(
            *(rounded(errors.get(name)) for name in ("combined", "naive", "seasonal_naive", "weekday_mean"))
        ),
        live_accuracy=LiveAccuracy(live_score(outlook.accuracy.high_risk), live_score(outlook.accuracy.workload)),
    )


def live_score(score: Score) -> LiveScore:
    return LiveScore(
        score.forecasts_scored,
        rounded(score.within_band),
        rounded(score.stated_confidence),
        rounded(score.mean_absolute_error),
        rounded(score.usual_absolute_error),
        score.since,
    )


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def floor(count: float) -> float:
    """To two decimals, outwards: rounding never makes a band narrower than its confidence was computed for."""
    return math.floor(count * 100) / 100


def ceiling(count: float) -> float:
    return math.ceil(count * 100) / 100
