"""An open transaction of the platform delays a copy or a comparison; it is named, and nothing fails for good."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from analytics.state.clock import utc_now
from analytics.state.sync_status import Phase
from owkai.demo.platform import platform_sql
from owkai.demo.postgres import EmbeddedPostgres
from sync.comparison import common_snapshot as moment
from sync.comparison.common_snapshot import VerifyError
from sync.comparison.verify import Scope, Verifier
from sync.source.connections import connect, open_replication
from sync.source.open_transactions import open_transactions
from tests.postgres import Database, create_database, drop_database, prepare_template
from tests.sync.running import assert_equal, running_sync, settings_for, wait_until

INSERT = "insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)"


@pytest.fixture(scope="module")
def preparing() -> Iterator[EmbeddedPostgres]:
    """A server that allows prepared transactions."""
    directory = Path(tempfile.mkdtemp(prefix="owkai-tests-"))
    with EmbeddedPostgres.start(directory, options={"max_prepared_transactions": "5"}) as server:
        prepare_template(server, platform_sql())
        yield server


@pytest.fixture
def prepared(preparing: EmbeddedPostgres) -> Iterator[Database]:
    database = create_database(preparing, "prepared")
    try:
        yield database
    finally:
        for gid, name in database.execute("select gid, database from pg_prepared_xacts").fetchall():
            with psycopg.connect(preparing.dsn(name), autocommit=True) as connection:
                connection.execute(f"rollback prepared '{gid}'")
        drop_database(database)


def test_a_first_copy_waits_for_open_and_prepared_transactions_and_names_them(
    prepared: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is idle in this database, one is prepared in another; the copy goes on by itself when both have ended."""
    monkeypatch.setattr("sync.source.open_transactions.REPORT_SECONDS", 0.2)
    elsewhere = create_database(prepared.server, "elsewhere")
    try:
        other = elsewhere.connect()
        other.execute(f"begin; {INSERT}; prepare transaction 'it''s left'")
        open_one = prepared.connect(autocommit=False)
        open_one.execute(INSERT)
        pid = open_one.info.backend_pid
        with running_sync(prepared, tmp_path) as sync:
            wait_until(lambda: f"server process {pid}" in (sync.board.current.error or ""), "the process is named")
            now = sync.board.current
            message, remedy = now.error or "", now.remedy or ""
            assert now.phase is Phase.COPYING
            assert "(database prepared, user " in message
            assert re.search(r"open since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, idle in transaction", message)
            assert "prepared transaction 'it''s left' (database elsewhere" in message
            assert f"SELECT pg_terminate_backend({pid})" in remedy
            assert "in database elsewhere: ROLLBACK PREPARED 'it''s left'" in remedy
            open_one.commit()
            wait_until(
                lambda: "server process" not in (sync.board.current.error or "x"), "only the prepared one is left"
            )
            other.execute("commit prepared 'it''s left'")
            sync.streaming()
            assert sync.board.current.error is None
            assert assert_equal(sync, prepared, "agent_actions") == 1
            assert sync.board.current.reconnects == 0
    finally:
        drop_database(elsewhere)


def test_verify_names_the_transaction_that_it_waited_for(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moment, "OPEN_TRANSACTIONS_SECONDS", 1.0)
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        blocker = database.connect(autocommit=False)
        blocker.execute(INSERT)
        verifier = Verifier(sync.settings, sync.cache, sync.loop, sync.board, utc_now)
        with pytest.raises(VerifyError) as raised:
            verifier.verify(Scope(), lambda: False)
        assert f"server process {blocker.info.backend_pid} (database {database.name}, user " in str(raised.value)
        assert f"pg_terminate_backend({blocker.info.backend_pid})" in raised.value.remedy
        blocker.commit()
        assert verifier.verify(Scope(), lambda: False).equal


def test_a_role_without_rights_on_statistics_still_sees_whose_transaction_it_is(
    database: Database, tmp_path: Path
) -> None:
    role = f"looker_{database.name}"
    database.execute(f"create role {role} login password 'looker-password'")
    try:
        blocker = database.connect(autocommit=False)
        blocker.execute(INSERT)
        dsn = psycopg.conninfo.make_conninfo(database.dsn, user=role, password="looker-password")
        with connect(settings_for(database, tmp_path, dsn)) as connection:
            found = {transaction.pid: transaction for transaction in open_transactions(connection, 50)}
        mine = found[blocker.info.backend_pid]
        assert (mine.database, mine.since) == (database.name, None)
        assert "open since an unknown time" in str(mine)
    finally:
        database.execute(f"drop role {role}")


def test_the_bounds_of_our_sessions_do_not_come_from_the_role(database: Database, tmp_path: Path) -> None:
    """An operator's bounds for ordinary sessions would end a copy, a snapshot, or a wait for a slot."""
    role = f"bounded_{database.name}"
    bounds = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    version = database.connect().info.server_version
    bounds += ["idle_session_timeout"] * (version >= 140_000) + ["transaction_timeout"] * (version >= 170_000)
    database.execute(f"create role {role} login superuser password 'bounded-password'")
    try:
        for bound in bounds:
            database.execute(f"alter role {role} set {bound} = '77ms'")
        dsn = psycopg.conninfo.make_conninfo(database.dsn, user=role, password="bounded-password")
        settings = settings_for(database, tmp_path, dsn)
        query = "select " + ", ".join(f"current_setting('{bound}')" for bound in bounds)
        ours = {"statement_timeout": "1min", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "1min"}
        with connect(settings) as connection:
            row = connection.execute(query).fetchone()
            assert row == tuple(ours.get(bound, "0") for bound in bounds)
        with connect(settings, statement_timeout=False) as connection:
            row = connection.execute(query).fetchone()
            assert row == tuple("10s" if bound == "lock_timeout" else "0" for bound in bounds)
        replication = open_replication(settings)
        try:
            assert replication.execute(query).fetchone() == ("0",) * len(bounds)
        finally:
            replication.close()
    finally:
        database.execute(f"drop role {role}")
