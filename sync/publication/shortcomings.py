"""What a publication lacks for the mapped tables, each shortcoming with the statements that remove it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sync.publication.hazards import Hazard, RejectionCause
from sync.publication.publication import HARMLESS, PUBLISHED, Publication
from sync.publication.statements import (
    add_again,
    publish_all_operations,
    publish_generated,
    published_table,
    republish,
    stop_publishing_changes,
)
from sync.source.schema import Mapping, SourceTable


@dataclass(frozen=True)
class Shortcoming:
    """Something that keeps a publication from streaming what is mapped.

    `alters` are the oids of the tables that the statements add again, which requires owning them. `automatic`: the server may run the
    statements itself. It never reverts an operator's choice: a row filter, a list without a required column, a set of operations. Nor
    does it add a missing table: its owner may be in the middle of a migration that keeps the table out of the publication.
    """

    message: str
    statements: tuple[str, ...]
    automatic: bool
    alters: tuple[int, ...] = ()


def shortcomings(publication: Publication, mapping: Mapping) -> list[Shortcoming]:
    """All shortcomings, in the order in which to remove them."""
    found = []
    if lacking := [what for what in PUBLISHED if what not in publication.publishes]:
        found.append(
            Shortcoming(
                f"does not publish {', '.join(lacking)}",
                (publish_all_operations(publication),),
                # Another set is the operator's choice; this one is our protection of writes, and ends with the hazard.
                automatic=publication.publishes == HARMLESS and not publication.hazards,
            )
        )
    if not publication.through_root and (
        split := [table.qualified for table in mapping.tables if table.partitioned and publication.member(table)]
    ):
        found.append(
            Shortcoming(
                f"streams the partitions of {', '.join(split)} under their own names (publish_via_partition_root is off)",
                (f"ALTER PUBLICATION {publication.quoted} SET (publish_via_partition_root = true)",),
                True,
            )
        )
    found += [lack for table in mapping.tables if (lack := _table_shortcoming(publication, table)) is not None]
    ended = {shortcoming.statements for shortcoming in found}
    for hazard in publication.hazards:
        shortcoming = hazard_shortcoming(publication, hazard, mapping)
        if shortcoming.statements not in ended:
            ended.add(shortcoming.statements)
            found.append(shortcoming)
    return found


def hazard_shortcoming(publication: Publication, hazard: Hazard, mapping: Mapping) -> Shortcoming:
    """A hazard with the statements that remove it permanently."""

    def ended_by(*statements: str, automatic: bool, alters: tuple[int, ...] = ()) -> Shortcoming:
        return Shortcoming(hazard.message, statements, automatic, alters)

    table = next((table for table in mapping.tables if table.oid == hazard.member_oid), None)
    identity = hazard.identity
    match hazard.cause:
        case RejectionCause.LIST_BESIDE_FULL | RejectionCause.LIST_WITHOUT_KEY | RejectionCause.FILTER_BESIDE_KEY if (
            table is not None
        ):
            lists = hazard.cause is not RejectionCause.FILTER_BESIDE_KEY
            return ended_by(*republish(publication, table), automatic=lists, alters=(table.oid,))
        case RejectionCause.LIST_BESIDE_FULL:
            return ended_by(*add_again(publication, hazard.member, None), automatic=True, alters=(hazard.member_oid,))
        case RejectionCause.LIST_WITHOUT_KEY:
            listed = sorted((hazard.listed or frozenset()).union(identity.key or ()))
            return ended_by(*add_again(publication, hazard.member, listed), automatic=True, alters=(hazard.member_oid,))
        case RejectionCause.NO_IDENTITY | RejectionCause.FILTER_BESIDE_KEY if table is None and hazard.explicit:
            return ended_by(f"ALTER PUBLICATION {publication.quoted} DROP TABLE {hazard.member}", automatic=True)
        case RejectionCause.GENERATED_KEY if not hazard.virtual:
            return ended_by(publish_generated(publication), automatic=True)
        case RejectionCause.GENERATED_KEY if identity.full and identity.primary:
            return ended_by(f"ALTER TABLE {identity.identifier} REPLICA IDENTITY DEFAULT", automatic=False)
        case RejectionCause.NO_IDENTITY if table is not None:
            return ended_by(identity.statement_that_identifies_by(table.source_key), automatic=False)
        case RejectionCause.NO_IDENTITY:
            letter = "DEFAULT" if identity.primary else "FULL"
            return ended_by(f"ALTER TABLE {identity.identifier} REPLICA IDENTITY {letter}", automatic=False)
        case _:
            return ended_by(stop_publishing_changes(publication), automatic=False)


def _table_shortcoming(publication: Publication, table: SourceTable) -> Shortcoming | None:
    member = publication.member(table)
    if member is None:
        add = f"ALTER PUBLICATION {publication.quoted} ADD TABLE {published_table(table, publication.server_version)}"
        return Shortcoming(f"does not contain table {table.qualified}", (add,), False, (table.oid,))
    again = republish(publication, table)
    if member.filtered:
        return Shortcoming(
            f"filters rows of table {table.qualified}, so the cache would miss some", again, False, (table.oid,)
        )
    listed = member.columns
    if absent := [column for column in table.columns if listed is not None and column.name not in listed]:
        names = ", ".join(column.name for column in absent)
        optional = not any(column.column.required for column in absent)
        return Shortcoming(f"leaves out {names} of table {table.qualified}", again, optional, (table.oid,))
    return None
