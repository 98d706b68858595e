"""Ours beside the statistical libraries: `python -m tests.benchmarks.predictive.libraries --data DIR`.

Represents the choice of a forecaster: the same windows for ours and for general libraries; no server runs.

DIR as for tests.benchmarks.predictive. AutoETS, AutoARIMA and AutoTheta are those of statsforecast (extra `bench`),
with season 7 from 14 days on and none below; AutoARIMA sees at most 400 days and approximates above 150, the usual
way to bound its cost. A fit that fails counts as naive. All points and bounds are cut at zero. Where statsforecast is
not installed this is said, and the figures DIR/README.md publishes for it are printed as published. `--draw SEED` takes
other cutoffs of the same series, with the same lengths of history.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analytics.predictive.forecasting.daily_forecast import forecast_series
from tests.benchmarks import represented
from tests.benchmarks.predictive.__main__ import BASELINES, WEEK, Window, read_column, windows

Values = npt.NDArray[np.float64]

LEVEL = 0.8
LIBRARY = ("AutoETS", "AutoARIMA", "AutoTheta")
ENSEMBLE = "ensemble of the 3"
ARIMA_DAYS = 400
ARIMA_EXACT_DAYS = 150
FIRST_CUTOFF = 60  # counted from zero
LONG = ("28", "60", "full")


class Said(NamedTuple):
    """One method's forecast of one window; no bounds where the method has none."""

    point: Values
    lower: Values | None
    upper: Values | None
    confidence: Values | None
    seconds: float
    failed: bool = False


def ours(window: Window, horizon: int) -> Said:
    begun = time.process_time()
    said = forecast_series(window.history, window.start, horizon, LEVEL)
    return Said(said.point, said.lower, said.upper, said.confidence, time.process_time() - begun)


def simple(name: str, window: Window, horizon: int) -> Said:
    begun = time.process_time()
    point = BASELINES[name]().fit(window.history[None, :]).predict(horizon)[0]
    return Said(point, None, None, None, time.process_time() - begun)


def library(name: str, window: Window, horizon: int) -> Said:
    from statsforecast import models

    history = window.history[-ARIMA_DAYS:] if name == "AutoARIMA" else window.history
    options = {"approximation": len(history) > ARIMA_EXACT_DAYS} if name == "AutoARIMA" else {}
    begun = time.process_time()
    bounds: list[Values] = []
    try:
        model = getattr(models, name)(season_length=WEEK if len(history) >= 2 * WEEK else 1, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            told = model.forecast(y=history, h=horizon, level=[80])
        bounds = [np.maximum(np.asarray(told[key], dtype=np.float64), 0.0) for key in ("mean", "lo-80", "hi-80")]
    except Exception as error:  # noqa: BLE001 - whatever a library raises on a short or constant history: it fell back
        print(f"  {name} on {window.series} at {window.cutoff}: {type(error).__name__}")
    failed = not bounds or not all(np.isfinite(one).all() for one in bounds)
    if failed:
        last = float(history[-1])
        step = float(np.sqrt(np.mean(np.square(np.diff(history))))) * np.sqrt(np.arange(1, horizon + 1))
        wide = 1.2815515655446004 * step
        bounds = [np.full(horizon, last), np.maximum(last - wide, 0.0), last + wide]
    stated = np.full(horizon, LEVEL)
    return Said(bounds[0], bounds[1], bounds[2], stated, time.process_time() - begun, failed)


def ensemble(members: list[Said]) -> Said:
    """Equal weights on points and bounds."""
    point, lower, upper = (
        np.mean([getattr(one, part) for one in members], axis=0) for part in ("point", "lower", "upper")
    )
    seconds = sum(one.seconds for one in members)
    return Said(point, lower, upper, members[0].confidence, seconds, any(one.failed for one in members))


@dataclass(frozen=True)
class Rivals:
    """What is asked of every window; a callable, so that a process can be handed it."""

    horizon: int
    installed: bool
    only: tuple[str, ...]

    def __call__(self, window: Window) -> dict[str, Said]:
        said = {"ours": ours(window, self.horizon)}
        said |= {name: simple(name, window, self.horizon) for name in BASELINES}
        if self.installed:
            told = {name: library(name, window, self.horizon) for name in self.only}
            said |= told
            if len(told) == len(LIBRARY):
                said[ENSEMBLE] = ensemble(list(told.values()))
        return said


class Row:
    """The scores of one method: mean absolute scaled errors by history, coverage, processor time."""

    def __init__(self) -> None:
        self.errors: dict[str, list[float]] = defaultdict(list)
        self.inside: list[bool] = []
        self.stated: list[float] = []
        self.seconds = 0.0
        self.failed = 0

    def note(self, window: Window, said: Said) -> None:
        known = len(window.actual)
        error = float(np.abs(window.actual - said.point[:known]).mean()) / window.scale
        for bucket in ("all", ">= 28" if window.bucket in LONG else "< 28", window.bucket):
            self.errors[bucket].append(error)
        if said.lower is not None and said.upper is not None and said.confidence is not None:
            self.inside += ((window.actual >= said.lower[:known]) & (window.actual <= said.upper[:known])).tolist()
            self.stated += said.confidence[:known].tolist()
        self.seconds += said.seconds
        self.failed += said.failed

    def mase(self, bucket: str) -> float:
        return float(np.mean(self.errors[bucket])) if self.errors[bucket] else float("nan")

    def cells(self, buckets: list[str]) -> list[str]:
        covered = [f"{np.mean(self.inside):.3f}", f"{np.mean(self.stated):.3f}"] if self.inside else ["", ""]
        spent = f"{1000 * self.seconds / max(len(self.errors['all']), 1):.1f}"
        return [*(f"{self.mase(bucket):.3f}" for bucket in buckets), *covered, spent, str(self.failed)]


def published(readme: Path, part: str) -> str:
    """The baselines of that part in the folder's own words; empty where it has none."""
    if not readme.is_file():
        return ""
    text = readme.read_text()
    begin = text.find(f"## Baselines: {part}")
    return text[begin : text.find("\n## ", begin + 1)].strip() if begin >= 0 else ""


def compared(rows: dict[str, Row]) -> list[str]:
    """How far ours lies from each of the others, in words."""
    mine = rows["ours"]
    lines = []
    for name, row in rows.items():
        if name != "ours":
            parts = [
                f"{100 * (mine.mase(bucket) / row.mase(bucket) - 1):+.1f} % ({bucket})" for bucket in ("all", ">= 28")
            ]
            lines.append(f"- MASE of ours against {name}: {', '.join(parts)}")
    return lines


def redrawn(plan: dict[str, Any], data: Path, seed: int) -> dict[str, Any]:
    """The plan with other cutoffs: each anywhere from day 61 on, full histories in the last third, no cutoff twice."""
    chance = random.Random(seed)
    drawn = {}
    for series, origins in plan["series"].items():
        days, _ = read_column(data / "daily" / f"{series}.csv", "ds", "y")
        found = {}
        for origin in origins:
            full = origin["bucket"] == "full"
            first = int(len(days) * 2 / 3) if full else FIRST_CUTOFF
            end = chance.randrange(first, len(days) - int(plan["horizon"]))
            length = end + 1 if full else int(origin["bucket"])
            found[days[end]] = origin | {
                "cutoff": days[end][:10],
                "length": length,
                "train_start": days[end + 1 - length][:10],
            }
        drawn[series] = list(found.values())
    return plan | {"series": drawn}


def all_said(seen: list[Window], ask: Callable[[Window], dict[str, Said]], jobs: int) -> list[dict[str, Said]]:
    if jobs == 1:
        return [ask(window) for window in seen]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(ask, seen, chunksize=4))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.predictive.libraries", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmark's layout")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th window, where time is short")
    parser.add_argument("--only", default=",".join(LIBRARY), help="of the library's methods, with commas between")
    parser.add_argument("--draw", type=int, metavar="SEED", help="other cutoffs, drawn at random")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    asked = parser.parse_args()
    represented.state(__doc__)
    plan = json.loads((asked.data / "cutoffs.json").read_text())
    if asked.draw is not None:
        plan = redrawn(plan, asked.data, asked.draw)
    installed = importlib.util.find_spec("statsforecast") is not None
    everything = windows(asked.data, plan)
    seen = everything[:: asked.every]
    only = tuple(name for name in LIBRARY if name in asked.only.split(","))
    ask = Rivals(int(plan.get("horizon", WEEK)), installed, only)
    rows: dict[str, Row] = defaultdict(Row)
    for window, said in zip(seen, all_said(seen, ask, asked.jobs), strict=True):
        for name, one in said.items():
            rows[name].note(window, one)
    buckets = ["all", ">= 28", "< 28", *dict.fromkeys(window.bucket for window in seen)]
    print(f"MASE by history, {len(seen)} of {len(everything)} windows\n")
    print("| method | " + " | ".join(buckets) + " | cover of 80 % | stated | ms per fit | fell back |")
    print("|---" * (len(buckets) + 5) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(row.cells(buckets)) + " |")
    print("\n" + "\n".join(compared(rows)))
    if not installed:
        print(
            "\nstatsforecast is not installed, so no library was run: pip install -e '.[bench]'. "
            f"What {asked.data / 'README.md'} publishes of it:\n"
        )
        print(published(asked.data / "README.md", "forecasts") or "nothing: the folder has no such table.")


if __name__ == "__main__":
    main()
