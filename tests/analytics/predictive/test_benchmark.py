"""The benchmark commands on a small folder of the layout: complete, honest, and blind to what came after."""

from __future__ import annotations

import csv
import json
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.predictive import detectors, fit_times, libraries
from tests.benchmarks.predictive.__main__ import main


def lay_out(data: Path, after_cutoff: int) -> None:
    (data / "daily").mkdir(parents=True)
    (data / "anomalies").mkdir()
    counts = np.random.default_rng(1).poisson(20, 60)
    counts[50:] += after_cutoff
    days = [date(2025, 1, 1) + timedelta(days=day) for day in range(60)]
    lines = [f"{day},{count}" for day, count in zip(days, counts, strict=True)]
    (data / "daily" / "one.csv").write_text("\n".join(["ds,y", *lines]) + "\n")
    origins = [
        {"cutoff": str(days[49]), "length": length, "bucket": str(length), "train_start": str(days[50 - length])}
        for length in (5, 28)
    ]
    origins[0] |= {"cutoff": str(days[40]), "train_start": str(days[36])}
    plan = {"horizon": 7, "confidence": 0.8, "season": 7, "series": {"one": origins}}
    (data / "cutoffs.json").write_text(json.dumps(plan))
    hours = [datetime(2025, 1, 1) + timedelta(hours=hour) for hour in range(24 * 40)]  # noqa: DTZ001 - local, as in the layout
    lines = [f"{hour},{10 + (hour.day == 20) * 500}" for hour in hours]
    (data / "anomalies" / "odd.csv").write_text("\n".join(["ts,value", *lines]) + "\n")
    about = {"odd": {"kind": "labelled", "score_from": str(hours[24 * 10]), "windows": []}}
    (data / "anomalies" / "labels.json").write_text(json.dumps(about))


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, after_cutoff: int) -> Path:
    lay_out(folder / "data", after_cutoff)
    monkeypatch.setattr("sys.argv", ["x", "--data", str(folder / "data"), "--out", str(folder / "out")])
    main()
    return folder / "out"


def test_every_window_is_forecast_and_the_future_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run(tmp_path / "a", monkeypatch, 0)
    with (out / "forecasts.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {(row["cutoff"], int(row["horizon"])) for row in rows} == {
        (cutoff, ahead) for cutoff in ("2025-02-10", "2025-02-19") for ahead in range(1, 8)
    }
    assert (out / "alarms.csv").read_text().splitlines()[1].startswith("odd,2025-01-20")
    other = run(tmp_path / "b", monkeypatch, 1000)
    assert (out / "forecasts.csv").read_bytes() == (other / "forecasts.csv").read_bytes()


def test_without_the_library_this_is_said_and_what_was_published_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(tmp_path, 0)
    (tmp_path / "README.md").write_text(
        "# X\n\n## Baselines: forecasts\n\n| AutoETS | 1.234 |\n\n## Baselines: anomalies\n\nno\n"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["x", "--data", str(tmp_path)])
    libraries.main()
    told = capsys.readouterr().out
    assert "2 of 2 windows" in told
    assert "| ours | " in told
    assert "statsforecast is not installed, so no library was run" in told
    assert told.rstrip().endswith("| AutoETS | 1.234 |")


@pytest.mark.parametrize("judge", [detectors.isolated, detectors.reconstructed])
def test_the_rival_detectors_see_no_hour_before_it_comes(judge: detectors.Judge) -> None:
    rows = np.random.default_rng(1).normal(size=(5 * detectors.WEEK, 4))
    changed = rows.copy()
    cut = 4 * detectors.WEEK + 10
    changed[cut:] += 50
    first, second = (detectors.week_by_week(one, judge) for one in (rows, changed))
    np.testing.assert_array_equal(first[:cut], second[:cut])
    assert (first[cut:] != second[cut:]).all()
    for beyond in (detectors.beyond_spread, detectors.beyond_highest):
        assert [hour for hour in beyond(first, 1.1) if hour < cut] == [
            hour for hour in beyond(second, 1.1) if hour < cut
        ]
        assert cut in beyond(second, 1.1)


@pytest.mark.parametrize("kind", ["forecast", "anomalies"])
def test_a_fit_time_is_of_a_real_fit(kind: str) -> None:
    told = fit_times.measured(kind, 3, 2)
    assert told["wall"] > 0
    assert told["peak"] > 20
