"""One server per replication slot, from the first look to the end of the stream.

A slot that is being read shows its reader, but while its server copies, nothing shows that it is taken: a second server would drop
it, and the two would start over forever. So a server that copies or streams holds an advisory lock on the source, which ends with
its session. `owkai sync drop` takes the same lock before it removes the slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from config.settings import Settings
from sync.faults import SlotBusyError
from sync.source.connections import connect
from sync.stream.slots import find_slot, require_unused

LOCK_CLASS = 0x6F776B61  # "owka"; with the hash of the slot's name, the key of the lock

_HOLDER = """
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid = %s AND objid = hashtext(%s)::bigint & 4294967295 AND objsubid = 2 AND granted"""


@contextmanager
def claimed_slot(settings: Settings) -> Iterator[psycopg.Connection]:
    """Hold the slot for this process; yields the session that holds it.

    Raises `SlotBusyError`, which names the holder, and `psycopg.Error`.
    """
    name = settings.source.slot
    with connect(settings) as connection:
        slot = find_slot(connection, name)
        if slot is not None and slot.database not in ("", connection.info.dbname):
            raise SlotBusyError(f"replication slot {name} belongs to database {slot.database}")
        if slot is not None:
            require_unused(slot)
        _detect_dead_client_soon(connection)
        row = connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [LOCK_CLASS, name]).fetchone()
        if row is None or not row[0]:
            holder = connection.execute(_HOLDER, [LOCK_CLASS, name]).fetchone()
            process = "" if holder is None else f" (server process {holder[0]})"
            raise SlotBusyError(f"replication slot {name} is in use{process} by a server that copies or starts")
        yield connection


def _detect_dead_client_soon(connection: psycopg.Connection) -> None:
    """The session is idle while we stream: with its default keepalives the source would not notice a dead machine for hours."""
    connection.execute(
        "SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),"
        " set_config('tcp_keepalives_count', '3', false)"
    )
