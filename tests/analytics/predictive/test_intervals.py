"""Conformal bands: the share of held-out days inside, and what is believed without any."""

from __future__ import annotations

import numpy as np
import pytest

from analytics.predictive.forecasting.intervals import ConformalBand, weighted_quantile


def test_without_held_out_days_the_models_band_stands() -> None:
    none = np.zeros((0, 1, 7))
    calibrated = ConformalBand(0.8).fit(none, none, none, none)
    band = calibrated.band(np.full((1, 7), 5.0), np.full((1, 7), 3.0), np.full((1, 7), 9.0))
    np.testing.assert_allclose(band.lower, 3.0, rtol=0.02)
    np.testing.assert_allclose(band.upper, 9.0, rtol=0.02)
    np.testing.assert_allclose(band.confidence, 0.8)


@pytest.mark.parametrize("wrong", [0.2, 1.0, 5.0])
def test_a_band_of_any_wrong_width_is_stretched_to_its_level(wrong: float) -> None:
    noise = np.random.default_rng(6).normal(100, 10, (300, 1, 7))
    point = np.full_like(noise, 100.0)
    width = 12.8 * wrong
    calibrated = ConformalBand(0.8).fit(noise, point, point - width, point + width)
    low, high, confidence = calibrated.band(point[0], point[0] - width, point[0] + width)
    later = np.random.default_rng(7).normal(100, 10, (4000, 7))
    assert ((later >= low) & (later <= high)).mean() == pytest.approx(0.8, abs=0.03)
    np.testing.assert_allclose(confidence, 0.8, atol=0.06)


def test_the_confidence_is_what_was_seen_not_what_was_asked() -> None:
    silent = np.zeros((200, 1, 7))
    calibrated = ConformalBand(0.5).fit(silent, silent + 0.01, silent, silent + 0.02)
    band = calibrated.band(np.full((1, 7), 0.01), np.zeros((1, 7)), np.full((1, 7), 0.02))
    assert (band.confidence > 0.9).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_of_points_at_or_below_a_quantile_is_its_share(share: float) -> None:
    values = np.random.default_rng(8).normal(size=(3, 1000))
    found = weighted_quantile(values, np.ones(1000), share)
    np.testing.assert_allclose((values <= found[:, None]).mean(axis=1), share, atol=0.0015)


def test_a_level_that_is_no_probability_is_refused() -> None:
    none = np.zeros((0, 1, 7))
    with pytest.raises(ValueError, match="between 0 and 1, not 80"):
        ConformalBand(80).fit(none, none, none, none)
