"""`owkai check --sql`: the statements that prepare a source, adapted to it if it can be read."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from pydantic import SecretStr

from config.secrets import masked
from config.settings import Settings
from sync.source.connections import SourceError, connect, server_text
from sync.source.setup_sql import SourceFacts, least_privilege_sql, read_source_facts


def recipe(settings: Settings, admin: str | None, say: Callable[[str], None]) -> str:
    """The statements. `admin` is a connection string for reading the source, used instead of source.dsn. `say` is called with
    the reason if the source could not be read."""
    return least_privilege_sql(settings, _read_source(settings, admin, say))


def _read_source(settings: Settings, admin: str | None, say: Callable[[str], None]) -> SourceFacts | None:
    reading = settings
    if admin is not None:
        source = settings.source.model_copy(update={"dsn": SecretStr(admin), "password": SecretStr("")})
        reading = settings.model_copy(update={"source": source})
    if not reading.source.dsn.get_secret_value():
        return None
    try:
        with connect(reading) as connection:
            return read_source_facts(connection, settings)
    except (psycopg.Error, SourceError) as error:
        say(
            masked(
                f"the source was not read, so the statements assume the platform's own tables: {server_text(str(error))}"
            )
        )
        return None
