"""What fitting costs: `python -m tests.benchmarks.predictive.fit_times`.

Represents what the forecasting threads have to compute for an organization of 1 to 1,000 agents, without a server.

Seconds of `forecast_many` for 1, 100 and 1,000 series of 4 to 1,100 days (log-uniform) that end on one day, for the
horizons the server asks for, and of `find_anomalies` for 1 to 1,000 agents with eight weeks of hours. Each case runs
in a process of its own: its peak memory is its own, start and imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta

import numpy as np

from analytics.predictive.anomalies.detection import HourlyCounts, find_anomalies
from analytics.predictive.forecasting.daily_forecast import forecast_many
from tests.benchmarks import represented

SERIES = (1, 100, 1000)
HORIZONS = (2, 8)
AGENTS = (1, 50, 200, 1000)
FEWEST_DAYS, MOST_DAYS = 4, 1100
HOURS = 8 * 7 * 24
END = datetime(2026, 3, 30, 12, tzinfo=UTC)
KILOBYTES_PER_MEGABYTE = 1024


def daily(count: int) -> list[tuple[np.ndarray, date]]:
    generator = np.random.default_rng(count)
    found = []
    for _ in range(count):
        days = round(float(np.exp(generator.uniform(np.log(FEWEST_DAYS), np.log(MOST_DAYS)))))
        level = float(np.exp(generator.normal(2, 1.5)))
        week = generator.gamma(3, 1 / 3, 7)
        counts = generator.poisson(level * np.resize(week, days)).astype(np.float64)
        found.append((counts, END.date() - timedelta(days=days)))
    return found


def hourly(count: int) -> dict[str, HourlyCounts]:
    generator = np.random.default_rng(count)
    hour = np.arange(HOURS) % 24
    found = {}
    for number in range(count):
        level = float(np.exp(generator.normal(0.5, 1.5)))
        actions = generator.poisson(np.where((hour >= 8) & (hour < 18), level, level / 10))
        elevated = generator.binomial(actions, 0.1)
        found[f"agent-{number}"] = HourlyCounts(actions.astype(np.float64), elevated.astype(np.float64))
    return found


def measured(kind: str, count: int, horizon: int) -> dict[str, float]:
    """Wall and processor seconds of one call, and this process's peak in MB."""
    if kind == "forecast":
        series = daily(count)
        wall, processor = time.perf_counter(), time.process_time()
        forecast_many(series, horizon)
    else:
        agents = hourly(count)
        whole = HourlyCounts(
            np.sum([one.actions for one in agents.values()], axis=0),
            np.sum([one.elevated for one in agents.values() if one.elevated is not None], axis=0),
        )
        wall, processor = time.perf_counter(), time.process_time()
        find_anomalies(whole, agents, first_seen={}, established=END - timedelta(days=90), now=END)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KILOBYTES_PER_MEGABYTE
    return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.predictive.fit_times", description=__doc__)
    parser.add_argument("--case", nargs=3, metavar=("KIND", "COUNT", "HORIZON"), help="one case, as JSON")
    asked = parser.parse_args()
    if asked.case:
        kind, count, horizon = asked.case
        print(json.dumps(measured(kind, int(count), int(horizon))))
        return
    represented.state(__doc__)
    cases = [("forecast", count, horizon) for count in SERIES for horizon in HORIZONS]
    cases += [("anomalies", count, 0) for count in AGENTS]
    print("| what | seconds | processor seconds | peak MB |\n|---|---|---|---|")
    for kind, count, horizon in cases:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.predictive.fit_times",
            "--case",
            kind,
            str(count),
            str(horizon),
        ]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        what = (
            f"forecasts of {count:,} series, {horizon} days ahead"
            if kind == "forecast"
            else f"anomalies of {count:,} agents"
        )
        print(f"| {what} | {told['wall']:.2f} | {told['processor']:.2f} | {told['peak']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
