"""Our detector beside general ones: `python -m tests.benchmarks.predictive.detectors --data DIR`.

Represents finding incidents in hourly counts of one series at a time, judged by a scorer that is not ours.

DIR as for tests.benchmarks.predictive, with its score_anomalies.py, which does the scoring. All are causal: an hour is
judged by a model learnt from the hours before the week it lies in, and by a limit from scores before it. The general
ones get our own hour-of-week residuals (over 1, 3, 8 and 24 hours) to work on and, as they have no limit of their own
for a stream, the one of several that scores best on this very folder; ours has no such choice.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

from analytics.predictive.anomalies.incidents import detect_hourly, deviations
from tests.benchmarks import represented
from tests.benchmarks.predictive.__main__ import read_column
from tests.benchmarks.predictive.libraries import published

Values = npt.NDArray[np.float64]
Judge = Callable[[Values, Values], tuple[Values, Values]]

WEEK = 168
DAY = 24
LEARNT_HOURS = 8 * WEEK
LIMIT_HOURS = 4 * WEEK
FEWEST_HOURS = 2 * DAY
LIMITS = (4.0, 6.0, 9.0, 13.0, 20.0, 30.0)
HIGHEST = (1.0, 1.1, 1.25, 1.5, 2.0)
KEPT_VARIANCE = 0.9
BOUND = 30.0  # residuals are cut there: no hour makes the components of all others
SEED = 0


@dataclass(frozen=True)
class Series:
    name: str
    hours: list[str]
    values: Values
    learnt: int
    residuals: Values


def all_series(data: Path) -> Iterator[Series]:
    for name, about in json.loads((data / "anomalies" / "labels.json").read_text()).items():
        hours, values = read_column(data / "anomalies" / f"{name}.csv", "ts", "value")
        begin = datetime.fromisoformat(about["score_from"])
        learnt = sum(datetime.fromisoformat(hour) < begin for hour in hours)
        residuals = np.stack([one.standardised for one in deviations(values)], axis=1)
        yield Series(name, hours, values, learnt, np.clip(np.nan_to_num(residuals), -BOUND, BOUND))


def week_by_week(rows: Values, score: Judge) -> Values:
    """Scores of all rows: those of a week by what was learnt from the eight before it; the first two are only learnt from.

    `score(past, now)` gives the scores of both; a week's are in units of the median score of its past.
    """
    scores = np.zeros(len(rows))
    for begin in range(2 * WEEK, len(rows), WEEK):
        before, now = score(rows[max(begin - LEARNT_HOURS, 0) : begin], rows[begin : begin + WEEK])
        scores[begin : begin + WEEK] = now / max(float(np.median(before)), 1e-9)
    return scores


def isolated(past: Values, now: Values) -> tuple[Values, Values]:
    forest = IsolationForest(n_estimators=100, random_state=SEED).fit(past)
    return -forest.score_samples(past), -forest.score_samples(now)


def reconstructed(past: Values, now: Values) -> tuple[Values, Values]:
    components = PCA(KEPT_VARIANCE, svd_solver="full").fit(past)

    def lost(rows: Values) -> Values:
        return np.asarray(
            np.linalg.norm(rows - components.inverse_transform(components.transform(rows)), axis=1), dtype=np.float64
        )

    return lost(past), lost(now)


def forest_scores(series: Series) -> Values:
    return week_by_week(series.residuals, isolated)


def component_scores(series: Series, width: int) -> Values:
    """Sliding windows of the last `width` hourly residuals."""
    single = np.concatenate([np.zeros(width - 1), series.residuals[:, 0]])
    return week_by_week(np.lib.stride_tricks.sliding_window_view(single, width), reconstructed)


def beyond_spread(scores: Values, times: float) -> list[int]:
    """Hours whose score exceeds the median of the four weeks before by `times` their median deviation."""
    found = []
    for hour in range(2 * WEEK + FEWEST_HOURS, len(scores)):
        past = scores[max(2 * WEEK, hour - LIMIT_HOURS) : hour]
        middle = float(np.median(past))
        if scores[hour] - middle > times * max(float(np.median(np.abs(past - middle))), 1e-6):
            found.append(hour)
    return found


def beyond_highest(scores: Values, times: float) -> list[int]:
    """Hours whose score exceeds `times` the highest of the four weeks before, each hour of an alarm left out of them."""
    kept = scores.copy()
    found = []
    for hour in range(2 * WEEK + FEWEST_HOURS, len(scores)):
        highest = float(kept[max(2 * WEEK, hour - LIMIT_HOURS) : hour].max())
        if scores[hour] > times * max(highest, 1e-9):
            found.append(hour)
            kept[hour] = highest
    return found


def scorer(data: Path) -> ModuleType:
    path = data / "score_anomalies.py"
    spec = importlib.util.spec_from_file_location("score_anomalies", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path} is missing; it scores the alarms and comes with the series")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name: str, report: dict[str, dict[str, float]], seconds: float) -> str:
    whole = report["overall"]
    kinds = [f"{report[kind]['f1']:.3f}" if kind in report else "" for kind in ("labelled", "injected")]
    cells = [f"{whole[key]:.3f}" for key in ("precision", "recall", "f1")]
    return f"| {name} | " + " | ".join([*cells, f"{whole['delay_h']:.1f}", *kinds, f"{seconds:.1f}"]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.predictive.detectors", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmark's layout")
    data = parser.parse_args().data
    represented.state(__doc__)
    scoring = scorer(data)
    series = list(all_series(data))
    print(
        "| method | precision | recall | F1 | median delay h | F1 labelled | F1 injected | seconds |\n|---"
        + "|---" * 7
        + "|"
    )

    def scored(alarms: dict[str, list[int]]) -> dict[str, dict[str, float]]:
        stamped = defaultdict(list)
        for one in series:
            stamped[one.name] = [scoring.stamp(one.hours[hour]) for hour in alarms[one.name] if hour >= one.learnt]
        report: dict[str, dict[str, float]] = scoring.evaluate(stamped, str(data))[0]
        return report

    begun = time.process_time()
    ours = scored({one.name: detect_hourly(one.values, one.learnt) for one in series})
    print(row("ours", ours, time.process_time() - begun), flush=True)
    rivals: dict[str, Callable[[Series], Values]] = {
        "isolation forest on residuals": forest_scores,
        "sliding-window PCA, 24 h": lambda one: component_scores(one, DAY),
        "sliding-window PCA, 48 h": lambda one: component_scores(one, 2 * DAY),
    }
    for name, judge in rivals.items():
        begun = time.process_time()
        scores = {one.name: judge(one) for one in series}
        spent = time.process_time() - begun
        for kind, limits, beyond in (
            ("median deviations", LIMITS, beyond_spread),
            ("times the highest", HIGHEST, beyond_highest),
        ):
            reports = {limit: scored({key: beyond(one, limit) for key, one in scores.items()}) for limit in limits}
            best = max(limits, key=lambda limit: reports[limit]["overall"]["f1"])
            print(row(f"{name}, {best:g} {kind}", reports[best], spent), flush=True)
    print(
        "\n"
        + (published(data / "README.md", "anomalies") or f"{data / 'README.md'} publishes no baselines of its own.")
    )


if __name__ == "__main__":
    main()
