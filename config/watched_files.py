"""Files that are exchanged while the server runs: when to read them again.

A file counts as changed when anything about it has: content, size, times, mode, owner, or which file the name leads to. So a
repaired permission is noticed as well as a new text. What could not be read is tried again, and each new state is read a
second time shortly after, because two writes within one tick of the file system's clock look the same.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 1.0
LONGEST_RETRY_SECONDS = 16.0  # of a file that cannot be read and does not change


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What `stat` reports about a file. Times in nanoseconds since 1970."""

    device: int
    inode: int
    mode: int
    owner: int
    group: int
    size_bytes: int
    modified_ns: int
    changed_ns: int


def stamp_of(path: Path, *, follow_links: bool = True) -> FileStamp | None:
    """None for a file that is not there or cannot be looked at."""
    try:
        found = os.stat(path, follow_symlinks=follow_links)
    except OSError:
        return None
    return FileStamp(
        found.st_dev, found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    )  # fmt: skip


class WatchedFiles:
    """Reports when files must be read again. `paths` is called each time, because settings may name other files.

    Reading happens within `reading()`; an exception there means that it failed. Not thread-safe. `clock` is a steady one.
    """

    def __init__(
        self,
        paths: Callable[[], Sequence[Path]],
        *,
        follow_links: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._follow_links = follow_links
        self._clock = clock
        self._read: tuple[FileStamp | None, ...] | None = None
        self._settled = False
        self._failure: str | None = None
        self._retry_seconds = SECONDS_BETWEEN_LOOKS
        self._retry_at = 0.0
        self._next_look = 0.0

    @property
    def due(self) -> bool:
        """Whether to read now. Looks once a second at most."""
        now = self._clock()
        if now < self._next_look:
            return False
        self._next_look = now + SECONDS_BETWEEN_LOOKS
        if self._stamps() != self._read:
            return True
        return now >= self._retry_at if self._failure is not None else not self._settled

    def look_at_once(self) -> None:
        """Let the next call of `due` check the files, however recent the last check: for code that has just written one."""
        self._next_look = 0.0

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Around reading the files, whether it was due or is asked for."""
        stamps = self._stamps()  # before reading: what is written meanwhile shows as a change
        again = stamps == self._read
        self._read = stamps
        self._next_look = self._clock() + SECONDS_BETWEEN_LOOKS
        try:
            yield
        except Exception:
            self._settled = False
            self._retry_seconds = (
                min(2 * self._retry_seconds, LONGEST_RETRY_SECONDS) if again else SECONDS_BETWEEN_LOOKS
            )
            self._retry_at = self._clock() + self._retry_seconds
            self._failure = self._failure or ""
            raise
        self._settled, self._failure = again, None

    def is_new_failure(self, failure: Exception) -> bool:
        """Whether this failure differs from the last one, so that a persistent one is logged once."""
        text = str(failure)
        known, self._failure = self._failure, text
        return known != text

    def _stamps(self) -> tuple[FileStamp | None, ...]:
        return tuple(stamp_of(path, follow_links=self._follow_links) for path in self._paths())
