"""Would boosted trees pooled over an organization help? `python -m tests.benchmarks.predictive.pooled --data DIR`.

Represents an organization whose agents' series share a calendar; the measurement behind a decision, not a part of the product.

A pool is a family of DIR/daily by name, all of one calendar. At cutoffs through its history, both a gradient-boosted
forecast learnt from all series of the pool up to the cutoff and our forecast of each series alone are held against the
next seven days; printed is what mixing a share of the former into the latter changes in MASE, with its standard error.
The measurement behind docs/decisions/0006-forecasts-without-boosted-trees.md; nothing of this is in the product.
"""

from __future__ import annotations

import argparse
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor

from analytics.predictive.forecasting.daily_forecast import forecast_many
from analytics.predictive.forecasting.estimator import Estimator
from analytics.predictive.forecasting.structural import RECENT_DAYS, StructuralAverage
from tests.benchmarks import represented
from tests.benchmarks.predictive.__main__ import read_column

Values = npt.NDArray[np.float64]

WEEK = 7
POOLS = ("houston", "mpls", "nyc", "melb", "madrid", "chicago")
SHARES = (0.15, 0.3, 0.5)
FIRST_DAY = 66
FEWEST_DAYS = 60


class Known(NamedTuple):
    """One series up to a cutoff: counts per day, first day."""

    counts: Values
    start: date


def rooted(counts: Values) -> Values:
    return np.asarray(2 * np.sqrt(np.maximum(counts, 0) + 0.375), dtype=np.float64)


def counted(roots: Values) -> Values:
    return np.asarray(np.maximum(np.square(np.maximum(roots, 0)) / 4 - 0.375, 0), dtype=np.float64)


class DirectTrees(Estimator):
    """One model for all series and all days ahead, on scaled lags, weekday and rolling means of square roots."""

    def __init__(self, horizon: int = WEEK, origins: int = 150, trees: int = 120, leaves: int = 15) -> None:
        self.horizon = horizon
        self.origins = origins
        self.trees = trees
        self.leaves = leaves

    def fit(self, pool: list[Known]) -> Self:
        rows, wanted = [], []
        for known in pool:
            roots = rooted(known.counts)
            last = len(roots) - self.horizon
            for origin in range(max(2 * WEEK, last - self.origins), last + 1):
                rows.append(self._features(roots[:origin], known.start + timedelta(days=origin)))
                middle, spread = self._scale(roots[:origin])
                wanted.append((roots[origin : origin + self.horizon] - middle) / spread)
        self.trees_ = HistGradientBoostingRegressor(
            max_iter=self.trees, max_leaf_nodes=self.leaves, learning_rate=0.06, min_samples_leaf=40,
            l2_regularization=5.0, early_stopping=False, random_state=0,
        ).fit(np.concatenate(rows), np.concatenate(wanted))  # fmt: skip
        return self

    def predict(self, pool: list[Known]) -> Values:
        self.require_fit()
        said = []
        for known in pool:
            roots = rooted(known.counts)
            middle, spread = self._scale(roots)
            rows = self._features(roots, known.start + timedelta(days=len(roots)))
            said.append(counted(self.trees_.predict(rows) * spread + middle))
        return np.stack(said)

    def _scale(self, roots: Values) -> tuple[float, float]:
        return float(roots[-4 * WEEK :].mean()), max(float(roots[-8 * WEEK :].std()), 0.3)

    def _features(self, roots: Values, after: date) -> Values:
        middle, spread = self._scale(roots)
        scaled = (roots - middle) / spread
        ahead = np.arange(self.horizon)
        back = [len(roots) + ahead - WEEK * (weeks + ahead // WEEK) for weeks in range(1, 6)]
        same = [np.where(place >= 0, scaled[np.maximum(place, 0)], 0.0) for place in back]
        common = [*scaled[-WEEK:], scaled[-WEEK:].mean(), scaled[-2 * WEEK :].mean(), scaled[-WEEK:].std(), spread]
        shared = np.tile([*common, np.log1p(middle)], (self.horizon, 1))
        return np.column_stack([ahead, (after.weekday() + ahead) % WEEK, *same, np.mean(same[:4], axis=0), shared])


class CorrectingTrees(Estimator):
    """Learns what the structural forecast has been off by, from what it was off by lately and from simple forecasts."""

    def __init__(self, horizon: int = WEEK, origins: int = 120, trees: int = 60, leaves: int = 8) -> None:
        self.horizon = horizon
        self.origins = origins
        self.trees = trees
        self.leaves = leaves

    def fit(self, pool: list[Known]) -> Self:
        told = [self._rows(known) for known in pool]
        rows, wanted = (np.concatenate([one[part] for one in told]) for part in (0, 1))
        self.trees_ = HistGradientBoostingRegressor(
            max_iter=self.trees, max_leaf_nodes=self.leaves, learning_rate=0.05, min_samples_leaf=80,
            l2_regularization=20.0, early_stopping=False, random_state=0,
        ).fit(rows, np.clip(wanted, -4, 4))  # fmt: skip
        self.now_ = [(one[2], one[3]) for one in told]
        return self

    def predict(self, points: Values) -> Values:
        """The forecasts `points` of the series learnt from, shape (series, horizon), corrected."""
        self.require_fit()
        moved = [
            rooted(point) + self.trees_.predict(rows) * width
            for point, (rows, width) in zip(points, self.now_, strict=True)
        ]
        return counted(np.stack(moved))

    def _rows(self, known: Known) -> tuple[Values, Values, Values, Values]:
        counts = known.counts[-RECENT_DAYS:]
        start = known.start + timedelta(days=len(known.counts) - len(counts))
        roots, days = rooted(counts), len(counts)
        structural = StructuralAverage(self.horizon).fit(counts[None, :], start)
        first = max(2 * WEEK, days - self.origins)
        said = {origin: structural.outlook(origin) for origin in range(first, days + 1)}
        points = {origin: rooted(one.point[0]) for origin, one in said.items()}
        widths = {origin: np.maximum(rooted(one.upper[0]) - points[origin], 0.3) for origin, one in said.items()}
        rows, wanted = [], []
        for origin in said:
            point, width = points[origin], widths[origin]
            lately = [
                (roots[day] - points[day][0]) / width[0] if day in points else 0.0
                for day in range(origin - 1, origin - 1 - WEEK, -1)
            ]
            ahead = np.arange(self.horizon)
            weekdays = [roots[origin - WEEK * weeks :][ahead % WEEK] for weeks in range(1, origin // WEEK + 1)][:4]
            shared = [*lately[:3], np.mean(lately), np.mean(lately[:3])]
            rows.append(
                np.column_stack(
                    [
                        ahead,
                        (start.weekday() + origin + ahead) % WEEK,
                        (weekdays[0] - point) / width,
                        (np.mean(weekdays, axis=0) - point) / width,
                        (roots[origin - 1] - point) / width,
                        width,
                        np.tile(shared, (self.horizon, 1)),
                    ]
                )
            )
            if origin + self.horizon <= days:
                wanted.append((roots[origin : origin + self.horizon] - point) / width)
        learnt = np.concatenate(rows[: len(wanted)])
        return learnt, np.concatenate(wanted), rows[-1], widths[days]


def changes(family: dict[str, Known], every: int) -> dict[tuple[str, float], list[float]]:
    """Per kind of trees and share mixed in: MASE of the mixture less MASE of ours alone, of each series at each cutoff."""
    found: dict[tuple[str, float], list[float]] = {}
    end = max(one.start + timedelta(days=len(one.counts)) for one in family.values())
    cutoff = min(one.start for one in family.values()) + timedelta(days=FIRST_DAY)
    while cutoff + timedelta(days=WEEK) <= end:
        pool, actual = [], []
        for one in family.values():
            seen = (cutoff - one.start).days
            if FEWEST_DAYS <= seen <= len(one.counts) - WEEK:
                pool.append(Known(one.counts[:seen], one.start))
                actual.append(one.counts[seen : seen + WEEK])
        if pool:
            ours = np.stack([said.point for said in forecast_many([(one.counts, one.start) for one in pool])])
            scale = [max(float(np.abs(one.counts[WEEK:] - one.counts[:-WEEK]).mean()), 1e-9) for one in pool]
            error = np.abs(ours - actual).mean(axis=1) / scale
            others = {
                "direct": DirectTrees().fit(pool).predict(pool),
                "correcting": CorrectingTrees().fit(pool).predict(ours),
            }
            for kind, theirs in others.items():
                for share in SHARES:
                    mixed = np.abs((1 - share) * ours + share * theirs - actual).mean(axis=1) / scale
                    found.setdefault((kind, share), []).extend((mixed - error).tolist())
        cutoff += timedelta(days=every)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.predictive.pooled", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmark's layout")
    parser.add_argument("--every", type=int, default=13, help="days between cutoffs")
    asked = parser.parse_args()
    represented.state(__doc__)
    print(
        "| pool | series | forecasts | "
        + " | ".join(f"{kind} {share}" for kind in ("direct", "correcting") for share in SHARES)
        + " |"
    )
    print("|---" * (3 + 2 * len(SHARES)) + "|")
    for pool in POOLS:
        family = {}
        for path in sorted((asked.data / "daily").glob(f"{pool}_*.csv")):
            days, counts = read_column(path, "ds", "y")
            family[path.stem] = Known(counts, date.fromisoformat(days[0][:10]))
        if len(family) < 2:
            continue
        found = changes(family, asked.every)
        cells = [f"{np.mean(one):+.4f} ± {np.std(one) / np.sqrt(len(one)):.4f}" for one in found.values()]
        print(f"| {pool} | {len(family)} | {len(next(iter(found.values())))} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
