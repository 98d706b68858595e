"""How much history an organization has, and the documented answer while that is too little for a forecast. Pure."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import NamedTuple

from analytics.calendar import midnight, naive_utc
from analytics.predictive.history import complete_from
from analytics.predictive.history_levels import MINIMUM_DAYS, OPTIMAL_DAYS
from analytics.predictive.responses import CollectingData, CollectingMeta, DataCollection, PlannedFeature
from analytics.state.snapshot import ScopedSnapshot
from analytics.view_context import ViewContext

WINDOW_DAYS = 30
PLANNED_FEATURES = (
    PlannedFeature(
        "Risk Trend Forecasting",
        "Predict high-risk action patterns 7 days ahead",
        "85%+",
        "Proactive threat mitigation",
    ),
    PlannedFeature(
        "Agent Workload Prediction",
        "Forecast agent capacity and utilization",
        "80%+",
        "Capacity planning and resource optimization",
    ),
    PlannedFeature(
        "Anomaly Detection",
        "Identify unusual patterns and potential security threats",
        "90%+",
        "Early warning system for security incidents",
    ),
)


class Collected(NamedTuple):
    """The row of sql/collected_days.sql."""

    days: int
    actions: int


def collected(snapshot: ScopedSnapshot, context: ViewContext) -> Collected:
    """What is collected towards a forecast, of the 30 days before today.

    `days`: the complete UTC days with at least one action. Neither today is complete nor the day on which the history
    began (`analytics.predictive.history.complete_from`). `actions`: those of the 30 days and of today so far.
    """
    today = midnight(context.now)
    start = today - timedelta(days=WINDOW_DAYS)
    began = first_action(snapshot, context)
    complete = start if began is None else datetime.combine(complete_from(began), time())
    return snapshot.row(
        Collected,
        "collected_days",
        start=start,
        complete=max(start, complete),
        today=today,
        end=context.end,
    )


def first_action(snapshot: ScopedSnapshot, context: ViewContext) -> datetime | None:
    """When the organization acted first (naive UTC): as the outlook has it, which saves reading every action."""
    if context.outlook is not None and context.outlook.began is not None:
        return naive_utc(context.outlook.began)
    first: datetime | None
    ((first,),) = snapshot.rows("first_action", end=context.end)
    return first


def collecting(context: ViewContext, found: Collected) -> CollectingData:
    """The documented answer without a forecast.

    `collection_progress` in percent of the four days needed. `estimated_ready_date`: today plus the days still missing, if
    each has an action.
    """
    ready = found.days >= MINIMUM_DAYS
    return CollectingData(
        status="collecting_data",
        message=message(found.days),
        data_collection=DataCollection(
            days_collected=found.days,
            minimum_required=MINIMUM_DAYS,
            optimal_required=OPTIMAL_DAYS,
            total_actions=found.actions,
            collection_progress=min(100.0, round(100 * found.days / MINIMUM_DAYS, 1)),
            estimated_ready_date=context.end.date() + timedelta(days=max(0, MINIMUM_DAYS - found.days)),
            ready=ready,
        ),
        planned_features=PLANNED_FEATURES,
        meta=CollectingMeta(
            version="1.0.0-phase3",
            mock_data=context.settings.mock_data,
            phase="3_of_3_data_ready" if ready else "3_of_3_collecting",
        ),
        timestamp=context.now,
    )


def message(days: int) -> str:
    if days < MINIMUM_DAYS:
        return "Collecting data for predictions. Minimum 4 days needed for pattern-based forecasting."
    return (
        f"{days} days of data are collected, enough for forecasting. The forecast is being computed; ask again shortly."
    )
