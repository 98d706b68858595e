"""How long incidents of one hourly series last: from when the series left the ordinary until it is back. Pure.

`incidents` judges each hour against the weeks before it, so a silence or a new level becomes the expectation within days.
Here an incident stays open until there is evidence that the series is as it was before: hours after the incident are held
against what was expected before it, and against the halfway between that and the incident. A weekend without activity
is no evidence, neither of recovery nor of the opposite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from analytics.predictive.anomalies.hourly_baseline import (
    DAY,
    MEAN_ABSOLUTE_TO_DEVIATION,
    SCALE_HOURS,
    WEEK,
    Hours,
    expected_values,
    mean_of_past,
    residuals,
)
from analytics.predictive.anomalies.incidents import REARM, Incident, deviations, eventful, incidents, strengths

EVIDENCE = 7.0  # log likelihood ratio, about 1000 to 1
ONSET_HOURS = 3 * DAY
PATTERN_WEEKS = 4  # before an incident, which stand for the ordinary while it lasts
LASTING_HOURS = DAY  # shorter incidents stay in the record of what is ordinary for the series
LEAST_RATE = 0.02  # actions an hour
FEWEST_FOR_RISE = 2.0  # actions an hour that halfway to a rise is, at least, where so many were seen
MOST_RISE, LEAST_DROP = 2.0, 0.5  # factors that halfway is, at most


class Episode(NamedTuple):
    """An incident with its whole span, as indices of the series: hours `start` up to `end`, which is not part of it.

    `over`: the series is as it was before. `observed`, `expected`: actions of the span, the latter as expected before
    `start`; `expected_hours` the same for every hour of the series.
    """

    incident: Incident
    start: int
    end: int
    over: bool
    observed: float
    expected: float
    expected_hours: Hours


def episodes(values: Hours, learning_hours: int) -> list[Episode]:
    """The incidents after the first `learning_hours`, oldest first; those that last one to the end of the series.

    After a lasting incident the series is judged as if it had gone on as in the weeks before: neither its end nor the
    first days after it are incidents of their own. While one lasts, only what is out of the ordinary beside it counts.
    """
    ordinary, found, hour = values, list[Episode](), learning_hours
    while True:
        measures = deviations(ordinary)
        if not eventful(measures):
            return found
        candidates = incidents(measures, strengths(measures), hour)
        lasting = None
        for place, one in enumerate(candidates):
            episode, pattern = spanned(values, ordinary, one)
            found.append(episode)
            if episode.end - episode.start >= LASTING_HOURS:
                lasting = episode
                found += beside(episode, values, candidates[place + 1 :])
                ordinary = np.concatenate([pattern[: episode.end], values[episode.end :]])
                hour = max(episode.end, one.alarm + 1)
                break
        if lasting is None or not lasting.over or hour >= len(values):
            return found


def spanned(values: Hours, ordinary: Hours, incident: Incident) -> tuple[Episode, Hours]:
    """The incident from its onset to the series' recovery, and the series as it would have gone on without it."""
    start, scale = max(incident.alarm - incident.alarm_width + 1, 0), scale_at(ordinary, incident.alarm)
    for _ in range(2):  # the onset is known once what was expected before it is, and the other way round
        pattern = continued(ordinary, start)
        expected = leveled(np.nan_to_num(expected_values(pattern)), pattern, start)
        evidence = recovery_evidence(values, np.maximum(expected, LEAST_RATE), incident, scale)
        start = onset(evidence, incident.alarm)
    end, over = recovered(evidence, start, max(incident.last + 1, start + 1))
    if end - start >= LASTING_HOURS:
        incident = incident._replace(tail=min(incident.tail, span_tail(evidence[start:end])))
    return episode_of(incident, start, end, over, values, expected), pattern


def span_tail(evidence: Hours) -> float:
    """Bound on the probability of as much evidence for an incident over as many hours, wherever in them it began.

    A likelihood ratio exceeds x with a probability of at most 1/x (Ville's inequality), here for any of the hours.
    """
    against = -float(evidence.sum())
    return min(1.0, len(evidence) * math.exp(-against)) if against > 0 else 1.0


def leveled(expected: Hours, pattern: Hours, start: int) -> Hours:
    """The expectation from `start` on, raised to the mean of the weeks before.

    Trimmed means of hours with few actions are too low; so are sums of them over many hours. Bursts count as what chance
    makes of an hour at most.
    """
    before = slice(max(start - PATTERN_WEEKS * WEEK, 0), start)
    usual = np.minimum(pattern[before], expected[before] + 3 * np.sqrt(expected[before]) + 3)
    total = float(expected[before].sum())
    factor = max(1.0, float(usual.sum()) / total) if total > 0 else 1.0
    return np.concatenate([expected[:start], factor * expected[start:]])


def onset(evidence: Hours, alarm: int) -> int:
    """The hour of the three days up to the alarm from which on the evidence against the ordinary is strongest."""
    begin = max(alarm + 1 - ONSET_HOURS, 0)
    against = np.cumsum(-evidence[begin : alarm + 1][::-1])[::-1]
    return begin + int(np.argmax(against))


def episode_of(incident: Incident, start: int, end: int, over: bool, values: Hours, expected: Hours) -> Episode:
    observed, usual = float(values[start:end].sum()), float(expected[start:end].sum())
    return Episode(incident, start, end, over, observed, usual, expected)


def continued(ordinary: Hours, start: int) -> Hours:
    """The series up to `start`, then its last whole weeks (at most four) over and over."""
    weeks = min(PATTERN_WEEKS, start // WEEK)
    if weeks == 0:
        return ordinary
    again = np.resize(ordinary[start - weeks * WEEK : start], len(ordinary) - start)
    return np.concatenate([ordinary[:start], again])


def scale_at(ordinary: Hours, hour: int) -> float:
    """Standard deviation of the single hours before `hour` in units of that of a Poisson count, at least 1."""
    mean, _ = mean_of_past(np.abs(residuals(ordinary, expected_values(ordinary))), SCALE_HOURS)
    return max(1.0, MEAN_ABSOLUTE_TO_DEVIATION * float(mean[hour]))


def recovery_evidence(values: Hours, expected: Hours, incident: Incident, scale: float) -> Hours:
    """Of each hour: log likelihood of a Poisson count as expected less that of one halfway to the incident, over scale².

    Halfway is the geometric mean of what was expected and what was seen at the incident's strongest, not beyond twice and
    half of the former; where little was expected, for a rise, not beyond two actions an hour.
    """
    factor = max(incident.observed, 0.0) / max(incident.expected, LEAST_RATE * incident.width)
    if incident.rising:
        halfway = np.minimum(math.sqrt(max(factor, 1.0)) * expected, np.maximum(MOST_RISE * expected, FEWEST_FOR_RISE))
    else:
        halfway = max(math.sqrt(min(factor, 1.0)), LEAST_DROP) * expected
    evidence: Hours = (values * np.log(expected / halfway) - (expected - halfway)) / scale**2
    return evidence


def recovered(evidence: Hours, start: int, begin: int) -> tuple[int, bool]:
    """The first hour from `begin` on from which recovery is evident; the length of the series, and False, where none is.

    Evident is what lasts as long as the incident did since `start`, a day at most.
    """
    total, since = 0.0, begin
    for hour in range(begin, len(evidence)):
        if total <= 0:
            total, since = 0.0, hour
        total += float(evidence[hour])
        if total >= EVIDENCE and hour + 1 - since >= min(since - start, DAY):
            return since, True
    return len(evidence), False


def beside(episode: Episode, values: Hours, candidates: list[Incident]) -> Iterator[Episode]:
    """Incidents while another lasts that are not its continuation: of the other direction, or clearly stronger.

    Strength is against what was expected before the lasting one, so coming back from it is none.
    """
    expected = episode.expected_hours
    lasting = ratio(episode.observed, episode.expected)
    for one in candidates:
        if not episode.incident.calm <= one.alarm < episode.end:
            continue
        window = slice(one.peak - one.width + 1, one.peak + 1)
        here = ratio(float(values[window].sum()), float(expected[window].sum()))
        if here >= REARM * max(lasting, 1.0) if one.rising else here * REARM <= min(lasting, 1.0):
            yield episode_of(one, one.alarm, one.last + 1, one.over, values, expected)


def ratio(observed: float, expected: float) -> float:
    return observed / max(expected, LEAST_RATE)
