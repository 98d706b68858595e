"""Property: any history of inserts, updates and deletes in interleaved transactions leaves cache = source."""

from __future__ import annotations

from pathlib import Path

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.postgres import Database
from tests.sync.running import assert_equal, running_sync

KEYS = st.integers(1, 30)
RISKS = st.sampled_from(["low", "HIGH", "Critical", "medium", "odd", None])
STATUSES = st.sampled_from(["pending_approval", "approved", "completed", "failed", "denied", None])
TEXTS = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20))

STEP = st.one_of(
    st.tuples(st.just("insert"), st.integers(1, 3), RISKS, STATUSES, TEXTS),
    st.tuples(st.just("update"), KEYS, RISKS, STATUSES, TEXTS),
    st.tuples(st.just("move"), KEYS, st.integers(1, 3)),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("savepoint")),
    st.tuples(st.just("undo")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("rollback")),
)


def run(session: psycopg.Connection, step: tuple[object, ...]) -> None:
    """One step of one session. A step that meets another session's lock gives up: that session's work is undone."""
    match step:
        case ("insert", organization, risk, status, text):
            session.execute(
                'insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, summary, "timestamp")'
                " values ('a', 'x', %s, %s, %s, %s, now())",
                [organization, risk, status, text],
            )
        case ("update", key, risk, status, text):
            session.execute(
                "update agent_actions set risk_level = %s, status = %s, summary = %s where id = %s",
                [risk, status, text, key],
            )
        case ("move", key, organization):
            session.execute("update agent_actions set organization_id = %s where id = %s", [organization, key])
        case ("delete", key):
            session.execute("delete from agent_actions where id = %s", [key])
        case ("savepoint",):
            session.execute("savepoint s")
        case ("undo",):
            session.execute("savepoint s; rollback to savepoint s")
        case ("commit",):
            session.commit()
        case ("rollback",):
            session.rollback()


def test_any_interleaved_history_leaves_the_cache_equal(database: Database, tmp_path: Path) -> None:
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        sessions = [database.connect(autocommit=False) for _ in range(3)]
        for session in sessions:
            session.execute("set lock_timeout = '20ms'")
            session.commit()

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(st.lists(st.tuples(st.integers(0, 2), STEP), min_size=5, max_size=40))
        def histories(history: list[tuple[int, tuple[object, ...]]]) -> None:
            for which, step in history:
                try:
                    run(sessions[which], step)
                except psycopg.errors.LockNotAvailable:
                    sessions[which].rollback()
            for session in sessions:
                session.commit()
            assert_equal(sync, database, "agent_actions")
            database.execute("delete from agent_actions; alter sequence agent_actions_id_seq restart")

        histories()
        assert sync.board.current.copies == 1
        assert sync.board.current.rows_applied > 0
