"""The demo's directory: claimed for one run, cleared of a killed run's files, and removed afterwards."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from config.private_files import open_private
from owkai.demo.postgres import kill_leftover, remove_directory
from owkai.exits import Exit

LOCK = "demo.lock"
POSTGRES, CACHE, SETTINGS, INDEX = "postgres", "cache", "owkai.toml", "demo.json"
REMEDY = "name with --state a directory that this account may write, on a disk with free space"
OURS = frozenset({LOCK, POSTGRES, CACHE, SETTINGS, INDEX, f"{INDEX}.new"})


class DemoError(RuntimeError):
    """The demo cannot start; `code` is the exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code


class StateDirectory:
    """A directory that belongs to one running demo. Leaving the `with` block removes what the demo made in it.

    Directories that were made for it, by this run or a killed one before, are removed too unless they contain other files.
    """

    def __init__(self, path: Path, lock: int, created: list[Path]) -> None:
        self.path = path
        self._lock = lock
        self._created = created

    @classmethod
    def claim(cls, wanted: Path | None) -> StateDirectory:
        """Take `wanted`, or a temporary directory. Raises DemoError when it is in use, holds other files or cannot be written."""
        try:
            return cls._claim(wanted)
        except OSError as error:
            place = error.filename or wanted or tempfile.gettempdir()
            raise DemoError(f"{place}: {error.strerror}; {REMEDY}", Exit.SETTINGS) from error

    @classmethod
    def _claim(cls, wanted: Path | None) -> StateDirectory:
        if wanted is None:
            path = Path(tempfile.mkdtemp(prefix="owkai-demo-"))
            created = [path]
        else:
            path = wanted.absolute()
            created = _make(path)
        marked = (path / LOCK).is_file()
        foreign = sorted(entry.name for entry in path.iterdir())
        if foreign and not marked:
            raise DemoError(
                f"{path} is not empty ({foreign[0]}) and no demo made it; name an empty or a new directory",
                Exit.SETTINGS,
            )
        lock = open_private(path / LOCK, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise DemoError(f"another demo runs in {path}; stop it or name another directory", Exit.BUSY) from None
        created = [*_recorded(lock), *created]
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"created": [str(one) for one in created]}).encode(), 0)
        if created:
            # As root, Postgres runs as an account that must pass through; the files in it are private to their owner.
            path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        directory = cls(path, lock, created)
        if marked:
            kill_leftover(path / POSTGRES)
            directory._clear()
        return directory

    def release(self) -> list[str]:
        """Remove what the demo made; returns the names of files of others that stay. Calling it twice is harmless."""
        if self._lock < 0:
            return []
        self._clear()
        (self.path / LOCK).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = -1
        staying = sorted(entry.name for entry in self.path.iterdir()) if self._created else []
        if not staying:
            for made in reversed(self._created):
                try:
                    made.rmdir()
                except OSError:
                    break
        return staying

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _clear(self) -> None:
        remove_directory(self.path / POSTGRES)
        shutil.rmtree(self.path / CACHE, ignore_errors=True)
        for name in (SETTINGS, INDEX, f"{INDEX}.new"):
            (self.path / name).unlink(missing_ok=True)


def _make(path: Path) -> list[Path]:
    """Make `path` and its missing parents; returns those made, outermost first."""
    if path.exists() and not path.is_dir():
        raise DemoError(f"{path} is a file; name a directory", Exit.SETTINGS)
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return missing[::-1]


def _recorded(lock: int) -> list[Path]:
    """The directories that an earlier, killed run made."""
    try:
        record = json.loads(os.pread(lock, 65_536, 0))
        return [Path(text) for text in record["created"]]
    except (ValueError, KeyError, TypeError):
        return []
