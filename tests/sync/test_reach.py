"""A source that cannot be reached: the report names the actual cause and what to do about that one."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from owkai.demo.postgres import EmbeddedPostgres
from sync.faults import Action, judge
from sync.source.connection_failure import Cause, diagnose
from sync.source.findings import Finding
from sync.source.preflight import inspect_source
from tests.faults.test_source_restarts import Authority
from tests.postgres import Database
from tests.sync.running import settings_for


def only_finding(database: Database, tmp_path: Path, dsn: str) -> Finding:
    (found,) = inspect_source(settings_for(database, tmp_path, dsn))
    assert found.level == "error"
    return found


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    name = f"reached_{database.name}"
    database.execute(f"create role {name} login password 'right-password'")
    yield name
    database.execute(f"drop owned by {name}; drop role {name}")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"password": "wrong-password"}, Cause.WRONG_PASSWORD),
        ({"password": ""}, Cause.NO_PASSWORD),
        ({"user": "nobody_of_this_name"}, Cause.WRONG_PASSWORD),  # Postgres does not tell which roles there are
        ({"dbname": "no_such_database"}, Cause.UNKNOWN_DATABASE),
        ({"port": "1"}, Cause.REFUSED),
        ({"host": "source.invalid", "sslmode": "disable"}, Cause.UNKNOWN_HOST),
        ({"host": "/nowhere"}, Cause.NO_SOCKET),
        ({"sslmode": "require"}, Cause.NO_TLS),
    ],
)
def test_each_cause_has_its_own_sentence_and_remedy(
    database: Database, role: str, tmp_path: Path, change: dict[str, str], cause: Cause
) -> None:
    given = {"user": role, "password": "right-password", **change}
    found = only_finding(database, tmp_path, psycopg.conninfo.make_conninfo(database.dsn, **given))
    assert cause.value in found.message
    assert found.remedy == cause.remedy
    assert "-password" not in str(found)


def test_a_role_without_login_or_connections_left_is_named(database: Database, role: str, tmp_path: Path) -> None:
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user=role, password="right-password")
    database.execute(f"alter role {role} connection limit 0")
    assert Cause.TOO_MANY.value in only_finding(database, tmp_path, dsn).message
    database.execute(f"alter role {role} connection limit -1 nologin")
    assert Cause.LOGIN.value in only_finding(database, tmp_path, dsn).message


def test_tls_causes_are_told_apart(tmp_path: Path) -> None:
    mine, other = Authority.make("mine"), Authority.make("other")
    roots = tmp_path / "roots.pem"
    with EmbeddedPostgres.start(Path(tempfile.mkdtemp(prefix="owkai-tests-"))) as server:
        database = Database(server, "postgres")
        mine.install((server.directory / "data").resolve())
        database.execute("alter system set ssl = on")
        database.execute("select pg_reload_conf()")
        dsn = psycopg.conninfo.make_conninfo(database.dsn, sslmode="verify-full", sslrootcert=str(roots))
        assert Cause.NO_ROOT_FILE.value in only_finding(database, tmp_path, dsn).message
        roots.write_bytes(other.pem)
        found = only_finding(database, tmp_path, dsn)
        assert Cause.UNKNOWN_AUTHORITY.value in found.message
        assert "sslrootcert=/path/to/ca.pem" in found.remedy
        roots.write_bytes(mine.pem)
        elsewhere = psycopg.conninfo.make_conninfo(dsn, host="db.internal", hostaddr="127.0.0.1")
        assert Cause.OTHER_HOST.value in only_finding(database, tmp_path, elsewhere).message
        database.close()


@pytest.mark.parametrize(("method", "cause"), [("ident", Cause.PEER), ("reject", Cause.NOT_ADMITTED)])
def test_what_pg_hba_refuses_is_told_apart(tmp_path: Path, method: str, cause: Cause) -> None:
    with EmbeddedPostgres.start(Path(tempfile.mkdtemp(prefix="owkai-tests-"))) as server:
        database = Database(server, "postgres")
        dsn = psycopg.conninfo.make_conninfo(database.dsn, user="guest", password="guest-password")
        hba = (server.directory / "data").resolve() / "pg_hba.conf"
        database.execute("create role guest login password 'guest-password'")
        hba.write_text(f"host all guest 127.0.0.1/32 {method}\n{hba.read_text()}")
        database.execute("select pg_reload_conf()")
        found = only_finding(database, tmp_path, dsn)
        assert cause.value in found.message
        assert found.remedy == cause.remedy
        database.close()


# Words of servers that a test cannot start, as they send them (PgBouncer 1.18, Supavisor; peer needs a Unix socket).
@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("FATAL:  unsupported startup parameter: options", Cause.POOLER),
        ("FATAL:  unsupported startup parameter: replication", Cause.POOLER),
        ("FATAL:  no such database: platform", Cause.POOLER),
        ("FATAL:  Tenant or user not found", Cause.POOLER),
        ('FATAL:  Peer authentication failed for user "owkai"', Cause.PEER),
        ("connection is bad: connection timeout expired", Cause.UNREACHABLE),
        ("connection failed: No route to host", Cause.UNREACHABLE),
        ("FATAL:  the database system is starting up", Cause.STARTING),
        ("FATAL:  sorry, too many clients already", Cause.TOO_MANY),
        ("Verbindung abgelehnt", Cause.UNKNOWN),
    ],
)
def test_words_of_other_servers_are_told_apart(words: str, cause: Cause) -> None:
    found = diagnose(psycopg.OperationalError(words))
    assert found.cause is cause
    assert words in found.message
    verdict = judge(psycopg.OperationalError(words))
    assert verdict.action is Action.RETRY
    assert verdict.remedy == cause.remedy


def test_a_statement_that_the_server_ended_is_no_unreachable_source(database: Database) -> None:
    connection = database.connect()
    connection.execute("set statement_timeout = 20")
    with pytest.raises(psycopg.errors.QueryCanceled) as raised:
        connection.execute("select pg_sleep(10)")
    assert diagnose(raised.value).cause is Cause.TOO_LONG
    locker = database.connect(autocommit=False)
    locker.execute("lock table agent_actions")
    connection.execute("set statement_timeout = 0; set lock_timeout = 20")
    with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
        connection.execute("select count(*) from agent_actions")
    assert diagnose(refused.value).cause is Cause.LOCKED


@contextmanager
def pooler_that_drops_options(port: int) -> Iterator[int]:
    """As PgBouncer with ignore_startup_parameters = options: the session begins without what the client told it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                end.close()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", port))
            length = int.from_bytes(client.recv(4), "big")
            body = client.recv(length - 4, socket.MSG_WAITALL)
            words = body[4:].rstrip(b"\0").split(b"\0")
            pairs = list(zip(words[::2], words[1::2], strict=True))
            kept = b"".join(key + b"\0" + value + b"\0" for key, value in pairs if key != b"options") + b"\0"
            server.sendall((len(kept) + 8).to_bytes(4, "big") + body[:4] + kept)
            for ends in ((client, server), (server, client)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def test_a_pooler_that_drops_our_session_settings_is_refused(database: Database, tmp_path: Path) -> None:
    database.execute(f"alter database {database.name} set timezone = 'Asia/Kolkata'")
    with pooler_that_drops_options(database.server.port) as port:
        dsn = psycopg.conninfo.make_conninfo(database.dsn, port=str(port), sslmode="disable", gssencmode="disable")
        found = [f for f in inspect_source(settings_for(database, tmp_path, dsn)) if f.level == "error"]
    assert [f.message for f in found] == [f"{Cause.POOLER.value}: it drops the settings of our sessions"]
