"""cache.keep_days: what is older is neither copied nor kept, unless it still waits for a human."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from analytics.state.clock import utc_now
from sync.retention import retention_horizon
from tests.postgres import Database
from tests.sync.running import assert_equal, cache_rows, running_sync, wait_until

ROW = (
    'insert into agent_actions (id, agent_id, action_type, organization_id, status, "timestamp", created_at)'
    " values (%s, 'a', 'x', 1, %s, %s, %s)"
)


def test_old_rows_stay_behind_and_pending_or_undated_ones_come(database: Database, tmp_path: Path) -> None:
    old, new = utc_now() - timedelta(days=20), utc_now() - timedelta(days=2)
    database.execute(ROW, [1, "completed", old, None])
    database.execute(ROW, [2, "completed", new, None])
    database.execute(ROW, [3, "pending_approval", old, None])
    database.execute(ROW, [4, "completed", None, old.replace(tzinfo=None)])
    database.execute(ROW, [5, "completed", None, None])
    database.execute(ROW, [6, "\t Pending_Approval\n", old, None])
    database.execute(ROW, [7, "PENDING_APPROVAL ", old, None])
    with running_sync(database, tmp_path, cache={"keep_days": 10}) as sync:
        sync.streaming()
        assert set(cache_rows(sync.cache, "agent_actions")) == {2, 3, 5, 6, 7}


def test_rows_that_grow_old_leave_the_cache(database: Database, tmp_path: Path) -> None:
    database.execute(ROW, [1, "completed", utc_now() - timedelta(days=12), None])
    database.execute(ROW, [2, " PENDING_APPROVAL", utc_now() - timedelta(days=12), None])
    with running_sync(database, tmp_path, cache={"keep_days": 30}) as sync:
        sync.streaming()
        sync.loop.stop(10)
        store, settings = sync.cache.live, sync.settings
        assert store is not None
        store.begin()
        horizon = retention_horizon(settings, utc_now() + timedelta(days=25)).replace(tzinfo=None)
        assert store.expire("agent_actions", horizon, settings.meaning.pending_statuses) == 1
        store.rollback()
        assert set(cache_rows(sync.cache, "agent_actions")) == {1, 2}


def test_the_write_ahead_log_is_folded_in_by_its_size_before_the_time_comes(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path, cache={"log_megabytes": 1, "checkpoint_seconds": 86400}) as sync:
        sync.streaming()
        store = sync.cache.live
        assert store is not None
        sizes = []
        for _ in range(12):
            database.execute(
                "insert into agent_actions (agent_id, action_type, organization_id, summary)"
                " select 'a', 'x', 1, md5(i::text) || md5(random()::text) from generate_series(1, 5000) i"
            )
            sync.caught_up(database)
            sizes.append(store.log_bytes())
        wait_until(lambda: store.log_bytes() <= 1 << 20, f"a checkpoint; {sizes}")
        assert store.path is not None
        assert store.path.stat().st_size > 1 << 20, "it went into the file"
        assert assert_equal(sync, database, "agent_actions") == 60_000
