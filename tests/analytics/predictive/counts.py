"""Rows with a chosen count per day, agent and risk, and outlooks made of them as the schedule makes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from analytics.predictive.forecast_record import UNPROVEN, Accuracy
from analytics.predictive.history import read_days, read_hours
from analytics.predictive.outlook import Outlook, make_anomalies, make_forecasts
from analytics.state.cache import Cache
from config.settings import Settings
from tests.analytics.asking import Asker
from tests.analytics.rows import NOW, Row, filled_cache, fresh_board

DAY = timedelta(days=1)


def rows(
    days: Sequence[int],
    *,
    agent: str = "agent-1",
    org: int = 1,
    risky: Callable[[int, int], int] = lambda day, number: 0,
    now: datetime = NOW,
    first_id: int = 1,
) -> list[Row]:
    """`days[-1]` actions yesterday, `days[-2]` the day before …, spread over the day; `risky(day, count)` of each are high."""
    ids = itertools.count(first_id)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    found: list[Row] = []
    for back, number in enumerate(reversed(days), 1):
        start = midnight - back * DAY
        elevated = risky(len(days) - back, number)
        found += [
            {
                "id": next(ids),
                "organization_id": org,
                "agent_id": agent,
                "risk_level": ("high" if place % 2 else "CRITICAL") if place < elevated else "low",
                "status": "completed",
                "timestamp": start + DAY * (place + 0.5) / max(number, 1),
            }
            for place in range(number)
        ]
    return found


def outlook_of(cache: Cache, org: int = 1, now: datetime = NOW, accuracy: Accuracy = UNPROVEN) -> Outlook:
    """What the schedule would make of a cache at `now`."""
    with cache.read(30) as snapshot:
        days = read_days(snapshot.of(org), now, False)
        hours = read_hours(snapshot.of(org), now, False)
    forecasts = make_forecasts(days) if days is not None else None
    return Outlook(
        org, now, 0, forecasts, hours.digest, hours.end, make_anomalies(hours, now), accuracy, hours.established
    )


def prediction(given: Settings, actions: Sequence[Row], *, now: datetime = NOW, org: int = 1) -> Any:
    """The answer of /predictive/trends for an organization over these rows."""
    with filled_cache(given, agent_actions=actions) as cache:
        asker = Asker(cache, given, now, fresh_board(now))
        asker.outlook = outlook_of(cache, org, now)
        return asker("predictive", org)
