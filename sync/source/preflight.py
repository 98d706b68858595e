"""Preflight checks: can the source be copied and followed? Each finding states a problem and the statement that fixes it.

Sync runs `survey` before each copy or stream; `owkai check` shows the findings of `inspect_source`.
"""

from __future__ import annotations

import psycopg

from analytics.state.clock import utc_now
from config.settings import Settings
from sync.publication.catalogue import read_publication
from sync.source.connection_failure import Cause, diagnose
from sync.source.connections import (
    OLDEST_SERVER,
    SESSION,
    SourceError,
    connect,
    identify,
    query_bool,
    server_text,
)
from sync.source.findings import Finding, Survey
from sync.source.future_rows import rows_ahead
from sync.source.replication_checks import check_generated_columns, check_publication, check_replication
from sync.source.schema import read_mapping
from sync.source.table_checks import (
    SourceRole,
    check_privileges,
    check_replica_identity,
    check_row_security,
    check_transaction_ids,
    read_role,
)
from sync.source.zone_check import zone_problems


def survey(settings: Settings) -> Survey:
    """Examine the source. Raises `psycopg.OperationalError` when it cannot be reached, `SourceError` for a bad DSN."""
    found = Survey(mode=settings.sync.mode)
    with connect(settings) as connection:
        _check_server(connection, found)
        found.mapping, problems = read_mapping(connection, settings)
        for problem in problems:
            found.add("error", problem.subject, problem.message, problem.remedy)
        for message, remedy in zone_problems(connection, found.mapping, utc_now()):
            found.add("error", "source.zones", message, remedy)
        role = read_role(connection)
        for table in found.mapping.tables:
            check_privileges(connection, table, role, found)
            if found.mode != "poll":
                check_replica_identity(table, found, role.server_version)
        check_row_security(settings, connection, found, role)
        _check_statistics(connection, role, found)
        if found.mode != "poll":
            check_replication(settings, connection, role, found)
            publication = read_publication(connection, settings.source.publication, found.mapping)
            check_generated_columns(found, publication, role.server_version)
            check_publication(settings, connection, role, found, publication)
        if found.streamable:
            found.mapping = found.streamed_mapping
        else:
            check_transaction_ids(connection, role, found)
        _report_mode(found)
    return found


def inspect_source(settings: Settings) -> list[Finding]:
    """The findings of a survey; an unreachable source is one of them."""
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
        _check_future_rows(settings, found)
    return found.findings


def _check_future_rows(settings: Settings, found: Survey) -> None:
    try:
        with connect(settings, all_organizations=found.all_organizations) as connection:
            for table in found.mapping.tables:
                dated = rows_ahead(connection, table, settings.meaning.future_tolerance_seconds)
                if dated is not None:
                    found.add("warning", f"table {table.qualified}", dated.message, dated.remedy(table.table.name))
    except psycopg.Error as error:
        found.add("warning", "source", f"its newest rows could not be read: {diagnose(error).message}")


def _check_server(connection: psycopg.Connection, found: Survey) -> None:
    version = connection.info.server_version
    if version < OLDEST_SERVER:
        found.add("error", "server", f"is version {version // 10000}", "Postgres 12 or newer is needed")
    found.identity = identify(connection)
    _check_pooler(connection, found)
    if found.identity.in_recovery and version < 160_000:
        found.prevent_streaming(
            "server",
            "is a standby, and logical decoding on a standby needs Postgres 16",
            "point source.dsn at the primary",
        )
    found.add("ok", "server", f"Postgres {version // 10000}.{version % 10000}, database {found.identity.database}")


def _check_pooler(connection: psycopg.Connection, found: Survey) -> None:
    """A pooler that drops session settings would change numbers; one that keeps them cannot carry a stream."""
    zone, path, pid = connection.execute(
        "SELECT current_setting('TimeZone'), current_setting('search_path'), pg_backend_pid()"
    ).fetchone() or ("", "", 0)
    if (zone, path) != (SESSION["TimeZone"], SESSION["search_path"]):
        found.add(
            "error", "source", f"{Cause.POOLER.value}: it drops the settings of our sessions", Cause.POOLER.remedy
        )
    elif pid != connection.info.backend_pid:
        found.add("warning", "source", f"{Cause.POOLER.value}: sessions may be shared", Cause.POOLER.remedy)


def _check_statistics(connection: psycopg.Connection, role: SourceRole, found: Survey) -> None:
    if not (role.superuser or query_bool(connection, "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')")):
        found.add("warning", "statistics", f"the role {role.name} cannot see the state of other sessions; active and idle stay unknown",
                  f"GRANT pg_read_all_stats TO {role.quoted}")  # fmt: skip


def _report_mode(found: Survey) -> None:
    if found.streamable:
        found.add("ok", "mode", "stream: changes are followed by logical replication")
    elif found.mode != "stream":
        found.add("ok", "mode", f"poll: {found.why_not_streaming}")
