"""Read transactions on the cache: `Snapshot`, and its part that shows one organization."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import duckdb

from analytics.state.statements import StatementScope, load_statement

Row = TypeVar("Row", bound=tuple[Any, ...])


class Snapshot:
    """One read transaction: every number read through it is from the same version of the cache. Not thread-safe.

    `lsn` is the position the rows equal. Statements raise `duckdb.InterruptException` once the read has timed out.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, lsn: int, version: int) -> None:
        self._connection = connection
        self.lsn = lsn
        self.version = version
        self._expired = threading.Event()  # an interrupt between two statements has no effect

    def of(self, organization_id: int) -> ScopedSnapshot:
        """The rows of one organization; views get nothing else."""
        return ScopedSnapshot(self, organization_id)

    def rows_across_organizations(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a statement whose header declares "scope: across organizations"; see `ScopedSnapshot.rows`."""
        return self._rows(statement, StatementScope.ACROSS_ORGANIZATIONS, parameters)

    def stream(self, query: str, parameters: Mapping[str, Any], chunk_rows: int = 5000) -> Iterator[tuple[Any, ...]]:
        """Rows of a query that verification composes, in chunks; only one such query may be open."""
        self._check_time()
        found = self._connection.execute(query, dict(parameters) or None)
        while chunk := found.fetchmany(chunk_rows):
            yield from chunk

    def interrupt(self) -> None:
        """End the running query and refuse later ones, with `duckdb.InterruptException`. May be called from any thread."""
        self._expired.set()
        self._connection.interrupt()

    def _rows(self, statement: str, scope: StatementScope, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        self._check_time()
        text = load_statement(statement).require(scope)
        return self._connection.execute(text, dict(parameters) or None).fetchall()

    def _check_time(self) -> None:
        if self._expired.is_set():
            raise duckdb.InterruptException("the time for this read is over")


class ScopedSnapshot:
    """A snapshot that shows one organization: it binds $organization_id of every statement itself."""

    def __init__(self, snapshot: Snapshot, organization_id: int) -> None:
        self._snapshot = snapshot
        self._organization_id = organization_id

    def rows(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of `analytics/sql/<statement>.sql`. Parameters are bound, never written into the text.

        Raises `analytics.state.statements.StatementScopeError` for a statement that reads across organizations, and ValueError
        for a parameter `organization_id`.
        """
        if "organization_id" in parameters:
            raise ValueError(f"{statement}: organization_id is bound by Snapshot.of and must not be passed")
        scoped = {"organization_id": self._organization_id, **parameters}
        return self._snapshot._rows(statement, StatementScope.ORGANIZATION, scoped)

    def named(self, row: type[Row], statement: str, **parameters: Any) -> list[Row]:
        """All rows of a statement as `row`, a NamedTuple whose fields are the statement's columns in order."""
        return [row(*values) for values in self.rows(statement, **parameters)]

    def row(self, row: type[Row], statement: str, **parameters: Any) -> Row:
        """The row of a statement that always returns exactly one."""
        (values,) = self.rows(statement, **parameters)
        return row(*values)
