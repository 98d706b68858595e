"""Faults on our side of the line: the disk, the cache's files, the clock, a commit that fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics.state.cache import CURRENT, Cache
from analytics.state.clock import utc_now
from analytics.state.lsn import parse_lsn
from analytics.state.store import Position, Store
from analytics.state.sync_status import Phase, StatusBoard
from owkai.exits import Exit
from sync.loop import SyncLoop
from sync.source.connections import wal_position
from tests.faults.proxy import Proxy
from tests.faults.stories import insert, quick
from tests.owkai.servers import Server, owkai, serving, wait_for
from tests.owkai.servers import environment as server_environment
from tests.postgres import Database
from tests.sync.running import RunningSync, assert_equal, cache_rows, running_sync, settings_for, slot_name, wait_until

# -- a commit that fails -----------------------------------------------------------------------------------------


class FailingStore(Store):
    """A store whose commits of changes fail, before or after they are durable, as long as `fault` says so."""

    fault = ""

    def commit(self, lsn: int, horizon: str | None = None) -> Position:
        if FailingStore.fault == "before":
            raise duckdb.IOException("IO Error: Could not write file: injected by the test")
        if FailingStore.fault == "fatal":
            FailingStore.fault = ""
            raise duckdb.FatalException("FATAL Error: Failed to create checkpoint: No space left on device")
        position = super().commit(lsn, horizon)
        if FailingStore.fault == "after":
            FailingStore.fault = ""
            raise duckdb.IOException("IO Error: injected by the test after the commit")
        return position


def confirmed(database: Database, slot: str) -> int:
    row = database.execute(
        "select (confirmed_flush_lsn - '0/0')::bigint from pg_replication_slots where slot_name = %s", [slot]
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_commit_that_fails_acknowledges_nothing_and_is_made_again(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("analytics.state.cache.Store", FailingStore)
    insert(database, 20)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        sync.caught_up(database)
        FailingStore.fault = "before"
        try:
            row = database.execute("select (pg_current_wal_flush_lsn() - '0/0')::bigint").fetchone()
            assert row is not None
            before = int(row[0])
            insert(database, 20)
            sync.phase(Phase.RETRYING)
            assert "cannot be written" in caplog.text
            wait_until(lambda: sync.board.current.stale(utc_now(), 2), "staleness")
            # Several attempts later the slot still waits before the transaction that could not be kept.
            assert confirmed(database, sync.settings.source.slot) <= before
            assert len(cache_rows(sync.cache, "agent_actions")) == 20
        finally:
            FailingStore.fault = ""
        assert assert_equal(sync, database) == 40
        assert confirmed(database, sync.settings.source.slot) > before
        assert sync.board.current.copies == 1


def test_a_fault_between_commit_and_acknowledgement_applies_nothing_twice(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analytics.state.cache.Store", FailingStore)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        for turn in range(5):
            FailingStore.fault = "after"
            insert(database, 20)
            database.execute("update agent_actions set status = 'failed' where id %% 5 = %s", [turn])
            wait_until(lambda: FailingStore.fault == "", "the fault")
        assert assert_equal(sync, database) == 100
        assert sync.board.current.copies == 1


def test_a_fatal_error_for_want_of_room_reopens_the_file_and_goes_on_answering(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A checkpoint that finds the disk full ends the DuckDB instance, but not the file: rows are answered again at once."""
    monkeypatch.setattr("analytics.state.cache.Store", FailingStore)
    insert(database, 20)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        before = sync.cache.live
        FailingStore.fault = "fatal"
        insert(database, 20)
        wait_until(lambda: sync.cache.live not in (None, before), "the file is opened again")
        assert len(cache_rows(sync.cache, "agent_actions")) >= 20
        insert(database, 20)
        assert assert_equal(sync, database) == 60
        assert sync.board.current.copies == 1
        assert "free space" in caplog.text


# -- no room -----------------------------------------------------------------------------------------------------


@contextmanager
def small_file_system(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def may_mount(folder: Path) -> bool:
    try:
        with small_file_system(folder / "probe", 1):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def full_disk(server: Server, database: Database) -> int:
    """Write until the server cannot: it stays up, answers what it has, says that it is stale and why. Returns its rows."""
    while "cannot be written" not in server.messages():
        database.execute(
            "insert into agent_actions (agent_id, action_type, organization_id, description)"
            " select 'a', 'x', 1, (select string_agg(md5(random()::text || k || i), '') from generate_series(1, 60) k)"
            " from generate_series(1, 2000) i"
        )
        end = wal_position(database.connect())
        # No more than fills the disk: all of it must be brought in again once there is room.
        wait_for(
            lambda end=end: "cannot be written" in server.messages() or applied(server) >= end - 24,  # type: ignore[misc]
            f"a full disk or position {end}; {server.messages()[-1500:]}",
        )
    answers: list[dict[str, Any]] = []

    def stale_and_why() -> bool:
        """In one answer: between two attempts the server may stream for a moment, or open the cache's file again."""
        status, body = server.get("/readyz")
        answers.append(body)
        return status == 200 and body["stale"] and body["state"] in ("retrying", "copying")

    wait_for(stale_and_why, f"staleness; {server.messages()[-1500:]}")
    assert "free space" in server.messages()
    assert server.get("/healthz")[0] == 200
    return int(answers[-1]["cache_version"])


def applied(server: Server) -> int:
    return parse_lsn(server.get("/readyz")[1].get("lsn") or "0/0")


def recovered(server: Server, database: Database) -> None:
    from tests.faults.campaign import caught_up

    wait_for(lambda: server.get("/readyz")[1]["state"] == "streaming", f"streaming; {server.messages()[-1500:]}")
    caught_up(server, database)
    wait_for(lambda: not server.get("/readyz")[1]["stale"], f"freshness; {server.messages()[-1500:]}")


def test_dos_10_a_full_disk_stops_changes_but_not_answers_and_ends_when_there_is_room(
    database: Database, tmp_path: Path
) -> None:
    """On a small file system where one may be mounted; else by the limit on the size of a file, lifted at a restart."""
    insert(database, 1000)
    options = {
        "SOURCE_DSN": database.dsn,
        "SOURCE_SLOT": slot_name(database),
        "SYNC_STALE_AFTER_SECONDS": "2",
        "SYNC_SAMPLE_SECONDS": "1",
        "SYNC_POLL_SECONDS": "1",
        "CACHE_CHECKPOINT_SECONDS": "1",
        "AUDIT_FILE": str(tmp_path / "audit.jsonl"),
    }
    if may_mount(tmp_path):
        with (
            small_file_system(tmp_path / "small", 28) as small,
            serving(tmp_path, **options, CACHE_DIRECTORY=str(small)) as server,
        ):
            wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")
            full_disk(server, database)
            subprocess.run(["mount", "-o", "remount,size=400m", str(small)], check=True)
            recovered(server, database)
            server.signal(signal.SIGTERM)
            assert server.wait() == Exit.OK
            same_rows(database, small)
        return
    with serving(tmp_path, **options) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")
        limit_files(server, 12 << 20)
        full_disk(server, database)
    with serving(tmp_path, **options) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "readiness")
        recovered(server, database)
        server.signal(signal.SIGTERM)
        assert server.wait() == Exit.OK
    same_rows(database, tmp_path / "cache")


def test_dos_10_a_limit_on_the_size_of_files_is_a_full_disk_too(database: Database, tmp_path: Path) -> None:
    insert(database, 1000)
    options = {
        "SOURCE_DSN": database.dsn,
        "SOURCE_SLOT": slot_name(database),
        "SYNC_STALE_AFTER_SECONDS": "2",
        "SYNC_SAMPLE_SECONDS": "1",
        "SYNC_POLL_SECONDS": "1",
        "CACHE_CHECKPOINT_SECONDS": "1",
    }
    with serving(tmp_path, **options) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")
        limit_files(server, 12 << 20)
        full_disk(server, database)
        limit_files(server, -1)
        recovered(server, database)
        server.signal(signal.SIGTERM)
        assert server.wait() == Exit.OK
    same_rows(database, tmp_path / "cache")


def limit_files(server: Server, size: int) -> None:
    import resource

    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def same_rows(database: Database, directory: Path) -> None:
    from tests.sync.running import source_rows

    cache = Cache(settings_for(database, directory, cache={"directory": directory}).cache)
    try:
        assert cache_rows(cache, "agent_actions") == source_rows(database, "agent_actions")
    finally:
        cache.close()


# -- the cache's files -------------------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    os.truncate(path, 0)


def gone(path: Path) -> None:
    path.unlink()


def header_lost(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(8192))


@pytest.mark.parametrize("damage", [truncated, garbage, zeros, empty, gone, header_lost])
def test_a_damaged_cache_file_is_set_aside_and_rebuilt(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    insert(database, 5000)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
    directory = tmp_path / "cache"
    damage(directory / (directory / CURRENT).read_text().strip())
    insert(database, 100)
    with running_sync(database, tmp_path, **quick()) as again:
        again.streaming()
        assert assert_equal(again, database) == 5100
        assert again.board.current.copies == 1
        assert "cannot be used and is rebuilt from the source" in caplog.text


@pytest.mark.parametrize("damage", [garbage, empty, gone])
def test_a_damaged_pointer_to_the_cache_ends_in_a_rebuilt_cache(
    database: Database, tmp_path: Path, damage: Any
) -> None:
    insert(database, 100)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
    damage(tmp_path / "cache" / CURRENT)
    with running_sync(database, tmp_path, **quick()) as again:
        again.streaming()
        assert assert_equal(again, database) == 100
        assert len(list((tmp_path / "cache").glob("cache-*.duckdb"))) == 1


def test_blocks_damaged_in_the_middle_of_the_file_are_found_by_their_checksum_and_the_cache_is_rebuilt(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(database, 60_000)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
    directory = tmp_path / "cache"
    path = directory / (directory / CURRENT).read_text().strip()
    size = path.stat().st_size
    with path.open("r+b") as file:
        for place in range(size // 4, size - 4096, 65536):
            file.seek(place)
            file.write(os.urandom(512))
    with running_sync(database, tmp_path, **quick()) as again:
        database.execute("update agent_actions set status = 'failed' where id % 2 = 0")
        database.execute("delete from agent_actions where id % 3 = 0")
        wait_until(lambda: again.board.current.copies == 1, f"a new copy; {again.board.current}")
        again.streaming()
        assert assert_equal(again, database) == 40_000


@pytest.mark.parametrize("damage", [truncated, garbage, empty, gone])
def test_a_damaged_write_ahead_log_never_leaves_the_cache_behind_the_slot(
    database: Database, tmp_path: Path, damage: Any
) -> None:
    """As after a power cut: the log holds what was acknowledged; without it the cache is older than the slot."""
    insert(database, 100)
    directory, crashed = tmp_path / "cache", tmp_path / "crashed"
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        for _ in range(30):
            insert(database, 50)
        sync.caught_up(database)
        shutil.copytree(directory, crashed)
    (log,) = crashed.glob("*.wal")
    assert log.stat().st_size > 0
    damage(log)
    with running_sync(database, tmp_path, **{**quick(), "cache": {"directory": crashed}}) as again:
        again.streaming()
        insert(database, 50)
        assert assert_equal(again, database) == 1650


def test_upg_04_an_older_cache_put_back_is_noticed_by_the_slot_being_ahead(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(database, 100)
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
    shutil.copytree(tmp_path / "cache", tmp_path / "older")
    with running_sync(database, tmp_path, **quick()) as sync:
        sync.streaming()
        insert(database, 100)
        database.execute("delete from agent_actions where id % 3 = 0")
        sync.caught_up(database)
    with running_sync(database, tmp_path, **{**quick(), "cache": {"directory": tmp_path / "older"}}) as again:
        wait_until(lambda: again.board.current.copies == 1, f"a new copy; {again.board.current}")
        again.streaming()
        assert assert_equal(again, database) > 100
        assert "ahead of the cache" in caplog.text


# -- the clock ---------------------------------------------------------------------------------------------------


class JumpingClock:
    """The wall clock, moved by `offset`."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.offset


@contextmanager
def sync_by(clock: JumpingClock, database: Database, directory: Path, dsn: str) -> Iterator[RunningSync]:
    sync = RunningSync.__new__(RunningSync)
    sync.settings = settings_for(database, directory, dsn, **quick())
    sync.cache = Cache(sync.settings.cache)
    sync.board = StatusBoard()
    sync.loop = SyncLoop(sync.settings, sync.cache, sync.board, clock)
    sync.loop.start()
    try:
        yield sync
    finally:
        sync.close()


@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_after_a_clock_jump_the_lag_is_right_again_and_nothing_is_lost(
    database: Database, tmp_path: Path, hours: int
) -> None:
    clock = JumpingClock()
    insert(database, 20)
    with sync_by(clock, database, tmp_path, database.dsn) as sync:
        sync.streaming()
        wait_until(lambda: (sync.board.current.lag_seconds(clock()) or 99) < 3, "a small lag")
        clock.offset = timedelta(hours=hours)
        insert(database, 20)

        def settled() -> bool:
            fresh_at = sync.board.current.fresh_at
            return fresh_at is not None and abs((clock() - fresh_at).total_seconds()) < 3

        wait_until(settled, f"a lag by the new clock; {sync.board.current}")
        assert assert_equal(sync, database) == 40
        assert sync.board.current.reconnects == 0


def test_a_clock_set_back_while_the_source_is_away_does_not_hide_that_the_answers_grow_old(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = JumpingClock()
    insert(database, 20)
    with (
        Proxy(database.server.port) as line,
        sync_by(clock, database, tmp_path, line.dsn(database.dsn)) as sync,
    ):
        sync.streaming()
        wait_until(lambda: sync.board.current.fresh_at is not None, "a sample")
        line.cut()
        clock.offset = timedelta(hours=-6)
        wait_until(lambda: sync.board.current.stale(clock(), 2), f"stale by the new clock; {sync.board.current}")
        assert "clock" in caplog.text
        line.mend()
        sync.streaming()
        assert assert_equal(sync, database) == 20


# -- large transactions ------------------------------------------------------------------------------------------


def peak_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def one_transaction_of(rows: int, database: Database, folder: Path) -> float:
    """Insert, update and delete in single transactions of that size; equal afterwards. Returns the peak memory in MB."""
    from tests.faults.campaign import assert_stopped_cache_equals_source, caught_up

    database.execute("alter table agent_actions disable trigger user")
    options = {"SOURCE_DSN": database.dsn, "SOURCE_SLOT": slot_name(database)}
    seen: set[int] = set()
    stop = threading.Event()
    with serving(folder, **options) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")

        def watch() -> None:
            while not stop.wait(0.2):
                seen.add(server.get("/readyz")[0])

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            insert(database, rows)
            wait_long(server, database, caught_up)
            with database.connect(autocommit=False) as writer:
                writer.execute("update agent_actions set status = 'failed' where id % 2 = 0")
                writer.execute("delete from agent_actions where id % 5 = 0")
                writer.commit()
            wait_long(server, database, caught_up)
        finally:
            stop.set()
            watcher.join()
        peak = peak_megabytes(server.process.pid)
        assert seen == {200}
        server.signal(signal.SIGTERM)
        assert server.wait() == Exit.OK
    assert assert_stopped_cache_equals_source(database, folder) == rows - rows // 5
    return peak


def wait_long(server: Server, database: Database, caught_up: Any) -> None:
    for attempt in range(5):
        try:
            caught_up(server, database)
            return
        except AssertionError:
            if attempt == 4:
                raise


def test_dos_07_a_transaction_of_150_thousand_rows_is_applied_in_bounded_memory(
    database: Database, tmp_path: Path
) -> None:
    assert one_transaction_of(150_000, database, tmp_path) < 700


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_transaction_of_a_million_rows_is_applied_in_bounded_memory(database: Database, tmp_path: Path) -> None:
    peak = one_transaction_of(1_000_000, database, tmp_path)
    print(f"peak memory {peak:.0f} MB")
    assert peak < 900


# -- two processes -----------------------------------------------------------------------------------------------


def test_a_second_process_on_the_cache_directory_refuses_and_the_first_goes_on(
    database: Database, tmp_path: Path
) -> None:
    insert(database, 20)
    options = {"SOURCE_DSN": database.dsn, "SOURCE_SLOT": slot_name(database)}
    with serving(tmp_path, **options) as first:
        wait_for(lambda: first.get("/readyz")[0] == 200, "the first copy")
        environment = server_environment(
            **options, CACHE_DIRECTORY=str(tmp_path / "cache"), AUTH_JWT_SECRET="3f9a1c77d0b24e6f8a5b90c1d2e3f40516273849",
            SERVER_PORT="0",
        )  # fmt: skip
        second = owkai("serve", cwd=tmp_path, env=environment)
        assert second.returncode == Exit.BUSY
        assert f"in use by process {first.process.pid}" in second.stdout + second.stderr
        assert first.get("/readyz")[1]["state"] == "streaming"


def test_a_second_process_on_the_slot_exits_with_code_4_and_the_first_goes_on(
    database: Database, tmp_path: Path
) -> None:
    insert(database, 20)
    options = {"SOURCE_DSN": database.dsn, "SOURCE_SLOT": slot_name(database)}
    with serving(tmp_path, **options) as first:
        wait_for(lambda: first.get("/readyz")[0] == 200, "the first copy")
        with serving(tmp_path, CACHE_DIRECTORY=str(tmp_path / "another"), **options) as second:
            wait_for(lambda: second.get("/readyz")[1]["needs_attention"], "attention")
            assert second.process.wait(60) == Exit.BUSY
            assert f"replication slot {slot_name(database)} is in use" in second.messages()
            assert "source.slot" in second.messages()
        assert first.get("/readyz")[1]["state"] == "streaming"
