"""The rights that the source role needs and not one more, as SQL for the source's administrator: `owkai check --sql`.

Written from the settings alone, so that it can be run before the role exists. Which of the mapped columns a table has, the
statements find out themselves; running them again changes nothing that is right already.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import conninfo, sql

from analytics.tables import TABLES, Table
from config.settings import Settings

DEFAULT_ROLE = "owkai"


def least_privilege_sql(settings: Settings) -> str:
    """Statements for psql, run by a superuser (or the tables' owner with CREATEROLE) in the source's database.

    With `sync.mode = "poll"` neither REPLICATION nor a publication is asked for. Never holds a password.
    """
    role = source_role(settings)
    streams = settings.sync.mode != "poll"
    tables = [table for table in TABLES if source_name(settings, table)]
    parts = [
        "-- The least rights of the source role of OW-kai Analytics; run in the source's database as a superuser.",
        _create_role(role, streams),
        "-- Its password is not set here; in psql: \\password followed by its name.",
        _grants(settings, role, tables),
        "-- Row-level security would hide rows: where it is on, the role must see past it.\n"
        + _past_row_security(settings, role, tables),
    ]
    if streams:
        parts.append(
            "-- What streams: the mapped columns alone, so that no credential column leaves the source. The slot "
            f"{settings.source.slot} is made by the server.\n" + _publication(settings, tables)
        )
    if settings.source.tables.organizations:
        parts.append(
            "-- For the organizations' names in reports, where the table exists.\n"
            + _organization_names(settings, role)
        )
    parts.append(
        "-- To leave out if the numbers of active and idle connections may stay unknown: lets the role see other sessions.\n"
        f"grant pg_read_all_stats to {_name(role)};"
    )
    return "\n\n".join(parts)


def source_role(settings: Settings) -> str:
    """The role of source.dsn; `owkai` where it names none."""
    dsn = settings.source.dsn.get_secret_value()
    return str(conninfo.conninfo_to_dict(dsn).get("user") or DEFAULT_ROLE) if dsn else DEFAULT_ROLE


def source_name(settings: Settings, table: Table) -> str:
    """The source's name of a table; empty where the settings switch it off."""
    return str(getattr(settings.source.tables, table.name))


def candidate_columns(settings: Settings, table: Table) -> tuple[str, ...]:
    """The names under which the source may keep the mapped columns of a table."""
    renamed = getattr(settings.source.columns, table.name)
    names: dict[str, None] = {}
    for column in table.columns:
        for name in (renamed[column.name],) if column.name in renamed else (column.name, *column.alternatives):
            names[name] = None
    return tuple(names)


def _create_role(role: str, streams: bool) -> str:
    replication = " replication" if streams else ""
    return (
        "do $owkai$ begin\n"
        f"  if not exists (select from pg_catalog.pg_roles where rolname = {_text(role)}) then\n"
        f"    create role {_name(role)} login;\n"
        "  end if;\n"
        "end $owkai$;\n"
        f"alter role {_name(role)} login{replication};"
    )


def _grants(settings: Settings, role: str, tables: Sequence[Table]) -> str:
    schema = _name(settings.source.schema_)
    lines = [
        "do $owkai$ begin execute pg_catalog.format('grant connect on database %I to %I', current_database(), "
        f"{_text(role)}); end $owkai$;",
        f"grant usage on schema {schema} to {_name(role)};",
    ]
    for table in tables:
        lines.append(
            "do $owkai$ declare listed text; begin\n"
            f"  {_select_listed(settings, table)}\n"
            "  execute pg_catalog.format('grant select (%s) on %s to %I', listed, "
            f"{_text(_qualified(settings, table))}, {_text(role)});\n"
            "end $owkai$;"
        )
    return "\n".join(lines)


def _select_listed(settings: Settings, table: Table) -> str:
    """The statement that finds which of the mapped columns a table has, into the variable `listed`."""
    names = ", ".join(_text(name) for name in candidate_columns(settings, table))
    return (
        "select string_agg(pg_catalog.quote_ident(attname), ', ' order by attnum) into strict listed"  # noqa: S608 - quoted
        " from pg_catalog.pg_attribute\n"
        f"    where attrelid = {_text(_qualified(settings, table))}::regclass and attnum > 0 and not attisdropped\n"
        f"    and attname in ({names});"
    )


def _organization_names(settings: Settings, role: str) -> str:
    table = _text(sql.Identifier(settings.source.schema_, settings.source.tables.organizations).as_string(None))
    return (
        "do $owkai$ begin\n"  # noqa: S608 - quoted
        f"  if (select count(*) from pg_catalog.pg_attribute where attrelid = pg_catalog.to_regclass({table})"
        " and attname in ('id', 'name')) = 2 then\n"
        f"    execute pg_catalog.format('grant select (id, name) on %s to %I', {table}, {_text(role)});\n"
        "  end if;\n"
        "end $owkai$;"
    )


def _past_row_security(settings: Settings, role: str, tables: Sequence[Table]) -> str:
    names = ", ".join(f"{_text(_qualified(settings, table))}::regclass" for table in tables)
    return (
        "do $owkai$ begin\n"
        f"  if exists (select from pg_catalog.pg_class where oid in ({names}) and relrowsecurity) then\n"
        f"    alter role {_name(role)} bypassrls;\n"
        "  end if;\n"
        "end $owkai$;"
    )


def _publication(settings: Settings, tables: Sequence[Table]) -> str:
    name = settings.source.publication
    lines = [
        "do $owkai$ declare listed text; tables text[] := '{}'; options text := "
        "$o$publish = 'insert, update, delete, truncate'$o$; begin",
        f"  if exists (select from pg_catalog.pg_publication where pubname = {_text(name)}) then return; end if;",
        "  if current_setting('server_version_num')::int >= 130000 then",
        "    options := options || ', publish_via_partition_root = true';",
        "  end if;",
    ]
    for table in tables:
        qualified = _qualified(settings, table)
        lines += [
            f"  {_select_listed(settings, table)}",
            "  if current_setting('server_version_num')::int < 150000 or exists (select from pg_catalog.pg_class",
            f"    where oid = {_text(qualified)}::regclass and relreplident = 'f') then",
            f"    tables := tables || {_text(qualified)}::text;",
            "  else",
            f"    tables := tables || pg_catalog.format('%s (%s)', {_text(qualified)}, listed);",
            "  end if;",
        ]
    lines += [
        "  execute pg_catalog.format('create publication %I for table %s with (%s)', "
        f"{_text(name)}, array_to_string(tables, ', '), options);",
        "end $owkai$;",
    ]
    return "\n".join(lines)


def _qualified(settings: Settings, table: Table) -> str:
    return sql.Identifier(settings.source.schema_, source_name(settings, table)).as_string(None)


def _name(text: str) -> str:
    return sql.Identifier(text).as_string(None)


def _text(text: str) -> str:
    return sql.Literal(text).as_string(None)
