"""When the share of elevated risk in a series' actions left the ordinary, and when it was back. Pure.

Each 24 hours are held against the four weeks before them, at every hour. A shift stays open until there is evidence that
the share is as it was before: its hours do not become part of what is ordinary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np

from analytics.predictive.anomalies.episodes import recovered
from analytics.predictive.anomalies.findings import STRONG, Anomaly, Severity, adjusted_tails, listed, span, subject
from analytics.predictive.anomalies.hourly_baseline import DAY, Hours, lags, moving_sum

FALSE_DISCOVERY_RATE = 0.05
BEFORE_DAYS = 28
FEWEST_DAYS_BEFORE = 7
FEWEST_ACTIONS = 20
LEAST_DIFFERENCE = 0.05
LOOKS_A_DAY = 12  # tests that 24 overlapping windows count for
SUSPECT = 1e-3  # tail of a window that opens a shift of one series
EDGE = 0.01  # no share is taken for impossible or certain


class Shift(NamedTuple):
    """A shift of one series, hours counted from its end (the last is -1): `start` up to `end`, which is not part of it.

    `share` of elevated risk (0–1) among its `actions`, `before` that of the four weeks before. `tail`: of its strongest day.
    """

    agent_id: str | None
    start: int
    end: int
    over: bool
    share: float
    before: float
    actions: int
    tail: float

    @property
    def rising(self) -> bool:
        return self.share > self.before

    def overlaps(self, other: Shift) -> bool:
        return self.rising == other.rising and self.start < other.end and other.start < self.end


class RiskDays(NamedTuple):
    """Of the 24 hours that end with each hour; nan where too little is known to test."""

    z: Hours
    before: Hours
    dispersion: Hours


def risk_shifts(series: Mapping[str | None, tuple[Hours, Hours]], end: datetime, reported_hours: int) -> list[Anomaly]:
    """Shifts of the shares of (actions, elevated) that lasted into the `reported_hours` before `end`, or still last."""
    found: list[Shift] = []
    tests = 0
    for agent_id, (actions, elevated) in series.items():
        tests += tested_days(actions, reported_hours) * LOOKS_A_DAY
        found += [one for one in shifts(agent_id, actions, elevated) if not one.over or one.end > -reported_hours]
    adjusted = adjusted_tails([one.tail for one in found], tests)
    kept = [(one, tail) for one, tail in zip(found, adjusted, strict=True) if tail <= FALSE_DISCOVERY_RATE]
    of_agents = [one for one, _ in kept if one.agent_id is not None]
    of_whole = [one for one, _ in kept if one.agent_id is None]
    merged: list[Anomaly] = []
    for one, tail in kept:
        # One agent's shift stands for that of its organization; shifts of several agents are reported as the organization's.
        partners: list[Shift] = []
        if one.agent_id is None:
            partners = [other for other in of_agents if one.overlaps(other)]
            if len(partners) == 1:
                continue
        elif any(
            len([other for other in of_agents if whole.overlaps(other)]) > 1
            for whole in of_whole
            if whole.overlaps(one)
        ):
            continue
        merged.append(described(one, tail, end, [str(other.agent_id) for other in partners]))
    return merged


def tested_days(actions: Hours, reported_hours: int) -> int:
    """Days of those reported that have enough actions, before them too."""
    if len(actions) < DAY * (FEWEST_DAYS_BEFORE + 1):
        return 0
    recent = actions[-reported_hours:]
    recent = recent[len(recent) % DAY :].reshape(-1, DAY)
    return int((recent.sum(axis=1) >= FEWEST_ACTIONS).sum())


def shifts(agent_id: str | None, actions: Hours, elevated: Hours) -> list[Shift]:
    """All of one series, oldest first."""
    length, found, hour = len(actions), list[Shift](), DAY * (FEWEST_DAYS_BEFORE + 1)
    if length < hour or not elevated.any():
        return found
    ordinary, risky = actions.copy(), elevated.copy()  # without the hours of shifts
    while True:
        days = tested(actions, elevated, ordinary, risky)
        tails = np.array([tail_of(z) for z in days.z])
        odd = np.flatnonzero(tails[hour:] <= SUSPECT)
        if not len(odd):
            return found
        alarm = hour + int(odd[0])
        shift, alarm_end = spanned(agent_id, actions, elevated, alarm, days, tails)
        if abs(shift.share - shift.before) >= LEAST_DIFFERENCE:
            found.append(shift)
        begin, end = shift.start + length, shift.end + length
        ordinary[begin:end], risky[begin:end] = 0, 0
        if not shift.over:
            return found
        # Windows that still hold hours of the shift say nothing new.
        hour = max(end + DAY, alarm_end)


def tested(actions: Hours, elevated: Hours, ordinary: Hours, risky: Hours) -> RiskDays:
    """Two-proportion test of each 24 hours, with the variance of single days before where that is more than chance has it."""
    trials, hits = moving_sum(actions, DAY), moving_sum(elevated, DAY)
    back = range(DAY, DAY * (BEFORE_DAYS + 1), DAY)
    day_trials, day_hits = lags(moving_sum(ordinary, DAY), back), lags(moving_sum(risky, DAY), back)
    known = np.isfinite(day_trials) & (day_trials > 0)
    day_trials, day_hits = np.where(known, day_trials, 0.0), np.where(known, day_hits, 0.0)
    before_trials, before_hits, days = day_trials.sum(axis=1), day_hits.sum(axis=1), known.sum(axis=1)
    enough = (
        (np.nan_to_num(trials) >= FEWEST_ACTIONS) & (before_trials >= FEWEST_ACTIONS) & (days >= FEWEST_DAYS_BEFORE)
    )
    before = before_hits / np.maximum(before_trials, 1)
    # One hit and one miss more: no share is taken for impossible because it has not been seen.
    pooled = (np.nan_to_num(hits) + before_hits + 1) / (np.nan_to_num(trials) + before_trials + 2)
    typical = ((before_hits + 0.5) / (before_trials + 1))[:, None]
    square = np.where(
        known, (day_hits - day_trials * typical) ** 2 / np.maximum(day_trials * typical * (1 - typical), 1e-9), 0
    )
    dispersion = np.maximum(1.0, square.sum(axis=1) / np.maximum(days - 1, 1))
    size = 1 / np.maximum(np.nan_to_num(trials), 1) + 1 / np.maximum(before_trials, 1)
    z = (np.nan_to_num(hits) / np.maximum(np.nan_to_num(trials), 1) - before) / np.sqrt(
        pooled * (1 - pooled) * size * dispersion
    )
    return RiskDays(np.where(enough, z, np.nan), before, dispersion)


def tail_of(z: float) -> float:
    """Two-sided; 1 for nan."""
    return 1.0 if math.isnan(z) else math.erfc(abs(z) / math.sqrt(2))


def spanned(
    agent_id: str | None, actions: Hours, elevated: Hours, alarm: int, days: RiskDays, tails: Hours
) -> tuple[Shift, int]:
    """The shift from its onset to recovery, and the first hour after the windows that belong to it."""
    until = alarm
    while until < len(tails) and tails[until] <= SUSPECT and (days.z[until] > 0) == (days.z[alarm] > 0):
        until += 1
    peak = alarm + int(np.argmin(tails[alarm:until]))
    window = slice(max(peak - DAY + 1, 0), peak + 1)
    before = float(days.before[alarm])
    share = float(elevated[window].sum() / actions[window].sum())
    dispersion = float(days.dispersion[alarm])
    evidence = evidence_against(actions, elevated, before, (before + share) / 2, dispersion)
    onset = evidence_against(actions, elevated, before, share, dispersion)
    from_hour = max(alarm - DAY + 1, 0)
    start = from_hour + int(np.argmax(np.cumsum(-onset[from_hour : alarm + 1][::-1])[::-1]))
    end, over = recovered(evidence, start, max(start + 1, peak - DAY + 1))
    number = float(actions[start:end].sum())
    length = len(actions)
    own = float(elevated[start:end].sum()) / max(number, 1)
    return Shift(agent_id, start - length, end - length, over, own, before, round(number), float(tails[peak])), until


def evidence_against(actions: Hours, elevated: Hours, before: float, other: float, dispersion: float) -> Hours:
    """Of each hour: log likelihood of the share before less that of another share, over the dispersion."""
    usual, other = min(max(before, EDGE), 1 - EDGE), min(max(other, EDGE / 2), 1 - EDGE / 2)
    evidence: Hours = (
        elevated * math.log(usual / other) + (actions - elevated) * math.log((1 - usual) / (1 - other))
    ) / dispersion
    return evidence


def described(one: Shift, tail: float, end: datetime, partners: list[str]) -> Anomaly:
    start = end + timedelta(hours=one.start)
    hours = one.end - one.start
    share, before = round(one.share, 3), round(one.before, 3)
    text = (
        f"{'More' if one.rising else 'Less'} elevated risk than usual in the actions of {subject(one.agent_id)}: "
        f"{share:.1%} of {one.actions:,} {span(hours, start)}, where {before:.1%} were expected"
    )
    if partners:
        text += f"; {listed(partners)} took part"
    return Anomaly(
        "risk_shift",
        text,
        level(one, tail),
        start,
        one.agent_id,
        share,
        before,
        end + timedelta(hours=one.end) if one.over else None,
        tail,
        hours,
    )


def level(one: Shift, tail: float) -> Severity:
    """Of a rise by its size and certainty; less risk than usual is never grave."""
    difference = one.share - one.before
    if difference >= 0.25 and tail <= STRONG["high"][0]:
        return "high"
    return "medium" if difference >= 0.1 else "low"
