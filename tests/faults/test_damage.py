"""A cache file that the disk has damaged: whoever meets the damage, a new copy is made, and what can be read is served meanwhile."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import duckdb
import jwt
import pytest

from analytics.state.cache import CURRENT
from analytics.state.clock import utc_now
from analytics.state.store import CacheDamagedError
from owkai.exits import Exit
from sync.comparison.common_snapshot import VerifyError
from sync.comparison.verify import Scope, Verifier
from tests.faults.stories import insert, quick
from tests.owkai.servers import SECRET, serving, wait_for
from tests.postgres import Database
from tests.sync.running import RunningSync, assert_equal, running_sync, slot_name, wait_until

LONG_TEXTS = (
    "update agent_actions set recommendation = (select string_agg(md5(random()::text || id || k), '')"
    " from generate_series(1, 30) k)"
)
READ_ALL = "select max(recommendation), max(agent_id) from agent_actions"


def live_file(directory: Path) -> Path:
    return directory / (directory / CURRENT).read_text().strip()


def flip_a_bit_that_reading_meets(path: Path, query: str = READ_ALL, still: str = "select 1") -> None:
    """Flip one bit so that `query` fails, while the file still opens and `still` is answered."""
    for place in range(path.stat().st_size - 4096, 16384, -4096):
        flip(path, place)
        with contextlib.suppress(duckdb.Error), duckdb.connect(str(path), read_only=True) as connection:
            connection.execute(still).fetchall()
            try:
                connection.execute(query).fetchall()
            except duckdb.IOException:
                return
        flip(path, place)
    raise AssertionError("no place whose damage is met")


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))


@pytest.fixture
def damaged(database: Database, tmp_path: Path) -> Path:
    """The directory of a stopped server whose cache has a flipped bit."""
    insert(database, 5000)
    database.execute("alter table agent_actions disable trigger user")
    database.execute(LONG_TEXTS)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
    flip_a_bit_that_reading_meets(live_file(tmp_path / "cache"), still="select count(status) from agent_actions")
    return tmp_path


def copied_again(sync: RunningSync, database: Database) -> None:
    wait_until(lambda: sync.board.current.copies == 1, f"a new copy; {sync.board.current}")
    sync.streaming()
    assert assert_equal(sync, database, "agent_actions") == 5000
    assert sync.board.current.error is None


def test_damage_met_by_a_read_is_copied_again_while_other_reads_are_answered(
    damaged: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with running_sync(database, damaged, **quick()) as sync:
        sync.streaming()
        store = sync.cache.live
        assert store is not None
        with pytest.raises(CacheDamagedError, match="copies it from the source again"), sync.cache.read() as snapshot:
            snapshot._connection.execute(READ_ALL).fetchall()
        copied_again(sync, database)
        assert "the cache is damaged" in caplog.text
        assert sync.cache.live is not store


def test_the_damaged_cache_answers_what_it_can_until_the_new_copy_is_there(damaged: Path, database: Database) -> None:
    with running_sync(database, damaged, **quick()) as sync:
        sync.streaming()
        with database.connect(autocommit=False) as blocker:
            blocker.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('b', 'x', 1)")
            with pytest.raises(CacheDamagedError), sync.cache.read() as snapshot:
                snapshot._connection.execute(READ_ALL).fetchall()
            # The new slot waits for the open transaction, so that the copy cannot begin.
            wait_until(lambda: sync.board.current.phase.value == "copying", f"copying; {sync.board.current}")
            with sync.cache.read() as snapshot:
                assert snapshot._connection.execute("select count(status) from agent_actions").fetchone() == (5000,)
            blocker.rollback()
        copied_again(sync, database)


@pytest.mark.parametrize("repair", [False, True])
def test_damage_met_by_a_verification_or_a_repair_is_copied_again(
    damaged: Path, database: Database, repair: bool
) -> None:
    with running_sync(database, damaged, **quick()) as sync:
        sync.streaming()
        verifier = Verifier(sync.settings, sync.cache, sync.loop, sync.board, utc_now)
        if repair:
            broken = sync.loop.at_position(0, lambda store: store.inquire(READ_ALL, {}).fetchall())
            with pytest.raises(duckdb.IOException):
                broken.result(20)
        else:
            with pytest.raises(CacheDamagedError):
                verifier.verify(Scope(), lambda: False)
        copied_again(sync, database)
        for _ in range(100):
            try:
                assert verifier.verify(Scope(), lambda: False).equal
                break
            except VerifyError:  # another part of the suite holds a transaction open
                continue


def test_a_failed_read_of_a_sound_cache_makes_no_new_copy(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk without room for what DuckDB spills fails like a damaged file."""
    insert(database, 100)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        with pytest.raises(CacheDamagedError), sync.cache.read():
            raise duckdb.IOException("IO Error: Could not write file: no space left on device")
        wait_until(lambda: "no new copy is needed" in caplog.text, "the examination")
        assert assert_equal(sync, database, "agent_actions") == 100
        assert sync.board.current.copies == 1


def test_a_request_that_meets_damage_gets_503_and_later_its_answer(database: Database, tmp_path: Path) -> None:
    insert(database, 20_000)
    database.execute(
        "insert into users (id, organization_id, email, role, is_active) values (1, 1, 'a@b.c', 'admin', true)"
    )
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
    flip_a_bit_that_reading_meets(
        live_file(tmp_path / "cache"), "select max(hash(agent_id)), max(hash(event_at)) from agent_actions"
    )
    now = int(time.time())
    claims = {"sub": "1", "email": "a@b.c", "role": "admin", "organization_id": 1, "type": "access"}
    token = jwt.encode({**claims, "iat": now, "exp": now + 600}, SECRET, algorithm="HS256")
    with serving(tmp_path, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database)) as server:
        wait_for(lambda: server.get("/readyz")[1]["state"] == "streaming", f"streaming; {server.messages()}")
        seen = []

        def answered() -> bool:
            status, body = server.get("/api/analytics/trends?days=30", {"Authorization": f"Bearer {token}"})
            seen.append((status, body.get("code")))
            return status == 200 and "copied" in server.messages()

        wait_for(answered, f"an answer; {seen}, {server.messages()[-2000:]}")
        assert {status for status, _ in seen} <= {200, 503}, seen
        assert (503, "cache_damaged") in seen or "the cache is damaged" in server.messages()
        wait_for(lambda: server.get("/readyz")[1]["state"] == "streaming", "streaming")
        server.signal(signal.SIGTERM)
        assert server.wait() == Exit.OK
