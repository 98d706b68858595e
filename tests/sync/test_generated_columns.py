"""Generated columns: what the change stream does not carry stays empty in copy and stream; polling reads it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from analytics.state.clock import utc_now
from analytics.state.tables import BY_NAME
from sync.comparison.verify import Scope, Verifier
from sync.source.preflight import inspect_source
from tests.faults.stories import insert, quick
from tests.postgres import Database
from tests.sync.running import RunningSync, cache_rows, running_sync, settings_for, wait_until

OPTIONAL = (
    "alter table agent_actions drop column risk_score;"
    " alter table agent_actions add column risk_score double precision generated always as (id * 1.5) stored"
)
REQUIRED = (
    "alter table agent_actions drop column risk_level;"
    " alter table agent_actions add column risk_level text generated always as (case when id % 2 = 0 then 'high' else 'low' end) stored"
)
INSERT = "insert into agent_actions (agent_id, action_type, organization_id, status) values ('a', 'x', 1, 'completed')"


def values(sync: RunningSync, name: str) -> dict[int, object]:
    place = BY_NAME["agent_actions"].column_names.index(name)
    return {key: row[place] for key, row in cache_rows(sync.cache, "agent_actions").items()}


@pytest.fixture
def streams_generated(database: Database) -> bool:
    (version,) = database.execute("select current_setting('server_version_num')::int").fetchone() or (0,)
    return bool(version >= 180_000)


def test_a_generated_column_is_left_out_of_copy_and_stream_and_reported(
    database: Database, tmp_path: Path, streams_generated: bool
) -> None:
    database.execute(OPTIONAL)
    insert(database, 20)
    findings = inspect_source(settings_for(database, tmp_path))
    assert not [finding for finding in findings if finding.level == "error"]
    reported = [str(finding) for finding in findings if "generated column risk_score" in finding.message]
    assert len(reported) == (0 if streams_generated else 1)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute(INSERT)
        database.execute("update agent_actions set status = 'failed' where id % 2 = 0")
        sync.caught_up(database)
        found = values(sync, "risk_score")
        assert len(found) == 21
        assert found == {key: key * 1.5 if streams_generated else None for key in found}
        assert sync.board.current.copies == 1
        verifier = Verifier(sync.settings, sync.cache, sync.loop, sync.board, utc_now)
        assert verifier.verify(Scope(), lambda: False).equal
        if not streams_generated:
            # It becomes a plain column: published, copied and followed from then on.
            database.execute("alter table agent_actions alter column risk_score drop expression")
            wait_until(lambda: sync.board.current.copies == 2, f"a new copy; {sync.board.current}")
            sync.streaming()
            assert values(sync, "risk_score") == {key: key * 1.5 for key in found}


def test_a_generated_column_of_a_whole_table_is_left_out_too(
    database: Database, tmp_path: Path, streams_generated: bool
) -> None:
    database.execute(OPTIONAL)
    insert(database, 20)
    database.execute("create publication owkai for table agent_actions, users, audit_logs, api_keys")
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute(INSERT)
        sync.caught_up(database)
        assert set(values(sync, "risk_score").values()) == {None}
        if streams_generated:
            database.execute("alter publication owkai set (publish_generated_columns = stored)")
            wait_until(lambda: sync.board.current.copies == 2, f"a new copy; {sync.board.current}")
            sync.streaming()
            database.execute(INSERT)
            sync.caught_up(database)
            found = values(sync, "risk_score")
            assert found == {key: key * 1.5 for key in found}


def test_a_required_generated_column_is_polled_because_every_number_needs_it(
    database: Database, tmp_path: Path, streams_generated: bool
) -> None:
    database.execute(REQUIRED)
    database.execute(INSERT)
    settings = settings_for(database, tmp_path, sync={"mode": "stream"})
    errors = [str(finding) for finding in inspect_source(settings) if finding.level == "error"]
    assert bool(errors) != streams_generated
    assert all("generated column risk_level" in error for error in errors)
    with running_sync(database, tmp_path, **quick(poll_seconds=0.2)) as sync:
        wait_until(lambda: bool(sync.board.current.copies), f"the copy; {sync.board.current}")
        assert sync.board.current.mode == ("stream" if streams_generated else "poll")
        database.execute(INSERT)
        wait_until(lambda: len(values(sync, "risk_level")) == 2, "the new row")
        found = values(sync, "risk_level")
        assert found == {key: "high" if key % 2 == 0 else "low" for key in found}


def test_polling_reads_generated_columns(database: Database, tmp_path: Path) -> None:
    database.execute(OPTIONAL)
    insert(database, 20)
    with running_sync(database, tmp_path, **quick(mode="poll")) as sync:
        wait_until(lambda: sync.cache.ready, "the copy")
        assert values(sync, "risk_score") == {key: key * 1.5 for key in range(1, 21)}


def test_a_virtual_generated_column_is_never_streamed(
    database: Database, tmp_path: Path, streams_generated: bool
) -> None:
    virtual = OPTIONAL.replace("stored", "virtual")
    if not streams_generated:  # nor does Postgres know them before version 18
        with pytest.raises(psycopg.errors.SyntaxError):
            database.execute(virtual)
        return
    database.execute(virtual)
    insert(database, 20)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        database.execute(INSERT)
        sync.caught_up(database)
        assert set(values(sync, "risk_score").values()) == {None}
