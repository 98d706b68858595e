"""Connections to the operator's Postgres: ordinary ones for catalogue, copy and samples, one replication connection.

Every session sets what the numbers depend on (UTC, ISO dates, UTF-8, `search_path = pg_catalog`), so that unusual server defaults
change nothing and no object of another schema can shadow a built-in one. The server writes nothing to the source except its
publication and its slot, where the role may.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo, pq

from config.secrets import read_secret
from config.settings import Settings

OLDEST_SERVER = 120_000
COLUMN_LIST_SERVER = 150_000  # publications with column lists
BINARY_SERVER = 140_000  # pgoutput's binary form
PARTITION_ROOT_SERVER = 130_000  # partitioned tables in publications, under the name of their root
GENERATED_SERVER = 180_000  # stored generated columns in publications
RLS_SETTING = "app.current_organization_id"  # the platform's policies: '1' sees every organization
APPLICATION_NAME = "owkai"
SESSION = {
    "search_path": "pg_catalog",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "standard_conforming_strings": "on",
}
LOCK_TIMEOUT = "10s"
# Timeouts that a role or server may set for all its sessions, with the first version that has them; our sessions disable them.
NEWER_TIMEOUTS = {"idle_session_timeout": 140_000, "transaction_timeout": 170_000}


T = TypeVar("T")
LOOK_SECONDS = 0.2


class BoundedConnection(psycopg.Connection[Any]):
    """A session that waits at most `bound_seconds` for each response: a half-open connection never responds.

    The server's own statement_timeout cannot end a wait for an unreachable server.
    """

    bound_seconds: float | None = None

    def wait(self, gen: Generator[Any, Any, T], interval: float = LOOK_SECONDS, *more: Any, **named: Any) -> T:
        if self.bound_seconds is None:
            return super().wait(gen, interval, *more, **named)
        return super().wait(_bounded(gen, self.bound_seconds), interval, *more, **named)


def _bounded(gen: Generator[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
    """`gen`, abandoned when nothing it waits for arrives within `seconds`. Raises `psycopg.OperationalError`."""
    deadline = time.monotonic() + seconds
    try:
        waited_for = next(gen)
        while True:
            ready = yield waited_for
            if not ready and time.monotonic() > deadline:
                gen.close()
                raise psycopg.OperationalError(f"the source has not answered for {seconds:g} s")
            waited_for = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


class SourceError(RuntimeError):
    """The source cannot be used in its current state. `remedy` states what the operator can do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class SourceIdentity:
    """Which cluster and database this is; two histories are never merged."""

    system_identifier: str
    database: str
    version: int  # server_version_num
    in_recovery: bool
    timeline: int  # changes with a failover or restore; what the old timeline recorded after the fork no longer exists


def connection_string(
    settings: Settings, *, all_organizations: bool = False, statement_timeout: bool = True, lock_timeout: bool = True
) -> str:
    """The DSN with our session settings, password and TLS rule.

    The session's timeouts override those of the server and role. `statement_timeout=False` is for long reads, `lock_timeout=False` for
    a session that waits for transactions to end.

    Hosts other than this machine are verified (`sslmode=verify-full`, the system's certificate authorities) unless the DSN
    or libpq's environment variables specify otherwise. Raises `SourceError` for a malformed DSN.
    """
    text = settings.source.dsn.get_secret_value()
    if not text.strip():
        raise SourceError("source.dsn is empty", "set source.dsn in the settings file or OWKAI_SOURCE_DSN")
    try:
        parts: dict[str, Any] = {
            key: value for key, value in conninfo.conninfo_to_dict(text).items() if value is not None
        }
    except psycopg.ProgrammingError:
        raise SourceError(
            "source.dsn is not a Postgres connection string", "use postgresql://user@host/database"
        ) from None
    password = _password(settings)
    if password and not parts.get("password"):
        parts["password"] = password
    host = str(parts.get("hostaddr") or parts.get("host") or os.environ.get("PGHOST", ""))
    if not _is_local(host) and "sslmode" not in parts and "PGSSLMODE" not in os.environ:
        parts["sslmode"] = "verify-full"
        if "sslrootcert" not in parts and "PGSSLROOTCERT" not in os.environ:
            parts["sslrootcert"] = "system"
    bound = f"{round(settings.source.statement_timeout_seconds * 1000)}" if statement_timeout else "0"
    session = SESSION | {
        "statement_timeout": bound,
        "idle_in_transaction_session_timeout": bound,
        "lock_timeout": LOCK_TIMEOUT if lock_timeout else "0",
    }
    if all_organizations:
        session[RLS_SETTING] = "1"
    options = [str(parts["options"])] if parts.get("options") else []
    options += [f"-c {name}={value}" for name, value in session.items()]
    parts |= {
        "options": " ".join(options),
        "client_encoding": "UTF8",
        "application_name": APPLICATION_NAME,
        "connect_timeout": str(max(2, round(settings.source.connect_timeout_seconds))),
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "20000",
    }
    return conninfo.make_conninfo("", **parts)


@contextlib.contextmanager
def connect(
    settings: Settings, *, all_organizations: bool = False, statement_timeout: bool = True
) -> Iterator[psycopg.Connection]:
    """An ordinary autocommit session, closed at the end. Raises `psycopg.OperationalError` when the source is unreachable."""
    text = connection_string(settings, all_organizations=all_organizations, statement_timeout=statement_timeout)
    connection = BoundedConnection.connect(text, autocommit=True)
    connection.prepare_threshold = None
    connection.bound_seconds = settings.source.statement_timeout_seconds + settings.sync.reply_timeout_seconds
    try:
        _disable_newer_timeouts(connection)
        yield connection
    finally:
        connection.close()


def open_replication(settings: Settings) -> psycopg.Connection:
    """A replication session (`replication=database`). The caller closes it."""
    text = connection_string(settings, statement_timeout=False, lock_timeout=False)
    connection = psycopg.connect(conninfo.make_conninfo(text, replication="database"), autocommit=True)
    try:
        _disable_newer_timeouts(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _disable_newer_timeouts(connection: psycopg.Connection) -> None:
    """Disabled after connecting: an older server rejects a connection whose startup options name them."""
    lifted = [
        f"set_config('{name}', '0', false)"
        for name, since in NEWER_TIMEOUTS.items()
        if connection.info.server_version >= since
    ]
    if lifted:
        connection.execute(f"SELECT {', '.join(lifted)}".encode())


def replication_command(connection: psycopg.Connection, command: str) -> list[dict[str, str | None]]:
    """Run one replication command and return its rows by column name. Raises `SourceError` with the server's text."""
    result = connection.pgconn.exec_(command.encode())
    if result.status == pq.ExecStatus.TUPLES_OK:
        names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
        return [
            {
                name: value.decode() if (value := result.get_value(row, column)) is not None else None
                for column, name in enumerate(names)
            }
            for row in range(result.ntuples)
        ]
    if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.COPY_BOTH):
        return []
    raise SourceError(server_text(result.error_message))


def server_text(message: bytes | str | None) -> str:
    """A server's error on one line, shortened, control characters replaced: the peer may be hostile."""
    text = (
        message.decode("utf-8", "replace") if isinstance(message, (bytes, bytearray, memoryview)) else (message or "")
    )
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    line = "; ".join(lines[:3]) or "no message"
    return "".join(character if character.isprintable() else "?" for character in line)[:500]


def query_bool(connection: psycopg.Connection, query: str, *parameters: object) -> bool:
    """The single value of the query's first row as a truth value; false without a row."""
    row = connection.execute(query.encode(), list(parameters)).fetchone()
    return bool(row and row[0])


def query_text(connection: psycopg.Connection, query: str, *parameters: object) -> str:
    """The single value of the query's first row as text; empty without a row."""
    row = connection.execute(query.encode(), list(parameters)).fetchone()
    return str(row[0]) if row else ""


@contextlib.contextmanager
def repeatable_read(connection: psycopg.Connection) -> Iterator[None]:
    """A read-only transaction for several catalogue reads that must be consistent with each other."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def identify(connection: psycopg.Connection) -> SourceIdentity:
    row = connection.execute(
        "SELECT s.system_identifier::text, current_database(), current_setting('server_version_num')::int, pg_is_in_recovery(),"
        # The control file records a promotion only at the next checkpoint.
        " CASE WHEN pg_is_in_recovery() THEN c.timeline_id"
        "      ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END"
        " FROM pg_control_system() s, pg_control_checkpoint() c"
    ).fetchone()
    assert row is not None  # noqa: S101 - the query always has one row
    return SourceIdentity(*row)


def wal_position(connection: psycopg.Connection) -> int:
    """The end of the source's flushed WAL."""
    row = connection.execute(
        "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END - '0/0'::pg_lsn"
    ).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def _password(settings: Settings) -> str:
    """The password, read again from `source.password_file`, which may have been replaced since the start."""
    if settings.source.password_file is not None:
        with contextlib.suppress(ValueError):  # the file is being written: use the password read at the start
            return read_secret(settings.source.password_file)
    return settings.source.password.get_secret_value()


def _is_local(host: str) -> bool:
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
