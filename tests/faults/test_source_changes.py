"""What owners do to their tables while we follow them: each change ends equal, or paused with its remedy and honest staleness."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from analytics.state.clock import utc_now
from analytics.state.sync_status import Phase
from analytics.state.tables import BY_NAME
from sync.source.preflight import inspect_source
from tests.faults.stories import insert, quick
from tests.faults.writing import WritingLoad
from tests.postgres import Database
from tests.sync.running import RunningSync, assert_equal, cache_rows, running_sync, source_rows, wait_until


def column(sync: RunningSync, name: str, table: str = "agent_actions") -> list[object]:
    place = BY_NAME[table].column_names.index(name)
    return [row[place] for row in cache_rows(sync.cache, table).values()]


def paused(sync: RunningSync, caplog: pytest.LogCaptureFixture, rows: int, *names: str) -> None:
    """Paused with a message that names what is wrong and a remedy, in the log too; the rows are still answered, as stale."""
    sync.phase(Phase.PAUSED)
    message, remedy = sync.board.current.error or "", sync.board.current.remedy or ""
    for name in names:
        assert name in message, message
    assert remedy
    wait_until(lambda: "sync is paused" in caplog.text, "the log line")
    bound = sync.settings.sync.stale_after_seconds
    wait_until(lambda: sync.board.current.stale(utc_now(), bound), f"stale; {sync.board.current}")
    assert len(cache_rows(sync.cache, "agent_actions")) == rows


def copied_again(sync: RunningSync, copies: int = 2) -> None:
    wait_until(lambda: sync.board.current.copies >= copies, f"a new copy; {sync.board.current}")
    sync.streaming()


def test_an_added_column_that_nobody_maps_changes_nothing(database: Database, tmp_path: Path) -> None:
    insert(database, 20)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute("alter table agent_actions add column colour text default 'green', add column more jsonb")
        insert(database, 20)
        database.execute("update agent_actions set colour = 'red', status = 'failed' where id % 2 = 0")
        database.execute("alter table agent_actions drop column more")
        insert(database, 20)
        assert assert_equal(sync, database) == 60
        assert sync.board.current.copies == 1
        assert sync.board.current.reconnects == 0


def test_an_optional_column_that_appears_is_published_and_copied_without_help(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute("alter table agent_actions drop column tool_name")
    insert(database, 20)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        assert set(column(sync, "tool_name")) == {None}
        database.execute("alter table agent_actions add column tool_name varchar(255) default 'hammer'")
        copied_again(sync)
        insert(database, 20)
        assert assert_equal(sync, database) == 40
        assert set(column(sync, "tool_name")) == {"hammer"}
        assert "sync is paused" not in caplog.text
    database.execute("alter table users drop column last_login cascade; drop publication owkai")
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
    database.execute("alter table users add column last_login timestamp default now()")  # while no server runs
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        assert_equal(sync, database)


def test_an_optional_column_that_we_may_not_publish_pauses_with_the_statement(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute("alter table agent_actions drop column tool_name")
    insert(database, 20)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
    with running_sync(database, tmp_path, source={"manage_publication": False}, **quick()) as sync:
        sync.streaming()
        database.execute("alter table agent_actions add column tool_name varchar(255) default 'hammer'")
        paused(sync, caplog, 20, "agent_actions", "tool_name")
        database.execute(sync.board.current.remedy or "")
        wait_until(lambda: set(column(sync, "tool_name")) == {"hammer"}, "the new copy")
        sync.streaming()
        assert assert_equal(sync, database) == 20


MIGRATIONS = [
    ("alter table agent_actions alter column processing_time_ms type bigint", "processing_time_ms"),
    ("alter table agent_actions drop column tool_name", "tool_name"),
    ("alter table agent_actions rename column tool_name to tool", "tool_name"),
    (
        "alter table agent_actions drop column tool_name;"
        " alter table agent_actions add column tool_name text generated always as (agent_id || 'x') stored",
        "tool_name",
    ),
]


@pytest.mark.parametrize("patient", [True, False], ids=["seen between the steps", "all at once"])
@pytest.mark.parametrize(("change", "name"), MIGRATIONS)
def test_the_documented_migration_ends_in_a_new_copy_without_a_restart(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str, name: str, patient: bool
) -> None:
    """docs/explanation/sync.md: take the table out of the publication, migrate it, put it back by the statement that `check` prints."""
    insert(database, 20)
    database.execute("update agent_actions set tool_name = 'hammer', processing_time_ms = id")
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute("alter publication owkai drop table agent_actions")
        if patient:
            paused(sync, caplog, 20, "agent_actions")
        database.execute(change)
        insert(database, 5)
        remedies = [f.remedy for f in inspect_source(sync.settings) if f.level == "error" and "ADD TABLE" in f.remedy]
        (add,) = remedies
        database.execute(add)
        copied_again(sync)
        insert(database, 5)
        if "generated" in change:
            assert set(column(sync, "tool_name")) == {None}
        else:
            assert assert_equal(sync, database) == 30
        assert not sync.board.current.needs_attention


@pytest.mark.parametrize(
    "identity",
    ["create unique index other on agent_actions (summary); alter table agent_actions alter summary set not null;"
     " alter table agent_actions replica identity using index other"],
)  # fmt: skip
def test_an_identity_without_our_key_pauses_and_ends_in_a_new_copy(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, identity: str
) -> None:
    """Postgres accepts the platform's writes and streams deletes that do not tell the id."""
    insert(database, 20)
    database.execute("update agent_actions set summary = id::text")
    database.execute("create publication owkai for table agent_actions, users, audit_logs, api_keys")
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute(identity)
        database.execute("delete from agent_actions where id % 2 = 0")
        paused(sync, caplog, 20, "agent_actions", "no replica identity with id")
        database.execute(sync.board.current.remedy or "")
        copied_again(sync)
        assert assert_equal(sync, database) == 10


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        (
            "alter table agent_actions rename column status to state",
            "alter table agent_actions rename column state to status",
        ),
        (
            "alter table agent_actions rename column tool_name to tool",
            "alter table agent_actions rename column tool to tool_name",
        ),
    ],
    ids=["required", "optional"],
)
def test_rep_04_a_renamed_column_pauses_until_it_has_its_name_again(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str, undo: str
) -> None:
    insert(database, 20)
    name = "status" if "status" in undo else "tool_name"
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute(change)
        database.execute("update agent_actions set description = 'changed' where id % 2 = 0")
        paused(sync, caplog, 20, "agent_actions", name)
        database.execute("delete from agent_actions where id % 3 = 0")
        database.execute(undo)
        sync.streaming()
        insert(database, 20)
        assert_equal(sync, database)


def test_rep_04_a_dropped_column_pauses_and_a_restart_accepts_the_new_shape(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(database, 20)
    database.execute("update agent_actions set tool_name = 'hammer'")
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        # The publication's list names the column, so Postgres wants CASCADE and takes the table out of the publication.
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            database.execute("alter table agent_actions drop column tool_name")
        database.execute("alter table agent_actions drop column tool_name cascade")
        insert(database, 5)
        paused(sync, caplog, 20, "agent_actions")
        assert set(column(sync, "tool_name")) == {"hammer"}
    database.execute("drop publication owkai")
    with running_sync(database, tmp_path, **quick()) as again:
        again.streaming()
        assert assert_equal(again, database) == 25
        assert again.board.current.copies == 1
        assert set(column(again, "tool_name")) == {None}


def test_rep_04_a_retyped_column_pauses_until_the_type_is_back(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(database, 20)
    database.execute("update agent_actions set processing_time_ms = id")
    # Our own publication names its columns, and Postgres then refuses the change; the operator's may not.
    database.execute("create publication owkai for table agent_actions, users, audit_logs, api_keys")
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute("alter table agent_actions alter column processing_time_ms type bigint")
        insert(database, 5)
        paused(sync, caplog, 20, "processing_time_ms", "type")
        database.execute("alter table agent_actions alter column processing_time_ms type integer")
        sync.streaming()
        insert(database, 5)
        assert assert_equal(sync, database) == 30


def test_a_column_dropped_and_made_again_ends_in_a_new_copy(database: Database, tmp_path: Path) -> None:
    insert(database, 20)
    database.execute("update agent_actions set tool_name = 'hammer'")
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute("alter table agent_actions drop column tool_name cascade")
        database.execute("alter table agent_actions add column tool_name varchar(255)")
        insert(database, 5)
        database.execute("drop publication owkai")
        copied_again(sync)
        assert assert_equal(sync, database) == 25
        assert set(column(sync, "tool_name")) == {None}


def test_a_table_taken_out_of_the_publication_is_noticed_and_copied_again_once_it_is_back(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(database, 20)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute("alter publication owkai drop table agent_actions")
        insert(database, 5)  # never streamed
        paused(sync, caplog, 20, "agent_actions")
        assert "ALTER PUBLICATION" in (sync.board.current.remedy or "")
        database.execute("alter publication owkai add table agent_actions")
        copied_again(sync)
        insert(database, 5)
        assert assert_equal(sync, database) == 30


def test_a_publication_dropped_while_streaming_is_made_again_with_a_new_copy(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(database, 20)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute("drop publication owkai")
        insert(database, 5)
        copied_again(sync)
        insert(database, 5)
        assert assert_equal(sync, database) == 30
        assert "a new copy" in caplog.text


def test_a_publication_that_is_the_operators_and_gone_pauses_with_the_statement_to_run(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(database, 20)
    database.execute("create publication owkai for table agent_actions, users, audit_logs, api_keys")
    options = {**quick(mode="stream"), "source": {"manage_publication": False}}
    with running_sync(database, tmp_path, **options) as sync:
        sync.streaming()
        database.execute("drop publication owkai")
        insert(database, 5)
        paused(sync, caplog, 20, "publication")
        assert "CREATE PUBLICATION" in (sync.board.current.remedy or "")
        database.execute("create publication owkai for table agent_actions, users, audit_logs, api_keys")
        copied_again(sync)
        insert(database, 5)
        assert assert_equal(sync, database) == 30


def test_rep_04_a_dropped_and_recreated_table_is_copied_again(database: Database, tmp_path: Path) -> None:
    insert(database, 20)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute("alter sequence agent_actions_id_seq owned by none")
        database.execute("create table kept (like agent_actions including all)")
        database.execute("insert into kept select * from agent_actions where id % 2 = 0")
        database.execute("drop table agent_actions")
        database.execute("alter table kept rename to agent_actions")
        database.execute("drop publication owkai")
        copied_again(sync)
        database.execute("update agent_actions set status = 'failed'")
        assert assert_equal(sync, database) == 10


PARTITIONED = """
alter table agent_actions rename to old_actions;
create table agent_actions (like old_actions including defaults, primary key (id, organization_id))
    partition by list (organization_id);
create table actions_1 partition of agent_actions for values in (1);
create table actions_2 partition of agent_actions for values in (2);
create table actions_rest partition of agent_actions default;
"""


def test_partitioned_actions_are_followed_through_inserts_moves_and_partitions_that_come_and_go(
    database: Database, tmp_path: Path
) -> None:
    database.execute(PARTITIONED)
    insert(database, 30)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        insert(database, 300)
        database.execute("update agent_actions set organization_id = 1 + organization_id % 3 where id % 2 = 0")  # moves
        database.execute("update agent_actions set status = 'failed' where id % 5 = 0")
        database.execute("delete from agent_actions where id % 7 = 0")
        assert_equal(sync, database)
        database.execute("create table actions_4 partition of agent_actions for values in (4)")
        database.execute(
            "insert into agent_actions (agent_id, action_type, organization_id) select 'a', 'x', 4 from generate_series(1, 9)"
        )
        assert assert_equal(sync, database) > 200


def test_a_publication_that_streams_partitions_by_their_names_is_mended_by_the_statement_we_print(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute(PARTITIONED)
    insert(database, 30)
    database.execute("create publication owkai for table agent_actions, users, audit_logs, api_keys")
    with running_sync(database, tmp_path, source={"manage_publication": False}, **quick()) as sync:
        sync.phase(Phase.PAUSED)
        remedy = sync.board.current.remedy or ""
        assert remedy == 'ALTER PUBLICATION "owkai" SET (publish_via_partition_root = true)'
        database.execute(remedy)
        sync.streaming()
        insert(database, 30)
        assert assert_equal(sync, database) == 60
        # Switched off and on again while we follow: what came meanwhile is not lost.
        database.execute("alter publication owkai set (publish_via_partition_root = false)")
        insert(database, 30)
        database.execute("alter publication owkai set (publish_via_partition_root = true)")
        copied_again(sync)
        assert assert_equal(sync, database) == 90


def test_a_publication_of_ours_that_streams_partitions_by_their_names_is_adjusted(
    database: Database, tmp_path: Path
) -> None:
    database.execute(PARTITIONED)
    insert(database, 30)
    database.execute("create publication owkai for table agent_actions, users, audit_logs, api_keys")
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        insert(database, 30)
        assert assert_equal(sync, database) == 60


def test_a_schema_that_leaves_the_publication_and_comes_back_is_noticed(database: Database, tmp_path: Path) -> None:
    insert(database, 20)
    database.execute("create publication owkai for tables in schema public")
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute("alter publication owkai drop tables in schema public")
        insert(database, 5)  # never streamed
        database.execute("alter publication owkai add tables in schema public")
        copied_again(sync)
        assert assert_equal(sync, database) == 25


def test_a_detached_partition_and_one_truncated_alone_never_leave_rows_behind_silently(
    database: Database, tmp_path: Path
) -> None:
    """A detached partition's rows leave the table without one delete in the stream; so do a partition's on truncate."""
    database.execute(PARTITIONED)
    insert(database, 300)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute("truncate actions_2")
        database.execute("alter table agent_actions detach partition actions_1")
        insert_organization_3 = (
            "insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 3)"
        )
        database.execute(insert_organization_3)
        wait_until(
            lambda: cache_rows(sync.cache, "agent_actions").keys() == source_rows(database, "agent_actions").keys(),
            f"the detached rows to leave; {sync.board.current}",
        )
        sync.streaming()
        assert assert_equal(sync, database) > 90


def test_subtransactions_with_partial_rollbacks_give_what_was_kept(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path, **quick(batch_rows=100)) as sync:
        sync.streaming()
        with database.connect(autocommit=False) as writer:
            for turn in range(40):
                writer.execute(f"savepoint outer_{turn}")
                writer.execute(
                    "insert into agent_actions (agent_id, action_type, organization_id)"
                    " select 'turn', 'x', 1 from generate_series(1, 10)"
                )
                writer.execute("savepoint inner_one")
                writer.execute("update agent_actions set status = 'inner' where id %% 2 = %s", [turn % 2])
                writer.execute("savepoint inner_two")
                writer.execute("delete from agent_actions where id % 3 = 0")
                if turn % 3 == 0:
                    writer.execute("rollback to savepoint inner_two")
                if turn % 4 == 0:
                    writer.execute("rollback to savepoint inner_one")
                if turn % 5 == 0:
                    writer.execute(f"rollback to savepoint outer_{turn}")
                else:
                    writer.execute(f"release savepoint outer_{turn}")
            writer.commit()
        assert assert_equal(sync, database) > 100
        assert sync.board.current.copies == 1


def test_caught_exceptions_in_plpgsql_are_subtransactions_too(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute(
            """do $$ begin
                for turn in 1..50 loop
                    begin
                        insert into agent_actions (agent_id, action_type, organization_id) values ('p', 'x', 1);
                        if turn % 3 = 0 then raise exception 'undone'; end if;
                    exception when raise_exception then null;
                    end;
                end loop;
            end $$"""
        )
        assert assert_equal(sync, database) == 34


def planes() -> list[str]:
    """A string of every Unicode plane with its borders, and what trips naive code."""
    texts = [
        "".join(
            chr(code) for code in (plane << 16, plane << 16 | 0x41, plane << 16 | 0xFFFD, plane << 16 | 0xFFFF) if code
        )
        for plane in range(17)
    ]
    controls = ["", " ", "\x01\x1f\x7f\u0085\u2028\u2029\ufeff", "'\"\\\\N\\n\t\r\n"]
    joined = [
        "e\u0301\u0327",
        "\u202eabc\u202c",
        "\ud7ff\ue000",
        "\U0001f3f4\u200d\u2620\ufe0f",
        "\U0001f469\u200d\U0001f469",
    ]
    return [*texts, *controls, *joined]


@pytest.mark.parametrize("copied", [True, False], ids=["copied", "streamed"])
def test_strings_of_every_unicode_plane_arrive_unchanged(database: Database, tmp_path: Path, copied: bool) -> None:
    def write() -> None:
        for text in planes():
            database.execute(
                "insert into agent_actions (agent_id, action_type, organization_id, description, summary, status)"
                " values (%s, %s, 1, %s, %s, %s)",
                [text, text, text, text * 3, text[:20]],
            )

    if copied:
        write()
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        if not copied:
            write()
        assert assert_equal(sync, database) == len(planes())
        assert sorted(str(text) for text in column(sync, "description")) == sorted(planes())


def test_jsonb_with_nul_escapes_in_a_column_we_do_not_read_disturbs_nothing(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        with pytest.raises(psycopg.errors.UntranslatableCharacter):
            database.execute("update agent_actions set extra_data = '\"\\u0000\"'::jsonb")
        database.execute("alter table agent_actions alter column extra_data type json using extra_data::json")
        database.execute(
            "insert into agent_actions (agent_id, action_type, organization_id, extra_data)"
            """ select 'a', 'x', 1, '{"a": "\\u0000 \\\\u0000 \\ud83d\\ude00", "\\u0000": 1}' from generate_series(1, 20)"""
        )
        database.execute("""update agent_actions set extra_data = '["\\u0000"]', status = 'failed' where id % 2 = 0""")
        assert assert_equal(sync, database) == 20
        assert sync.board.current.reconnects == 0


def test_statements_of_many_rows_and_events_with_one_commit_position_are_all_applied(
    database: Database, tmp_path: Path
) -> None:
    """All rows of a transaction carry one commit position; a batch that ends amid them must lose and double none."""
    with running_sync(database, tmp_path, **quick(batch_rows=100)) as sync:
        sync.streaming()
        with database.connect(autocommit=False) as writer:
            for rows in (1, 99, 100, 101, 250):
                writer.execute(
                    "insert into agent_actions (agent_id, action_type, organization_id)"
                    f" select 'a', 'x', 1 from generate_series(1, {rows})"
                )
                writer.execute("insert into audit_logs (action, organization_id) values ('A', 1), ('B', 1), ('A', 1)")
                writer.execute("update agent_actions set status = status || 'x', reviewed_at = now()")
                writer.commit()
        assert assert_equal(sync, database) == 551 + 15


def test_many_writers_whose_transactions_interleave_end_equal(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path, **quick(batch_rows=150)) as sync:
        sync.streaming()
        with WritingLoad(database, 1), WritingLoad(database, 2), WritingLoad(database, 3) as load:
            wait_until(lambda: load.transactions > 60, "a load")
        assert assert_equal(sync, database) > 0
        assert sync.board.current.copies == 1
