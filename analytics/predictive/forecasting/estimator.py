"""The scikit-learn convention of our estimators, kept without importing scikit-learn. Pure.

Constructors only store their parameters, `fit` checks and learns attributes that end in `_` and returns the estimator,
`predict` speaks of what was learnt. `sklearn.base.clone`, `check_is_fitted` and parameter searches work on them;
importing scikit-learn takes seconds and happens only when it asks.
"""

from __future__ import annotations

import inspect
from typing import Any, Self


class NotFittedError(ValueError, AttributeError):
    """An estimator was asked before it had learnt; both base classes are those of scikit-learn's error of this name."""


class Estimator:
    """Base of estimators whose constructor has keyword parameters and stores each under its own name."""

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(name for name in inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters as given; `deep` adds those of estimators among them as `outer__inner`."""
        params = {name: getattr(self, name) for name in self._names()}
        if deep:
            for name, value in list(params.items()):
                if isinstance(value, Estimator):
                    params |= {f"{name}__{inner}": one for inner, one in value.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name, `outer__inner` for those of a nested estimator; ValueError for an unknown name."""
        for name, value in params.items():
            outer, _, inner = name.partition("__")
            if outer not in self._names():
                raise ValueError(
                    f"{type(self).__name__} has no parameter {outer!r}; it has {', '.join(self._names()) or 'none'}"
                )
            if inner:
                getattr(self, outer).set_params(**{inner: value})
            else:
                setattr(self, outer, value)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._names())})"

    def __sklearn_is_fitted__(self) -> bool:
        return any(name.endswith("_") and not name.startswith("_") for name in vars(self))

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

    def require_fit(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(f"{type(self).__name__} has learnt nothing yet; call fit before asking it")
