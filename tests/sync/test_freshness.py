"""Freshness: known equality, by positions and one clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sync.freshness import Freshness

T = [datetime(2025, 1, 15, 14, 30, second, tzinfo=UTC) for second in range(10)]


def test_a_sample_counts_once_everything_before_it_is_applied() -> None:
    freshness = Freshness()
    assert freshness.sampled(1000, T[0]) is None
    assert freshness.sampled(2000, T[1]) is None
    assert freshness.processed(1500) == T[0]
    assert freshness.sampled(2100, T[2]) == T[0]
    assert freshness.processed(2100) == T[2]


def test_a_page_header_behind_the_last_record_is_no_lag() -> None:
    freshness = Freshness()
    freshness.processed(8192)
    assert freshness.sampled(8192 + 24, T[0]) == T[0]
    assert freshness.sampled(8192 + 60, T[1]) == T[0]


def test_a_copy_is_as_fresh_as_its_snapshot_and_forgets_earlier_samples() -> None:
    freshness = Freshness()
    freshness.processed(5000)
    freshness.sampled(5000, T[1])
    freshness.reset()
    assert freshness.sampled(9000, T[5]) == T[1]
    assert freshness.known(T[4]) == T[4]
    assert freshness.processed(9000) == T[5]


def test_without_progress_the_moment_stands_still() -> None:
    freshness = Freshness()
    freshness.processed(100)
    freshness.sampled(100, T[0])
    for second in range(1, 10):
        assert freshness.sampled(200 + second, T[0] + timedelta(seconds=second)) == T[0]
