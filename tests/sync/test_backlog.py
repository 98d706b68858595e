"""A backlog reaches the cache in bounded steps, and the source hears from us by the clock, whatever we are busy with."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from analytics.state.store import Store
from sync.position_barrier import NOW
from sync.stream import batch_loop
from sync.stream.batch import Batch, BatchLimits
from tests.faults.stories import INSERT, own_database, quick
from tests.postgres import Database
from tests.sync.running import assert_equal, running_sync, wait_until

SINGLE_ROWS = """
do $$ begin
    for i in 1..{} loop
        insert into agent_actions (agent_id, action_type, organization_id) values ('agent-' || i, 'query', 1);
        commit;
    end loop;
end $$"""


def test_a_backlog_of_small_transactions_is_committed_in_steps(database: Database, tmp_path: Path) -> None:
    """Without the bound, what arrives faster than it is applied would be one commit, and start over after a kill."""
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
    database.execute(SINGLE_ROWS.format(5000))
    with running_sync(database, tmp_path, **quick(batch_rows=100, batch_milliseconds=5000)) as again:
        again.streaming()
        assert assert_equal(again, database, "agent_actions") == 5000
        store = again.cache.live
        assert store is not None
        version = store.position()
        assert version is not None
        assert version.version >= 5000 // 100, "a commit for every hundred rows or fewer"


@pytest.mark.parametrize(
    ("limits", "due_after"),
    [
        (BatchLimits(rows=3), 3),
        (BatchLimits(rows=100, size_bytes=250), 3),
        (BatchLimits(rows=100, seconds=0.0), 1),
    ],
)
def test_a_commit_is_due_by_rows_bytes_or_time_and_only_between_transactions(
    limits: BatchLimits, due_after: int
) -> None:
    batch = Batch()
    for number in range(1, 6):
        batch.in_transaction = True
        batch.add(7, bytes(100))
        assert not batch.due(limits), "not inside a transaction"
        batch.in_transaction = False
        batch.complete(end_lsn=number)
        assert batch.due(limits) == (number >= due_after)
        batch.take_rows()  # applied, but not committed
    batch.committed()
    assert not batch.due(limits)


def test_the_source_hears_from_us_while_the_cache_is_busy(tmp_path: Path) -> None:
    """The source ends connections that are silent for wal_sender_timeout."""
    with own_database(wal_sender_timeout="2s") as database, running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()

        def busy(store: Store) -> None:
            end = time.monotonic() + 6
            while time.monotonic() < end:
                time.sleep(0.1)  # as a checkpoint or a large statement of DuckDB: without the interpreter's lock

        working = sync.loop.at_position(NOW, busy)
        database.execute(INSERT.format(50_000))
        working.result(60)
        assert assert_equal(sync, database, "agent_actions") == 50_000
        assert sync.board.current.reconnects == 0


def test_a_source_that_shuts_down_does_not_wait_for_wal_that_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fast shutdown waits until the position of every replica is confirmed: we confirm when we are asked, not by our clock."""
    monkeypatch.setattr(batch_loop, "ADVANCE_SECONDS", 1e9)
    monkeypatch.setattr(batch_loop, "ADVANCE_BYTES", 1 << 60)
    with own_database() as database, running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute(INSERT.format(10))
        sync.caught_up(database)
        database.execute("create table noise as select generate_series(1, 10000) i")
        wait_until(lambda: sync.board.current.lag_bytes == 0, "the noise is read")
        database.close()
        database.server.stop()
        assert "did not stop" not in caplog.text
        database.server.restart()
        database.execute(INSERT.format(10))
        assert assert_equal(sync, database, "agent_actions") == 20
        assert sync.board.current.copies == 1
