"""Data that stops moving is reported, whatever the reason, and only then."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from analytics.state import sync_status as status
from analytics.state.clock import utc_now
from analytics.state.sync_status import InitialCopyProgress, Phase, StatusBoard
from handlers.readiness import readiness
from owkai.standstill import Standstill
from owkai.wiring import make_services
from tests.faults.proxy import Proxy
from tests.postgres import Database
from tests.sync.running import running_sync, wait_until

NOW = datetime(2025, 1, 15, tzinfo=UTC)


def test_a_source_that_stays_away_needs_attention_and_one_that_is_idle_does_not(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(status, "STANDSTILL_SECONDS", 3.0)
    with (
        Proxy(database.server.port) as line,
        running_sync(
            database,
            tmp_path,
            dsn=line.dsn(database.dsn),
            auth={"jwt_enabled": False},
            sync={"stale_after_seconds": 2, "backoff_max_seconds": 0.2},
        ) as sync,
    ):
        sync.streaming()
        services = make_services(sync.settings, sync.cache, sync.board, utc_now)
        watch = Standstill(sync.board, sync.settings.sync.stale_after_seconds)
        first = sync.board.current.fresh_at
        wait_until(lambda: sync.board.current.fresh_at not in (None, first), "samples of an idle source")
        assert readiness(services)["needs_attention"] is False
        watch.look(utc_now())
        line.cut()
        wait_until(lambda: bool(readiness(services)["needs_attention"]), f"attention; {sync.board.current}")
        assert sync.board.current.phase is Phase.RETRYING
        watch.look(utc_now())
        watch.look(utc_now())
        assert caplog.text.count("no data has come in for") == 1
        line.mend()
        wait_until(lambda: not readiness(services)["needs_attention"], f"no attention; {sync.board.current}")
        with caplog.at_level(logging.INFO):
            watch.look(utc_now())
        assert "data is coming in again" in caplog.text
        services.close()


def test_a_copy_that_goes_on_is_no_standstill_and_one_that_waits_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("analytics.state.sync_status.time.monotonic", lambda: clock[0])
    board = StatusBoard()
    board.update(phase=Phase.COPYING)
    for rows in range(1, 5):
        clock[0] += status.STANDSTILL_SECONDS - 1
        board.update(progress=InitialCopyProgress("users", rows, 10, NOW))
        assert not board.at_standstill(NOW, 30)
    clock[0] += status.STANDSTILL_SECONDS
    assert board.at_standstill(NOW, 30)
    board.update(fresh_at=NOW)
    clock[0] += status.STANDSTILL_SECONDS
    assert not board.at_standstill(NOW, 30), "answers are not stale"
    assert board.at_standstill(NOW + timedelta(seconds=31), 30)
    board.update(phase=Phase.STOPPED)
    assert not board.at_standstill(NOW + timedelta(seconds=31), 30)
