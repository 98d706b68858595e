"""Anomalies on hourly counts of known making: what is injected is found once, what is chance is left alone."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from analytics.predictive.anomalies.detection import HourlyCounts, find_anomalies
from analytics.predictive.anomalies.findings import Anomaly, adjusted_tails
from analytics.predictive.anomalies.hourly_baseline import deviance_residual, lags, trimmed_mean
from analytics.predictive.anomalies.incidents import alarms, detect_hourly, deviations, eventful, incidents, strengths

Hours = npt.NDArray[np.float64]

DAY, WEEK = 24, 168
NOW = datetime(2026, 3, 30, 12, 20, tzinfo=UTC)
END = NOW.replace(minute=0)


def weekly_shape(weeks: int, level: float) -> Hours:
    """Expected counts: office hours on five days, a tenth of them otherwise; `level` per office hour."""
    hour = np.arange(weeks * WEEK)
    office = (hour % DAY >= 8) & (hour % DAY < 18) & (hour // DAY % 7 < 5)
    return np.where(office, level, level / 10)


def ordinary(seed: int, weeks: int = 10, level: float = 40.0) -> Hours:
    return np.random.default_rng(seed).poisson(weekly_shape(weeks, level)).astype(np.float64)


def ask(organization: Hours, agents: dict[str, Hours] | None = None) -> tuple[Anomaly, ...]:
    return find_anomalies(
        HourlyCounts(organization),
        {name: HourlyCounts(values) for name, values in (agents or {}).items()},
        first_seen={},
        established=NOW - timedelta(days=70),
        now=NOW,
    )


# --- one series


@pytest.mark.parametrize("level", [0.5, 5.0, 500.0])
def test_ordinary_weeks_raise_at_most_one_alarm_a_quarter(level: float) -> None:
    raised = sum(len(detect_hourly(ordinary(seed, 12, level), 4 * WEEK)) for seed in range(12))
    assert raised <= 7  # 12 series of 8 weeks


@pytest.mark.parametrize("level", [20.0, 2000.0])
def test_a_spike_is_found_in_its_hour_and_told_once(level: float) -> None:
    values = ordinary(1, 10, level)
    at = 8 * WEEK + 2 * DAY + 11
    values[at] = 5 * level
    assert detect_hourly(values, 4 * WEEK) == [at]


def test_activity_at_the_quietest_hour_is_found_though_small_beside_the_day() -> None:
    values = ordinary(2)
    at = 8 * WEEK + 2 * DAY + 3
    values[at : at + 3] += 25  # 4 are usual there, 40 by day
    assert detect_hourly(values, 4 * WEEK) == [at]


def test_a_surge_too_small_for_a_single_hour_is_found_by_its_sum_and_told_once() -> None:
    values = ordinary(3, level=10.0)
    begin = 8 * WEEK + DAY
    values[begin : begin + 36] += np.random.default_rng(4).poisson(weekly_shape(10, 10.0)[begin : begin + 36])
    raised = detect_hourly(values, 4 * WEEK)
    assert len(raised) == 1
    assert begin <= raised[0] <= begin + 24


def test_a_silence_is_found_within_hours_where_activity_is_expected() -> None:
    values = ordinary(5)
    begin = 8 * WEEK + 3 * DAY + 9
    values[begin : begin + 9] = 0
    raised = detect_hourly(values, 4 * WEEK)
    assert len(raised) == 1
    assert begin <= raised[0] <= begin + 3


def test_a_much_stronger_deviation_within_an_incident_raises_again() -> None:
    quiet = np.full(60, 0.1)
    strong = quiet.copy()
    strong[10:20], strong[15] = 1.5, 4.0
    assert alarms(strong, 0) == [10, 15]
    strong[15] = 2.0
    assert alarms(strong, 0) == [10]
    strong[40] = 1.1
    assert alarms(strong, 0) == [10, 40]


def test_incidents_begin_where_alarms_are_raised_and_say_what_was_expected() -> None:
    values = ordinary(6)
    at = 8 * WEEK + 2 * DAY + 11
    values[at] += 300
    measures = deviations(values)
    found = incidents(measures, strengths(measures), 4 * WEEK)
    assert [one.alarm for one in found] == detect_hourly(values, 4 * WEEK) == [at]
    (one,) = found
    assert one.over
    assert one.rising
    assert one.observed >= 300
    assert one.expected == pytest.approx(40 * one.width, rel=0.3) or one.width > 1
    assert one.tail < 1e-4


@pytest.mark.parametrize("factor", [1 / 1024, 8.0, 4096.0])
def test_the_unit_of_an_amount_does_not_matter(factor: float) -> None:
    values = ordinary(7) + np.random.default_rng(8).random(10 * WEEK)
    values[8 * WEEK + 11] *= 6
    values[9 * WEEK + 9 : 9 * WEEK + 17] = 0.5
    raised = detect_hourly(values, 4 * WEEK)
    assert len(raised) >= 2
    # Powers of two: the products are exact and still not whole numbers.
    scaled = values * factor if factor < 1 else (values + 1 / 3 / factor) * factor
    assert detect_hourly(scaled, 4 * WEEK) == raised


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(0),
        np.zeros(1),
        np.array([3.0]),
        np.zeros(10 * WEEK),
        np.full(10 * WEEK, 7.0),
        np.full(10 * WEEK, 0.1),
        np.tile(np.arange(24.0), 70),
        np.arange(20.0),
        np.full(10 * WEEK, -3.0),
    ],
    ids=["empty", "zero", "one", "zeros", "whole", "fraction", "repeated", "short", "negative"],
)
@pytest.mark.filterwarnings("error")
def test_constant_zero_and_short_series_raise_nothing(values: Hours) -> None:
    assert detect_hourly(values, 0) == []


def test_the_future_changes_no_earlier_alarm() -> None:
    values = ordinary(9, 8, 4.0)
    for at in (5 * WEEK + 30, 6 * WEEK + 80, 7 * WEEK + 11):
        values[at : at + 4] += 30
    whole = detect_hourly(values, 2 * WEEK)
    assert len(whole) >= 3
    for cut in (5 * WEEK + 31, 6 * WEEK + 81, 6 * WEEK + 83, 7 * WEEK + 12):
        other = values.copy()
        other[cut:] = np.random.default_rng(cut).random(len(values) - cut) * 1e6
        before = [hour for hour in whole if hour < cut]
        assert detect_hourly(values[:cut], 2 * WEEK) == before
        assert [hour for hour in detect_hourly(other, 2 * WEEK) if hour < cut] == before


def test_a_gap_or_a_table_is_refused_with_its_place() -> None:
    values = np.zeros(100)
    values[40] = np.nan
    with pytest.raises(ValueError, match=r"hour 40 of the series is nan"):
        detect_hourly(values, 0)
    with pytest.raises(ValueError, match="one dimension, not 2"):
        detect_hourly(np.zeros((3, 3)), 0)


def test_the_residual_of_a_poisson_count_has_unit_variance() -> None:
    counts = np.random.default_rng(10).poisson(30.0, 20_000).astype(np.float64)
    size = np.full(20_000, 30.0)
    residual = deviance_residual(counts, size, np.full(20_000, 0.5), size)
    assert abs(residual.mean()) < 0.1
    assert residual.std() == pytest.approx(1.0, abs=0.03)


def test_a_trimmed_mean_leaves_out_extremes_and_unknowns() -> None:
    rows = np.array([[9.0, 1.0, np.nan, 100.0, 3.0, 6.0], [np.nan, np.nan, np.nan, np.nan, np.nan, 2.0]])
    assert trimmed_mean(rows, np.array([1, 2])).tolist() == [6.0, 2.0]


def test_whom_no_hour_makes_eventful_has_no_hour_beyond_its_limit() -> None:
    seen = set()
    for seed in range(40):
        values = ordinary(200 + seed, 8, level=float(seed) / 4)
        values[-30] += 3 * (seed % 8)
        measures = deviations(values)
        seen.add(eventful(measures))
        if not eventful(measures):
            assert strengths(measures).ratio.max() <= 1
    assert seen == {True, False}


def test_lags_are_earlier_values_and_unknown_before_the_begin() -> None:
    unknown = np.nan
    np.testing.assert_array_equal(
        lags(np.array([1.0, 2.0, 3.0, 4.0]), range(1, 4, 2)),
        [[unknown, unknown], [1, unknown], [2, unknown], [3, 1]],
    )
    assert lags(np.zeros(0), range(24, 49, 24)).shape == (0, 2)


# --- an organization


def test_false_discoveries_of_many_ordinary_agents_stay_few() -> None:
    agents = {f"agent-{seed}": ordinary(100 + seed, level=3.0) for seed in range(60)}
    assert len(ask(sum(agents.values(), np.zeros(10 * WEEK)), agents)) <= 1


def test_an_agents_spike_is_told_once_with_who_when_and_how_much() -> None:
    agents = {name: ordinary(seed, level=20.0) for seed, name in enumerate(("billing", "archive", "search"))}
    agents["billing"][-30:-28] = 400
    found = ask(sum(agents.values(), np.zeros(10 * WEEK)), agents)
    (one,) = found
    assert (one.type, one.agent_id, one.severity) == ("spike", "billing", "high")
    assert one.timestamp == END - timedelta(hours=30)
    assert one.ends_at is not None
    assert END - timedelta(hours=28) <= one.ends_at <= END
    assert one.observed >= 800
    assert one.expected < 200
    assert "billing" in one.description
    assert f"{one.observed:,.0f} actions" in one.description


def test_what_all_agents_do_is_told_as_the_organizations_and_names_them() -> None:
    agents = {f"agent-{seed}": ordinary(20 + seed, level=20.0) for seed in range(5)}
    for values in agents.values():
        values[-40:-37] += 60
    (one,) = ask(sum(agents.values(), np.zeros(10 * WEEK)), agents)
    assert (one.type, one.agent_id) == ("spike", None)
    assert "and 2 more took part" in one.description


def test_a_silence_that_lasts_has_no_end() -> None:
    values = ordinary(30, level=200.0)
    values[-14:] = 0
    (one,) = ask(values)
    assert (one.type, one.ends_at, one.observed) == ("drop", None, 0.0)
    assert one.description.startswith("Unusual silence of the organization: 0 actions")


def test_an_incident_older_than_seven_days_is_not_told() -> None:
    values = ordinary(31)
    values[-10 * DAY] += 400
    assert ask(values) == ()


def test_stronger_is_at_least_as_severe() -> None:
    grades = ("low", "medium", "high")
    seen = []
    for factor in (3, 6, 30):
        values = ordinary(32, level=30.0)
        values[-30] = 30 * factor
        (one,) = ask(values)
        seen.append(grades.index(one.severity))
    assert seen == sorted(seen)
    assert seen[-1] == 2


def test_an_agent_first_seen_this_week_is_new_only_in_an_established_organization() -> None:
    values = ordinary(33)
    first_seen = {"newcomer": NOW - timedelta(days=2), "veteran": NOW - timedelta(days=8)}

    def asked(established: datetime | None) -> list[tuple[str, str | None, datetime]]:
        found = find_anomalies(HourlyCounts(values), {}, first_seen=first_seen, established=established, now=NOW)
        return [(one.type, one.agent_id, one.timestamp) for one in found]

    assert asked(NOW - timedelta(days=15)) == [("new_agent", "newcomer", NOW - timedelta(days=2))]
    assert asked(NOW - timedelta(days=14)) == []
    assert asked(None) == []


def mixed(seed: int, share: float, last: float) -> HourlyCounts:
    actions = ordinary(seed, level=20.0)
    odds = np.full(len(actions), share)
    odds[-DAY:] = last
    elevated = np.random.default_rng(seed + 1).binomial(actions.astype(np.int64), odds).astype(np.float64)
    return HourlyCounts(actions, elevated)


def test_a_shift_of_the_risk_mix_says_both_shares() -> None:
    (one,) = find_anomalies(mixed(40, 0.1, 0.6), {}, first_seen={}, established=None, now=NOW)
    assert (one.type, one.severity, one.agent_id) == ("risk_shift", "high", None)
    assert one.expected == pytest.approx(0.1, abs=0.02)
    assert one.observed == pytest.approx(0.6, abs=0.15)
    assert abs(one.timestamp - (END - timedelta(hours=24))) <= timedelta(hours=3)
    assert one.ends_at is None
    assert f"{one.observed:.1%} of" in one.description
    assert f"where {one.expected:.1%} were expected" in one.description


def test_an_agents_shift_is_told_as_the_agents() -> None:
    agent, other = mixed(41, 0.1, 0.9), mixed(43, 0.1, 0.1)
    assert agent.elevated is not None
    assert other.elevated is not None
    whole = HourlyCounts(agent.actions + other.actions, agent.elevated + other.elevated)
    found = find_anomalies(whole, {"odd": agent, "even": other}, first_seen={}, established=None, now=NOW)
    assert [(one.type, one.agent_id) for one in found] == [("risk_shift", "odd")]


def test_risk_mixes_that_stay_or_have_always_swung_shift_nothing() -> None:
    for seed in range(60, 80):
        assert find_anomalies(mixed(seed, 0.2, 0.2), {}, first_seen={}, established=None, now=NOW) == ()
    swinging = mixed(80, 0.2, 0.2)
    odds = np.repeat(np.random.default_rng(81).choice([0.05, 0.6], 70), DAY)
    odds[-DAY:] = 0.6
    elevated = np.random.default_rng(82).binomial(swinging.actions.astype(np.int64), odds).astype(np.float64)
    assert find_anomalies(replace(swinging, elevated=elevated), {}, first_seen={}, established=None, now=NOW) == ()


def test_nothing_known_gives_nothing() -> None:
    empty = np.zeros(0)
    assert (
        find_anomalies(HourlyCounts(empty, empty), {"a": HourlyCounts(empty)}, first_seen={}, established=None, now=NOW)
        == ()
    )
    assert ask(np.zeros(10 * WEEK), {"idle": np.zeros(10 * WEEK)}) == ()


def test_equal_input_gives_equal_answers_whatever_the_names() -> None:
    values = ordinary(50)
    values[-30] += 500
    for name in ("'; drop table agents; --", "агент", "a" * 300, ""):
        (one,) = ask(values, {name: values})
        assert one.agent_id == name
        assert ask(values, {name: values}) == (one,)


def test_a_naive_now_and_unequal_lengths_are_refused() -> None:
    values = HourlyCounts(ordinary(51), np.zeros(3))
    with pytest.raises(ValueError, match="now has no time zone"):
        find_anomalies(values, {}, first_seen={}, established=None, now=NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match="3 hours of elevated actions beside 1680"):
        find_anomalies(values, {}, first_seen={}, established=None, now=NOW)


def test_adjusted_tails_follow_benjamini_and_hochberg() -> None:
    assert adjusted_tails([0.01, 0.5, 0.02], 10) == pytest.approx([0.1, 1.0, 0.1])
    assert adjusted_tails([], 10) == []
    assert all(math.isclose(one, 0.04) for one in adjusted_tails([0.04, 0.04], 2))


# --- what lasts


def lasting(found: tuple[Anomaly, ...]) -> list[tuple[str, timedelta]]:
    return [(one.type, END - one.timestamp) for one in found if one.ends_at is None]


def level_since(days: int, factor: float, seed: int = 30) -> Hours:
    values = np.random.default_rng(seed).poisson(weekly_shape(10, 20.0)).astype(np.float64)
    values[-days * DAY :] = np.random.default_rng(seed + 1).poisson(factor * weekly_shape(10, 20.0)[-days * DAY :])
    return values


@pytest.mark.parametrize("days", [2, 6, 7, 8, 10, 21, 30])
@pytest.mark.parametrize(("factor", "kind"), [(0.0, "drop"), (2.0, "spike")])
def test_a_silence_and_a_new_level_last_until_the_series_is_as_before(factor: float, kind: str, days: int) -> None:
    ((found, age),) = lasting(ask(level_since(days, factor)))
    assert found == kind
    assert abs(age - timedelta(days=days)) <= timedelta(days=2)  # on a weekend nothing is missed


@pytest.mark.parametrize("back", [3, 5])
def test_the_end_of_a_long_silence_is_its_end_and_no_spike(back: int) -> None:
    values = level_since(30, 0.0)
    values[-back * DAY :] = ordinary(60, level=20.0)[-back * DAY :]
    (one,) = ask(values)
    assert one.type == "drop"
    assert one.ends_at is not None
    assert abs(one.ends_at - (END - timedelta(days=back))) <= timedelta(days=1)


def test_a_silence_that_ended_before_the_last_seven_days_is_not_told() -> None:
    values = level_since(20, 0.0)
    values[-9 * DAY :] = ordinary(61, level=20.0)[-9 * DAY :]
    assert ask(values) == ()


def test_what_began_earlier_and_ended_within_the_last_seven_days_is_told() -> None:
    values = level_since(10, 0.0)
    values[-4 * DAY :] = ordinary(62, level=20.0)[-4 * DAY :]
    (one,) = ask(values)
    assert one.timestamp < END - timedelta(days=7)
    assert one.ends_at is not None


def test_a_burst_during_a_lasting_new_level_is_an_incident_of_its_own() -> None:
    values = level_since(21, 2.0)
    values[-2 * DAY - 2] += 900
    found = ask(values)
    assert len(lasting(found)) == 1
    assert [one.type for one in found if one.ends_at is not None] == ["spike"]


def test_text_and_fields_of_an_incident_agree_and_name_their_zone() -> None:
    for factor in (0.0, 2.0):
        (one,) = ask(level_since(8, factor))
        expected = f"{one.expected:,.0f}" if one.expected >= 10 else f"{one.expected:.1f}"
        assert f"{one.observed:,.0f} actions" in one.description
        assert f"from {one.timestamp:%Y-%m-%d %H:%M} UTC, where {expected} were expected" in one.description
        assert f"{one.hours} hours" in one.description
        assert one.timestamp + timedelta(hours=one.hours) == (one.ends_at or END)


@pytest.mark.parametrize("back", [1, 2, 4, 6])
def test_a_shift_of_the_risk_mix_days_ago_is_told_with_its_end(back: int) -> None:
    actions = ordinary(70, level=30.0)
    odds = np.full(len(actions), 0.1)
    odds[-(back + 1) * DAY : -back * DAY] = 0.7
    elevated = np.random.default_rng(71).binomial(actions.astype(np.int64), odds).astype(np.float64)
    (one,) = find_anomalies(HourlyCounts(actions, elevated), {}, first_seen={}, established=None, now=NOW)
    assert one.type == "risk_shift"
    assert abs(one.timestamp - (END - timedelta(days=back + 1))) <= timedelta(hours=12)
    assert one.ends_at is None or abs(one.ends_at - (END - timedelta(days=back))) <= timedelta(hours=14)
    assert one.ends_at is not None or back == 1


@pytest.mark.parametrize("days", [3, 8, 20, 40])
def test_a_lasting_shift_of_the_risk_mix_stays_open(days: int) -> None:
    actions = ordinary(72, level=30.0)
    odds = np.full(len(actions), 0.1)
    odds[-days * DAY :] = 0.4
    elevated = np.random.default_rng(73).binomial(actions.astype(np.int64), odds).astype(np.float64)
    (one,) = find_anomalies(HourlyCounts(actions, elevated), {}, first_seen={}, established=None, now=NOW)
    assert one.ends_at is None
    assert abs(one.timestamp - (END - timedelta(days=days))) <= timedelta(days=1)
    assert one.expected == pytest.approx(0.1, abs=0.02)
