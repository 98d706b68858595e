"""Forecast and alarm files for the scorers: `python -m tests.benchmarks.predictive --data DIR --out OUT`.

Represents forecasts and alarms on public series of other origin, judged by scorers that are not ours; no server runs.

DIR holds daily/*.csv (ds,y), cutoffs.json, anomalies/*.csv (ts,value) and anomalies/labels.json; nothing else is read.
Writes OUT/forecasts.csv, OUT/alarms.csv, OUT/calibration.csv and OUT/calibration.svg (stated confidence against the
share of days that landed inside, several levels), and prints the table, mean errors beside the simple baselines and
fit times. A window sees the days train_start..cutoff only; of a series' alarms each is decided from the hours before.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.predictive.anomalies.incidents import detect_hourly
from analytics.predictive.forecasting.classical import Forecaster, Naive, SeasonalNaive, WeekdayMean
from analytics.predictive.forecasting.daily_forecast import forecast_series
from tests.benchmarks import represented
from tests.benchmarks.predictive.calibration import LEVELS, Calibration

WEEK = 7
BASELINES: dict[str, type[Naive | SeasonalNaive | WeekdayMean]] = {
    "naive": Naive,
    "seasonal naive": SeasonalNaive,
    "weekday mean 4w": WeekdayMean,
}


@dataclass(frozen=True)
class Window:
    """What may be seen at one cutoff, and what came after (as far as the folder knows it)."""

    series: str
    cutoff: str
    bucket: str
    start: date
    history: npt.NDArray[np.float64]
    actual: npt.NDArray[np.float64]
    scale: float


def read_column(path: Path, key: str, value: str) -> tuple[list[str], npt.NDArray[np.float64]]:
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [row[key] for row in rows], np.array([float(row[value]) for row in rows])


def windows(data: Path, plan: dict[str, Any]) -> list[Window]:
    """Every series at every cutoff. The scale is that of MASE: mean |y[t]-y[t-7]| over all days up to the cutoff."""
    found = []
    for series, origins in plan["series"].items():
        days, counts = read_column(data / "daily" / f"{series}.csv", "ds", "y")
        place = {day[:10]: number for number, day in enumerate(days)}
        for origin in origins:
            end = place[origin["cutoff"]] + 1
            begin = place[origin["train_start"]] if "train_start" in origin else end - origin["length"]
            step = np.abs(counts[WEEK:end] - counts[: max(end - WEEK, 0)])
            found.append(
                Window(
                    series,
                    origin["cutoff"],
                    str(origin.get("bucket", "all")),
                    date.fromisoformat(days[begin][:10]),
                    counts[begin:end],
                    counts[end : end + plan["horizon"]],
                    float(step.mean()) if len(step) and step.any() else 1.0,
                )
            )
    return found


def write_forecasts(seen: list[Window], out: Path, horizon: int, level: float, errors: dict[Any, list[float]]) -> None:
    with (out / "forecasts.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["series", "cutoff", "horizon", "point", "lower", "upper", "confidence"])
        for window in seen:
            said = forecast_series(window.history, window.start, horizon, level)
            for ahead in range(horizon):
                writer.writerow(
                    [
                        window.series,
                        window.cutoff,
                        ahead + 1,
                        f"{said.point[ahead]:.6g}",
                        f"{said.lower[ahead]:.9g}",
                        f"{said.upper[ahead]:.9g}",
                        f"{said.confidence[ahead]:.4f}",
                    ]
                )
            note_error(errors, "ours", window, said.point)


def note_error(errors: dict[Any, list[float]], method: str, window: Window, point: npt.NDArray[np.float64]) -> None:
    known = len(window.actual)
    if known:
        error = float(np.abs(window.actual - point[:known]).mean()) / window.scale
        errors[method, window.bucket].append(error)
        errors[method, "all"].append(error)


def write_alarms(data: Path, out: Path) -> tuple[int, int]:
    labels = json.loads((data / "anomalies" / "labels.json").read_text())
    raised = 0
    with (out / "alarms.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["series", "ts"])
        for series, about in labels.items():
            hours, values = read_column(data / "anomalies" / f"{series}.csv", "ts", "value")
            begin = datetime.fromisoformat(about["score_from"])
            learnt = sum(datetime.fromisoformat(hour) < begin for hour in hours)
            alarms = detect_hourly(values, learnt)
            writer.writerows([series, hours[alarm]] for alarm in alarms)
            raised += len(alarms)
    return raised, len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.predictive", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmark's layout")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to; made if absent")
    asked = parser.parse_args()
    data, out = asked.data, asked.out
    represented.state(__doc__)
    out.mkdir(parents=True, exist_ok=True)
    plan = json.loads((data / "cutoffs.json").read_text())
    horizon, level = int(plan.get("horizon", 7)), float(plan.get("confidence", 0.8))
    seen = windows(data, plan)

    errors: dict[Any, list[float]] = defaultdict(list)
    begun = time.process_time()
    write_forecasts(seen, out, horizon, level, errors)
    spent = time.process_time() - begun
    print(f"{len(seen)} windows forecast, {1000 * spent / max(len(seen), 1):.1f} ms of processor time each")
    for name, baseline in BASELINES.items():
        for window in seen:
            estimator: Forecaster = baseline()
            note_error(errors, name, window, estimator.fit(window.history[None, :]).predict(horizon)[0])
    buckets = list(dict.fromkeys(bucket for _, bucket in errors))
    print("\nMASE by history\n\n| method | " + " | ".join(buckets) + " |\n|---" + "|---" * len(buckets) + "|")
    for name in ("ours", *BASELINES):
        print(f"| {name} | " + " | ".join(f"{np.mean(errors[name, bucket]):.3f}" for bucket in buckets) + " |")

    calibration = Calibration()
    for wanted in LEVELS:
        for window in seen:
            said = forecast_series(window.history, window.start, horizon, wanted)
            known = len(window.actual)
            inside = (window.actual >= said.lower[:known]) & (window.actual <= said.upper[:known])
            calibration.note(wanted, said.confidence[:known], inside)
    calibration.write(out)
    print("\nCalibration: stated confidence against the share of days inside the band\n\n" + calibration.table())

    begun = time.process_time()
    raised, series = write_alarms(data, out)
    print(f"\n{raised} alarms on {series} hourly series, {time.process_time() - begun:.1f} s")


if __name__ == "__main__":
    main()
