"""Words the fault tests share: quick settings, rows, a server of one's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from owkai.demo.platform import platform_sql
from owkai.demo.postgres import EmbeddedPostgres
from tests.postgres import Database, create_database, prepare_template

INSERT = (
    'insert into agent_actions (agent_id, action_type, organization_id, status, risk_level, "timestamp")'
    " select 'agent-' || i % 7, 'query', 1 + i % 3, 'completed', 'high', now() from generate_series(1, {}) i"
)


def quick(**sync: Any) -> dict[str, dict[str, Any]]:
    """Settings under which a fault shows soon: short pauses, stale after two seconds."""
    return {
        "sync": {
            "backoff_max_seconds": 0.3,
            "stale_after_seconds": 2,
            "sample_seconds": 1,
            "survey_seconds": 0.5,
            **sync,
        }
    }


def insert(database: Database, rows: int) -> None:
    database.execute(INSERT.format(rows))


def log_of(caplog_text: str, word: str) -> list[str]:
    return [line for line in caplog_text.splitlines() if word in line]


@contextmanager
def own_postgres(**options: str) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, which it may stop, kill and misconfigure."""
    directory = Path(tempfile.mkdtemp(prefix="owkai-faults-"))
    with EmbeddedPostgres.start(directory, options=options) as server:
        prepare_template(server, platform_sql())
        yield server


@contextmanager
def own_database(name: str = "faults", **options: str) -> Iterator[Database]:
    """A database on such a server."""
    with own_postgres(**options) as server:
        database = create_database(server, name)
        try:
            yield database
        finally:
            database.close()
