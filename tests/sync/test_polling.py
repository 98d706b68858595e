"""Polling needs SELECT alone, loses no row to a late commit, finds what leaves no trace, and claims no more than that."""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.state.clock import utc_now
from analytics.state.sync_status import Phase
from handlers.readiness import readiness
from owkai.demo.platform import platform_sql
from owkai.demo.postgres import EmbeddedPostgres
from owkai.wiring import make_services
from sync.polling.horizon import Horizon, Signs, SourceSnapshot, changed_since, parse_horizon
from sync.polling.pace import Pace
from sync.polling.reconciliation import different
from sync.source.preflight import inspect_source
from sync.stream.slot_removal import drop_replication
from tests.postgres import Database, create_database, prepare_template
from tests.sync.running import RunningSync, assert_equal, cache_rows, running_sync, settings_for, wait_until
from tests.sync.test_histories import STEP, run

SLOW = 3600.0  # a reconciliation that only signs bring about
INSERT = "insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)"
TABLES = "agent_actions, users, audit_logs, api_keys"


def polling(database: Database, directory: Path, reconcile_seconds: float = SLOW, **options: Any) -> Any:
    sync = {
        "mode": "poll",
        "poll_seconds": 0.05,
        "reconcile_seconds": reconcile_seconds,
        "backoff_max_seconds": 0.5,
        **options.pop("sync", {}),
    }
    return running_sync(database, directory, sync=sync, **options)


@pytest.fixture
def reader(database: Database) -> Iterator[str]:
    """The DSN of a role that may read the mapped tables and nothing else."""
    name = f"poller_{database.name}"
    database.execute(f"create role {name} login password 'reader-password'; grant select on {TABLES} to {name}")
    yield psycopg.conninfo.make_conninfo(database.dsn, user=name, password="reader-password")
    database.execute(f"drop owned by {name}; drop role {name}")


def wait_equal(sync: RunningSync, database: Database, table: str = "agent_actions") -> None:
    """Wait until the cache equals the source, which reconciliation may take some cycles for."""

    def equal() -> bool:
        with contextlib.suppress(AssertionError):
            return assert_equal(sync, database, table) >= 0
        return False

    wait_until(equal, f"{table} equal; {sync.board.current}")


def cycles(sync: RunningSync, count: int = 2) -> None:
    """Wait for whole cycles that begin after now."""
    seen = {sync.board.current.fresh_at}

    def another() -> bool:
        seen.add(sync.board.current.fresh_at)
        return len(seen) > count

    wait_until(another, f"{count} cycles")


def test_a_transaction_opened_before_the_copy_and_committed_cycles_later_is_not_lost(
    database: Database, tmp_path: Path
) -> None:
    late = database.connect(autocommit=False)
    late.execute(INSERT)
    nested = database.connect(autocommit=False)
    nested.execute("savepoint one")
    nested.execute(INSERT)
    nested.execute("release savepoint one")
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        for _ in range(3):
            database.execute(INSERT)
            assert_equal(sync, database)
        nested.execute("savepoint two")
        nested.execute(INSERT)
        cycles(sync)
        late.commit()
        assert assert_equal(sync, database, "agent_actions") == 4
        nested.commit()
        assert assert_equal(sync, database, "agent_actions") == 6
        assert sync.board.current.copies == 1


def test_an_update_that_no_column_tells_of_is_found(database: Database, tmp_path: Path) -> None:
    database.execute(INSERT)
    database.execute("alter table agent_actions disable trigger user")
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        database.execute("update agent_actions set status = 'denied', risk_level = 'HIGH', updated_at = '1999-01-01'")
        assert assert_equal(sync, database, "agent_actions") == 1


def test_rows_of_a_long_open_transaction_are_not_applied_again_and_again(database: Database, tmp_path: Path) -> None:
    blocker = database.connect(autocommit=False)
    blocker.execute("select txid_current()")
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        database.execute(INSERT)
        assert_equal(sync, database)
        version = sync.cache.version
        for _ in range(3):
            database.execute("select txid_current()")
            cycles(sync)
        assert sync.cache.version == version
        database.execute("update agent_actions set status = 'failed'")
        assert_equal(sync, database)
        assert sync.cache.version == version + 1


@pytest.mark.parametrize(
    "statement",
    [
        "delete from agent_actions where id % 2 = 0",
        "truncate agent_actions",
        "begin; truncate agent_actions; insert into agent_actions (agent_id, action_type, organization_id)"
        " values ('b', 'y', 2); commit",
        "delete from agent_actions; alter sequence agent_actions_id_seq restart",
    ],
)
def test_deletes_and_truncates_are_found_at_once_by_their_signs(
    database: Database, tmp_path: Path, statement: str
) -> None:
    for _ in range(6):
        database.execute(INSERT)
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        assert len(cache_rows(sync.cache, "agent_actions")) == 6
        # On a connection of its own that ends: a session reports its statistics at its end at the latest.
        with psycopg.connect(database.dsn, autocommit=True) as session:
            session.execute(statement.encode())
        wait_equal(sync, database)
        assert sync.board.current.copies == 1


def test_what_leaves_no_sign_is_found_by_reconciliation(database: Database, tmp_path: Path) -> None:
    for _ in range(5):
        database.execute(INSERT)
    with polling(database, tmp_path, reconcile_seconds=0.2) as sync:
        sync.phase(Phase.POLLING)
        database.execute("update agent_actions set id = id + 100 where id = 2")
        wait_equal(sync, database)
        with sync.cache.read() as snapshot:
            found = snapshot._connection.execute("select count(*) from agent_actions where id = 2").fetchone()
        assert found == (0,)
        # Changed behind sync's back in the cache itself: lost, altered and invented rows.
        assert sync.cache.live is not None
        sync.loop.at_position(0, _spoil).result(10)
        wait_equal(sync, database)


def _spoil(store: Any) -> None:
    store.begin()
    store.inquire("delete from agent_actions where id = 1", {})
    store.inquire("update agent_actions set summary = 'spoilt' where id = 3", {})
    store.inquire("insert into agent_actions select * replace (77 as id) from agent_actions where id = 4", {})
    store.inquire("insert into agent_actions select * from agent_actions where id = 5", {})
    store.commit(store.position().lsn)


def test_a_partition_that_comes_with_old_rows_and_goes_again_is_noticed(database: Database, tmp_path: Path) -> None:
    database.execute(
        "create table spare (like agent_actions including defaults including indexes);"
        "alter table agent_actions rename to plain;"
        "create table agent_actions (like plain including defaults) partition by list (organization_id);"
        "alter table agent_actions add primary key (id, organization_id);"
        "create table first partition of agent_actions for values in (1);"
        "insert into spare (id, agent_id, action_type, organization_id) values (900, 'old', 'x', 2)"
    )
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        database.execute(INSERT)
        assert_equal(sync, database)
        database.execute("alter table spare drop constraint spare_pkey")
        database.execute("alter table agent_actions attach partition spare for values in (2)")
        wait_equal(sync, database)
        assert len(cache_rows(sync.cache, "agent_actions")) == 2
        database.execute("alter table agent_actions detach partition spare")
        wait_equal(sync, database)
        assert len(cache_rows(sync.cache, "agent_actions")) == 1


def test_rows_that_retention_no_longer_keeps_leave(database: Database, tmp_path: Path) -> None:
    database.execute(
        'insert into agent_actions (agent_id, action_type, organization_id, status, "timestamp")'
        " values ('a', 'x', 1, 'pending_approval', now() - interval '500 days')"
    )
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        assert len(cache_rows(sync.cache, "agent_actions")) == 1
        database.execute("update agent_actions set status = 'approved'")
        wait_until(lambda: not cache_rows(sync.cache, "agent_actions"), "the decided old row leaves")


def test_many_changed_rows_are_read_by_a_scan(database: Database, tmp_path: Path) -> None:
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        database.execute(
            "insert into agent_actions (agent_id, action_type, organization_id) select 'a' || n, 'x', 1"
            " from generate_series(1, 25000) n"
        )
        assert assert_equal(sync, database, "agent_actions") == 25_000
        database.execute("update agent_actions set status = 'completed'")
        assert assert_equal(sync, database, "agent_actions") == 25_000
        assert sync.board.current.copies == 1


def test_auto_polls_where_the_role_may_not_replicate_and_says_why(
    database: Database, reader: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sync_settings = {"poll_seconds": 0.05, "reconcile_seconds": SLOW}
    with running_sync(database, tmp_path, dsn=reader, sync=sync_settings, auth={"jwt_enabled": False}) as sync:
        sync.phase(Phase.POLLING)
        database.execute(INSERT)
        assert assert_equal(sync, database, "agent_actions") == 1
        body = readiness(make_services(sync.settings, sync.cache, sync.board, utc_now))
    assert body["ready"]
    assert body["mode"] == "poll"
    assert "may not replicate" in body["mode_reason"]
    assert re.search(r'ALTER ROLE "poller_\w+" REPLICATION', body["mode_reason"])
    assert "CREATE PUBLICATION" in body["mode_reason"]
    assert re.fullmatch(
        r"eventual: inserts and updates within \d+ s, deletes and silent changes within \d+ s", body["guarantee"]
    )
    assert any("the source is polled" in record.getMessage() for record in caplog.records)
    assert _slots_and_publications(database, sync) == (0, 0)


def test_a_server_without_logical_wal_and_without_a_free_slot_is_polled() -> None:
    # Not below pytest's own folder: as root the server runs as an account that may not enter it.
    directory = Path(tempfile.mkdtemp(prefix="owkai-tests-"))
    with EmbeddedPostgres.start(directory, options={"wal_level": "replica", "max_replication_slots": "1"}) as server:
        prepare_template(server, platform_sql())
        database = create_database(server, "plain")
        database.execute("select pg_create_physical_replication_slot('another')")
        try:
            options = {"poll_seconds": 0.05, "reconcile_seconds": SLOW}
            with running_sync(database, directory / "ours", sync=options) as sync:
                sync.phase(Phase.POLLING)
                reason = sync.board.current.mode_reason or ""
                assert "ALTER SYSTEM SET wal_level = logical" in reason
                assert "all of its 1 replication slots are in use" in reason
                database.execute(INSERT)
                wait_until(lambda: len(cache_rows(sync.cache, "agent_actions")) == 1, "the row")
        finally:
            database.close()


def test_auto_streams_once_the_source_allows_it(database: Database, reader: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dsn": reader, "sync": {"poll_seconds": 0.05, "reconcile_seconds": SLOW}}
    database.execute(INSERT)
    with running_sync(database, tmp_path, **options) as sync:
        sync.phase(Phase.POLLING)
    role = psycopg.conninfo.conninfo_to_dict(reader)["user"]
    database.execute(f"alter role {role} replication; create publication owkai for table {TABLES}")
    with running_sync(database, tmp_path, **options) as sync:
        sync.streaming()
        assert sync.board.current.mode_reason is None
        assert sync.board.current.copies == 1, "a polled cache is not continued as an exact one"
        database.execute(INSERT)
        assert assert_equal(sync, database, "agent_actions") == 2


def test_stream_refuses_with_the_remedy_where_it_cannot(database: Database, reader: str, tmp_path: Path) -> None:
    with running_sync(database, tmp_path, dsn=reader, sync={"mode": "stream"}) as sync:
        sync.phase(Phase.PAUSED)
        assert not sync.cache.ready
        assert "may not replicate" in (sync.board.current.error or "")
        assert "REPLICATION" in (sync.board.current.remedy or "")
        assert "sync.mode = auto" in (sync.board.current.remedy or "")


def test_check_shows_the_obstacles_of_each_mode(database: Database, reader: str, tmp_path: Path) -> None:
    def lines(mode: str) -> list[tuple[str, str]]:
        found = inspect_source(settings_for(database, tmp_path, reader, sync={"mode": mode}))
        return [(finding.level, str(finding)) for finding in found]

    assert [level for level, line in lines("stream") if "may not replicate" in line] == ["error"]
    assert [level for level, line in lines("auto") if line.startswith("replication")] == ["warning"]
    assert any(level == "ok" and line.startswith("mode: poll") and "may not replicate" in line
               for level, line in lines("auto"))  # fmt: skip
    assert not any("replicat" in line or "publication" in line for _, line in lines("poll"))
    assert not any(level == "error" for mode in ("auto", "poll") for level, _ in lines(mode))


def test_poll_leaves_slots_and_publications_alone(database: Database, tmp_path: Path) -> None:
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        database.execute(INSERT)
        assert_equal(sync, database)
        assert _slots_and_publications(database, sync) == (0, 0)
        assert any("there is none" in line for line in drop_replication(sync.settings))


def _slots_and_publications(database: Database, sync: RunningSync) -> tuple[int, int]:
    row = database.execute(
        "select (select count(*) from pg_replication_slots where slot_name = %s), (select count(*) from pg_publication)",
        [sync.settings.source.slot],
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def test_a_restart_goes_on_without_a_copy_and_finds_what_happened_meanwhile(database: Database, tmp_path: Path) -> None:
    for _ in range(4):
        database.execute(INSERT)
    late = database.connect(autocommit=False)
    late.execute(INSERT)
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        database.execute(INSERT)
        assert_equal(sync, database)
    late.commit()
    database.execute("update agent_actions set status = 'failed' where id = 1")
    with psycopg.connect(database.dsn, autocommit=True) as session:
        session.execute("delete from agent_actions where id = 2")
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        wait_equal(sync, database)
        assert sync.board.current.copies == 0


def test_a_cache_without_a_usable_horizon_is_compared_whole_not_copied(database: Database, tmp_path: Path) -> None:
    for _ in range(4):
        database.execute(INSERT)
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        sync.loop.at_position(0, _forget_horizon).result(10)
    database.execute("update agent_actions set status = 'failed' where id = 1; delete from agent_actions where id = 2")
    with polling(database, tmp_path) as sync:
        wait_equal(sync, database)
        assert sync.board.current.copies == 0


def _forget_horizon(store: Any) -> None:
    """Older than transaction ids can tell, and of another timeline; written last, so that no cycle moves it on."""
    store.advance(store.position().lsn, Horizon(3, 99).text())


def test_row_security_is_opened_by_the_platforms_setting_in_every_cycle(
    database: Database, reader: str, tmp_path: Path
) -> None:
    database.execute(
        "alter table agent_actions enable row level security;"
        "create policy platform on agent_actions for select using (current_setting('app.current_organization_id', true) = '1')"
    )
    database.execute(INSERT)
    with polling(database, tmp_path, dsn=reader, reconcile_seconds=0.2) as sync:
        sync.phase(Phase.POLLING)
        database.execute(INSERT)
        assert assert_equal(sync, database, "agent_actions") == 2
        cycles(sync, 8)
        assert len(cache_rows(sync.cache, "agent_actions")) == 2


def test_row_security_that_hides_rows_is_refused_while_polling_too(
    database: Database, reader: str, tmp_path: Path
) -> None:
    database.execute("alter table agent_actions enable row level security")
    database.execute(INSERT)
    with polling(database, tmp_path, dsn=reader) as sync:
        sync.phase(Phase.PAUSED)
        assert not sync.cache.ready
        assert "BYPASSRLS" in (sync.board.current.remedy or "")


def test_a_quiet_source_stays_fresh_without_a_new_version(database: Database, tmp_path: Path) -> None:
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        version, before = sync.cache.version, sync.board.current.fresh_at
        cycles(sync, 3)
        assert sync.cache.version == version
        assert before is not None
        assert sync.board.current.fresh_at > before


def test_polling_survives_a_broken_connection(database: Database, tmp_path: Path) -> None:
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name = 'owkai'"
        )
        wait_until(lambda: sync.board.current.reconnects >= 1, "the connection is made anew")
        database.execute(INSERT)
        assert assert_equal(sync, database, "agent_actions") == 1
        assert sync.board.current.copies == 1


def test_any_interleaved_history_is_reached(database: Database, tmp_path: Path) -> None:
    with polling(database, tmp_path, reconcile_seconds=0.1) as sync:
        sync.phase(Phase.POLLING)
        sessions = [database.connect(autocommit=False) for _ in range(3)]
        for session in sessions:
            session.execute("set lock_timeout = '20ms'")
            session.commit()

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(st.lists(st.tuples(st.integers(0, 2), STEP), min_size=5, max_size=40))
        def histories(history: list[tuple[int, tuple[object, ...]]]) -> None:
            for which, step in history:
                try:
                    run(sessions[which], step)
                except psycopg.errors.LockNotAvailable:
                    sessions[which].rollback()
            for session in sessions:
                session.commit()
            wait_equal(sync, database)
            database.execute("delete from agent_actions; alter sequence agent_actions_id_seq restart")

        histories()
        assert sync.board.current.copies == 1


def test_no_insert_or_update_waits_for_reconciliation_in_any_history(database: Database, tmp_path: Path) -> None:
    """Without a reconciliation every row of the source is in the cache as it is, though deleted ones may still be there."""
    with polling(database, tmp_path) as sync:
        sync.phase(Phase.POLLING)
        sessions = [database.connect(autocommit=False) for _ in range(3)]
        for session in sessions:
            session.execute("set lock_timeout = '20ms'")
            session.commit()

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(st.lists(st.tuples(st.integers(0, 2), STEP), min_size=5, max_size=40))
        def histories(history: list[tuple[int, tuple[object, ...]]]) -> None:
            for which, step in history:
                if step[0] == "delete":
                    continue
                try:
                    run(sessions[which], step)
                except psycopg.errors.LockNotAvailable:
                    sessions[which].rollback()
            for session in sessions:
                session.commit()
            assert_equal(sync, database, "agent_actions")

        histories()


def test_a_horizon_survives_its_text_and_refuses_another_history() -> None:
    horizon = Horizon(5_000_000_000, 2, {"users": 12.5}, {"users": Signs("f", 3)})
    assert parse_horizon(horizon.text()) == horizon
    assert parse_horizon("{}") is None
    assert parse_horizon("not json") is None
    assert parse_horizon(None) is None

    def snapshot(oldest: int, later: int, timeline: int = 2) -> SourceSnapshot:
        return SourceSnapshot("", oldest, later, False, timeline)

    assert horizon.leads_to(snapshot(5_000_000_000, 5_000_000_001))
    assert not horizon.leads_to(snapshot(4_999_999_999, 5_000_000_001)), "a restored backup"
    assert not horizon.leads_to(snapshot(5_000_000_100, 5_000_000_101, timeline=3)), "a failover"
    assert not horizon.leads_to(snapshot(6_600_000_000, 6_600_000_000)), "transaction ids would wrap"
    assert f"'{5_000_000_000 - (1 << 32)}'::xid" in changed_since(horizon)


def test_the_promise_follows_what_cycles_really_take() -> None:
    pace = Pace(2, 300)
    assert (pace.pause, pace.inserts_within, pace.deletes_within) == (2, 2, 302)
    pace.read(1.0)
    pace.reconciled(40.0)
    assert pace.pause == 4.0
    assert pace.inserts_within == 4 + 2 * 41
    assert pace.deletes_within == 400 + pace.inserts_within
    for _ in range(200):
        pace.read(0.01)
        pace.reconciled(0.1)
    assert (pace.pause, pace.inserts_within) == (2, 3)


def test_different_ids_are_told_by_count_and_checksum() -> None:
    def array(*values: int) -> Any:
        return np.array(values, np.int64)

    ids, present = different(
        array(1, 2, 3, 5, 5), array(10, 20, 30, 50, 51), array(4, 3, 2, 1, 5), array(40, 31, 20, 10, 101)
    )
    assert ids.tolist() == [3, 4, 5]
    assert present.tolist() == [True, False, True]
    ids, _ = different(array(), array(), array(), array())
    assert ids.tolist() == []
