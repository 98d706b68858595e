"""Is the source fit to be copied and followed? Every finding says what is wrong and the statement that mends it.

`survey` is what sync runs before each copy or stream; `inspect_source` gives the same as plain findings for `owkai check`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Literal

import psycopg
from psycopg import sql

from analytics.state.clock import utc_now
from config.settings import Settings
from sync.polling.pollable import TRANSACTION_ID, without_transaction_ids
from sync.publication.generated_columns import Unstreamed, streamed, unstreamed
from sync.publication.publication import (
    Publication,
    may_run,
    publication_sql,
    read_publication,
    run_together,
    shortcomings,
)
from sync.source.connection_failure import Cause, diagnose
from sync.source.connections import (
    OLDEST_SERVER,
    PARTITION_ROOT_SERVER,
    RLS_SETTING,
    SESSION,
    SourceError,
    SourceIdentity,
    connect,
    identify,
    server_text,
)
from sync.source.future_rows import rows_ahead
from sync.source.schema import Generated, Mapping, SourceTable, read_mapping
from sync.source.zone_check import zone_problems

log = logging.getLogger(__name__)

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Level
    subject: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass
class Survey:
    """What was found out about a source, and everything wrong with it."""

    identity: SourceIdentity | None = None
    mapping: Mapping = field(default_factory=lambda: Mapping(()))
    all_organizations: bool = False  # sessions must set the platform's row security setting
    mode: Literal["auto", "stream", "poll"] = "auto"  # as set; `streamable` says what it comes to
    findings: list[Finding] = field(default_factory=list)
    obstacles: list[Finding] = field(default_factory=list)  # what the source does not allow, and streaming needs
    left_out: tuple[Unstreamed, ...] = ()  # mapped columns that the change stream does not carry
    unidentified: bool = False  # updates and deletes of a table do not tell which rows they mean

    def add(self, level: Level, subject: str, message: str, remedy: str = "") -> None:
        self.findings.append(Finding(level, subject, message, remedy))

    def prevent_streaming(self, subject: str, message: str, remedy: str) -> None:
        """The source can be read but not followed: an error for `stream`, an explanation for `auto`, nothing to `poll`."""
        if self.mode == "poll":
            return
        self.obstacles.append(Finding("error", subject, message, remedy))
        if self.mode == "stream":
            self.add("error", subject, message, f"{remedy}; or set sync.mode = auto to poll until then")
        else:
            self.add("warning", subject, f"{message}, so the source is polled", f"to stream: {remedy}")

    @property
    def streamed_mapping(self) -> Mapping:
        """What is copied and followed where the source is streamed."""
        return streamed(self.mapping, self.left_out)

    @property
    def streamable(self) -> bool:
        """Whether the source is followed by logical replication; otherwise it is polled."""
        return self.mode != "poll" and not self.obstacles

    @property
    def why_not_streaming(self) -> str:
        """Why it is polled, and what would allow streaming; empty where it streams."""
        if self.mode == "poll":
            return "sync.mode = poll"
        return "; ".join(str(finding) for finding in self.obstacles)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    def require(self) -> None:
        """Raise `SourceError` with every error and its remedy."""
        if self.errors:
            message = "; ".join(f"{finding.subject} {finding.message}" for finding in self.errors)
            raise SourceError(message, "; ".join(finding.remedy for finding in self.errors if finding.remedy))


def survey(settings: Settings) -> Survey:
    """Examine the source. Raises `psycopg.OperationalError` when it cannot be reached, `SourceError` for a bad DSN."""
    found = Survey(mode=settings.sync.mode)
    with connect(settings) as connection:
        _server(connection, found)
        found.mapping, problems = read_mapping(connection, settings)
        for problem in problems:
            found.add("error", problem.subject, problem.message, problem.remedy)
        for message, remedy in zone_problems(connection, found.mapping, utc_now()):
            found.add("error", "source.zones", message, remedy)
        role = _role(connection)
        for table in found.mapping.tables:
            _privileges(connection, table, role, found)
            if found.mode != "poll":
                _replica_identity(table, found, role.server_version)
        _row_security(settings, connection, found, role)
        _statistics(connection, role, found)
        if found.mode != "poll":
            _replication(settings, connection, role, found)
            publication = read_publication(connection, settings.source.publication, found.mapping)
            _generated_columns(found, publication, role.server_version)
            _publication(settings, connection, role, found, publication)
        if found.streamable:
            found.mapping = found.streamed_mapping
        else:
            _transaction_ids(connection, role, found)
        _say_mode(found)
    return found


def inspect_source(settings: Settings) -> list[Finding]:
    """The survey as findings; a source that cannot be reached is one of them."""
    try:
        found = survey(settings)
    except SourceError as error:
        return [Finding("error", "source", str(error), error.remedy)]
    except psycopg.OperationalError as error:
        cause = diagnose(error)
        return [Finding("error", "source", f"cannot be reached: {cause.message}", cause.remedy)]
    except psycopg.Error as error:
        return [Finding("error", "source", f"cannot be examined: {server_text(str(error))}", "see the source's log")]
    if not found.errors:
        _future_rows(settings, found)
    return found.findings


def _future_rows(settings: Settings, found: Survey) -> None:
    try:
        with connect(settings, all_organizations=found.all_organizations) as connection:
            for table in found.mapping.tables:
                dated = rows_ahead(connection, table, settings.meaning.future_tolerance_seconds)
                if dated is not None:
                    found.add("warning", f"table {table.qualified}", dated.message, dated.remedy(table.table.name))
    except psycopg.Error as error:
        found.add("warning", "source", f"its newest rows could not be looked at: {diagnose(error).message}")


@dataclass(frozen=True)
class _Role:
    name: str
    superuser: bool
    replication: bool
    may_create: bool
    server_version: int

    @property
    def quoted(self) -> str:
        return sql.Identifier(self.name).as_string(None)


def _role(connection: psycopg.Connection) -> _Role:
    row = connection.execute(
        "SELECT rolname, rolsuper,"
        " rolreplication OR EXISTS (SELECT 1 FROM pg_roles g WHERE g.rolname IN ('rds_replication', 'rds_superuser')"
        "                           AND pg_has_role(r.oid, g.oid, 'USAGE')),"
        " has_database_privilege(current_database(), 'CREATE')"
        " FROM pg_roles r WHERE rolname = current_user"
    ).fetchone()
    assert row is not None  # noqa: S101 - the current role exists
    name, superuser, replication, may_create = row
    return _Role(name, superuser, replication, may_create, connection.info.server_version)


def _server(connection: psycopg.Connection, found: Survey) -> None:
    version = connection.info.server_version
    if version < OLDEST_SERVER:
        found.add("error", "server", f"is version {version // 10000}", "Postgres 12 or newer is needed")
    found.identity = identify(connection)
    _pooler(connection, found)
    if found.identity.in_recovery and version < 160_000:
        found.prevent_streaming(
            "server",
            "is a standby, and logical decoding on a standby needs Postgres 16",
            "point source.dsn at the primary",
        )
    found.add("ok", "server", f"Postgres {version // 10000}.{version % 10000}, database {found.identity.database}")


def _pooler(connection: psycopg.Connection, found: Survey) -> None:
    """A pooler that drops what a session is told would change numbers; one that keeps it cannot carry a stream."""
    zone, path, pid = connection.execute(
        "SELECT current_setting('TimeZone'), current_setting('search_path'), pg_backend_pid()"
    ).fetchone() or ("", "", 0)
    if (zone, path) != (SESSION["TimeZone"], SESSION["search_path"]):
        found.add(
            "error", "source", f"{Cause.POOLER.value}: it drops the settings of our sessions", Cause.POOLER.remedy
        )
    elif pid != connection.info.backend_pid:
        found.add("warning", "source", f"{Cause.POOLER.value}: sessions may be shared", Cause.POOLER.remedy)


def _privileges(connection: psycopg.Connection, table: SourceTable, role: _Role, found: Survey) -> None:
    hidden = [
        column.name
        for column in table.columns
        if not _has(connection, "SELECT has_column_privilege(%s::oid, %s, 'SELECT')", table.oid, column.name)
    ]
    if hidden:
        listed = ", ".join(sql.Identifier(column.name).as_string(None) for column in table.columns)
        found.add(
            "error",
            f"table {table.qualified}",
            f"the role {role.name} may not read {', '.join(hidden)}",
            f"GRANT SELECT ({listed}) ON {table.identifier.as_string(None)} TO {role.quoted}",
        )
        return
    number = table.rows_estimated
    rows = "not analyzed yet" if number is None else f"about {number} {'row' if number == 1 else 'rows'}"
    found.add("ok", f"table {table.qualified}", f"{len(table.columns)} columns mapped, {rows}")
    if table.missing:
        found.add(
            "ok",
            f"table {table.qualified}",
            f"optional columns it does not have stay empty: {', '.join(table.missing)}",
        )
    if not role.superuser and _has(
        connection, "SELECT has_table_privilege(%s::oid, 'INSERT, UPDATE, DELETE, TRUNCATE')", table.oid
    ):
        found.add(
            "warning",
            f"table {table.qualified}",
            f"the role {role.name} may write to it, which this server never does",
            f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {table.identifier.as_string(None)} FROM {role.quoted}",
        )


def _transaction_ids(connection: psycopg.Connection, role: _Role, found: Survey) -> None:
    """Polling tells changed rows by their transaction id, which a grant of columns does not cover."""
    for table in without_transaction_ids(connection, found.mapping):
        found.add(
            "error",
            f"table {table.qualified}",
            f"the role {role.name} may not read {TRANSACTION_ID}, by which polling finds changed rows",
            f"GRANT SELECT ({TRANSACTION_ID}) ON {table.identifier.as_string(None)} TO {role.quoted}",
        )


def _replica_identity(table: SourceTable, found: Survey, server_version: int) -> None:
    """Updates and deletes must tell which row they mean, by the key that the cache has."""
    if table.partitioned and server_version < PARTITION_ROOT_SERVER:
        found.prevent_streaming(
            f"table {table.qualified}", "is partitioned, and Postgres 12 publishes no partitioned table",
            "upgrade the source to Postgres 13 or later",
        )  # fmt: skip
    key = table.source_key
    for identity in table.identities:
        if identity.identifies_by(key):
            continue
        found.unidentified = True
        has = "has REPLICA IDENTITY NOTHING" if identity.nothing else f"has no replica identity with {key}"
        if identity.letter == "d":
            has = f"has no primary key on {key}" + (" that is checked at once" if identity.primary is False else "")
        found.add("error", f"table {identity.qualified}", f"{has}, so updates and deletes cannot be followed",
                  identity.statement_that_identifies_by(key))  # fmt: skip


def _row_security(settings: Settings, connection: psycopg.Connection, found: Survey, role: _Role) -> None:
    """Row-level security silently hides rows: never run on less than everything."""
    bound = [
        table for table in found.mapping.tables if _has(connection, "SELECT row_security_active(%s::oid)", table.oid)
    ]
    if not bound:
        return
    names = ", ".join(table.qualified for table in bound)
    if all(_policy_opens_all(connection, table) for table in bound):
        found.all_organizations = True
        found.add("ok", "row-level security", f"on {names}: opened by the platform's own setting for all organizations")
        return
    found.add(
        "error",
        "row-level security",
        f"hides rows of {names} from the role {role.name}",
        f"ALTER ROLE {role.quoted} BYPASSRLS",
    )


_POLICIES = """
SELECT polpermissive, pg_get_expr(polqual, polrelid) FROM pg_policy
WHERE polrelid = %s AND polcmd IN ('r', '*')
  AND (0 = ANY (polroles) OR EXISTS (SELECT 1 FROM unnest(polroles) m WHERE m <> 0 AND pg_has_role(m, 'USAGE')))"""


def _policy_opens_all(connection: psycopg.Connection, table: SourceTable) -> bool:
    """Whether a policy shows every row once the platform's setting is '1': one that is true without looking at a row."""
    policies = connection.execute(_POLICIES, [table.oid]).fetchall()
    if not policies or not all(permissive for permissive, _ in policies):
        return False
    return any(_true_for_every_row(connection, expression) for _, expression in policies if expression)


def _true_for_every_row(connection: psycopg.Connection, expression: str) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET TRANSACTION READ ONLY")
            connection.execute("SELECT set_config(%s, '1', true)", [RLS_SETTING])
            return _has(connection, f"SELECT ({expression})")  # the catalogue's own text, read back as it stands
    except psycopg.Error:
        return False  # it names a column, or our role may not evaluate it


def _replication(settings: Settings, connection: psycopg.Connection, role: _Role, found: Survey) -> None:
    if _text(connection, "SELECT current_setting('wal_level')") != "logical":
        found.prevent_streaming(
            "server", "wal_level is not logical", "ALTER SYSTEM SET wal_level = logical, then restart Postgres"
        )
    if not (role.superuser or role.replication):
        found.prevent_streaming(
            "replication", f"the role {role.name} may not replicate", f"ALTER ROLE {role.quoted} REPLICATION"
        )
    for setting in ("max_replication_slots", "max_wal_senders"):
        if int(_text(connection, "SELECT current_setting(%s)", setting)) == 0:
            found.prevent_streaming(
                "server", f"{setting} is 0", f"ALTER SYSTEM SET {setting} = 10, then restart Postgres"
            )
    slots = int(_text(connection, "SELECT current_setting('max_replication_slots')"))
    if slots and _has(
        connection,
        "SELECT count(*) >= %s AND NOT coalesce(bool_or(slot_name = %s), false) FROM pg_replication_slots",
        slots,
        settings.source.slot,
    ):
        found.prevent_streaming(
            "server", f"all of its {slots} replication slots are taken",
            "drop one that nobody reads (see pg_replication_slots), "
            f"or ALTER SYSTEM SET max_replication_slots = {slots + 10}, then restart Postgres",
        )  # fmt: skip
    if found.obstacles or role.server_version < 130_000:
        return
    if _text(connection, "SELECT current_setting('max_slot_wal_keep_size')") == "-1":
        found.add("warning", "server", "max_slot_wal_keep_size is unlimited: a slot nobody reads can fill the disk",
                  "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; a lost slot is replaced by a new copy")  # fmt: skip


def _statistics(connection: psycopg.Connection, role: _Role, found: Survey) -> None:
    if not (role.superuser or _has(connection, "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')")):
        found.add("warning", "statistics", f"the role {role.name} cannot see the state of other sessions; active and idle stay unknown",
                  f"GRANT pg_read_all_stats TO {role.quoted}")  # fmt: skip


def _say_mode(found: Survey) -> None:
    if found.streamable:
        found.add("ok", "mode", "stream: changes are followed by logical replication")
    elif found.mode != "stream":
        found.add("ok", "mode", f"poll: {found.why_not_streaming}")


def _generated_columns(found: Survey, publication: Publication | None, server_version: int) -> None:
    """Columns that no change would bring: left out where they are optional, polled where they are not."""
    found.left_out = unstreamed(found.mapping, publication, server_version)
    for column in found.left_out:
        subject, name = f"table {column.table.qualified}", column.column.name
        kind = "virtual generated" if column.column.generated is Generated.VIRTUAL else "generated"
        message = f"the {kind} column {name} is not part of the change stream of Postgres {server_version // 10000}"
        if column.required:
            found.prevent_streaming(subject, message, column.remedy or f"make {name} a plain column")
        else:
            found.add("warning", subject, f"{message}, so it stays empty", column.remedy)


def _publication(
    settings: Settings, connection: psycopg.Connection, role: _Role, found: Survey, publication: Publication | None
) -> None:
    mapping = found.streamed_mapping
    if not mapping.tables or found.errors:
        return
    subject = f"publication {settings.source.publication}"
    if publication is None:
        if settings.source.manage_publication and _may_publish(connection, role, mapping):
            found.add("ok", subject, "does not exist yet and is created at the start")
        else:
            statements = publication_sql(settings, mapping, role.server_version)
            found.prevent_streaming(subject, "does not exist, and the role may not create it",
                                    f"as the tables' owner run: {'; '.join(statements)}")  # fmt: skip
        return
    for shortcoming in shortcomings(publication, mapping):
        statements = list(shortcoming.statements)
        adjusts = settings.source.manage_publication and shortcoming.automatic
        if adjusts and (role.superuser or may_run(connection, publication, shortcoming)):
            found.add("ok", subject, f"{shortcoming.message}; adjusted at the start by: {'; '.join(statements)}")
        else:
            found.add("error", subject, shortcoming.message, "; ".join(statements))


def _may_publish(connection: psycopg.Connection, role: _Role, mapping: Mapping) -> bool:
    if role.superuser:
        return True
    owned = all(
        _has(connection, "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = %s", table.oid)
        for table in mapping.tables
    )
    return role.may_create and owned


def ensure_publication(settings: Settings, connection: psycopg.Connection, mapping: Mapping) -> None:
    """Create the publication, or adjust it to the mapping; the survey has found that the role may."""
    publication = read_publication(connection, settings.source.publication, mapping)
    if publication is None:
        run_together(connection, publication_sql(settings, mapping, connection.info.server_version))
        return
    if not settings.source.manage_publication:
        return
    for shortcoming in shortcomings(publication, mapping):
        if shortcoming.automatic:
            log.info(
                "publication %s %s; adjusting it: %s",
                publication.name,
                shortcoming.message,
                "; ".join(shortcoming.statements),
            )
            run_together(connection, shortcoming.statements)


def _has(connection: psycopg.Connection, query: str, *parameters: object) -> bool:
    row = connection.execute(query.encode(), list(parameters)).fetchone()
    return bool(row and row[0])


def _text(connection: psycopg.Connection, query: str, *parameters: object) -> str:
    row = connection.execute(query.encode(), list(parameters)).fetchone()
    return str(row[0]) if row else ""
