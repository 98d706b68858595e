"""Why a connection to the source failed: one cause, one sentence, one remedy.

A refused connection carries no SQLSTATE, only a message of libpq, Postgres or a pooler, so the cause is read from that message. It
chooses the text shown to operators and nothing else. An unknown message, for example a translated one, is shown unchanged.
"""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass
from enum import Enum

import psycopg

from sync.source.connections import server_text


class Cause(Enum):
    """Why the source could not be reached. The value is the sentence shown; the server's own message follows it."""

    WRONG_PASSWORD = "the source refused the password of the role"  # noqa: S105 - a sentence
    NO_PASSWORD = "the source requires a password, and none is set"  # noqa: S105 - a sentence
    UNKNOWN_ROLE = "the source has no such role"
    UNKNOWN_DATABASE = "the source has no such database"
    PEER = "the source compares the role with the operating system's account, and they differ"
    NOT_ADMITTED = "no line of the source's pg_hba.conf admits this connection"
    LOGIN = "the role may not log in or connect to the database"
    UNKNOWN_AUTHORITY = "the source's certificate was issued by an authority that is not trusted here"
    OTHER_HOST = "the source's certificate is for another host name"
    NO_ROOT_FILE = "the file of trusted certificate authorities cannot be read"
    NO_TLS = "the source does not offer TLS, which is required"
    TLS = "the TLS connection to the source failed"
    POOLER = "source.dsn leads to a connection pooler, not to Postgres itself"
    TOO_MANY = "the source has no free connection"
    STARTING = "the source is starting or stopping"
    REFUSED = "nothing listens at the source's address"
    NO_SOCKET = "there is no Postgres socket at this path"
    UNKNOWN_HOST = "the source's host name cannot be resolved"
    UNREACHABLE = "the source's address cannot be reached"
    LOST = "the connection to the source broke"
    TOO_LONG = "the source ended a statement that took too long"
    LOCKED = "a lock on the source was not granted in time"
    EXHAUSTED = "the source is out of a resource"
    UNKNOWN = "the source cannot be reached"

    @property
    def remedy(self) -> str:
        return _REMEDIES[self].format(account=_account())


@dataclass(frozen=True)
class Diagnosis:
    """`message` is the cause's sentence followed by the server's own message."""

    cause: Cause
    message: str

    @property
    def remedy(self) -> str:
        return self.cause.remedy


_RETRIES = "the server retries automatically"
_REMEDIES = {
    Cause.WRONG_PASSWORD: "correct source.password or the contents of source.password_file; in psql, \\password sets it",
    Cause.NO_PASSWORD: "set source.password_file, source.password or OWKAI_SOURCE_PASSWORD",
    Cause.UNKNOWN_ROLE: "correct the user in source.dsn, or create the role: `owkai check --sql` prints how",
    Cause.UNKNOWN_DATABASE: "correct the database in source.dsn; psql -l lists the existing ones",
    Cause.PEER: "this process runs as {account}: connect by TCP with a password (host=127.0.0.1 in source.dsn), "
    "run the server as the account named like the role, or map {account} to the role in pg_ident.conf",
    Cause.NOT_ADMITTED: "add a line for this role, database and address (and for replication, the database) to pg_hba.conf, "
    "then SELECT pg_reload_conf()",
    Cause.LOGIN: "ALTER ROLE … LOGIN and GRANT CONNECT ON DATABASE …: `owkai check --sql` prints both",
    Cause.UNKNOWN_AUTHORITY: "name the certificate of your own authority: sslrootcert=/path/to/ca.pem in source.dsn",
    Cause.OTHER_HOST: "use the name in the certificate as host in source.dsn; hostaddr can hold the address",
    Cause.NO_ROOT_FILE: "correct sslrootcert in source.dsn, and let the server's account read the file",
    Cause.NO_TLS: "turn on ssl on the source; set sslmode to disable in source.dsn only on a private network",
    Cause.TLS: "check the server's certificate and sslmode, sslrootcert in source.dsn",
    Cause.POOLER: "point source.dsn at Postgres itself, not at PgBouncer or another pooler (usually port 5432)",
    Cause.TOO_MANY: f"close idle connections or raise max_connections (or the role's CONNECTION LIMIT); {_RETRIES}",
    Cause.STARTING: f"wait; {_RETRIES}",
    Cause.REFUSED: f"check host and port in source.dsn, and that Postgres runs and listens there (listen_addresses); {_RETRIES}",
    Cause.NO_SOCKET: f"check that Postgres runs, and host in source.dsn: a folder, or host=127.0.0.1 for TCP; {_RETRIES}",
    Cause.UNKNOWN_HOST: f"check host in source.dsn and this machine's DNS; {_RETRIES}",
    Cause.UNREACHABLE: f"check host and port in source.dsn, routes and firewalls in between; {_RETRIES}",
    Cause.LOST: f"check the network and the source's log if it lasts; {_RETRIES}",
    Cause.TOO_LONG: f"raise source.statement_timeout_seconds, or find out what keeps the source busy; {_RETRIES}",
    Cause.LOCKED: f"see pg_locks for a long ALTER TABLE or LOCK on a mapped table; {_RETRIES}",
    Cause.EXHAUSTED: f"see the source's log: memory, disk or its settings; {_RETRIES}",
    Cause.UNKNOWN: f"check source.dsn, the network and the source if it lasts; {_RETRIES}",
}

# Errors of an open session carry their SQLSTATE.
_CAUSES_BY_SQLSTATE = (
    ("57014", Cause.TOO_LONG),
    ("25P", Cause.TOO_LONG),
    ("55P03", Cause.LOCKED),
    ("53300", Cause.TOO_MANY),
    ("53", Cause.EXHAUSTED),
)

# In order: the most specific patterns come first.
_PATTERNS_BY_CAUSE: tuple[tuple[Cause, str], ...] = (
    (
        Cause.POOLER,
        r"unsupported startup parameter|unsupported .*options startup|pgbouncer|query_wait_timeout|server_login_retry",
    ),
    (
        Cause.POOLER,
        r"no such database:|no such user:|no more connections allowed \(max_client_conn|server login has been failing",
    ),
    (
        Cause.POOLER,
        r"Tenant or user not found|replication connections? (is|are) not (supported|allowed)|pool_size exceeded",
    ),
    (Cause.NO_PASSWORD, r"no password supplied"),
    (Cause.PEER, r"(Peer|Ident) authentication failed"),
    (
        Cause.WRONG_PASSWORD,
        r"(password|SASL|SCRAM|PAM|LDAP|RADIUS) authentication failed|incorrect password|wrong password",
    ),
    (Cause.UNKNOWN_ROLE, r'role "[^"]*" does not exist'),
    (Cause.UNKNOWN_DATABASE, r'database "[^"]*" does not exist'),
    (Cause.LOGIN, r"is not permitted to log in|permission denied for database|is not currently accepting connections"),
    (Cause.NOT_ADMITTED, r"no pg_hba\.conf entry|pg_hba\.conf rejects"),
    (Cause.OTHER_HOST, r"does not match host name"),
    (Cause.NO_ROOT_FILE, r"root certificate file|could not load system root certificate|sslrootcert"),
    (Cause.UNKNOWN_AUTHORITY, r"certificate verify failed|self[- ]signed certificate|unable to get local issuer"),
    (Cause.NO_TLS, r"server does not support SSL"),
    (Cause.TLS, r"SSL error|SSL SYSCALL|certificate"),
    (Cause.TOO_MANY, r"too many (clients|connections)|remaining connection slots|connection limit"),
    (
        Cause.STARTING,
        r"starting up|shutting down|in recovery mode|not yet accepting|administrator command|crash of another",
    ),
    (Cause.UNKNOWN_HOST, r"translate host name|[Nn]ame or service not known|resolve host|name resolution"),
    (Cause.NO_SOCKET, r'socket "[^"]*" failed: No such file'),
    (Cause.REFUSED, r"Connection refused"),
    (Cause.UNREACHABLE, r"timeout expired|timed out|No route to host|unreachable"),
    (
        Cause.LOST,
        r"closed the connection|connection (is )?(closed|lost|bad)|reset by peer|Broken pipe|has not answered|silent",
    ),
)


def diagnose(error: psycopg.Error) -> Diagnosis:
    """The cause of an error that concerns the connection."""
    text, state = server_text(str(error)), error.sqlstate or "none"
    cause = next((cause for prefix, cause in _CAUSES_BY_SQLSTATE if state.startswith(prefix)), None)
    if cause is None:
        cause = next((cause for cause, pattern in _PATTERNS_BY_CAUSE if re.search(pattern, text)), Cause.UNKNOWN)
    return Diagnosis(cause, f"{cause.value} ({text})")


def _account() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
