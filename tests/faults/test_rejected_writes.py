"""The platform changes a table so that our publication would make Postgres reject its writes: ended at once, or said at once."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from analytics.state.sync_status import Phase
from sync.source.preflight import inspect_source
from tests.faults.stories import insert, quick
from tests.postgres import Database
from tests.sync.running import RunningSync, assert_equal, running_sync, settings_for, wait_until

UPDATE = "update agent_actions set status = 'failed' where id % 2 = 0"


def writable(database: Database) -> bool:
    try:
        database.execute(UPDATE)
        database.execute("delete from agent_actions where id = (select max(id) from agent_actions)")
    except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InvalidColumnReference):
        return False
    return True


def updates_unrelated(database: Database) -> bool:
    try:
        database.execute("update unrelated set x = 2")
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return False
    return True


def copied_again(sync: RunningSync, copies: int = 2) -> None:
    wait_until(lambda: sync.board.current.copies >= copies, f"a new copy; {sync.board.current}")
    sync.streaming()


@pytest.fixture
def reader(database: Database) -> str:
    """The DSN of a role that may read and replicate but owns nothing; our publication is the operator's."""
    name = f"reader_{database.name}"
    database.execute(
        f"create role {name} login replication bypassrls password 'reader-password';"
        f" grant select on all tables in schema public to {name}; grant pg_read_all_stats to {name}"
    )
    yield psycopg.conninfo.make_conninfo(database.dsn, user=name, password="reader-password")
    database.execute(f"drop owned by {name}; drop role {name}")


EXTRA = "alter table agent_actions add column batch int not null default 0;"  # a column that nobody maps
FOLLOWABLE = [
    "alter table agent_actions replica identity full",
    f"{EXTRA} create unique index other on agent_actions (id, batch);"
    " alter table agent_actions replica identity using index other",
    f"{EXTRA} alter table agent_actions drop constraint agent_actions_pkey cascade;"
    " alter table agent_actions add primary key (id, batch)",
]
UNRELATED = (
    "create table public.unrelated (x int); insert into public.unrelated values (1);"
    " alter publication owkai add table public.unrelated"
)
NOT_FOLLOWABLE = [
    "alter table agent_actions replica identity nothing",
    "alter table agent_actions drop constraint agent_actions_pkey cascade",
    "create unique index other on agent_actions (id, agent_id);"
    " alter table agent_actions replica identity using index other; drop index other",
]


@pytest.mark.parametrize("change", [*FOLLOWABLE, UNRELATED])
def test_a_change_that_can_be_followed_is_answered_by_another_publication(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    insert(database, 20)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute(change)
        wait_until(lambda: "makes Postgres reject UPDATE and DELETE" in caplog.text, "the log line")
        wait_until(lambda: writable(database), "writes to be accepted")
        if change == UNRELATED:
            wait_until(lambda: updates_unrelated(database), "writes to be accepted")
        else:
            copied_again(sync)
        insert(database, 5)
        database.execute(UPDATE)
        assert_equal(sync, database)
        wait_until(lambda: not sync.board.current.needs_attention, "no more attention")


@pytest.mark.parametrize("change", NOT_FOLLOWABLE)
def test_a_change_that_cannot_be_followed_stops_sync_and_never_the_platform(
    database: Database, tmp_path: Path, change: str
) -> None:
    insert(database, 20)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute(change)
        wait_until(lambda: writable(database), "writes to be accepted")
        sync.phase(Phase.PAUSED)
        assert sync.board.current.needs_attention
        database.execute("delete from agent_actions where id % 3 = 0")
        database.execute(sync.board.current.remedy or "")
        copied_again(sync)
        insert(database, 5)
        database.execute(UPDATE)
        assert_equal(sync, database)


@pytest.mark.parametrize("change", [*FOLLOWABLE, *NOT_FOLLOWABLE])
def test_where_the_publication_is_the_operators_the_statement_is_logged_and_attention_asked_for(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, reader: str, change: str
) -> None:
    insert(database, 20)
    with running_sync(database, tmp_path / "owner", **quick()) as sync:
        sync.streaming()
    with running_sync(database, tmp_path / "reader", dsn=reader, **quick()) as sync:
        sync.streaming()
        database.execute(change)
        wait_until(lambda: sync.board.current.needs_attention, f"attention; {sync.board.current}")
        assert not writable(database)
        line = next(line for line in caplog.text.splitlines() if "makes Postgres reject UPDATE and DELETE" in line)
        assert line.startswith("ERROR")
        database.execute(line.partition("; run: ")[2])
        assert writable(database)
        wait_until(lambda: not sync.board.current.needs_attention, f"no more attention; {sync.board.current}")
        insert(database, 5)
        sync.streaming()
        assert_equal(sync, database)


def test_writes_are_protected_while_the_first_copy_cannot_even_begin(database: Database, tmp_path: Path) -> None:
    """The guard looks whatever sync does: here the publication was left behind and sync is paused for another reason."""
    insert(database, 20)
    with running_sync(database, tmp_path / "one", **quick()) as sync:
        sync.streaming()
    database.execute("alter table audit_logs rename to logs; alter table agent_actions replica identity full")
    with running_sync(database, tmp_path / "two", **quick()) as sync:
        sync.phase(Phase.PAUSED)
        wait_until(lambda: writable(database), "writes to be accepted")


def test_check_names_the_hazard_and_its_statement(database: Database, tmp_path: Path, reader: str) -> None:
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
    database.execute("alter table agent_actions replica identity full")
    found = inspect_source(settings_for(database, tmp_path, reader))
    (error,) = [finding for finding in found if finding.level == "error"]
    assert "makes Postgres reject UPDATE and DELETE on public.agent_actions" in error.message
    database.execute(error.remedy)
    assert [
        str(finding) for finding in inspect_source(settings_for(database, tmp_path, reader)) if finding.level == "error"
    ] == []
