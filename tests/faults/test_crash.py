"""kill -9 at any moment: after the next start the cache converges to exactly the source."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from analytics.cache import Cache
from analytics.status import parse_lsn
from analytics.tables import BY_NAME
from sync.source import wal_position
from tests.faults.writing import WritingLoad
from tests.owkai.servers import Server, serving, wait_for
from tests.postgres import Database
from tests.sync.running import cache_rows, settings_for, slot_name, source_rows


def caught_up(server: Server, database: Database) -> None:
    with database.connect() as connection:
        connection.execute("select pg_logical_emit_message(true, 'owkai-test', 'mark')")
        end = wal_position(connection)
    wait_for(
        lambda: parse_lsn(server.get("/readyz")[1].get("lsn") or "0/0") >= end - 24,
        f"position {end}; {server.messages()[-2000:]}",
    )


def assert_stopped_cache_equals_source(database: Database, folder: Path) -> int:
    """Open the cache the stopped server left and compare every row."""
    cache = Cache(settings_for(database, folder).cache)
    try:
        compared = 0
        for table in BY_NAME:
            source, cached = source_rows(database, table), cache_rows(cache, table)
            assert cached == source, f"{table}: {len(cached)} cached, {len(source)} in the source"
            compared += len(source)
        return compared
    finally:
        cache.close()


def test_upg_05_kill_9_under_a_writing_load_leaves_cache_equal_to_source(database: Database, tmp_path: Path) -> None:
    moments = random.Random(20250115)
    server_options = {"SOURCE_DSN": database.dsn, "SOURCE_SLOT": slot_name(database), "SYNC_BATCH_ROWS": "200"}
    copies = 0
    with WritingLoad(database) as load:
        for turn in range(5):
            with serving(tmp_path, **server_options) as server:
                if turn > 0:
                    wait_for(lambda: server.get("/readyz")[0] == 200, f"readiness; {server.messages()[-2000:]}")
                time.sleep(moments.uniform(0.0, 0.6))  # a random moment of copy, stream or apply
                server.signal(signal.SIGKILL)
                server.wait()
                copies += server.messages().count("copied ")
        before = load.transactions
        assert before > 50
    with serving(tmp_path, **server_options) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "readiness")
        caught_up(server, database)
        server.signal(signal.SIGTERM)
        assert server.wait() in (0, 143)
        copies += server.messages().count("copied ")
    assert assert_stopped_cache_equals_source(database, tmp_path) > 100
    assert copies >= 1
