"""The cache directory: generations of the columnar cache, which of them is live, and whose it is.

The directory holds generations `cache-000001.duckdb`, … (see `analytics.state.store`) and `CURRENT`, which names the live one. A copy
fills a new generation beside the live one; `Cache.publish` swaps them. Whatever fails to open is set aside and rebuilt from the
source: it is a cache.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from analytics.state.snapshot import Snapshot
from analytics.state.store import SCHEMA_VERSION, CacheNotReadyError, CacheOrigin, Store, wal_of
from analytics.state.tables import BY_NAME
from config.accounts import belongs_to
from config.private_files import open_private, write_private
from config.settings import CacheSettings

log = logging.getLogger(__name__)

CURRENT = "CURRENT"
ASIDE = "unusable.duckdb"  # the newest file that could not be opened, kept for examination
GENERATION = re.compile(r"cache-\d{6,}\.duckdb")


class CacheBusyError(RuntimeError):
    """Another process has the cache directory."""


class Cache:
    """The cache directory: which generation is live, and the versions that tell readers when to look again.

    Opening it takes the directory's lock; a second process gets `CacheBusyError` that names the holder, another account
    `PermissionError`. `close` is idempotent; reads after it raise `CacheNotReadyError`.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self.settings = settings
        self.directory = settings.directory
        self._live: Store | None = None
        self._version = 0
        self._table_versions = dict.fromkeys(BY_NAME, 0)
        self._lock_file = _lock_directory(self.directory)
        try:
            self._live = self._open_current()
        except BaseException:
            self._lock_file.close()
            raise
        self._remove_strays()

    # -- generations ---------------------------------------------------------------------------------------------

    @property
    def live(self) -> Store | None:
        """The generation that readers see; None before the first copy is complete."""
        return self._live

    @property
    def ready(self) -> bool:
        return self._live is not None

    def build(self, origin: CacheOrigin) -> Store:
        """A new, empty generation beside the live one."""
        path = None
        if not self.settings.in_memory:
            path = self.directory / f"cache-{self._next_number():06d}.duckdb"
        store = Store(path, self.settings)
        store.create(origin)
        return store

    def publish(self, store: Store) -> None:
        """Make a complete generation the live one; the old one closes after its last read and its file goes."""
        if store.path is not None:
            write_private(self.directory / CURRENT, store.path.name)
        before, self._live = self._live, store
        self.touched(*BY_NAME)
        if before is not None and before is not store:
            before.retire()
        self._remove_strays()

    def discard(self, store: Store) -> None:
        """Drop a generation that was not published."""
        store.retire()
        self._remove_strays()

    def forget(self) -> None:
        """Give up the live generation: it cannot be continued and must not be shown."""
        before, self._live = self._live, None
        if before is not None:
            before.retire()

    def reopen(self) -> bool:
        """Close the live generation and open its file again, at its last commit: DuckDB answers nothing more after a fatal error.

        False when it cannot be opened (it is set aside then) or lies in memory; readers wait for a new copy.
        """
        self.forget()
        self._live = self._open_current()
        self.touched(*BY_NAME)
        return self._live is not None

    # -- versions ------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Rises with every committed batch and every swap; process-local."""
        return self._version

    def table_version(self, *tables: str) -> int:
        """Rises whenever one of the tables may have changed."""
        return sum(self._table_versions[table] for table in tables)

    def touched(self, *tables: str) -> None:
        """Called by the writer after each commit with the tables it changed.

        Without tables: what is served beside the cache changed, so that published views are computed again.
        """
        for table in tables:
            self._table_versions[table] += 1
        self._version += 1

    # -- reading -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def read(self, timeout_seconds: float | None = None) -> Iterator[Snapshot]:
        """A read transaction on the live generation; raises `CacheNotReadyError` before the first copy is done."""
        while True:
            store = self._live
            if store is None:
                raise CacheNotReadyError("the first copy of the source is not complete")
            with contextlib.ExitStack() as stack:
                try:
                    snapshot = stack.enter_context(store.read(timeout_seconds))
                except CacheNotReadyError:
                    if self._live is store:
                        raise
                    continue  # swapped between the look and the read
                yield snapshot
                return

    def close(self) -> None:
        self.forget()
        self._lock_file.close()

    # -- files ---------------------------------------------------------------------------------------------------

    def _open_current(self) -> Store | None:
        pointer = self.directory / CURRENT
        if self.settings.in_memory or not pointer.exists():
            return None
        name = pointer.read_bytes().decode("ascii", errors="replace").strip()
        if not GENERATION.fullmatch(name):
            log.warning("%s names no cache file; the cache is rebuilt from the source", pointer)
            pointer.unlink()
            return None
        path = self.directory / name
        store = None
        try:
            _refuse_foreign_file(path)
            if os.path.lexists(wal_of(path)):
                _refuse_foreign_file(wal_of(path))
            store = Store(path, self.settings)
            if store.origin() is not None and store.position() is not None:
                return store
            reason = f"its schema is not version {SCHEMA_VERSION}, or its copy is incomplete"
        except (duckdb.Error, OSError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
        if store is not None:
            store.retire()
        log.warning("cache %s cannot be used and is rebuilt from the source: %s", path.name, reason)
        with contextlib.suppress(OSError):
            pointer.unlink()
            # A log left behind would belong to the next file of this name.
            wal_of(path).unlink(missing_ok=True)
            if path.is_file() and not path.is_symlink():
                path.replace(self.directory / ASIDE)
        return None

    def _generations(self) -> list[Path]:
        return sorted(self.directory.glob("cache-*.duckdb"))

    def _next_number(self) -> int:
        numbers = [int(path.stem.removeprefix("cache-")) for path in self._generations() if path.stem[6:].isdigit()]
        return max(numbers, default=0) + 1

    def _remove_strays(self) -> None:
        keep = self._live.path if self._live is not None else None
        for path in self._generations():
            if path != keep:
                for stray in (path, wal_of(path)):
                    with contextlib.suppress(OSError):
                        stray.unlink()


def _lock_directory(directory: Path) -> Any:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = directory.stat().st_uid
    if owner != os.geteuid():  # root may write there, but what it leaves there, the owner could not read
        raise PermissionError(errno.EPERM, belongs_to(owner), str(directory))
    directory.chmod(0o700)
    descriptor = open_private(directory / "lock", os.O_RDWR)
    handle = os.fdopen(descriptor, "r+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise CacheBusyError(
            f"the cache directory {directory} is in use by process {holder}; stop it or give this server another "
            "cache.directory"
        ) from error
    # The holder's process, for the message of a second process. A full disk must not prevent the start.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return handle


def _refuse_foreign_file(path: Path) -> None:
    found = path.lstat()
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is not a regular file")
    if found.st_uid != os.geteuid():
        raise ValueError("it belongs to another user")
