"""The organizations' names, where a table of the source provides them: read by the sampler, never copied or streamed.

A report without a name shows the organization's id, so a missing or unreadable table is not an error.
"""

from __future__ import annotations

import logging

import psycopg
from psycopg import sql

from config.settings import Settings
from sync.source.connections import server_text

log = logging.getLogger(__name__)

MOST_NAMES = 100_000
NAME_CHARACTERS = 200
LOCK_TIMEOUT = "500ms"  # a migration that locks the table must not hold up the samples

# A table, view or partitioned table whose id is a whole number and whose name is text, both readable.
_READABLE = """
SELECT count(*) = 2
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT a.attisdropped
  AND ((a.attname = 'id' AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype))
    OR (a.attname = 'name' AND a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)))
  AND has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT')"""


def read_organization_names(connection: psycopg.Connection, settings: Settings) -> dict[int, str]:
    """Names by organization, at most `MOST_NAMES`; blank ones are left out. Empty where no table provides them."""
    schema, table = settings.source.schema_, settings.source.tables.organizations
    if not table:
        return {}
    try:
        return _read(connection, schema, table)
    except psycopg.Error as error:
        if connection.closed:
            raise
        log.debug("the names of organizations could not be read: %s", server_text(str(error)))
        return {}


def _read(connection: psycopg.Connection, schema: str, table: str) -> dict[int, str]:
    readable = connection.execute(_READABLE, [schema, table]).fetchone()
    if readable is None or not readable[0]:
        return {}
    query = sql.SQL("SELECT id, left(btrim(name), {}) FROM {} WHERE btrim(name) <> '' ORDER BY id LIMIT {}").format(
        NAME_CHARACTERS, sql.Identifier(schema, table), MOST_NAMES
    )
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
        return dict(connection.execute(query).fetchall())
