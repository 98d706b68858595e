"""One generation of the cache: a DuckDB database with one writer and many readers, opened locked down.

Guarantee: a generation's rows are exactly the source's at the WAL position stored in it, because both are written in one
transaction. No primary key and no index: changes are delete-by-join and append, uniqueness comes from one row per key and batch.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import duckdb

from analytics.state.snapshot import Snapshot
from analytics.state.tables import BY_NAME, TABLES, Table
from config.settings import CacheSettings

SCHEMA_VERSION = 3
WAL_BYTES_BETWEEN_CHECKPOINTS = "1GB"  # larger than any batch: our own clock checkpoints, no commit ever does


class CacheNotReadyError(RuntimeError):
    """No complete generation yet: the first copy is still running."""


class CacheDamagedError(CacheNotReadyError):
    """Part of the cache's file cannot be read. Sync examines the file and makes a new copy; what can be read is still served."""


# What DuckDB raises where a block fails its checksum or the file cannot be read. A disk without room raises some of them too:
# `Store.unreadable` tells the two apart.
UNREADABLE = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)


class ArrowStream(Protocol):
    """Rows as Arrow, by the PyCapsule protocol."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


@dataclass(frozen=True)
class CacheOrigin:
    """What a generation was copied from. A different origin means a new copy, never a merge of two histories."""

    system_identifier: str
    database: str
    slot: str
    mapping: str  # fingerprint of the mapped tables and columns


@dataclass(frozen=True)
class Position:
    """How far a generation has come: the WAL position its rows equal, and the version readers see."""

    lsn: int
    version: int


class Store:
    """One generation: a DuckDB database with its writer connection and its readers.

    The writer's methods belong to the sync thread. `read` may be called from any thread.
    """

    def __init__(self, path: Path | None, settings: CacheSettings) -> None:
        self.path = path
        self._writer = _connect(path, settings)
        self._readers: list[duckdb.DuckDBPyConnection] = []
        self._lock = threading.Lock()
        self._open_reads = 0
        self._retired = False
        self.suspect = False  # a read failed as it does on a damaged file; the examination resets this

    # -- writing -------------------------------------------------------------------------------------------------

    def create(self, origin: CacheOrigin) -> None:
        """Create the empty tables of a new generation. It has no position until its copy is complete."""
        self._writer.execute("BEGIN")
        for table in TABLES:
            self._writer.execute(table_ddl(table))
        self._writer.execute(
            "CREATE TABLE owkai_state (schema_version INTEGER, system_identifier VARCHAR, database VARCHAR,"
            " slot VARCHAR, mapping VARCHAR, lsn UBIGINT, version UBIGINT, horizon VARCHAR)"
        )
        self._writer.execute(
            "INSERT INTO owkai_state VALUES (?, ?, ?, ?, ?, NULL, 0, NULL)",
            [SCHEMA_VERSION, origin.system_identifier, origin.database, origin.slot, origin.mapping],
        )
        self._writer.execute("COMMIT")
        self._keep_private()

    def begin(self) -> None:
        self._writer.execute("BEGIN")

    def append(self, table: str, rows: ArrowStream) -> int:
        """Append rows whose columns are the table's mapped columns, by name; returns their number."""
        spec = BY_NAME[table]
        names = ", ".join(f'"{name}"' for name in spec.column_names)
        derived = "".join(f", {expression}" for _, _, expression in spec.derived)
        self._writer.register("incoming", rows)
        try:
            statement = f'INSERT INTO "{table}" SELECT {names}{derived} FROM incoming'  # noqa: S608 - our own names
            (count,) = self._writer.execute(statement).fetchone() or (0,)
        finally:
            self._writer.unregister("incoming")
        return int(count)

    def remove(self, table: str, keys: ArrowStream, lowest: int, highest: int) -> int:
        """Remove the rows whose id is in `keys` (one column, `id`); the bounds let zone maps skip row groups."""
        self._writer.register("gone", keys)
        try:
            (count,) = self._writer.execute(
                f'DELETE FROM "{table}" WHERE id BETWEEN ? AND ? AND id IN (SELECT id FROM gone)',  # noqa: S608
                [lowest, highest],
            ).fetchone() or (0,)
        finally:
            self._writer.unregister("gone")
        return int(count)

    def lookup(self, table: str, columns: tuple[str, ...], keys: list[int]) -> dict[int, tuple[Any, ...]]:
        """The writer's own view of some columns by id, for values an update leaves out (unchanged TOAST)."""
        names = ", ".join(f'"{name}"' for name in ("id", *columns))
        found = self._writer.execute(
            f'SELECT {names} FROM "{table}" WHERE id IN (SELECT unnest(?::BIGINT[]))',  # noqa: S608
            [keys],
        ).fetchall()
        return {int(row[0]): row[1:] for row in found}

    def truncate(self, table: str) -> None:
        self._writer.execute(f'DELETE FROM "{table}"')  # noqa: S608

    def expire(self, table: str, before: datetime, keep_statuses: tuple[str, ...] = ()) -> int:
        """Remove rows older than `before` (naive UTC) unless their normal status is one of `keep_statuses`."""
        at = "event_at" if table == "agent_actions" else "created_at"
        keep = (
            " AND (normal_status IN (SELECT unnest(?))) IS NOT TRUE" if keep_statuses else ""
        )  # NULL is no status to keep
        (count,) = self._writer.execute(
            f'DELETE FROM "{table}" WHERE {at} < ?{keep}',  # noqa: S608
            [before, list(keep_statuses)] if keep_statuses else [before],
        ).fetchone() or (0,)
        return int(count)

    def commit(self, lsn: int, horizon: str | None = None) -> Position:
        """Make what was written since `begin` durable together with the WAL position it reaches.

        `horizon` is what polling needs to go on after a restart (`sync.polling.horizon`); None keeps the one that is stored.
        """
        found = self._writer.execute(
            "UPDATE owkai_state SET lsn = ?, version = version + 1, horizon = coalesce(?, horizon)", [lsn, horizon]
        )
        found.fetchall()
        self._writer.execute("COMMIT")
        self._keep_private()
        position = self.position()
        assert position is not None  # noqa: S101 - just written
        return position

    def advance(self, lsn: int, horizon: str | None = None) -> None:
        """Record that the source reached `lsn` without touching a mapped row; readers see no new version."""
        self._writer.execute("BEGIN")
        self._writer.execute(
            "UPDATE owkai_state SET lsn = ?, horizon = coalesce(?, horizon)", [lsn, horizon]
        ).fetchall()
        self._writer.execute("COMMIT")

    def _keep_private(self) -> None:
        # DuckDB creates the write-ahead log again after every checkpoint, with the mode that the umask gives.
        if self.path is not None:
            for file in (self.path, wal_of(self.path)):
                with contextlib.suppress(FileNotFoundError):
                    file.chmod(0o600)

    def rollback(self) -> None:
        with contextlib.suppress(duckdb.Error):
            self._writer.execute("ROLLBACK")

    def position(self) -> Position | None:
        """Where this generation stands; None while its copy is incomplete."""
        lsn, version = self._writer.execute("SELECT lsn, version FROM owkai_state").fetchone() or (None, 0)
        return None if lsn is None else Position(int(lsn), int(version))

    def horizon(self) -> str | None:
        """The horizon stored last; None where this generation was never polled."""
        (found,) = self._writer.execute("SELECT horizon FROM owkai_state").fetchone() or (None,)
        return None if found is None else str(found)

    def inquire(self, query: str, parameters: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
        """A query of sync's own (reconciliation) as the writer sees it, uncommitted changes too; fetch before the next call."""
        return self._writer.execute(query, dict(parameters) or None)

    def origin(self) -> CacheOrigin | None:
        """What this generation was copied from; None when its schema is not ours."""
        try:
            found = self._writer.execute(
                "SELECT schema_version, system_identifier, database, slot, mapping FROM owkai_state"
            ).fetchall()
        except duckdb.Error:
            return None
        if len(found) != 1 or found[0][0] != SCHEMA_VERSION:
            return None
        return CacheOrigin(*found[0][1:])

    def log_bytes(self) -> int:
        """Size of the write-ahead log; 0 in memory."""
        if self.path is None:
            return 0
        try:
            return wal_of(self.path).stat().st_size
        except FileNotFoundError:
            return 0

    def checkpoint(self) -> bool:
        """Fold the write-ahead log into the file. False when a reader's transaction is open; try again later."""
        try:
            self._writer.execute("CHECKPOINT")
        except duckdb.TransactionException:
            return False
        return True

    # -- reading -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def read(self, timeout_seconds: float | None = None) -> Iterator[Snapshot]:
        """A read transaction. A statement that runs past the timeout raises `duckdb.InterruptException`.

        What cannot be read raises `CacheDamagedError` and makes the store suspect.
        """
        with self._lock:
            if self._retired:
                raise CacheNotReadyError("this generation of the cache has been replaced")
            self._open_reads += 1
            connection = self._readers.pop() if self._readers else self._writer.cursor()
        watchdog = None
        try:
            connection.execute("BEGIN TRANSACTION READ ONLY")
            try:
                lsn, version = connection.execute("SELECT lsn, version FROM owkai_state").fetchone() or (None, 0)
                snapshot = Snapshot(connection, int(lsn or 0), int(version))
                if timeout_seconds:
                    watchdog = threading.Timer(timeout_seconds, snapshot.interrupt)
                    watchdog.daemon = True
                    watchdog.start()
                yield snapshot
            finally:
                if watchdog:
                    watchdog.cancel()
                    watchdog.join()  # an interrupt that is under way must not hit the next reader
                with contextlib.suppress(*UNREADABLE):  # the reason is raised already
                    connection.execute("ROLLBACK")
        except UNREADABLE as error:
            self.suspect = True
            raise CacheDamagedError(
                "part of the cache cannot be read; the server examines it and copies it from the source again"
            ) from error
        finally:
            self._give_back(connection)

    def unreadable(self) -> str | None:
        """Read every block that committed rows lie in. The reason why one cannot be read; None when all is sound."""
        reader = self._writer.cursor()
        try:
            for table in TABLES:
                names = [*table.column_names, *(name for name, _, _ in table.derived)]
                hashes = ", ".join(f'bit_xor(hash("{name}"))' for name in names)
                reader.execute(f'SELECT {hashes} FROM "{table.name}"').fetchall()  # noqa: S608 - our own names
        except UNREADABLE as error:
            return str(error).splitlines()[0][:200]
        finally:
            with contextlib.suppress(duckdb.Error):
                reader.close()
        return None

    def _give_back(self, connection: duckdb.DuckDBPyConnection) -> None:
        with self._lock:
            self._open_reads -= 1
            self._readers.append(connection)
            last = self._retired and self._open_reads == 0
        if last:
            self._close_now()

    def retire(self) -> None:
        """Close when the last open read is done. Idempotent; later reads raise `CacheNotReadyError`."""
        with self._lock:
            if self._retired:
                return
            self._retired = True
            idle = self._open_reads == 0
        if idle:
            self._close_now()

    def _close_now(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers.clear()
        self._writer.close()


def wal_of(path: Path) -> Path:
    """DuckDB's write-ahead log of a database file."""
    return path.with_name(path.name + ".wal")


def table_ddl(table: Table) -> str:
    columns = [f'"{column.name}" {column.kind.duckdb_type}' for column in table.columns]
    columns += [f'"{name}" {kind}' for name, kind, _ in table.derived]
    return f'CREATE TABLE "{table.name}" ({", ".join(columns)})'


def _connect(path: Path | None, settings: CacheSettings) -> duckdb.DuckDBPyConnection:
    """Open locked down: no file or network access, no extensions, nothing left to configure."""
    options: Mapping[str, str] = {
        "memory_limit": settings.memory_limit,
        "threads": str(settings.threads),
        "checkpoint_threshold": WAL_BYTES_BETWEEN_CHECKPOINTS,
        "max_temp_directory_size": settings.temp_limit,
        "enable_external_access": "false",
        "autoload_known_extensions": "false",
        "autoinstall_known_extensions": "false",
        "allow_community_extensions": "false",
        "allow_persistent_secrets": "false",
        "python_enable_replacements": "false",
        "preserve_insertion_order": "true",
        **({"temp_directory": str(settings.directory / "spill")} if path is not None else {}),
    }
    connection = duckdb.connect(str(path) if path is not None else ":memory:", config=dict(options))
    if path is not None:
        path.chmod(0o600)
    connection.execute("SET lock_configuration = true")
    return connection
