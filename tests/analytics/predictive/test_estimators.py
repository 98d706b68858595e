"""Every estimator keeps scikit-learn's convention, and scikit-learn itself agrees; nothing imports it on the way."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError as TheirNotFittedError
from sklearn.utils.validation import check_is_fitted

from analytics.predictive.forecasting.classical import (
    Naive,
    SeasonalNaive,
    SeasonalSmoothing,
    SimpleSmoothing,
    Theta,
    WeekdayMean,
)
from analytics.predictive.forecasting.estimator import Estimator, NotFittedError
from analytics.predictive.forecasting.intervals import ConformalBand
from analytics.predictive.forecasting.structural import StructuralAverage

MONDAY = date(2025, 3, 3)
COUNTS = np.random.default_rng(5).poisson(9, (3, 60)).astype(np.float64)
ESTIMATORS: list[Estimator] = [
    Naive(),
    SeasonalNaive(),
    WeekdayMean(weeks=3),
    SimpleSmoothing(rates=(0.1, 0.3)),
    SeasonalSmoothing(damping=0.9),
    Theta(days=28),
    StructuralAverage(horizon=3, levels=(0.02,)),
    ConformalBand(level=0.9),
]


def fitted(estimator: Any) -> Any:
    if isinstance(estimator, ConformalBand):
        held = np.random.default_rng(6).normal(9, 1, (4, 3, 7))
        return estimator.fit(held, np.full_like(held, 9), np.full_like(held, 8), np.full_like(held, 10))
    return estimator.fit(COUNTS, MONDAY) if isinstance(estimator, StructuralAverage) else estimator.fit(COUNTS)


def asked(estimator: Any) -> Any:
    if isinstance(estimator, ConformalBand):
        point = np.full((3, 7), 9.0)
        return np.stack(estimator.band(point, point - 1, point + 1))
    return estimator.predict(3)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_a_clone_has_the_parameters_and_none_of_the_learning(estimator: Estimator) -> None:
    learnt = fitted(clone(estimator))
    again = clone(learnt)
    assert again.get_params() == estimator.get_params()
    assert repr(again) == repr(estimator)
    assert not [name for name in vars(again) if name.endswith("_")]
    np.testing.assert_array_equal(asked(fitted(again)), asked(learnt))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_fit_gives_the_estimator_back_and_changes_no_parameter(estimator: Estimator) -> None:
    fresh = clone(estimator)
    before = fresh.get_params()
    assert fitted(fresh) is fresh
    assert all(fresh.get_params()[name] is value for name, value in before.items())


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_who_has_learnt_nothing_says_so_and_scikit_learn_knows_it_too(estimator: Estimator) -> None:
    fresh = clone(estimator)
    with pytest.raises(NotFittedError, match=f"{type(estimator).__name__} has learnt nothing yet; call fit"):
        asked(fresh)
    with pytest.raises(TheirNotFittedError):
        check_is_fitted(fresh)
    check_is_fitted(fitted(fresh))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_learning_leaves_its_input_as_it_was(estimator: Estimator) -> None:
    before = COUNTS.copy()
    fitted(clone(estimator))
    np.testing.assert_array_equal(COUNTS, before)


def test_parameters_are_set_by_name_and_an_unknown_one_is_refused() -> None:
    assert WeekdayMean().set_params(weeks=2).get_params() == {"weeks": 2}
    with pytest.raises(ValueError, match="WeekdayMean has no parameter 'days'; it has weeks"):
        WeekdayMean().set_params(days=2)


def test_a_nested_estimators_parameters_are_reached_by_name() -> None:
    class Doubled(Estimator):
        def __init__(self, inner: WeekdayMean) -> None:
            self.inner = inner

    outer = Doubled(WeekdayMean())
    assert outer.set_params(inner__weeks=9).get_params()["inner__weeks"] == 9
    assert clone(outer).inner.weeks == 9


def test_forecasting_does_not_import_scikit_learn() -> None:
    code = (
        "import sys, numpy, datetime\n"
        "from analytics.predictive.forecasting.daily_forecast import forecast_many\n"
        "from analytics.predictive.anomalies.detection import find_anomalies\n"
        "forecast_many([(numpy.arange(30.0), datetime.date(2025, 3, 3))])\n"
        "sys.exit('sklearn' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
