"""How many complete days a forecast needs, and the documented words for what so many days allow."""

from __future__ import annotations

from typing import Literal

Quality = Literal["high", "medium", "developing"]
Method = Literal["ml_powered", "trend_based", "pattern_based"]

MINIMUM_DAYS = 4
TREND_DAYS = 8  # from here on a trend
OPTIMAL_DAYS = 14  # from here on weekdays


def quality(days: int) -> Quality:
    """The documented `prediction_quality` from so many days."""
    if days < TREND_DAYS:
        return "developing"
    return "medium" if days < OPTIMAL_DAYS else "high"


def prediction_method(days: int) -> Method:
    """The documented `prediction_method` from so many days."""
    if days < TREND_DAYS:
        return "pattern_based"
    return "trend_based" if days < OPTIMAL_DAYS else "ml_powered"
