"""An action sees the cache at exactly the position it asked for, while the source goes on writing."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest

from analytics.store import Store
from sync.holds import NOW, PassedError
from sync.moment import shared_moment
from tests.faults.writing import WritingLoad
from tests.postgres import Database
from tests.sync.running import running_sync


def seen(store: Store) -> list[tuple[object, ...]]:
    with store.read() as snapshot:
        return snapshot._connection.execute("select id, status from agent_actions order by id").fetchall()


def test_an_action_sees_exactly_what_the_moments_snapshot_shows(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        with WritingLoad(database, largest=50):
            for _ in range(12):
                with shared_moment(sync.settings, sync.loop, lambda store, _: seen(store), lambda: False) as moment:
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
            with shared_moment(sync.settings, sync.loop, lambda store, _: len(seen(store)), waited.is_set) as moment:
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
