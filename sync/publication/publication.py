"""Our publication as the source's catalogue describes it: its options, its mapped tables and its hazards."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from sync.publication.hazards import Hazard
from sync.source.schema import SourceTable

PUBLISHED = ("insert", "update", "delete", "truncate")
HARMLESS = ("insert", "truncate")  # what never makes Postgres reject a write


@dataclass(frozen=True)
class Member:
    """A table that a publication names, or reaches by its schema or by FOR ALL TABLES (then not `explicit`)."""

    oid: int
    explicit: bool
    membership: int | None  # oid in pg_publication_rel: changes when the table is removed and added again
    columns: frozenset[str] | None  # of its column list; None: no list
    filtered: bool


@dataclass(frozen=True)
class Publication:
    """One publication as the catalogue holds it."""

    name: str
    server_version: int
    publishes: tuple[str, ...]
    through_root: bool  # publish_via_partition_root
    all_tables: bool
    generated: bool  # stored generated columns of tables without a column list are published
    members: tuple[Member, ...]
    hazards: tuple[Hazard, ...]  # actual, or if it published updates and deletes

    @property
    def quoted(self) -> str:
        return sql.Identifier(self.name).as_string(None)

    @property
    def rejected_writes(self) -> tuple[Hazard, ...]:
        """The hazards that make Postgres reject writes now."""
        return self.hazards if {"update", "delete"} & set(self.publishes) else ()

    def member(self, table: SourceTable) -> Member | None:
        """The table's entry; None where the publication does not name the table."""
        return next((member for member in self.members if member.oid == table.oid), None)

    def carries_generated(self, table: SourceTable) -> bool:
        """Whether it streams the table's stored generated columns; a column list names them, or should."""
        member = self.member(table)
        return self.generated or (member is not None and member.columns is not None)
