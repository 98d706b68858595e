"""SQL statements that create a publication and change what it streams. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from config.settings import Settings
from sync.publication.publication import HARMLESS, PUBLISHED, Publication
from sync.source.connections import COLUMN_LIST_SERVER, GENERATED_SERVER, PARTITION_ROOT_SERVER
from sync.source.schema import Generated, Mapping, SourceTable


def publication_sql(settings: Settings, mapping: Mapping, server_version: int) -> list[str]:
    """The statements with which the tables' owner creates our publication; with column lists where the server supports them."""
    tables = ", ".join(published_table(table, server_version) for table in mapping.tables)
    options = f"publish = '{', '.join(PUBLISHED)}'"
    if server_version >= PARTITION_ROOT_SERVER:
        options += ", publish_via_partition_root = true"
    if server_version >= GENERATED_SERVER:
        # Tables without a list publish theirs too; REPLICA IDENTITY FULL would reject writes without them.
        options += ", publish_generated_columns = stored"
    name = sql.Identifier(settings.source.publication).as_string(None)
    return [f"CREATE PUBLICATION {name} FOR TABLE {tables} WITH ({options})"]


def published_table(table: SourceTable, server_version: int) -> str:
    """A table as our publication names it: with the mapped columns, or as a whole if a list would make Postgres reject writes."""
    lists = server_version >= COLUMN_LIST_SERVER and table.listable
    listed = listed_columns(table, server_version) if lists else None
    return _listed_table(table.identifier.as_string(None), listed)


def listed_columns(table: SourceTable, server_version: int) -> tuple[str, ...]:
    """The mapped columns and those of the replica identity; Postgres refuses a list with other generated columns."""
    allowed = {Generated.NO, Generated.STORED} if server_version >= GENERATED_SERVER else {Generated.NO}
    mapped = (column.name for column in table.columns if column.generated in allowed)
    return tuple(dict.fromkeys((*mapped, *table.key_columns)))


def _listed_table(name: str, listed: Sequence[str] | None) -> str:
    if listed is None:
        return name
    return f"{name} ({', '.join(sql.Identifier(column).as_string(None) for column in listed)})"


def republish(publication: Publication, table: SourceTable) -> tuple[str, ...]:
    """Statements that give a table the list it should have.

    Columns already listed stay: another server may use the same publication.
    """
    name, member = table.identifier.as_string(None), publication.member(table)
    if not table.listable:
        return add_again(publication, name, None)
    ours = listed_columns(table, publication.server_version)
    listed = frozenset() if member is None or member.columns is None else member.columns
    return add_again(publication, name, (*ours, *sorted(listed.difference(ours))))


def add_again(publication: Publication, name: str, listed: Sequence[str] | None) -> tuple[str, ...]:
    """Run in one transaction, the stream misses nothing."""
    return (
        f"ALTER PUBLICATION {publication.quoted} DROP TABLE {name}",
        f"ALTER PUBLICATION {publication.quoted} ADD TABLE {_listed_table(name, listed)}",
    )


def publish_all_operations(publication: Publication) -> str:
    return f"ALTER PUBLICATION {publication.quoted} SET (publish = '{', '.join(PUBLISHED)}')"


def stop_publishing_changes(publication: Publication) -> str:
    """The statement after which no replica identity can make Postgres reject a write."""
    return f"ALTER PUBLICATION {publication.quoted} SET (publish = '{', '.join(HARMLESS)}')"


def publish_generated(publication: Publication) -> str:
    return f"ALTER PUBLICATION {publication.quoted} SET (publish_generated_columns = stored)"
