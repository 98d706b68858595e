"""Protects the platform's writes: our publication must never make Postgres reject an UPDATE or DELETE.

Checked every `sync.survey_seconds` as long as the server runs, whatever sync is doing. If `source.manage_publication` and the
role's rights allow it, the publication is changed at once: a table gets another column list, or updates and deletes are no longer
published, which sync then reports as a fault. Otherwise an error names the statement to run.
"""

from __future__ import annotations

import logging

import psycopg

from analytics.state.sync_status import StatusBoard
from config.settings import Settings
from sync.publication.adjustment import run_in_transaction
from sync.publication.catalogue import read_publication
from sync.publication.generated_columns import streamed_mapping, unstreamed_columns
from sync.publication.hazards import Hazard
from sync.publication.publication import Publication
from sync.publication.shortcomings import hazard_shortcoming
from sync.publication.statements import stop_publishing_changes
from sync.source.connections import repeatable_read, server_text
from sync.source.schema import Mapping, read_mapping

log = logging.getLogger(__name__)


class WriteGuard:
    """Used by one thread. Raises `psycopg.Error` when the source cannot be read."""

    def __init__(self, settings: Settings, board: StatusBoard) -> None:
        self._settings, self._board = settings, board
        self._reported = self._refused = ""

    def check(self, connection: psycopg.Connection) -> None:
        """Remove the hazards that can be removed; report the others on the board and in the log."""
        publication, mapping = self._read(connection)
        if publication is not None and publication.rejected_writes and self._may_adjust:
            self._remove_hazards(connection, publication, mapping)
            publication, mapping = self._read(connection)
        self._report(publication, mapping)

    def _read(self, connection: psycopg.Connection) -> tuple[Publication | None, Mapping]:
        with repeatable_read(connection):
            mapping, _ = read_mapping(connection, self._settings)
            publication = read_publication(connection, self._settings.source.publication, mapping)
        return publication, streamed_mapping(
            mapping, unstreamed_columns(mapping, publication, connection.info.server_version)
        )

    @property
    def _may_adjust(self) -> bool:
        return self._settings.source.manage_publication and self._settings.sync.mode != "poll"

    def _remove_hazards(self, connection: psycopg.Connection, publication: Publication, mapping: Mapping) -> None:
        ended: set[tuple[str, ...]] = set()
        for hazard in publication.rejected_writes:
            shortcoming = hazard_shortcoming(publication, hazard, mapping)
            if shortcoming.statements in ended:
                continue
            ended.add(shortcoming.statements)
            if not shortcoming.automatic or not self._run(connection, hazard, shortcoming.statements):
                self._run(connection, hazard, (stop_publishing_changes(publication),))
                return

    def _run(self, connection: psycopg.Connection, hazard: Hazard, statements: tuple[str, ...]) -> bool:
        try:
            run_in_transaction(connection, statements)
        except psycopg.Error as error:
            if connection.broken:
                raise
            refused = server_text(str(error))
            if refused != self._refused:
                self._refused = refused
                log.warning("publication %s could not be adjusted: %s", self._settings.source.publication, refused)
            return False
        log.warning(
            "publication %s %s; adjusted by: %s",
            self._settings.source.publication,
            hazard.message,
            "; ".join(statements),
        )
        return True

    def _report(self, publication: Publication | None, mapping: Mapping) -> None:
        rejected = () if publication is None else publication.rejected_writes
        if publication is None or not rejected:
            if self._reported:
                log.info("publication %s no longer makes Postgres reject writes", self._settings.source.publication)
                self._reported = ""
                self._board.update(rejected_writes=0)
            return
        found = [hazard_shortcoming(publication, hazard, mapping) for hazard in rejected]
        messages = "; ".join(dict.fromkeys(shortcoming.message for shortcoming in found))
        statements = "; ".join(
            dict.fromkeys(statement for shortcoming in found for statement in shortcoming.statements)
        )
        reported = f"{messages}\n{statements}"
        if reported != self._reported:
            self._reported = reported
            log.error("publication %s %s; run: %s", self._settings.source.publication, messages, statements)
        self._board.update(rejected_writes=len(rejected))
