"""The cache directory: locked, private, rebuilt when unusable, swapped under open reads."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from analytics.state.cache import ASIDE, CURRENT, Cache, CacheBusyError
from analytics.state.store import SCHEMA_VERSION, CacheNotReadyError
from config.settings import Settings
from tests.analytics.rows import ORIGIN, action, arrow, fill, filled_cache, ids

OPEN_IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from analytics.state.cache import Cache, CacheBusyError
from config.settings import CacheSettings
try:
    Cache(CacheSettings(directory=Path(sys.argv[1])))
except CacheBusyError as error:
    print(error)
    sys.exit(7)
"""


def count(cache: Cache, org: int = 1) -> int:
    with cache.read() as snapshot:
        ((actions,),) = snapshot.of(org).rows("pending_actions", statuses=["completed"])
    return int(actions)


def make(given: Settings, rows: int = 3) -> Path:
    """A closed cache with some rows; returns the path of its file."""
    with filled_cache(given, agent_actions=[action(number) for number in range(rows)]) as cache:
        assert cache.live is not None
        assert cache.live.path is not None
        return cache.live.path


def kept_log(given: Settings, directory: Path) -> Path:
    """The write-ahead log of an open cache with one more commit, copied beside nothing; the cache is left as it was."""
    with filled_cache(given, agent_actions=[action(number) for number in range(3)]) as cache:
        assert cache.live is not None
        assert cache.live.path is not None
        shutil.copy(cache.live.path, directory / "file")
        shutil.copy(f"{cache.live.path}.wal", directory / "log")
        return cache.live.path


def test_a_cache_opens_again_with_its_rows_and_position(given: Settings) -> None:
    make(given)
    cache = Cache(given.cache)
    assert cache.ready
    assert count(cache) == 3
    assert cache.live is not None
    assert cache.live.origin() == ORIGIN
    position = cache.live.position()
    assert position is not None
    assert position.lsn == 100
    cache.close()
    cache.close()
    with pytest.raises(CacheNotReadyError), cache.read():
        pass


def test_a_read_that_is_open_during_a_swap_keeps_its_generation(given: Settings) -> None:
    with filled_cache(given, agent_actions=[action(1)]) as cache:
        before = cache.live
        assert before is not None
        assert before.path is not None
        version = cache.version
        with cache.read() as old:
            store = cache.build(ORIGIN)
            fill(store, {"agent_actions": [action(1), action(2)]}, lsn=200)
            cache.publish(store)
            assert cache.version > version
            assert old.of(1).rows("pending_actions", statuses=["completed"]) == [(1,)]
            assert old.lsn == 100
            with cache.read() as new:
                assert new.of(1).rows("pending_actions", statuses=["completed"]) == [(2,)]
                assert new.lsn == 200
        assert not before.path.exists()
        with pytest.raises(CacheNotReadyError), before.read():
            pass
    assert (given.cache.directory / CURRENT).read_text() == store.path.name  # type: ignore[union-attr]


def test_upg_01_a_copy_that_was_not_published_is_not_there_after_a_restart(given: Settings) -> None:
    make(given)
    cache = Cache(given.cache)
    store = cache.build(ORIGIN)
    fill(store, {"agent_actions": [action(number) for number in range(9)]})
    cache.close()  # as after a crash between copy and publication
    cache = Cache(given.cache)
    assert count(cache) == 3
    assert len(list(given.cache.directory.glob("cache-*"))) == 1
    cache.close()


def test_remove_and_append_replace_rows_within_one_commit(given: Settings) -> None:
    with filled_cache(given, agent_actions=[action(number) for number in range(5)]) as cache:
        store = cache.live
        assert store is not None
        store.begin()
        assert store.remove("agent_actions", ids([1, 3, 77]), 1, 77) == 2
        assert store.append("agent_actions", arrow("agent_actions", [action(3, status="failed")])) == 1
        assert count(cache) == 5  # not before the commit
        position = store.commit(300)
        assert (position.lsn, count(cache)) == (300, 3)
        store.begin()
        store.truncate("agent_actions")
        store.rollback()
        assert count(cache) == 3


def test_a_second_process_is_refused_with_the_holders_pid(given: Settings) -> None:
    with filled_cache(given):
        ended = subprocess.run(
            [sys.executable, "-c", OPEN_IN_ANOTHER_PROCESS, str(given.cache.directory)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == 7, ended.stderr
        assert f"in use by process {os.getpid()}" in ended.stdout
        assert "cache.directory" in ended.stdout
        with pytest.raises(CacheBusyError):
            Cache(given.cache)
    Cache(given.cache).close()


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def flipped_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 + 16] ^= 0xFF
    content[8192 + 16] ^= 0xFF
    path.write_bytes(content)


def foreign(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as other:
        other.execute("create table somebody_elses (id integer)")


def other_version(path: Path) -> None:
    with duckdb.connect(str(path)) as cache:
        cache.execute("update owkai_state set schema_version = schema_version + 1")


def incomplete(path: Path) -> None:
    with duckdb.connect(str(path)) as cache:
        cache.execute("update owkai_state set lsn = null")


def missing(path: Path) -> None:
    path.unlink()


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [garbage, empty, truncated, flipped_header, foreign, other_version, incomplete, missing, directory]


@pytest.mark.parametrize("damage", DAMAGES)
def test_sql_09_upg_02_a_file_that_cannot_be_used_is_set_aside_and_the_cache_rebuilt(
    given: Settings, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(given)
    damage(path)  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        cache = Cache(given.cache)
    assert not cache.ready
    assert f"cache {path.name} cannot be used and is rebuilt from the source" in caplog.text
    store = cache.build(ORIGIN)
    fill(store, {"agent_actions": [action(1), action(2)]})
    cache.publish(store)
    assert count(cache) == 2
    cache.close()
    cache = Cache(given.cache)
    assert count(cache) == 2
    cache.close()


@pytest.mark.parametrize("other", [1, SCHEMA_VERSION + 7], ids=["upg_01 older", "upg_02 newer"])
def test_upg_01_upg_02_a_cache_of_another_schema_version_is_kept_aside_unwritten_and_rebuilt(
    given: Settings, other: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(given)
    with duckdb.connect(str(path)) as cache:
        cache.execute("update owkai_state set schema_version = ?", [other])
    content = path.read_bytes()
    opened = Cache(given.cache)
    assert not opened.ready
    assert f"its schema is not version {SCHEMA_VERSION}" in caplog.text
    assert (given.cache.directory / ASIDE).read_bytes() == content
    store = opened.build(ORIGIN)
    fill(store, {"agent_actions": [action(1), action(2)]})
    opened.publish(store)
    assert count(opened) == 2
    opened.close()


def test_sql_09_a_flipped_byte_in_the_write_ahead_log_rebuilds_and_leaves_no_log_behind(
    given: Settings, tmp_path: Path
) -> None:
    path = kept_log(given, tmp_path)
    log = Path(f"{path}.wal")
    shutil.copy(tmp_path / "file", path)
    content = bytearray((tmp_path / "log").read_bytes())
    content[len(content) // 2] ^= 0x01
    log.write_bytes(content)
    cache = Cache(given.cache)
    assert not cache.ready
    assert not log.exists()
    store = cache.build(ORIGIN)
    fill(store, {"agent_actions": [action(1)]})
    cache.publish(store)
    assert count(cache) == 1
    cache.close()


@pytest.mark.parametrize(
    "name", ["", ".", "../elsewhere", "cache-000001.duckdb\n/etc/passwd", "\x00", "cache-1.duckdb"]
)
def test_a_pointer_that_names_no_cache_file_is_not_followed(given: Settings, name: str) -> None:
    path = make(given)
    (given.cache.directory / CURRENT).write_text(name)
    cache = Cache(given.cache)
    assert not cache.ready
    assert given.cache.directory.is_dir()
    assert not path.exists()
    cache.close()


def test_a_pointer_that_is_no_text_is_not_followed(given: Settings) -> None:
    make(given)
    (given.cache.directory / CURRENT).write_bytes(b"\xff\xfe\xff")
    cache = Cache(given.cache)
    assert not cache.ready
    cache.close()


@pytest.mark.parametrize("suffix", ["", ".wal"])
def test_sql_09_a_symbolic_link_is_refused_and_its_target_left_alone(
    given: Settings, tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(given)
    target = tmp_path / "target"
    link = Path(f"{path}{suffix}")
    if suffix:
        target.write_bytes(b"somebody else's")
    else:
        path.replace(target)
    before = target.read_bytes()
    link.symlink_to(target)
    with caplog.at_level(logging.WARNING):
        cache = Cache(given.cache)
    assert not cache.ready
    assert "not a regular file" in caplog.text
    assert target.read_bytes() == before
    assert not link.is_symlink()
    cache.close()


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_files_are_0600_and_the_directory_0700_whatever_the_umask(given: Settings) -> None:
    def modes() -> dict[str, str]:
        return {
            entry.name: oct(stat.S_IMODE(entry.stat().st_mode))
            for entry in given.cache.directory.iterdir()
            if entry.is_file()
        }

    with filled_cache(given, agent_actions=[action(1)]) as cache:
        assert oct(stat.S_IMODE(given.cache.directory.stat().st_mode)) == "0o700"
        assert any(name.endswith(".wal") for name in modes())
        assert set(modes().values()) == {"0o600"}
        store = cache.live
        assert store is not None
        assert store.checkpoint()
        fill(store, {"agent_actions": [action(2)]})
        assert any(name.endswith(".wal") for name in modes())
        assert set(modes().values()) == {"0o600"}


FORBIDDEN = [
    # SQL-03
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('/etc/passwd')",
    "select * from read_json('/etc/passwd')",
    "select * from glob('/*')",
    "select * from sniff_csv('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from read_parquet('http://127.0.0.1:1/x.parquet')",
    # SQL-04
    "copy (select 1) to '/tmp/owkai-written.csv'",
    "export database '/tmp/owkai-exported'",
    "import database '/tmp/owkai-exported'",
    "attach '/tmp/owkai-attached.duckdb'",
    "create secret s (type s3, key_id 'a', secret 'b')",
    # SQL-05
    "install httpfs",
    "load httpfs",
    "load '/tmp/x.duckdb_extension'",
    "install x from community",
    "select * from 's3://bucket/x.parquet'",
    # SQL-06
    "set enable_external_access = true",
    "set lock_configuration = false",
    "set memory_limit = '10GB'",
    "set threads = 9",
    "reset memory_limit",
    "set temp_directory = '/tmp/owkai-spill'",
    "pragma profiling_output = '/tmp/owkai-profile'",
    "pragma enable_profiling = 'json'",
    "call enable_logging(storage = 'file')",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
@pytest.mark.parametrize("in_memory", [False, True], ids=["file", "memory"])
def test_sql_03_04_05_06_every_connection_is_locked_down(given: Settings, statement: str, in_memory: bool) -> None:
    locked = given.model_copy(update={"cache": given.cache.model_copy(update={"in_memory": in_memory})})
    with filled_cache(locked, agent_actions=[action(1)]) as cache:
        store = cache.live
        assert store is not None
        building = cache.build(ORIGIN)
        with cache.read() as first, cache.read() as second:
            for connection in (first._connection, second._connection, store._writer, building._writer):
                with pytest.raises(duckdb.Error):
                    connection.execute(statement)
        cache.discard(building)


def test_sql_08_python_frames_are_no_tables(given: Settings) -> None:
    frame = arrow("users", [])
    with filled_cache(given) as cache, cache.read() as snapshot, pytest.raises(duckdb.CatalogException):
        snapshot._connection.execute("select * from frame")
    assert frame is not None


@pytest.mark.parametrize(
    "bolt",
    [
        "enable_external_access",
        "autoload_known_extensions",
        "autoinstall_known_extensions",
        "allow_community_extensions",
        "allow_persistent_secrets",
        "python_enable_replacements",
    ],
)
def test_sql_07_every_bolt_is_shut_by_itself(given: Settings, bolt: str) -> None:
    with filled_cache(given) as cache, cache.read() as snapshot:
        connection = snapshot._connection
        assert connection.execute("select current_setting(?)", [bolt]).fetchone() == (False,)
        assert connection.execute("select current_setting('lock_configuration')").fetchone() == (True,)


def test_readers_cannot_write(given: Settings) -> None:
    with filled_cache(given, agent_actions=[action(1)]) as cache:
        with cache.read() as snapshot, pytest.raises(duckdb.Error, match="read-only"):
            snapshot._connection.execute("delete from agent_actions")
        assert count(cache) == 1


def test_sql_10_a_long_statement_is_interrupted_and_the_reader_is_usable_again(given: Settings) -> None:
    with filled_cache(given, agent_actions=[action(1)]) as cache:
        with pytest.raises(duckdb.InterruptException), cache.read(0.1) as snapshot:
            snapshot._connection.execute(
                "select count(*) from range(100000) a, range(10000000) b where a.range * b.range = 7"
            )
        for _ in range(3):
            assert count(cache) == 1


def test_the_time_of_a_read_is_over_between_statements_too(given: Settings) -> None:
    with filled_cache(given, agent_actions=[action(1)]) as cache, cache.read(0.01) as snapshot:
        assert snapshot._expired.wait(30)
        with pytest.raises(duckdb.InterruptException):
            snapshot.rows_across_organizations("user_by_id", user_id=1)


def test_a_checkpoint_beside_an_open_read_waits_for_another_time_and_loses_nothing(given: Settings) -> None:
    with filled_cache(given, agent_actions=[action(1)]) as cache:
        store = cache.live
        assert store is not None
        with cache.read() as snapshot:
            fill(store, {"agent_actions": [action(2)]})
            store.checkpoint()
            assert snapshot.of(1).rows("pending_actions", statuses=["completed"]) == [(1,)]
        assert store.checkpoint()
        assert count(cache) == 2


def test_reads_of_many_threads_during_commits_are_each_of_one_moment(given: Settings) -> None:
    stop = threading.Event()
    torn: list[tuple[int, int]] = []
    with filled_cache(given) as cache:
        store = cache.live
        assert store is not None

        def look() -> None:
            while not stop.is_set():
                with cache.read() as snapshot:
                    ((left,),) = snapshot.of(1).rows("pending_actions", statuses=["completed"])
                    ((right,),) = snapshot.of(2).rows("pending_actions", statuses=["completed"])
                    if left != right:
                        torn.append((left, right))

        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(40):
            fill(store, {"agent_actions": [action(2 * number), action(2 * number + 1, org=2)]})
        stop.set()
        for thread in threads:
            thread.join()
        assert not torn
        assert count(cache) == 40


OPEN_WITHOUT_ROOM = """
import resource, signal, sys
from pathlib import Path
from analytics.state.cache import Cache
from config.settings import Settings
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
cache = Cache(Settings.model_validate({"cache": {"directory": sys.argv[1]}}).cache)
print(cache.live.position().lsn if cache.live else None)
"""


def test_a_disk_without_room_at_the_start_leaves_a_healthy_cache_in_its_place(tmp_path: Path) -> None:
    cache = Cache(Settings.model_validate({"cache": {"directory": tmp_path}}).cache)
    store = cache.build(ORIGIN)
    store.begin()
    store.commit(5)
    store.checkpoint()
    cache.publish(store)
    store.begin()
    store.commit(6)  # in the write-ahead log
    cache.close()
    done = subprocess.run(
        [sys.executable, "-c", OPEN_WITHOUT_ROOM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "6", done.stderr
    assert not (tmp_path / ASIDE).exists()
