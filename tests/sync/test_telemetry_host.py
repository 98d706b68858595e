"""Telemetry of this machine, and the thread that collects."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from analytics.state.background import Jobs
from analytics.state.clock import utc_now
from analytics.state.telemetry_board import Part, RequestTotals, TelemetryBoard
from handlers.metrics.server_metrics import BUCKETS_SECONDS, ServerMetrics
from sync.telemetry.collector import Collector
from sync.telemetry.host import Host, cpu_reading, disk_percent, percent_between
from tests.analytics.rows import settings

NOW = datetime(2025, 1, 15, 14, 30, tzinfo=UTC)
NONE_YET = RequestTotals(0, 0, 0.0, BUCKETS_SECONDS, (0,) * (len(BUCKETS_SECONDS) + 1))


def times(**seconds: float) -> Any:
    return SimpleNamespace(_asdict=lambda: {"user": 0.0, "idle": 0.0, **seconds})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_waiting_for_disks_is_idleness_and_guests_are_not_counted_twice() -> None:
    before = cpu_reading(times(), 0)
    after = cpu_reading(times(user=30.0, guest=30.0, idle=60.0, iowait=10.0), 100)
    assert percent_between(before, after) == 30.0
    assert percent_between(after, after) is None


def test_the_average_is_of_a_real_hour(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = 0.0
    busy = 0.0
    monkeypatch.setattr(psutil, "cpu_times", lambda: times(user=busy, idle=clock - busy))
    host = Host(tmp_path, 60, lambda: NONE_YET, lambda: clock)
    seen = []
    for share in [1.0] * 60 + [0.0] * 60 + [0.5]:
        clock, busy = clock + 60, busy + 60 * share
        sample = host.collect(NOW)[0].sample
        assert sample is not None
        seen.append((sample.cpu_percent, sample.cpu_average_percent))
    assert seen[59] == (100.0, 100.0)
    assert seen[89] == (0.0, pytest.approx(50.0))
    assert seen[119] == (0.0, pytest.approx(0.0))
    assert seen[120] == (50.0, pytest.approx(50 / 60))


def test_machine_values_are_what_the_machine_says(tmp_path: Path) -> None:
    system, application = Host(tmp_path, 60, lambda: NONE_YET).collect(NOW)
    sample = system.sample
    assert sample is not None
    assert sample.memory_percent == pytest.approx(psutil.virtual_memory().percent, abs=10)
    assert sample.disk_percent == pytest.approx(psutil.disk_usage(str(tmp_path)).percent, abs=5)
    assert sample.network_milliseconds is None
    assert application.sample is not None
    assert application.sample.requests_per_second == 0.0
    assert application.sample.mean_milliseconds is None
    assert disk_percent(tmp_path / "there is none") is None


def test_a_machine_that_cannot_be_read_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host(tmp_path, 60, lambda: NONE_YET)

    def refuse() -> Any:
        raise OSError("no /proc")

    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    system, application = host.collect(NOW)
    assert system.failure == "This machine's CPU and memory could not be read"
    assert application.failure is None


def test_requests_of_the_api_count_and_the_operators_own_do_not() -> None:
    measures = ServerMetrics()
    assert measures.totals() == NONE_YET
    for _ in range(3):
        measures.count("/api/analytics/trends", "GET", 200, 0.004)
    measures.count("/api/analytics/performance", "GET", 503, 0.2)
    measures.count("/metrics", "GET", 500, 9.0)
    totals = measures.totals()
    assert (totals.requests, totals.errors) == (4, 1)
    assert totals.seconds == pytest.approx(0.212)
    assert sum(totals.buckets) == 4


def test_the_thread_collects_and_ends(tmp_path: Path) -> None:
    given = settings(tmp_path, telemetry={"source": "host", "period_seconds": 0.1})
    board = TelemetryBoard("host")
    collector = Collector(given, board, lambda: NONE_YET, utc_now, Jobs())
    collector.start()
    until(lambda: board.current.collections >= 3)
    assert board.current.system.sample is not None
    collector.stop(5)
    collector.stop(5)
    assert "owkai-telemetry" not in [thread.name for thread in threading.enumerate()]


def test_a_fault_of_ours_is_logged_and_does_not_end_the_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = settings(tmp_path, telemetry={"source": "host", "period_seconds": 0.1})
    board = TelemetryBoard("host")
    monkeypatch.setattr(Host, "collect", lambda self, now: 1 / 0)
    collector = Collector(given, board, lambda: NONE_YET, utc_now, Jobs())
    collector.start()
    until(lambda: board.current.failures >= 2)
    assert board.current.system == Part("host", failure="The collector failed; see the log")
    monkeypatch.undo()
    until(lambda: board.current.system.sample is not None)
    collector.stop(5)
    assert "ZeroDivisionError" in caplog.text


def test_without_telemetry_there_is_no_thread(tmp_path: Path) -> None:
    collector = Collector(settings(tmp_path), TelemetryBoard(), lambda: NONE_YET, utc_now, Jobs())
    collector.start()
    assert "owkai-telemetry" not in [thread.name for thread in threading.enumerate()]
    collector.stop(1)
