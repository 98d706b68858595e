"""Replication slots of the source: look one up, create one with an exported snapshot, drop ours."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from analytics.state.lsn import parse_lsn
from config.settings import Settings
from sync.copy.copy_stream import Stopping, await_result, drain_results
from sync.faults import SlotBusyError, SlotGoneError
from sync.source.connections import connect, open_replication


@dataclass(frozen=True)
class Slot:
    """A replication slot as pg_replication_slots shows it."""

    name: str
    plugin: str
    database: str
    active_pid: int | None
    confirmed_lsn: int | None
    lost: bool


def find_slot(connection: psycopg.Connection, name: str) -> Slot | None:
    """The slot of that name in the whole server, of any database; None if there is none."""
    lost = "wal_status = 'lost'" if connection.info.server_version >= 130_000 else "false"
    row = connection.execute(
        sql.SQL(
            "SELECT slot_name, plugin, database, active_pid, confirmed_flush_lsn - '0/0'::pg_lsn, coalesce({}, false)"
            " FROM pg_replication_slots WHERE slot_name = %s"
        ).format(sql.SQL(lost)),
        [name],
    ).fetchone()
    if row is None:
        return None
    return Slot(row[0], row[1] or "", row[2] or "", row[3], None if row[4] is None else int(row[4]), bool(row[5]))


def require_unused(slot: Slot) -> None:
    """Raises `SlotBusyError` while a server process reads from the slot."""
    if slot.active_pid is not None:
        raise SlotBusyError(f"replication slot {slot.name} is in use (server process {slot.active_pid})")


def require_slot(settings: Settings) -> None:
    """Raises `SlotGoneError` or `SlotBusyError` when our slot cannot be streamed from."""
    with connect(settings) as connection:
        slot = find_slot(connection, settings.source.slot)
    if slot is None:
        raise SlotGoneError(f"replication slot {settings.source.slot} is gone")
    require_unused(slot)


def drop_slot(connection: psycopg.Connection, name: str) -> bool:
    """Drop the slot if there is one; returns whether there was. Raises `SlotBusyError`."""
    slot = find_slot(connection, name)
    if slot is None:
        return False
    require_unused(slot)
    connection.execute("SELECT pg_drop_replication_slot(%s)", [slot.name])
    return True


@dataclass(frozen=True)
class ExportedSlot:
    """A new slot with the snapshot that shows exactly what was committed before its first change.

    The snapshot lives as long as `connection` runs no other command.
    """

    connection: psycopg.Connection
    consistent_lsn: int
    snapshot: str


def create_slot(settings: Settings, stopping: Stopping, temporary_name: str | None = None) -> ExportedSlot:
    """Create our slot, or a temporary one that ends with its connection, and export its snapshot.

    Waits for transactions that are open on the source; raises `Stopped` when `stopping` returns true meanwhile.
    """
    connection = open_replication(settings)
    kind = f'"{temporary_name}" TEMPORARY' if temporary_name else f'"{settings.source.slot}"'
    try:
        result = await_result(connection, f"CREATE_REPLICATION_SLOT {kind} LOGICAL pgoutput EXPORT_SNAPSHOT", stopping)
        values = [(result.get_value(0, column) or b"").decode() for column in range(result.nfields)]
        drain_results(connection)
    except BaseException:
        connection.close()
        raise
    return ExportedSlot(connection, parse_lsn(values[1]), values[2])
