"""Cache = source, row by row, whatever happens on the source. Every test runs the real loop against a real Postgres."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from analytics.state.sync_status import Phase
from sync.faults import SlotBusyError
from sync.source.connections import SourceError, open_replication, replication_command
from sync.stream.slot_claim import claimed_slot
from sync.stream.slot_removal import drop_replication
from tests.postgres import Database
from tests.sync.running import RunningSync, assert_equal, cache_rows, running_sync, settings_for, wait_until

ACTION = (
    'insert into agent_actions (agent_id, action_type, organization_id, status, risk_level, "timestamp")'
    " values (%s, 'email_send', %s, 'completed', %s, now()) returning id"
)


def insert(connection: psycopg.Connection, agent: str = "a", organization: int = 1, risk: str | None = "low") -> int:
    row = connection.execute(ACTION, [agent, organization, risk]).fetchone()
    assert row is not None
    return int(row[0])


def fill(database: Database, rows: int = 2000) -> None:
    database.execute(
        "insert into agent_actions (agent_id, action_type, description, organization_id, status, risk_level, risk_score,"
        " \"timestamp\", created_at, approved, summary) select 'agent-' || i % 7, 'query', repeat('é', i % 50), 1 + i % 3,"
        " 'completed', (array['LOW', 'Medium', 'high', 'CRITICAL', 'odd', null])[1 + i % 6], null,"
        " case when i % 11 > 0 then now() - i * interval '1 minute' end, now(), i % 3 = 0, null"
        f" from generate_series(1, {rows}) i"
    )
    database.execute(
        "insert into users (email, password, role, is_active, organization_id)"
        " select 'u' || i || '@example.com', 'CANARY-PASSWORD', 'user', true, 1 + i % 3 from generate_series(1, 50) i"
    )
    database.execute(
        "insert into audit_logs (organization_id, user_id, action, created_at)"
        " select 1 + i % 3, i, 'LOGIN', now() from generate_series(1, 200) i"
    )


def test_the_first_copy_equals_the_source(database: Database, tmp_path: Path) -> None:
    fill(database)
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        assert assert_equal(sync, database) == 2250


def test_no_password_reaches_the_cache_file(database: Database, tmp_path: Path) -> None:
    fill(database, 10)
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        database.execute("update users set password = 'CANARY-PASSWORD-2'")
        sync.caught_up(database)
    for file in (tmp_path / "cache").iterdir():
        assert b"CANARY-PASSWORD" not in file.read_bytes(), file.name


def test_insert_update_and_delete_are_applied_at_once(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync, database.connect() as writer:
        sync.streaming()
        seconds = []
        for turn in range(15):
            started = time.monotonic()
            key = insert(writer, f"agent-{turn}")
            wait_until(lambda key=key: key in cache_rows(sync.cache, "agent_actions"), "the insert")
            writer.execute("update agent_actions set status = 'failed' where id = %s", [key])
            wait_until(lambda key=key: "failed" in cache_rows(sync.cache, "agent_actions")[key], "the update")
            writer.execute("delete from agent_actions where id = %s", [key])
            wait_until(lambda key=key: key not in cache_rows(sync.cache, "agent_actions"), "the delete")
            seconds.append((time.monotonic() - started) / 3)
        assert statistics.median(seconds) < 5, "nothing waits for a poll or a retry"


def test_a_row_committed_late_by_an_old_transaction_is_not_lost(database: Database, tmp_path: Path) -> None:
    with database.connect(autocommit=False) as old, database.connect() as young:
        first = insert(old, "open before the copy")
        with running_sync(database, tmp_path) as sync:
            # The slot's snapshot waits for transactions that were open before it.
            wait_until(lambda: sync.board.current.phase is Phase.COPYING, "the copy begins")
            old.commit()
            sync.streaming()
            second = insert(old, "open while streaming")
            later = [insert(young) for _ in range(50)]
            sync.caught_up(database)
            assert second not in cache_rows(sync.cache, "agent_actions")
            assert set(later) < cache_rows(sync.cache, "agent_actions").keys()
            old.commit()
            assert_equal(sync, database)
            assert {first, second} < cache_rows(sync.cache, "agent_actions").keys()


def test_one_key_inserted_deleted_and_inserted_again_in_one_batch(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync, database.connect(autocommit=False) as writer:
        sync.streaming()
        key = insert(writer, "first")
        writer.execute("update agent_actions set agent_id = 'second' where id = %s", [key])
        writer.execute("delete from agent_actions where id = %s", [key])
        writer.execute(
            "insert into agent_actions (id, agent_id, action_type, organization_id) values (%s, 'third', 'x', 2)", [key]
        )
        gone = insert(writer, "never seen")
        writer.execute("delete from agent_actions where id = %s", [gone])
        writer.commit()
        assert_equal(sync, database)
        writer.execute("delete from agent_actions where id = %s", [key])
        writer.execute(
            "insert into agent_actions (id, agent_id, action_type, organization_id) values (%s, 'fourth', 'x', 2)",
            [key],
        )
        writer.commit()
        assert_equal(sync, database)
        assert cache_rows(sync.cache, "agent_actions")[key][2] == "fourth"


def test_a_changed_primary_key_moves_the_row(database: Database, tmp_path: Path) -> None:
    fill(database, 20)
    with running_sync(database, tmp_path) as sync, database.connect(autocommit=False) as writer:
        sync.streaming()
        writer.execute("update agent_actions set id = id + 100000 where id <= 10")
        writer.execute("update agent_actions set id = id + 100000 where id = 100003")
        writer.commit()
        assert_equal(sync, database)


def test_updates_that_leave_out_a_toasted_value_keep_it(database: Database, tmp_path: Path) -> None:
    """An update does not send an unchanged value that lies out of line; it comes from the batch or from the cache."""
    database.execute("alter table agent_actions alter column description set storage external")
    long = "x" * 9000
    database.execute(
        "insert into agent_actions (id, agent_id, action_type, organization_id, description)"
        " select i, 'a', 't', 1, %s || i from generate_series(900001, 900020) i",
        [long],
    )
    with running_sync(database, tmp_path) as sync, database.connect(autocommit=False) as writer:
        sync.streaming()
        writer.execute("update agent_actions set status = 'x' where id > 900000")
        writer.commit()
        assert_equal(sync, database)
        # New in the batch, then updated twice without its long value, then under another key.
        writer.execute(
            "insert into agent_actions (id, agent_id, action_type, organization_id, description)"
            " values (950000, 'b', 't', 1, %s)",
            [long + "new"],
        )
        writer.execute("update agent_actions set status = 'y' where id = 950000")
        writer.execute("update agent_actions set status = 'z' where id = 950000")
        writer.execute("update agent_actions set id = 950001 where id = 950000")
        writer.execute("update agent_actions set id = 950002 where id = 900001")
        writer.commit()
        assert_equal(sync, database)
        assert sync.board.current.copies == 1


def test_rep_04_replica_identity_full_works(database: Database, tmp_path: Path) -> None:
    database.execute("alter table agent_actions replica identity full")
    fill(database, 50)
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        database.execute("update agent_actions set status = 'failed' where id % 2 = 0")
        database.execute("delete from agent_actions where id % 5 = 0")
        database.execute("update agent_actions set id = id + 5000 where id % 7 = 0")
        assert_equal(sync, database)


def test_truncate_empties_the_table_in_its_place_of_the_stream(database: Database, tmp_path: Path) -> None:
    fill(database, 100)
    with running_sync(database, tmp_path) as sync, database.connect(autocommit=False) as writer:
        sync.streaming()
        insert(writer, "before")
        writer.execute("truncate agent_actions cascade")
        after = insert(writer, "after")
        writer.commit()
        assert_equal(sync, database)
        assert set(cache_rows(sync.cache, "agent_actions")) == {after}


def test_rolled_back_work_never_shows(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync, database.connect(autocommit=False) as writer:
        sync.streaming()
        insert(writer, "kept")
        writer.execute("savepoint s")
        insert(writer, "undone by savepoint")
        writer.execute("rollback to savepoint s")
        insert(writer, "kept too")
        writer.commit()
        insert(writer, "undone")
        writer.rollback()
        assert_equal(sync, database)


def test_values_without_a_plain_counterpart_are_kept_or_mapped_by_rule(database: Database, tmp_path: Path) -> None:
    rows = (
        'insert into agent_actions (agent_id, action_type, organization_id, risk_score, "timestamp", created_at, status, summary)'
        " values ('odd', 'x', 1, {score}, '{at}', '{at_naive}', 'pending_approval', E'\\U0001F600\\u4e2d\\u00e9\\u0301\\uFFFE')"
    )
    odd = [
        ("'NaN'", "infinity", "infinity"),
        ("'Infinity'", "-infinity", "-infinity"),
        ("'-Infinity'", "4713-01-01 00:00:00+00 BC", "0044-03-15 12:00:00.000001 BC"),
        ("1e308", "1969-12-31 23:59:59.999999+00", "1582-10-15"),
        ("-0.0", "9999-12-31 23:59:59+14", "2262-04-12 00:00:00"),
    ]
    database.execute("alter table agent_actions disable trigger user")

    def write() -> None:
        for score, at, naive in odd:
            database.execute(rows.format(score=score, at=at, at_naive=naive))

    write()
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        copied = sync.board.current.values_mapped
        write()
        assert_equal(sync, database, "agent_actions")
        assert copied == 6  # the infinite ones and those before the year 1
        assert sync.board.current.values_mapped == 12


def test_a_timestamp_beyond_the_year_9999_becomes_infinity_and_is_counted(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        database.execute(
            'insert into agent_actions (id, agent_id, action_type, organization_id, "timestamp")'
            " values (1, 'a', 'x', 1, '294270-01-01 00:00:00+00')"
        )
        sync.caught_up(database)
        row = cache_rows(sync.cache, "agent_actions")[1]
        assert "infinity" in row
        assert sync.board.current.values_mapped == 1


def test_a_restart_goes_on_from_its_position_without_a_new_copy(database: Database, tmp_path: Path) -> None:
    fill(database, 300)
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
    database.execute("update agent_actions set status = 'failed' where id % 2 = 0")
    database.execute("delete from agent_actions where id % 3 = 0")
    with running_sync(database, tmp_path) as again:
        again.streaming()
        assert_equal(again, database)
        assert again.board.current.copies == 0


def test_a_transaction_larger_than_a_batch_is_seen_whole_or_not_at_all(database: Database, tmp_path: Path) -> None:
    seen = set()
    with running_sync(database, tmp_path, sync={"batch_rows": 500}) as sync:
        sync.streaming()
        database.execute(
            "insert into agent_actions (agent_id, action_type, organization_id) select 'a', 'x', 1 from generate_series(1, 5000)"
        )

        def all_there() -> bool:
            seen.add(len(cache_rows(sync.cache, "agent_actions")))
            return 5000 in seen

        wait_until(all_there, "5000 rows")
        database.execute("update agent_actions set status = 'one' ")
        database.execute("delete from agent_actions where id % 2 = 0")
        assert_equal(sync, database)
    assert seen <= {0, 5000}


def test_the_slot_never_moves_past_what_the_cache_holds(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        for _ in range(20):
            database.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)")
            confirmed = database.execute(
                "select (confirmed_flush_lsn - '0/0')::bigint from pg_replication_slots where slot_name = %s",
                [sync.settings.source.slot],
            ).fetchone()
            with sync.cache.read() as snapshot:
                assert confirmed is not None
                assert confirmed[0] <= snapshot.lsn


def test_two_servers_on_one_slot_the_second_refuses(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as first:
        first.streaming()
        second = RunningSync(
            first.settings.model_copy(
                update={"cache": first.settings.cache.model_copy(update={"directory": tmp_path / "two"})}
            )
        )
        try:
            wait_until(lambda: second.loop.failed is not None, "the second gives up", 40)
            assert second.loop.failed is not None
            assert "in use" in second.loop.failed
            assert "source.slot" in second.loop.failed
            assert first.board.current.phase is Phase.STREAMING
        finally:
            second.close()


def test_a_server_that_loses_its_slot_asks_for_attention_and_goes_on_once_it_is_free(
    database: Database, tmp_path: Path
) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        slot = sync.settings.source.slot
        with closing(open_replication(sync.settings)) as thief:
            stolen = f"START_REPLICATION SLOT \"{slot}\" LOGICAL 0/0 (proto_version '1', publication_names '\"owkai\"')"

            def taken() -> bool:
                database.execute(
                    "select pg_terminate_backend(active_pid) from pg_replication_slots"
                    " where slot_name = %s and active_pid <> %s",
                    [slot, thief.info.backend_pid],
                )
                try:
                    replication_command(thief, stolen)
                except SourceError:
                    return False
                return True

            wait_until(taken, "the slot to be taken")
            wait_until(lambda: sync.board.current.needs_attention, f"attention; {sync.board.current}")
            assert f"in use (server process {thief.info.backend_pid})" in (sync.board.current.error or "")
            assert sync.loop.failed is None
            assert sync.cache.ready
        sync.streaming()
        assert not sync.board.current.needs_attention
        database.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)")
        assert_equal(sync, database)


def test_a_second_server_leaves_the_slot_of_one_that_is_copying(database: Database, tmp_path: Path) -> None:
    """While a server copies nothing reads its slot; a second one must not take it for free, or both start over for ever."""
    settings = settings_for(database, tmp_path)

    def slot() -> tuple[object, ...] | None:
        query = "select confirmed_flush_lsn, active_pid from pg_replication_slots where slot_name = %s"
        return database.execute(query, [settings.source.slot]).fetchone()

    with claimed_slot(settings):  # as the first one holds it
        database.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [settings.source.slot])
        made = slot()
        second = RunningSync(settings)
        try:
            wait_until(lambda: second.board.current.needs_attention, f"attention; {second.board.current}")
            assert "by a server that copies or starts" in (second.board.current.error or "")
            with pytest.raises(SourceError, match="by a server that copies or starts"):
                drop_replication(settings)
            assert slot() == made
            assert made is not None
            assert made[1] is None
        finally:
            second.close()
    with running_sync(database, tmp_path / "later", source={"slot": settings.source.slot}) as sync:
        sync.streaming()


def test_the_slot_of_another_database_is_never_taken(database: Database, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    with psycopg.connect(database.server.dsn(), autocommit=True) as elsewhere:
        elsewhere.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [settings.source.slot])
        try:
            with pytest.raises(SlotBusyError, match="belongs to database"), claimed_slot(settings):
                pass
        finally:
            elsewhere.execute("select pg_drop_replication_slot(%s)", [settings.source.slot])
