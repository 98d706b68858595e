"""Creates the publication, or adjusts it to the mapping, where the role may."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psycopg

from config.settings import Settings
from sync.publication.catalogue import read_publication
from sync.publication.publication import Publication
from sync.publication.shortcomings import Shortcoming, shortcomings
from sync.publication.statements import publication_sql
from sync.source.schema import Mapping

log = logging.getLogger(__name__)


def ensure_publication(settings: Settings, connection: psycopg.Connection, mapping: Mapping) -> None:
    """Create the publication, or adjust it to the mapping; the survey has checked that the role may."""
    publication = read_publication(connection, settings.source.publication, mapping)
    if publication is None:
        run_in_transaction(connection, publication_sql(settings, mapping, connection.info.server_version))
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
            run_in_transaction(connection, shortcoming.statements)


def may_alter(connection: psycopg.Connection, publication: Publication, shortcoming: Shortcoming) -> bool:
    """Whether our role owns everything that the statements change."""
    owned = connection.execute(
        "SELECT bool_and(pg_has_role(owner, 'USAGE')) FROM ("
        " SELECT pubowner FROM pg_publication WHERE pubname = %s"
        " UNION ALL SELECT relowner FROM pg_class WHERE oid = ANY (%s::oid[])) owners (owner)",
        [publication.name, list(shortcoming.alters)],
    ).fetchone()
    return bool(owned and owned[0])


def run_in_transaction(connection: psycopg.Connection, statements: Sequence[str]) -> None:
    """Run the statements in one transaction, so that no change of the platform falls between two of them."""
    with connection.transaction():
        for statement in statements:
            connection.execute(statement.encode())
