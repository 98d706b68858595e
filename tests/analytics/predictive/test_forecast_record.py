"""The record of issued forecasts: the first of a day stands, scores are right, a damaged file costs the past, not the server."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from analytics.predictive import forecast_record as ledgers
from analytics.predictive.forecast_record import (
    ASIDE,
    FILE,
    RETRY_SECONDS,
    Due,
    ForecastRecord,
    Issued,
    Score,
    open_forecast_record,
)

TODAY = date(2025, 1, 15)
DAY = timedelta(days=1)


def issued(target: date, point: float, *, subject: str = "", made_on: date | None = None, half: float = 2.0) -> Issued:
    return Issued(
        "workload" if subject else "high_risk",
        subject,
        made_on or target - DAY,
        target,
        point,
        point - half,
        point + half,
        0.8,
        point + 3,
        "structural",
    )


def test_the_first_forecast_of_a_day_stands(tmp_path: Path) -> None:
    forecast_record = ForecastRecord(tmp_path)
    assert forecast_record.record("s", 1, [issued(TODAY, 10)]) == 1
    assert forecast_record.record("s", 1, [issued(TODAY, 99), issued(TODAY + DAY, 11)]) == 1
    forecast_record.score("s", 1, [(Due("high_risk", "", TODAY), 10.0)], TODAY + DAY)
    assert forecast_record.accuracy("s", 1).high_risk.mean_absolute_error == 0


def test_scores_are_the_share_inside_and_the_mean_errors(tmp_path: Path) -> None:
    forecast_record = ForecastRecord(tmp_path)
    targets = [TODAY - back * DAY for back in range(1, 5)]
    forecast_record.record("s", 1, [issued(target, 10) for target in targets])
    due = forecast_record.due("s", 1, TODAY)
    assert {one.target for one in due} == set(targets)
    actual = dict(zip(sorted(targets), (10.0, 12.0, 12.5, 4.0), strict=True))
    forecast_record.score("s", 1, [(one, actual[one.target]) for one in due], TODAY)
    assert forecast_record.accuracy("s", 1).high_risk == Score(
        4, 0.5, pytest.approx(0.8), (0 + 2 + 2.5 + 6) / 4, (3 + 1 + 0.5 + 9) / 4, min(targets)
    )
    assert forecast_record.accuracy("s", 1).workload == Score()


def test_a_day_that_is_not_over_is_not_due(tmp_path: Path) -> None:
    forecast_record = ForecastRecord(tmp_path)
    forecast_record.record("s", 1, [issued(TODAY + back * DAY, 5, made_on=TODAY - DAY) for back in range(-1, 3)])
    assert [one.target for one in forecast_record.due("s", 1, TODAY)] == [TODAY - DAY]


def test_a_count_that_changes_within_a_week_changes_the_score_and_later_it_is_settled(tmp_path: Path) -> None:
    forecast_record = ForecastRecord(tmp_path)
    forecast_record.record("s", 1, [issued(TODAY, 10)])
    due = Due("high_risk", "", TODAY)
    forecast_record.score("s", 1, [(due, 30.0)], TODAY + DAY)
    assert forecast_record.due("s", 1, TODAY + 7 * DAY) == [due]
    forecast_record.score("s", 1, [(due, 10.0)], TODAY + 7 * DAY)
    assert forecast_record.accuracy("s", 1).high_risk.within_band == 1
    assert forecast_record.due("s", 1, TODAY + 8 * DAY) == []


def test_sources_organizations_and_agents_are_kept_apart(tmp_path: Path) -> None:
    forecast_record = ForecastRecord(tmp_path)
    forecast_record.record("s", 1, [issued(TODAY, 10), issued(TODAY, 50, subject="a"), issued(TODAY, 60, subject="b")])
    forecast_record.record("s", 2, [issued(TODAY, 20)])
    forecast_record.record("t", 1, [issued(TODAY, 30)])
    forecast_record.score("s", 1, [(Due("workload", "b", TODAY), 60.0)], TODAY + DAY)
    forecast_record.score("s", 2, [(Due("high_risk", "", TODAY), 21.0)], TODAY + DAY)
    assert forecast_record.accuracy("s", 1).high_risk.forecasts_scored == 0
    assert forecast_record.accuracy("s", 1).workload[:2] == (1, 1.0)
    assert forecast_record.accuracy("t", 1).high_risk.forecasts_scored == 0
    everything = forecast_record.accuracy()
    assert (everything.high_risk.forecasts_scored, everything.workload.forecasts_scored) == (1, 1)


def test_it_survives_a_restart_and_forgets_after_ninety_days(tmp_path: Path) -> None:
    forecast_record = ForecastRecord(tmp_path)
    forecast_record.record("s", 1, [issued(TODAY - 89 * DAY, 1), issued(TODAY - 91 * DAY, 1)])
    forecast_record.score("s", 1, [(one, 1.0) for one in forecast_record.due("s", 1, TODAY)], TODAY)
    forecast_record.close()
    again = ForecastRecord(tmp_path)
    assert again.accuracy("s", 1).high_risk.since == TODAY - 89 * DAY
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + bytes(4096)])
def test_a_file_that_is_no_record_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    forecast_record = ForecastRecord(tmp_path)
    assert forecast_record.record("s", 1, [issued(TODAY, 1)]) == 1
    assert (tmp_path / ASIDE).read_bytes() == content


def test_a_record_of_another_version_is_set_aside(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("pragma user_version = 99")
    other.close()
    forecast_record = ForecastRecord(tmp_path)
    assert forecast_record.record("s", 1, [issued(TODAY, 1)]) == 1
    assert (tmp_path / ASIDE).exists()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"symbolic|Too many levels"):
        ForecastRecord(tmp_path)
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_where_none_can_be_kept_it_is_kept_in_memory_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).mkdir()
    forecast_record = open_forecast_record(tmp_path)
    assert forecast_record.record("s", 1, [issued(TODAY, 1)]) == 1
    assert "kept in memory only" in caplog.text


def test_names_are_values_never_sql(tmp_path: Path) -> None:
    forecast_record = ForecastRecord(tmp_path)
    name = "x'); drop table issued; --\0é🙂"
    forecast_record.record("s", 1, [issued(TODAY, 1, subject=name)])
    assert forecast_record.due("s", 1, TODAY + DAY) == [Due("workload", name, TODAY)]


def scored(forecast_record: ForecastRecord) -> int:
    forecast_record.record("s", 1, [issued(TODAY, 10)])
    forecast_record.score("s", 1, [(Due("high_risk", "", TODAY), 10.0)], TODAY + DAY)
    return forecast_record.accuracy("s", 1).high_risk.forecasts_scored


OPEN_WITHOUT_ROOM = """
import resource, signal, sys
from pathlib import Path
from analytics.predictive.forecast_record import open_forecast_record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
print(open_forecast_record(Path(sys.argv[1])).accuracy("s", 1).high_risk.forecasts_scored)
"""


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_disk_without_room_at_the_start_leaves_a_healthy_record_in_its_place(
    tmp_path: Path, unfinished: bool
) -> None:
    """A crashed writer's journal needs room to be rolled back, and without it the record waits in memory for its file."""
    forecast_record = ForecastRecord(tmp_path)
    assert scored(forecast_record) == 1
    if unfinished:
        leave_a_hot_journal(tmp_path / FILE)
    done = subprocess.run(
        [sys.executable, "-c", OPEN_WITHOUT_ROOM, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ("0" if unfinished else "1"), done.stderr
    assert not (tmp_path / ASIDE).exists()
    assert ForecastRecord(tmp_path).accuracy("s", 1).high_risk.forecasts_scored == 1


def leave_a_hot_journal(path: Path) -> None:
    """Die in the middle of a transaction that has reached the file."""
    story = (
        "import os, sqlite3, sys\n"
        "d = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "d.execute('pragma cache_size = 1')\n"
        "d.execute('begin')\n"
        "d.execute(\"update issued set method = 'half done'\")\n"
        "d.execute('create table filler (t)')\n"
        "d.executemany('insert into filler values (?)', [('x' * 4000,)] * 200)\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", story, str(path)], check=True, timeout=60)
    assert path.with_name(path.name + "-journal").stat().st_size > 0


def test_what_began_in_memory_moves_to_the_file_once_it_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "later"
    forecast_record = open_forecast_record(place)  # there is no such directory yet
    assert "kept in memory only" in caplog.text
    assert scored(forecast_record) == 1
    place.mkdir()
    later = ledgers.time.monotonic() + 2 * RETRY_SECONDS
    monkeypatch.setattr(ledgers.time, "monotonic", lambda: later)
    assert forecast_record.accuracy("s", 1).high_risk.forecasts_scored == 1
    forecast_record.close()
    assert ForecastRecord(place).accuracy("s", 1).high_risk.forecasts_scored == 1


def test_a_record_that_is_damaged_while_it_is_open_is_set_aside(tmp_path: Path) -> None:
    forecast_record = ForecastRecord(tmp_path)
    assert scored(forecast_record) == 1
    file = tmp_path / FILE
    size = file.stat().st_size
    file.write_bytes(b"\xff" * size)
    assert forecast_record.record("s", 1, [issued(TODAY, 10)]) == 1
    assert (tmp_path / ASIDE).exists()
    assert scored(forecast_record) == 1
