"""A writing load for fault tests: inserts, updates, deletes and large transactions, until it is told to stop."""

from __future__ import annotations

import random
import threading
from types import TracebackType

import psycopg

from tests.postgres import Database

STATEMENTS = (
    'insert into agent_actions (agent_id, action_type, organization_id, status, risk_level, "timestamp")'
    " select 'a' || i, 'x', 1 + i %% 3, 'processing', 'high', now() from generate_series(1, %(n)s::int) i",
    "update agent_actions set status = 'approved', reviewed_at = now()"
    " where id in (select id from agent_actions order by random() limit %(n)s::int)",
    "delete from agent_actions where id in (select id from agent_actions order by random() limit %(n)s::int / 3)",
)


class WritingLoad:
    """Writes in a thread of its own; survives restarts of the source. `transactions` counts what was committed."""

    def __init__(self, database: Database, seed: int = 0, largest: int = 400, pause_seconds: float = 0.005) -> None:
        self._database, self._random, self._largest, self._pause = database, random.Random(seed), largest, pause_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writing-load")
        self.transactions = 0

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._database.dsn, autocommit=False) as connection:
                    while not self._stop.is_set():
                        self._transaction(connection)
                        self._stop.wait(self._pause)
            except psycopg.OperationalError:
                self._stop.wait(0.1)

    def _transaction(self, connection: psycopg.Connection) -> None:
        for _ in range(self._random.randint(1, 3)):
            statement = self._random.choices(STATEMENTS, (5, 4, 2))[0]
            connection.execute(
                statement,
                {
                    "n": self._random.randint(1, self._largest)
                    if self._random.random() < 0.2
                    else self._random.randint(1, 8)
                },
            )
        if self._random.random() < 0.1:
            connection.rollback()
        else:
            connection.commit()
            self.transactions += 1

    def __enter__(self) -> WritingLoad:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
