"""An action sees the cache at exactly the position it asked for, while the source goes on writing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from analytics.state.store import Store
from sync.comparison.common_snapshot import common_snapshot
from sync.position_barrier import NOW, PassedError
from sync.source.connections import wal_position
from tests.faults.writing import WritingLoad
from tests.postgres import Database, create_database, drop_database
from tests.sync.running import running_sync, wait_until


def seen(store: Store) -> list[tuple[object, ...]]:
    with store.read() as snapshot:
        return snapshot._connection.execute("select id, status from agent_actions order by id").fetchall()


def test_an_action_sees_exactly_what_the_moments_snapshot_shows(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        with WritingLoad(database, largest=50):
            for _ in range(12):
                with common_snapshot(sync.settings, sync.loop, lambda store, _: seen(store), lambda: False) as moment:
                    source = moment.source.execute("select id, status from public.agent_actions order by id").fetchall()
                assert moment.result == source
        assert len(source) > 0


def test_an_actions_exception_is_its_requesters_and_sync_goes_on(database: Database, tmp_path: Path) -> None:
    def broken(store: Store) -> None:
        raise ValueError("mine")

    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        with pytest.raises(ValueError, match="mine"):
            sync.loop.at_position(NOW, broken).result(10)
        database.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)")
        sync.caught_up(database)
        sync.loop.stop(10)
        with pytest.raises(CancelledError):
            sync.loop.at_position(NOW, broken).result(10)


def test_a_position_already_passed_is_refused_not_approximated(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        database.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)")
        sync.caught_up(database)
        with pytest.raises(PassedError):
            sync.loop.at_position(1, seen).result(10)


def test_a_transaction_open_on_the_source_does_not_hold_sync_up(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync, database.connect(autocommit=False) as old:
        sync.streaming()
        old.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)")
        waited = threading.Event()

        def look() -> int:
            with common_snapshot(sync.settings, sync.loop, lambda store, _: len(seen(store)), waited.is_set) as moment:
                return moment.result

        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(look)
            for _ in range(3):
                database.execute(
                    "insert into agent_actions (agent_id, action_type, organization_id) values ('b', 'x', 1)"
                )
                sync.caught_up(database)
            assert not looking.done()
            old.rollback()
            assert looking.result(20) == 3


def test_wal_of_other_databases_does_not_pass_a_position_that_the_cache_still_shows(
    database: Database, tmp_path: Path
) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        database.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)")
        sync.caught_up(database)
        with database.connect() as connection:
            position = wal_position(connection)
        neighbor = create_database(database.server, f"{database.name}_neighbor")
        try:
            for _ in range(8):
                neighbor.execute("select pg_logical_emit_message(false, 'noise', repeat('x', 1000000))")
            sync.caught_up(database)
            wait_until(lambda: (sync.board.current.applied_lsn or 0) > position + 4_000_000, "the cache has moved on")
            assert len(sync.loop.at_position(position, seen).result(20)) == 1
        finally:
            drop_database(neighbor)


def test_a_moment_that_sync_has_passed_is_tried_again(database: Database, tmp_path: Path) -> None:
    class Passing:
        """Refuses the position of the first attempt, as a cache does that has taken in a later change."""

        refused = 0

        def at_position(self, lsn: int, action: Callable[[Store], Any]) -> Future[Any]:
            if lsn != NOW and not self.refused:
                self.refused += 1
                return sync.loop.at_position(1, action)
            return sync.loop.at_position(lsn, action)

    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        database.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)")
        sync.caught_up(database)
        positions = Passing()
        with common_snapshot(sync.settings, positions, lambda store, _: seen(store), lambda: False) as moment:
            assert len(moment.result) == 1
        assert positions.refused == 1
