"""The round trip to the source: what the sampler measures is the line, and a dead line has none."""

from __future__ import annotations

from pathlib import Path

from tests.faults.proxy import Proxy
from tests.postgres import Database
from tests.sync.running import running_sync, wait_until

DELAY_SECONDS = 0.05


def test_the_round_trip_grows_with_the_line_and_ends_with_it(database: Database, tmp_path: Path) -> None:
    with Proxy(database.server.port) as proxy, running_sync(database, tmp_path, dsn=proxy.dsn(database.dsn)) as sync:
        sync.streaming()
        board = sync.board

        def at_least(milliseconds: float) -> bool:
            found = board.current.round_trip
            return found is not None and found.milliseconds >= milliseconds

        wait_until(lambda: at_least(0.001), "a round trip")
        proxy.delay(DELAY_SECONDS)
        # There and back: each piece is held twice.
        wait_until(lambda: at_least(1000 * DELAY_SECONDS), "the median of slow round trips", 60)
        proxy.cut()
        wait_until(lambda: board.current.round_trip is None, "no round trip on a cut line")
        proxy.mend()
        wait_until(lambda: at_least(0.001), "a round trip again")
