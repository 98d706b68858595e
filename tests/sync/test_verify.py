"""Verification says "equal" of equal sides whatever the values, names what differs, and repairs it."""

from __future__ import annotations

import logging
import math
import struct
import threading
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from analytics.state.clock import utc_now
from analytics.state.store import Store
from analytics.state.sync_status import Phase
from sync.comparison.common_snapshot import VerifyError
from sync.comparison.differences import ComparisonReport
from sync.comparison.scheduled_check import ScheduledCheck
from sync.comparison.verify import Scope, Verifier, interruptible
from sync.copy.copy_stream import Stopped
from tests.faults.writing import WritingLoad
from tests.postgres import Database
from tests.sync.running import RunningSync, assert_equal, running_sync, wait_until
from tests.sync.test_exactness import fill

ODD_TEXTS = (
    "",
    "~",
    "|",
    "1:a|1:b",
    "a|~|b",
    "NULL",
    " trailing  ",
    "é e\u0301 ß İ",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u0001\u001f\u007f\u2028\ufeff\ufffe",
    "".join(chr(plane * 0x10000 + 0x1234) for plane in range(17)),
    "x" * 70_000,
)
ODD_FLOATS = ("NaN", "Infinity", "-Infinity", "-0", "0", "1e308", "5e-324", "0.1", "-2.2250738585072014e-308")
ODD_TIMES = (
    "infinity", "-infinity", "4713-01-01 00:00:00 BC", "0044-03-15 12:00:00.000001 BC", "0001-01-01", "0099-12-31 23:59:59",
    "1582-10-15", "1969-12-31 23:59:59.999999", "2000-01-01", "9999-12-31 23:59:59.999999", "10000-01-01",
    "294246-12-31 23:59:59.999999", "294247-01-10", "294270-06-01",
)  # fmt: skip


def never() -> bool:
    return False


def verifier_of(sync: RunningSync) -> Verifier:
    return Verifier(sync.settings, sync.cache, sync.loop, sync.board, utc_now)


def assert_verifies_equal(sync: RunningSync, rows: int | None = None) -> ComparisonReport:
    report = verifier_of(sync).verify(Scope(), never)
    assert report.equal, "\n".join(report.lines())
    assert rows is None or report.rows == rows
    return report


def tamper(sync: RunningSync, *statements: str) -> None:
    """Change the cache behind sync's back, through the writer, in the sync thread."""

    def act(store: Store) -> None:
        position = store.position()
        assert position is not None
        store.begin()
        for statement in statements:
            store._writer.execute(statement)
        store.commit(position.lsn)

    sync.loop.at_position(0, act).result(10)


def insert_odd_rows(database: Database) -> int:
    database.execute("alter table agent_actions disable trigger user")
    statement = (
        "insert into agent_actions (agent_id, action_type, organization_id, description, summary, risk_score, approved,"
        ' "timestamp", created_at, updated_at) values (%s, %s, 1, %s, %s, %s::float8, %s, %s::timestamp at time zone'
        " 'UTC', %s::timestamp, %s::timestamptz)"
    )
    rows = 0
    for place in range(max(len(ODD_TEXTS), len(ODD_FLOATS), len(ODD_TIMES)) * 2):
        text, other = ODD_TEXTS[place % len(ODD_TEXTS)], ODD_TEXTS[(place * 5 + 1) % len(ODD_TEXTS)]
        at = None if place % 7 == 3 else ODD_TIMES[place % len(ODD_TIMES)]
        created = None if place % 14 == 3 else ODD_TIMES[(place + 3) % len(ODD_TIMES)]
        flag = (None, True, False)[place % 3]
        score = None if place % 10 == 9 else ODD_FLOATS[place % len(ODD_FLOATS)]
        database.execute(
            statement, [text[:200] or "-", "x", text, None if place % 4 == 0 else other, score, flag, at, created, at]
        )
        rows += 1
    return rows


def test_a_copied_source_verifies_equal(database: Database, tmp_path: Path) -> None:
    fill(database, 500)
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        report = assert_verifies_equal(sync, 500 + 250)
        assert {table.name for table in report.tables} == {"agent_actions", "users", "audit_logs", "api_keys"}
        assert next(report.lines()).startswith("equal at LSN ")


def test_odd_values_copied_and_streamed_verify_equal(database: Database, tmp_path: Path) -> None:
    rows = insert_odd_rows(database)
    with running_sync(database, tmp_path, cache={"keep_days": 36500}) as sync:
        sync.streaming()
        rows += insert_odd_rows(database)
        report = verifier_of(sync).verify(Scope(), never)
        assert report.equal, "\n".join(report.lines())
        # Retention leaves out what is older than keep_days, BC dates among it, on both sides.
        assert 0 < report.rows < rows
        assert report.tables[0].buckets >= 4


def test_every_odd_value_is_compared_when_its_row_is_kept(database: Database, tmp_path: Path) -> None:
    rows = insert_odd_rows(database)
    database.execute("update agent_actions set status = 'pending_approval'")
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        rows += insert_odd_rows(database)
        database.execute("update agent_actions set status = 'pending_approval'")
        assert_verifies_equal(sync, rows)


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ("summary = ''", "summary IS NULL"),
        ("summary = NULL", "summary = ''"),
        ("risk_score = 5e-324", "risk_score IS NOT NULL"),
        ("\"timestamp\" = \"timestamp\" + INTERVAL 1 MICROSECOND", "true"),
        ("approved = NOT approved", "approved IS NOT NULL"),
        ("risk = 'critical'", "risk <> 'critical'"),  # a derived column
    ],
)  # fmt: skip
def test_one_changed_value_is_found_named_and_repaired(
    database: Database, tmp_path: Path, change: str, column: str
) -> None:
    fill(database, 60)
    database.execute("update agent_actions set summary = '', risk_score = '-0' where id % 2 = 0")
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        assert_verifies_equal(sync)
        with sync.cache.read() as snapshot:
            found = next(
                snapshot.stream(
                    f'SELECT id FROM agent_actions WHERE {column} AND "timestamp" IS NOT NULL ORDER BY id LIMIT 1', {}
                )
            )
        key = int(found[0])
        tamper(sync, f"UPDATE agent_actions SET {change} WHERE id = {key}")
        report = verifier_of(sync).verify(Scope(), never)
        assert not report.equal
        assert report.differing_rows == 1
        assert report.tables[0].keys.keys["different"] == [key]
        assert f"id {key}" in "\n".join(report.lines())
        assert verifier_of(sync).repair(report, never) == 1
        assert_verifies_equal(sync)
        assert_equal(sync, database)


def test_missing_extra_and_doubled_rows_are_told_apart_and_repaired(database: Database, tmp_path: Path) -> None:
    fill(database, 300)
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        tamper(
            sync,
            "DELETE FROM agent_actions WHERE id IN (3, 7)",
            "UPDATE users SET id = id + 50000 WHERE id = (SELECT max(id) FROM users)",
            "INSERT INTO audit_logs SELECT * FROM audit_logs WHERE id = (SELECT min(id) FROM audit_logs)",
        )
        version = sync.cache.table_version("users")
        report = verifier_of(sync).verify(Scope(), never)
        by_name = {table.name: table for table in report.tables}
        assert by_name["agent_actions"].keys.keys["missing"] == [3, 7]
        assert by_name["users"].keys.total == {"missing": 1, "extra": 1, "different": 0}
        assert by_name["audit_logs"].keys.total == {"missing": 0, "extra": 0, "different": 1}
        text = "\n".join(report.lines())
        assert "missing in the cache: id 3, 7" in text
        assert "users, ids 0 to 9999" in text
        assert verifier_of(sync).repair(report, never) == 5
        assert sync.cache.table_version("users") > version
        assert_verifies_equal(sync)
        database.execute("update agent_actions set status = 'failed' where id in (3, 7)")
        assert_equal(sync, database)


def test_equal_counts_do_not_hide_swapped_rows(database: Database, tmp_path: Path) -> None:
    fill(database, 40)
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        tamper(sync, "UPDATE users SET email = CASE id WHEN (SELECT min(id) FROM users) THEN 'b' ELSE email END")
        report = verifier_of(sync).verify(Scope(table="users"), never)
        (users,) = report.tables
        assert users.source_rows == users.cache_rows
        assert users.keys.count == 1


def test_under_a_writing_load_every_verification_is_equal(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync, WritingLoad(database, largest=50) as load:
        sync.streaming()
        verifier = verifier_of(sync)
        positions, transactions = [], []
        for _ in range(20):
            report = verifier.verify(Scope(), never)
            assert report.equal, "\n".join(report.lines())
            positions.append(report.lsn)
            transactions.append(load.transactions)
        assert positions == sorted(set(positions))
        assert transactions[-1] - transactions[0] > 20


def test_a_transaction_that_is_open_meanwhile_is_waited_for_and_sync_goes_on(
    database: Database, tmp_path: Path
) -> None:
    """The slot waits for it, longer than sync is ever held; what others commit meanwhile keeps arriving."""
    with running_sync(database, tmp_path) as sync, database.connect(autocommit=False) as writer:
        sync.streaming()
        writer.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('open', 'x', 1)")
        reports: list[ComparisonReport] = []
        thread = threading.Thread(target=lambda: reports.append(verifier_of(sync).verify(Scope(), never)))
        thread.start()
        waiting = (
            "select 1 from pg_replication_slots where slot_name like 'owkai_verify%' and confirmed_flush_lsn is null"
        )
        wait_until(lambda: database.execute(waiting).fetchone() is not None, "the slot waits")
        for _ in range(3):
            database.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('b', 'x', 1)")
            sync.caught_up(database)
        assert not reports
        writer.commit()
        thread.join(20)
        assert [report.equal for report in reports] == [True]
        assert reports[0].rows == 4


def test_a_source_with_other_types_and_without_optional_columns_verifies_equal(
    database: Database, tmp_path: Path
) -> None:
    database.execute(
        """
        create schema odd;
        create type odd.level as enum ('low', 'HIGH');
        create domain odd.score as numeric(40, 20);
        create table odd.agent_actions (id bigint primary key, organization_id numeric, agent_id uuid, risk_level odd.level,
            risk_score odd.score, status char(12), approved smallint, "timestamp" date, processing_time_ms numeric(10, 3),
            tool_name name, summary bigint, decision boolean, description json, user_id smallint, mitre_tactic numeric(12, 4));
        create table odd.users (id numeric primary key, organization_id int, email text, role varchar, is_active int);
        create table odd.audit_logs (id int primary key, action text, "timestamp" timestamp);
        create table odd.api_keys (id bigint primary key, user_id int, key_hash text, salt text, key_prefix bpchar);
        """
    )
    rows = """
        insert into odd.agent_actions select i, i %% 5, gen_random_uuid(), (array['low', 'HIGH', null]::odd.level[])[1 + i %% 3],
            (array['NaN', '0.1', '-12345678901234.00000000000000000001', '0', null]::numeric[])[1 + i %% 5], 'done',
            (array[0, 1, null])[1 + i %% 3], current_date - i %% 6, i * 1.999, 'tool', i * 100000000000, i %% 2 = 0,
            '{"a":  1}', -i, (array[1.5, -0.0001, 1000, null])[1 + i %% 4]
        from generate_series(%(first)s::int, %(first)s::int + 59) i;
        insert into odd.agent_actions (id, "timestamp") select %(first)s::int + 60 + i, at from unnest(
            array['infinity', '-infinity', '4713-01-01 BC', '294200-01-01', '0001-01-01']::date[]) with ordinality o (at, i);
        insert into odd.users values (9007199254740992 + %(first)s::int, 1, 'more than 53 bits', 'user', null);
        insert into odd.users select i, 1, i::text, 'user', i %% 2 from generate_series(%(first)s::int, %(first)s::int + 9) i;
        insert into odd.audit_logs select i, 'LOGIN', now() at time zone 'UTC' from generate_series(%(first)s::int, %(first)s::int + 9) i;
        insert into odd.api_keys values (%(first)s::int, 1, 'h', 's', 'p  ')
    """
    source = {"schema": "odd"}
    for statement in rows.split(";"):
        database.execute(statement, {"first": 1})
    with running_sync(database, tmp_path, source=source) as sync:
        sync.streaming()
        for statement in rows.split(";"):
            database.execute(statement, {"first": 30001})
        report = assert_verifies_equal(sync)
        assert {table.name: table.source_rows for table in report.tables} == {
            "agent_actions": 2 * 62,  # two of the odd dates are within retention
            "users": 22,
            "audit_logs": 20,
            "api_keys": 2,
        }
        tamper(sync, "UPDATE users SET last_login = '2024-01-01' WHERE id = 1")  # a column the source does not have
        assert verifier_of(sync).verify(Scope(), never).differing_rows == 1


def test_floats_are_compared_by_their_bits(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        neighbour = math.nextafter(0.1, 1)
        assert struct.pack(">d", neighbour) != struct.pack(">d", 0.1)
        database.execute(
            "insert into agent_actions (id, agent_id, action_type, organization_id, risk_score) values (1, 'a', 'x', 1, 0.1)"
        )
        assert_verifies_equal(sync, 1)
        tamper(sync, f"UPDATE agent_actions SET risk_score = {neighbour!r}")
        assert not verifier_of(sync).verify(Scope(), never).equal


def test_rows_that_retention_keeps_or_drops_are_no_difference(database: Database, tmp_path: Path) -> None:
    row = (
        'insert into agent_actions (id, agent_id, action_type, organization_id, status, "timestamp", created_at)'
        " values (%s, 'a', 'x', 1, %s, %s, %s)"
    )
    old, new = utc_now() - timedelta(days=20), utc_now() - timedelta(days=2)
    with running_sync(database, tmp_path, cache={"keep_days": 10}) as sync:
        sync.streaming()
        for key, status, at in (
            (1, "completed", old),
            (2, "completed", new),
            (3, "pending_approval", old),
            (4, "x", None),
        ):
            database.execute(row, [key, status, at, old.replace(tzinfo=None) if key == 1 else None])
        assert_verifies_equal(sync, 3)
        tamper(sync, "DELETE FROM agent_actions WHERE id = 1")  # as housekeeping does within the hour
        assert_verifies_equal(sync, 3)
        tamper(sync, "DELETE FROM agent_actions WHERE id = 3")
        assert verifier_of(sync).verify(Scope(), never).tables[0].keys.keys["missing"] == [3]


@pytest.mark.parametrize("time_of_day", [time.min, time(5, 59), time(12), time.max])
def test_days_bound_what_is_compared(database: Database, tmp_path: Path, time_of_day: time) -> None:
    """The last two days of UTC are today, however much of it has passed, and the whole day before."""
    fill(database, 100)
    today = utc_now().date()
    now = datetime.combine(today, time_of_day, UTC)
    database.execute(
        "update agent_actions set \"timestamp\" = %s::date::timestamp at time zone 'UTC' - (id - 1) * interval '6 hours',"
        " created_at = null",
        [today],
    )
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        verifier = Verifier(sync.settings, sync.cache, sync.loop, sync.board, lambda: now)
        report = verifier.verify(Scope(days=2), never)
        assert report.equal
        assert report.tables[0].buckets == 2
        assert report.tables[0].source_rows == 1 + 4  # midnight of today; four times in the day before
        tamper(sync, "UPDATE agent_actions SET status = 'tampered' WHERE id = 6")  # six hours before those days
        assert verifier.verify(Scope(days=2), never).equal
        assert not verifier.verify(Scope(), never).equal
        tamper(sync, "UPDATE agent_actions SET status = 'tampered' WHERE id = 5")
        assert not verifier.verify(Scope(days=2), never).equal


def test_nothing_is_left_on_the_source_and_nothing_is_locked(database: Database, tmp_path: Path) -> None:
    fill(database, 50)
    with running_sync(database, tmp_path) as sync, database.connect(autocommit=False) as writer:
        sync.streaming()
        writer.execute("lock table users in share row exclusive mode")  # shuts out every writer, and no reader
        writer.execute("select pg_advisory_lock(1)")
        assert_verifies_equal(sync)
        slots = database.execute("select slot_name from pg_replication_slots where temporary").fetchall()
        assert [slot for slot in slots if slot[0].startswith("owkai_verify")] == []


def test_a_sync_that_does_not_stream_is_no_verdict(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        sync.loop.stop(10)
        with pytest.raises(VerifyError, match="sync is stopped"):
            verifier_of(sync).verify(Scope(), never)


def test_a_narrow_comparison_hides_no_difference_that_a_wide_one_found(database: Database, tmp_path: Path) -> None:
    fill(database, 100)
    database.execute("update agent_actions set \"timestamp\" = now() - id * interval '6 hours'")
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        verifier = verifier_of(sync)

        def differing() -> int:
            last = sync.board.current.verification
            assert last is not None
            return last.differing_buckets

        tamper(sync, "UPDATE agent_actions SET status = 'tampered' WHERE id = 90")
        assert verifier.verify(Scope(days=2), never).equal
        assert differing() == 0
        report = verifier.verify(Scope(), never)
        assert differing() == 1
        for scope in (Scope(days=2), Scope(table="users"), Scope(table="agent_actions", days=1)):
            assert verifier.verify(scope, never).equal
            assert differing() == 1
        verifier.repair(report, never)
        assert verifier.verify(Scope(), never).equal
        assert differing() == 0


def test_a_stop_ends_long_queries_on_both_sides(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        stopping = threading.Event()
        timer = threading.Timer(0.3, stopping.set)
        timer.start()
        source = database.connect()
        with pytest.raises(Stopped), interruptible(stopping.is_set, source.cancel):
            source.execute("select pg_sleep(60)")
        with sync.cache.read() as snapshot, pytest.raises(Stopped), interruptible(stopping.is_set, snapshot.interrupt):
            list(
                snapshot.stream(
                    "SELECT sum(md5(a.range::VARCHAR || b.range).length()) FROM range(100000) a, range(100000) b", {}
                )
            )
        with sync.cache.read() as snapshot:  # the connection is fit for the next reader
            assert list(snapshot.stream("SELECT 1", {})) == [(1,)]
        timer.join()


def test_the_light_check_reports_a_difference_on_the_board_and_in_the_log(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(database, 30)
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        check = ScheduledCheck(verifier_of(sync), sync.board, 0.1)
        check.start()
        try:
            seen = _seen(sync, lambda equal: equal is True)
            assert seen.lsn is not None
            assert seen.lsn > 0
            assert sync.board.current.phase is Phase.STREAMING
            with caplog.at_level(logging.ERROR, "sync.comparison.verify"):
                tamper(sync, "UPDATE users SET role = 'admin' WHERE id = (SELECT min(id) FROM users)")
                assert _seen(sync, lambda equal: equal is False).differing_buckets == 1
            assert "table users differs from the source in bucket 0" in caplog.text
            assert "owkai verify --repair" in caplog.text
            assert sync.board.current.verify_runs >= 2
        finally:
            check.stop(10)


def _seen(sync: RunningSync, wanted: Callable[[bool | None], bool]):  # type: ignore[no-untyped-def]
    def there() -> bool:
        last = sync.board.current.verification
        return last is not None and wanted(last.equal)

    wait_until(there, f"a check; {sync.board.current}")
    return sync.board.current.verification


class FailingVerifier(Verifier):
    """Fails as a fault of ours would, which no list of expected errors names."""

    runs = 0

    def verify(self, scope: Scope, stopping: Callable[[], bool]) -> ComparisonReport:
        FailingVerifier.runs += 1
        if FailingVerifier.runs <= 2:
            raise TypeError("a fault of ours")
        return super().verify(scope, stopping)


def test_the_light_check_outlives_an_error_that_nobody_expects_and_reports_it(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(database, 30)
    FailingVerifier.runs = 0
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        verifier = FailingVerifier(sync.settings, sync.cache, sync.loop, sync.board, utc_now)
        check = ScheduledCheck(verifier, sync.board, 0.2)
        check.start()
        try:
            wait_until(lambda: sync.board.current.verify_failures >= 1, f"a failure; {sync.board.current}")
            assert "a fault of ours" in caplog.text
            assert "Traceback" in caplog.text
            _seen(sync, lambda equal: equal is True)
            wait_until(
                lambda: getattr(sync.board.current.verification, "error", "") is None, "a check without an error"
            )
        finally:
            check.stop(10)
