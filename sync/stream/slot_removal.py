"""`owkai sync drop`: remove the slot and the publication of this installation from the source."""

from __future__ import annotations

import psycopg
from psycopg import sql

from config.settings import Settings
from sync.faults import SlotBusyError
from sync.source.connections import SourceError
from sync.stream.slot_claim import claimed_slot
from sync.stream.slots import drop_slot


def drop_replication(settings: Settings) -> list[str]:
    """Remove our slot and, where the role may, our publication; returns what was done, one line each.

    Raises `SourceError` while a server uses the slot, whether it streams or copies, and `psycopg.Error`.
    """
    slot, publication = settings.source.slot, settings.source.publication
    try:
        with claimed_slot(settings) as connection:
            dropped = drop_slot(connection, slot)
            done = [f"replication slot {slot}: {'removed' if dropped else 'there is none'}"]
            if settings.source.manage_publication:
                done.append(f"publication {publication}: {_drop_publication(connection, publication)}")
    except SlotBusyError as error:
        raise SourceError(str(error), "stop the owkai server that uses it first") from error
    return done


def _drop_publication(connection: psycopg.Connection, name: str) -> str:
    if connection.execute("SELECT 1 FROM pg_publication WHERE pubname = %s", [name]).fetchone() is None:
        return "there is none"
    try:
        connection.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege:
        return "belongs to another role; it retains no WAL and may stay"
    return "removed"
