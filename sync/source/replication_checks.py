"""Preflight checks of what streaming needs: server settings, the REPLICATION right, a slot, the publication."""

from __future__ import annotations

import psycopg

from config.settings import Settings
from sync.publication.adjustment import may_alter
from sync.publication.generated_columns import unstreamed_columns
from sync.publication.publication import Publication
from sync.publication.shortcomings import shortcomings
from sync.publication.statements import publication_sql
from sync.source.connections import (
    query_bool,
    query_text,
)
from sync.source.findings import Survey
from sync.source.schema import Generated, Mapping
from sync.source.table_checks import (
    SourceRole,
)


def check_replication(settings: Settings, connection: psycopg.Connection, role: SourceRole, found: Survey) -> None:
    if query_text(connection, "SELECT current_setting('wal_level')") != "logical":
        found.prevent_streaming(
            "server", "wal_level is not logical", "ALTER SYSTEM SET wal_level = logical, then restart Postgres"
        )
    if not (role.superuser or role.replication):
        found.prevent_streaming(
            "replication", f"the role {role.name} may not replicate", f"ALTER ROLE {role.quoted} REPLICATION"
        )
    for setting in ("max_replication_slots", "max_wal_senders"):
        if int(query_text(connection, "SELECT current_setting(%s)", setting)) == 0:
            found.prevent_streaming(
                "server", f"{setting} is 0", f"ALTER SYSTEM SET {setting} = 10, then restart Postgres"
            )
    slots = int(query_text(connection, "SELECT current_setting('max_replication_slots')"))
    if slots and query_bool(
        connection,
        "SELECT count(*) >= %s AND NOT coalesce(bool_or(slot_name = %s), false) FROM pg_replication_slots",
        slots,
        settings.source.slot,
    ):
        found.prevent_streaming(
            "server", f"all of its {slots} replication slots are in use",
            "drop an unused one (see pg_replication_slots), "
            f"or ALTER SYSTEM SET max_replication_slots = {slots + 10}, then restart Postgres",
        )  # fmt: skip
    if found.obstacles or role.server_version < 130_000:
        return
    if query_text(connection, "SELECT current_setting('max_slot_wal_keep_size')") == "-1":
        found.add("warning", "server", "max_slot_wal_keep_size is unlimited: an unused slot can fill the disk",
                  "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; a lost slot is replaced by a new copy")  # fmt: skip


def check_generated_columns(found: Survey, publication: Publication | None, server_version: int) -> None:
    """Columns that the stream does not carry: optional ones stay empty, a required one makes sync poll."""
    found.left_out = unstreamed_columns(found.mapping, publication, server_version)
    for column in found.left_out:
        subject, name = f"table {column.table.qualified}", column.column.name
        kind = "virtual generated" if column.column.generated is Generated.VIRTUAL else "generated"
        message = f"the {kind} column {name} is not part of the change stream of Postgres {server_version // 10000}"
        if column.required:
            found.prevent_streaming(subject, message, column.remedy or f"make {name} a plain column")
        else:
            found.add("warning", subject, f"{message}, so it stays empty", column.remedy)


def check_publication(
    settings: Settings, connection: psycopg.Connection, role: SourceRole, found: Survey, publication: Publication | None
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
        if adjusts and (role.superuser or may_alter(connection, publication, shortcoming)):
            found.add("ok", subject, f"{shortcoming.message}; adjusted at the start by: {'; '.join(statements)}")
        else:
            found.add("error", subject, shortcoming.message, "; ".join(statements))


def _may_publish(connection: psycopg.Connection, role: SourceRole, mapping: Mapping) -> bool:
    if role.superuser:
        return True
    owned = all(
        query_bool(connection, "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = %s", table.oid)
        for table in mapping.tables
    )
    return role.may_create and owned
