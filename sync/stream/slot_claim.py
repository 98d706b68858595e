"""One server per replication slot, from the first look to the end of the stream.

A slot that is read shows its reader, but nothing shows it while its server copies: a second server would drop it then, and the two
would start over for ever. So whoever copies or streams holds an advisory lock of the source, which ends with its session.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from config.settings import Settings
from sync.faults import SlotBusyError
from sync.source.connections import connect
from sync.stream.replication import find_slot

LOCK_CLASS = 0x6F776B61  # "owka": with the hash of the slot's name the key of the lock

_HOLDER = """
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid = %s AND objid = hashtext(%s)::bigint & 4294967295 AND objsubid = 2 AND granted"""


@contextmanager
def claimed_slot(settings: Settings) -> Iterator[None]:
    """Hold the slot for this process. Raises `SlotBusyError`, which names the holder, and `psycopg.Error`."""
    name = settings.source.slot
    with connect(settings) as connection:
        slot = find_slot(connection, name)
        if slot is not None and slot.database not in ("", connection.info.dbname):
            raise SlotBusyError(f"replication slot {name} belongs to database {slot.database}")
        if slot is not None and slot.active_pid is not None:
            raise SlotBusyError(f"replication slot {name} is in use (server process {slot.active_pid})")
        _end_with_our_machine(connection)
        row = connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [LOCK_CLASS, name]).fetchone()
        if row is None or not row[0]:
            holder = connection.execute(_HOLDER, [LOCK_CLASS, name]).fetchone()
            process = "" if holder is None else f" (server process {holder[0]})"
            raise SlotBusyError(f"replication slot {name} is in use{process} by a server that copies or starts")
        yield


def _end_with_our_machine(connection: psycopg.Connection) -> None:
    """The session is idle for as long as we stream: by its own defaults the source would not miss a dead machine for hours."""
    connection.execute(
        "SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),"
        " set_config('tcp_keepalives_count', '3', false)"
    )
