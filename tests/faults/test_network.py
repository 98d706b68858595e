"""Faults of the line and of its credentials: what sync does, what the log says, and that answers go on and say how old they are."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from analytics.state.clock import utc_now
from analytics.state.sync_status import Phase
from sync.copy.copy_stream import END_SECONDS, drain_results
from sync.loop import MOST_DOUBLINGS
from sync.source.connections import connect
from tests.faults.proxy import Proxy
from tests.faults.stories import insert, quick
from tests.postgres import Database
from tests.sync.running import RunningSync, assert_equal, cache_rows, running_sync, settings_for, wait_until


def answers_with_honest_staleness(sync: RunningSync, rows: int) -> None:
    """The cache answers with what it has, and its lag grows past the bound of `quick` settings."""
    assert len(cache_rows(sync.cache, "agent_actions")) == rows
    bound = sync.settings.sync.stale_after_seconds
    wait_until(lambda: sync.board.current.stale(utc_now(), bound), f"stale; {sync.board.current}")
    assert len(cache_rows(sync.cache, "agent_actions")) == rows


def test_a_cut_network_is_retried_and_nothing_is_lost(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    insert(database, 10)
    with (
        Proxy(database.server.port) as line,
        running_sync(database, tmp_path, dsn=line.dsn(database.dsn), **quick()) as sync,
    ):
        sync.streaming()
        line.cut()
        insert(database, 10)
        sync.phase(Phase.RETRYING)
        answers_with_honest_staleness(sync, rows=10)
        assert "sync is retrying" in caplog.text
        line.mend()
        sync.streaming()
        assert assert_equal(sync, database) == 20
        assert sync.board.current.copies == 1
        assert "sync resumed after" in caplog.text


@pytest.mark.parametrize("turns", [6])
def test_a_line_that_is_cut_again_and_again_loses_and_doubles_nothing(
    database: Database, tmp_path: Path, turns: int
) -> None:
    with (
        Proxy(database.server.port) as line,
        running_sync(database, tmp_path, dsn=line.dsn(database.dsn), **quick()) as sync,
    ):
        sync.streaming()
        for turn in range(turns):
            insert(database, 300)
            database.execute("update agent_actions set status = 'failed' where id %% 7 = %s", [turn])
            line.cut()
            database.execute("delete from agent_actions where id %% 11 = %s", [turn])
            line.mend()
        assert assert_equal(sync, database) > 0
        assert sync.board.current.copies == 1


def test_a_half_open_connection_is_noticed_within_the_reply_timeout(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(database, 10)
    with (
        Proxy(database.server.port) as line,
        running_sync(database, tmp_path, dsn=line.dsn(database.dsn), **quick(reply_timeout_seconds=1)) as sync,
    ):
        sync.streaming()
        line.stall()
        insert(database, 10)
        sync.phase(Phase.RETRYING)
        assert "silent for 1 s" in caplog.text
        answers_with_honest_staleness(sync, rows=10)
        line.cut()  # what the stalled line still holds never arrives
        line.mend()
        sync.streaming()
        assert assert_equal(sync, database) == 20
        assert sync.board.current.copies == 1


def test_a_query_on_a_half_open_line_is_given_up(database: Database, tmp_path: Path) -> None:
    """The server's statement_timeout cannot end it: the server is not heard."""
    with Proxy(database.server.port) as line:
        options = quick(reply_timeout_seconds=0.5)
        options["source"] = {"statement_timeout_seconds": 0.5}
        settings = settings_for(database, tmp_path, line.dsn(database.dsn), **options)
        with connect(settings) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
            line.stall()
            with pytest.raises(psycopg.OperationalError, match="has not answered for 1 s"):
                connection.execute("select 1")


def test_a_line_that_stalls_during_the_catalogue_queries_does_not_hold_sync_for_ever(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(database, 10)
    options = quick(reply_timeout_seconds=1)
    options["source"] = {"connect_timeout_seconds": 2, "statement_timeout_seconds": 1}
    with Proxy(database.server.port) as line:
        line.delay(0.05)  # so that the survey's many small queries take long enough to be met
        with running_sync(database, tmp_path, dsn=line.dsn(database.dsn), **options) as sync:
            wait_until(lambda: line.accepted >= 2, "connections")
            line.stall()
            sync.phase(Phase.RETRYING)
            line.cut()
            line.mend()
            sync.streaming()
            assert assert_equal(sync, database) == 10


def test_a_line_that_stalls_during_the_copy_does_not_hold_sync_for_ever(database: Database, tmp_path: Path) -> None:
    insert(database, 60_000)
    with Proxy(database.server.port) as line:
        line.delay(0.005)
        with running_sync(database, tmp_path, dsn=line.dsn(database.dsn), **quick(reply_timeout_seconds=1)) as sync:
            wait_until(lambda: sync.board.current.progress is not None, "rows of the copy")
            line.stall()
            sync.phase(Phase.RETRYING)
            assert not sync.cache.ready  # half a copy is never shown
            line.cut()
            line.mend()
            sync.streaming()
            assert assert_equal(sync, database) == 60_000


def test_a_slow_line_only_makes_the_cache_later(database: Database, tmp_path: Path) -> None:
    with (
        Proxy(database.server.port) as line,
        running_sync(database, tmp_path, dsn=line.dsn(database.dsn), **quick()) as sync,
    ):
        sync.streaming()
        line.delay(0.3)
        for _ in range(5):
            insert(database, 20)
        assert assert_equal(sync, database) == 100
        assert sync.board.current.phase is Phase.STREAMING
        assert sync.board.current.reconnects == 0


def test_bytes_that_are_not_the_protocol_are_refused_and_read_again(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(database, 10)
    with (
        Proxy(database.server.port) as line,
        running_sync(database, tmp_path, dsn=line.dsn(database.dsn), **quick(reply_timeout_seconds=1)) as sync,
    ):
        sync.streaming()
        line.garble(3)
        insert(database, 10)
        wait_until(lambda: line.garbled == 3, "three garbled pieces")
        sync.streaming()
        assert assert_equal(sync, database) == 20
        assert sync.board.current.copies == 1
        assert "sync is retrying" in caplog.text


def test_rep_09_a_changed_password_is_said_and_sync_goes_on_once_it_is_right_again(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute("drop role if exists owkai_changed_password")
    database.execute("create role owkai_changed_password superuser login password 'first-secret-of-ours'")
    dsn = database.server.dsn(database.name, "owkai_changed_password", "first-secret-of-ours")
    insert(database, 10)
    with (
        Proxy(database.server.port) as line,
        running_sync(database, tmp_path, dsn=line.dsn(dsn), **quick()) as sync,
    ):
        sync.streaming()
        database.execute("alter role owkai_changed_password password 'another-secret'")
        insert(database, 10)
        assert_equal(sync, database)  # an open session keeps its rights; the next one is refused
        line.cut()
        line.mend()
        wait_until(lambda: "password" in (sync.board.current.error or ""), f"refused; {sync.board.current}")
        assert "source.password" in (sync.board.current.remedy or "")
        assert "password authentication failed" in caplog.text
        assert "first-secret-of-ours" not in caplog.text
        insert(database, 10)
        answers_with_honest_staleness(sync, rows=20)
        database.execute("alter role owkai_changed_password password 'first-secret-of-ours'")
        sync.streaming()
        assert assert_equal(sync, database) == 30
    database.execute("drop owned by owkai_changed_password cascade")
    database.execute("drop role owkai_changed_password")


def test_a_session_ended_by_the_source_is_an_interruption_not_a_case_for_a_person(
    database: Database, tmp_path: Path
) -> None:
    with running_sync(database, tmp_path, sync={"backoff_max_seconds": 600}) as sync:
        sync.streaming()
        for _ in range(3):
            database.execute(
                "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s",
                [sync.settings.source.slot],
            )
            insert(database, 10)
            assert_equal(sync, database)
        assert sync.board.current.copies == 1


def test_a_peer_that_says_nothing_after_the_end_of_the_stream_freezes_nobody(
    database: Database, tmp_path: Path
) -> None:
    """A blocking call of libpq would hold the interpreter, and with it every thread of the server."""
    with (
        Proxy(database.server.port) as line,
        running_sync(database, tmp_path, dsn=line.dsn(database.dsn), **quick()) as sync,
    ):
        sync.streaming()
        connection = psycopg.connect(line.dsn(database.dsn), autocommit=True)
        connection.pgconn.send_query(b"select pg_sleep(600)")
        line.stall()
        ticks = []
        ticking = threading.Thread(
            target=lambda: [ticks.append(time.monotonic()) or time.sleep(0.05) for _ in range(20)]
        )
        ticking.start()
        with pytest.raises(psycopg.OperationalError, match=r"did not end the command|closed the connection"):
            drain_results(connection)
        ticking.join()
        connection.close()
        assert max(later - earlier for earlier, later in itertools.pairwise(ticks)) < END_SECONDS - 1
        line.mend()
        sync.streaming()


def test_a_password_file_is_read_again_by_the_next_attempt(database: Database, tmp_path: Path) -> None:
    """A rotated password needs no restart: neither the file's own change nor a signal is waited for."""
    role = "owkai_rotated_password"
    database.execute(f"drop role if exists {role}")
    database.execute(f"create role {role} superuser login password 'first-secret-of-ours'")
    file = tmp_path / "db.password"
    file.touch(0o600)
    file.write_text("first-secret-of-ours\n")
    insert(database, 10)
    with Proxy(database.server.port) as line:
        dsn = line.dsn(database.server.dsn(database.name, role))
        with running_sync(database, tmp_path, dsn=dsn, source={"password_file": file}, **quick()) as sync:
            sync.streaming()
            database.execute(f"alter role {role} password 'another-secret-of-ours'")
            line.cut()
            line.mend()
            wait_until(lambda: "password" in (sync.board.current.error or ""), f"refused; {sync.board.current}")
            file.write_text("another-secret-of-ours\n")
            sync.streaming()
            insert(database, 10)
            assert assert_equal(sync, database) == 20
            assert sync.board.current.copies == 1
    database.execute(f"drop owned by {role} cascade")
    database.execute(f"drop role {role}")


def test_a_reload_ends_the_pause_after_a_fault(tmp_path: Path, database: Database) -> None:
    with Proxy(database.server.port) as line:
        options = {"sync": {"backoff_max_seconds": 3600}, "source": {"connect_timeout_seconds": 2}}
        with running_sync(database, tmp_path, dsn=line.dsn(database.dsn), **options) as sync:
            sync.streaming()
            sync.loop._session.state = replace(sync.loop._session.state, faults_in_a_row=MOST_DOUBLINGS)
            line.cut()
            wait_until(lambda: sync.board.current.phase is Phase.RETRYING, f"the cut; {sync.board.current}")
            line.mend()
            sync.loop.try_now()
            sync.streaming()
