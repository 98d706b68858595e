"""Whether a source can be polled: every row's transaction id must be readable.

A grant of columns does not cover the system column `xmin`; a grant of the whole table does.
"""

from __future__ import annotations

import psycopg

from sync.source.schema import Mapping, SourceTable

TRANSACTION_ID = "xmin"


def without_transaction_ids(connection: psycopg.Connection, mapping: Mapping) -> tuple[SourceTable, ...]:
    """The tables whose `xmin` the current role may not read."""
    rows = connection.execute(
        "SELECT t.oid FROM unnest(%s::oid[]) t (oid) WHERE NOT has_column_privilege(t.oid, %s, 'SELECT')",
        [[table.oid for table in mapping.tables], TRANSACTION_ID],
    ).fetchall()
    hidden = {row[0] for row in rows}
    return tuple(table for table in mapping.tables if table.oid in hidden)
