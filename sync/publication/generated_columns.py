"""Generated columns: queries return them, but the change stream rarely carries them.

Before version 18 Postgres publishes no generated column, and from 18 on only stored ones, where the publication lists them or
sets `publish_generated_columns`. A column missing from the stream would be right in the copy and wrong after the first
change, so both leave it out. Polling uses queries and keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sync.publication.publication import Publication
from sync.source.connections import GENERATED_SERVER
from sync.source.schema import Generated, Mapping, SourceColumn, SourceTable


@dataclass(frozen=True)
class UnstreamedColumn:
    """A mapped column that the change stream does not carry. `remedy` is empty where Postgres offers none."""

    table: SourceTable
    column: SourceColumn
    remedy: str

    @property
    def required(self) -> bool:
        return self.column.column.required


def streamed_mapping(mapping: Mapping, left_out: tuple[UnstreamedColumn, ...]) -> Mapping:
    """The mapping without the columns that are left out."""
    gone = {(found.table.oid, found.column.number) for found in left_out}
    return Mapping(
        tuple(
            replace(table, columns=tuple(column for column in table.columns if (table.oid, column.number) not in gone))
            for table in mapping.tables
        )
    )


def unstreamed_columns(
    mapping: Mapping, publication: Publication | None, server_version: int
) -> tuple[UnstreamedColumn, ...]:
    """The mapped columns that the stream does not carry, or will not once the publication exists."""
    return tuple(
        UnstreamedColumn(table, column, _remedy(column, publication, server_version))
        for table in mapping.tables
        for column in table.columns
        if column.generated is not Generated.NO and not _carried(table, column, publication, server_version)
    )


def _carried(table: SourceTable, column: SourceColumn, publication: Publication | None, server_version: int) -> bool:
    if server_version < GENERATED_SERVER or column.generated is Generated.VIRTUAL:
        return False
    return publication is None or publication.carries_generated(table)


def _remedy(column: SourceColumn, publication: Publication | None, server_version: int) -> str:
    if server_version < GENERATED_SERVER or column.generated is Generated.VIRTUAL or publication is None:
        return ""
    return f"ALTER PUBLICATION {publication.quoted} SET (publish_generated_columns = stored)"
