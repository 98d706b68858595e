"""The sessions of the page on disk: `sessions.sqlite` beside the cache, so that a restart of the server signs no one out.

It holds digests of session ids and what was proved at the sign-in, never an id or a credential: no one can sign in with it. One
thread writes; `settled` tells when everything noted before is on disk. While the file cannot be written, what is to be written waits
in memory, bounded by the number of sessions, and sessions work all the same.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic

from config.private_files import ensure_private
from config.utc_text import parse_aware
from handlers.auth.sessions import ProofT, Session

log = logging.getLogger(__name__)

FILE = "sessions.sqlite"
SCHEMA = 1
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
TABLE = """
create table if not exists sessions (
    digest blob primary key,
    cookie text not null,
    owner text not null,
    proof text not null,
    ends_at text not null,
    used_at text not null
) without rowid
"""


class UnknownSchemaError(RuntimeError):
    """Another version of the program made the file."""


class SessionFile(Generic[ProofT]):
    """Keeps sessions in one file. `note` and `forget` return at once; `load` is for the start. Never raises for the disk.

    `encode` and `decode` turn a proof into a JSON value and back; `decode` raises ValueError, KeyError or TypeError for what is none.
    """

    def __init__(self, directory: Path, encode: Callable[[ProofT], Any], decode: Callable[[Any], ProofT]) -> None:
        self._path = directory / FILE
        self._encode = encode
        self._decode = decode
        self._database: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._waiting: dict[bytes, tuple[Any, ...] | None] = {}  # None: to be deleted
        self._writer = ThreadPoolExecutor(1, "sessions")
        self._job: Future[None] | None = None
        self._failing = False
        self._closed = False

    def load(self) -> list[Session[ProofT]] | None:
        """The sessions on disk, ended ones too; those that cannot be read are dropped. None: the file cannot be used."""
        try:
            rows = (
                self._opened().execute("select digest, cookie, owner, proof, ends_at, used_at from sessions").fetchall()
            )
        except (OSError, sqlite3.Error) as error:
            self._failed(error)
            return None
        found = []
        for row in rows:
            try:
                found.append(self._session(row))
            except (ValueError, KeyError, TypeError):
                log.warning("a session in %s cannot be read and has ended", self._path)
                self.forget(row[0])
        return found

    def note(self, session: Session[ProofT]) -> None:
        """Write a session, new or used again."""
        times = session.ends_at.isoformat(), session.used_at.isoformat()
        proof = json.dumps(self._encode(session.proof))
        self._write(session.digest, (session.digest, session.cookie, json.dumps(session.owner), proof, *times))

    def forget(self, digest: bytes) -> None:
        self._write(digest, None)

    async def settled(self) -> None:
        """Wait until all that was noted is on disk, or has failed to get there."""
        if self._job is not None:
            await asyncio.wrap_future(self._job)

    def close(self) -> None:
        """Write what waits. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._writer.shutdown(wait=True)
        if self._waiting:
            self._write_waiting()
        if self._database is not None:
            self._database.close()

    # -- the file ----------------------------------------------------------------------------------------------------

    def _write(self, digest: bytes, row: tuple[Any, ...] | None) -> None:
        with self._lock:
            self._waiting[digest] = row
        if not self._closed and (self._job is None or self._job.done() or self._job.running()):
            self._job = self._writer.submit(self._write_waiting)

    def _write_waiting(self) -> None:
        with self._lock:
            work, self._waiting = self._waiting, {}
        try:
            database = self._opened()
            with database:
                database.executemany("delete from sessions where digest = ?", [(digest,) for digest in work])
                rows = [row for row in work.values() if row is not None]
                database.executemany("insert into sessions values (?, ?, ?, ?, ?, ?)", rows)
        except (OSError, sqlite3.Error) as error:
            with self._lock:
                self._waiting = {**work, **self._waiting}
            self._failed(error)
            return
        if self._failing:
            self._failing = False
            log.info("sessions are written to %s again", self._path)

    def _failed(self, error: OSError | sqlite3.Error) -> None:
        if not self._failing:
            self._failing = True
            log.error("sessions are not written to %s; until they are, a restart ends new ones: %s", self._path, error)

    def _opened(self) -> sqlite3.Connection:
        """The database, opened at the first use; a file that is damaged or of another version is replaced."""
        if self._database is None:
            try:
                self._database = opened(self._path)
            except (sqlite3.DatabaseError, UnknownSchemaError) as error:
                if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorcode not in DAMAGED:
                    raise
                log.warning("%s is replaced, and everyone signs in again: %s", self._path, error)
                remove(self._path)
                self._database = opened(self._path)
        return self._database

    def _session(self, row: tuple[Any, ...]) -> Session[ProofT]:
        digest, cookie, owner, proof, ends_at, used_at = row
        ends, used = parse_aware(ends_at), parse_aware(used_at)
        return Session(digest, tuple(json.loads(owner)), self._decode(json.loads(proof)), ends, used, cookie)


def opened(path: Path) -> sqlite3.Connection:
    """The database at `path`, made where it is missing; readable by its owner only. Raises OSError, `sqlite3.Error`,
    `UnknownSchemaError`."""
    ensure_private(path)
    database = sqlite3.connect(path, check_same_thread=False, timeout=5)
    try:
        (version,) = database.execute("pragma user_version").fetchone()
        if version not in (0, SCHEMA):
            raise UnknownSchemaError(f"its version is {version}, this program's is {SCHEMA}")
        if version != SCHEMA:
            with database:
                database.execute(TABLE)
                database.execute(f"pragma user_version = {SCHEMA}")
    except BaseException:
        database.close()
        raise
    return database


def remove(path: Path) -> None:
    """Remove a database and its journal."""
    for name in (path, path.with_name(f"{path.name}-journal")):
        with suppress(FileNotFoundError):
            name.unlink()
