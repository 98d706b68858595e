"""Noise is no trend, a clear change is one, and no share is rounded onto perfection."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.proportions import direction, exact_probability, rounded_share

OPPOSITE = {"up": "down", "down": "up", "flat": "flat"}


@st.composite
def samples(draw: st.DrawFn) -> tuple[int, int]:
    trials = draw(st.integers(0, 100_000) | st.integers(0, 30))
    return draw(st.integers(0, trials)), trials


@given(samples(), samples())
def test_swapping_the_periods_turns_the_direction_round(before: tuple[int, int], now: tuple[int, int]) -> None:
    assert direction(*before, *now) == OPPOSITE[direction(*now, *before)]


@given(samples(), samples())
def test_counting_misses_instead_of_hits_turns_the_direction_round(
    before: tuple[int, int], now: tuple[int, int]
) -> None:
    misses = (before[1] - before[0], before[1], now[1] - now[0], now[1])
    assert direction(*before, *now) == OPPOSITE[direction(*misses)]


@given(samples(), samples())
def test_a_direction_agrees_with_the_shares(before: tuple[int, int], now: tuple[int, int]) -> None:
    found = direction(*before, *now)
    if found != "flat":
        assert (now[0] / now[1] > before[0] / before[1]) == (found == "up")


@pytest.mark.parametrize(
    "counts",
    [
        (0, 0, 5, 10), (5, 10, 0, 0), (0, 0, 0, 0),  # a period is empty
        (0, 10, 0, 10), (10, 10, 3, 3),  # nothing differs
        (3, 3, 0, 2), (0, 2, 3, 3), (1, 1, 0, 1), (2, 2, 0, 3), (0, 4, 3, 4),  # too few to tell
        (950, 1000, 945, 1000), (12, 4000, 17, 4000),  # noise
        (9_850_000, 10_000_000, 9_845_000, 10_000_000),  # certain, but too small to be seen
    ],
)  # fmt: skip
def test_noise_and_small_samples_are_flat(counts: tuple[int, int, int, int]) -> None:
    assert direction(*counts) == "flat"


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((950, 1000, 900, 1000), "down"), ((300, 3300, 57, 4520), "down"), ((0, 6, 6, 6), "up"),
        ((0, 4000, 12, 4000), "up"), ((50_000, 1_000_000, 52_000, 1_000_000), "up"), ((1, 20, 9, 20), "up"),
    ],
)  # fmt: skip
def test_a_clear_change_has_a_direction(counts: tuple[int, int, int, int], expected: str) -> None:
    assert direction(*counts) == expected


@pytest.mark.parametrize(
    ("share", "trials", "before"), [(0.95, 400, 400), (0.05, 40, 300), (0.5, 12, 9), (0.9, 6, 200)]
)
def test_samples_of_one_share_rarely_have_a_direction(share: float, trials: int, before: int) -> None:
    chance = random.Random(20250115)
    rounds = 1000

    def hits(n: int) -> int:
        return sum(chance.random() < share for _ in range(n))

    alarms = sum(direction(hits(before), before, hits(trials), trials) != "flat" for _ in range(rounds))
    assert alarms <= 0.075 * rounds  # 5 % and what the sampling of this test adds


def test_the_exact_probability_is_that_of_counting_all_splits() -> None:
    # Eight tea cups, four of them milk first, all told apart: 1 of 70 splits, and its mirror image.
    assert exact_probability(0, 4, 4, 4) == pytest.approx(2 / 70)
    for before_hits, before_trials, hits, trials in ((1, 5, 4, 7), (0, 3, 2, 9), (5, 6, 1, 8)):
        all_hits, all_trials = before_hits + hits, before_trials + trials
        weights = [
            math.comb(trials, here) * math.comb(before_trials, all_hits - here)
            for here in range(max(0, all_hits - before_trials), min(all_hits, trials) + 1)
        ]
        seen = math.comb(trials, hits) * math.comb(before_trials, before_hits)
        expected = sum(weight for weight in weights if weight <= seen) / math.comb(all_trials, all_hits)
        assert exact_probability(before_hits, before_trials, hits, trials) == pytest.approx(expected)


@given(st.integers(1, 10**9), st.data())
def test_a_rounded_share_is_near_and_perfect_only_when_it_is(whole: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, whole) | st.integers(max(0, whole - 3), whole) | st.integers(0, min(3, whole)))
    for scale, decimals in ((100, 1), (1, 2)):
        found = rounded_share(part, whole, scale=scale, decimals=decimals)
        assert (found == scale) == (part == whole)
        assert (found == 0) == (part == 0)
        assert 0 <= found <= scale
        assert abs(found - scale * part / whole) <= 10**-decimals
        assert found == round(found, decimals)
