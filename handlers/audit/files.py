"""The files of the trail: the current file, earlier files, and the lock that excludes other processes.

The file is opened for appending only, never through a link, 0600 in a folder of ours. Full or old files are renamed to
`audit.<first>-<last>.jsonl` (record numbers), so that names sort in the order of the chain; nothing is ever deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from config.private_files import open_private
from handlers.audit.chain import Head, Line, read_line

TAIL_BYTES = 4 << 20  # far more than a record can have
NUMBER_DIGITS = 12


class AuditFileError(RuntimeError):
    """The audit file cannot be used; the text names it and the remedy."""


@dataclass(frozen=True)
class Tail:
    """How a file ends. `last` is its last complete line as a record, None where that is none of ours or the file is empty;
    `torn` is what follows the last newline (a write that was cut short)."""

    complete_bytes: int
    last: Line | None
    torn: bytes


def open_for_append(path: Path) -> int:
    """A descriptor of the audit file; raises `AuditFileError` for a link, pipe, device or folder."""
    flags = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = open_private(path, flags)
    except OSError as error:
        raise AuditFileError(
            f"the audit file {path} cannot be opened ({error.strerror}); audit.file must name a regular file in a folder "
            "this user may write"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AuditFileError(f"the audit file {path} is not a regular file; audit.file must name one")
    os.fchmod(descriptor, 0o600)
    return descriptor


def lock(path: Path) -> int:
    """The lock of the trail, held as long as its descriptor is open; raises `AuditFileError` naming the holder's process."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = open_private(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise AuditFileError(
            f"the audit file {path} cannot be locked ({error.strerror}); this user must be able to write to its folder"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise AuditFileError(
            f"the audit file {path} is written by process {holder}; give each server an audit.file of its own"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def read_tail(descriptor: int) -> Tail:
    """How the file behind a descriptor ends."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - TAIL_BYTES)
    data = os.pread(descriptor, size - start, start)
    complete, newline, torn = data.rpartition(b"\n")
    if not newline:
        return Tail(0, None, data)
    line = complete.rpartition(b"\n")[2]
    # After a loss of power a file may end in zeros that never were a write of ours.
    if line.strip(b"\0") != line or not line:
        kept = complete[: len(complete) - len(line)]
        return Tail(start + len(kept), read_line(kept[:-1].rpartition(b"\n")[2]) if kept else None, line + b"\n" + torn)
    return Tail(start + len(complete) + 1, read_line(line), torn)


def first_line(path: Path) -> Line | None:
    """The first record of a file; None where it has none or cannot be read."""
    try:
        with open_to_read(path) as file:
            return read_line(file.readline(TAIL_BYTES).rstrip(b"\n"))
    except (OSError, EOFError):
        return None


def chained_lines(path: Path) -> tuple[Line, Line] | None:
    """The first and the last record of a file, whatever stands around them; None where none of its lines is one."""
    first = last = None
    with open_to_read(path) as file:
        while raw := file.readline(TAIL_BYTES):
            line = read_line(raw.rstrip(b"\n"))
            first, last = first or line, line or last
    return None if first is None or last is None else (first, last)


@contextlib.contextmanager
def open_to_read(path: Path) -> Iterator[IO[bytes]]:
    """A file of the trail for reading, packed by gzip or not. Raises OSError, also for what is not a regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as plain:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
        if path.suffix == ".gz":
            with gzip.open(plain) as unpacked:
                yield unpacked  # type: ignore[misc]
        else:
            yield plain


def earlier_files(path: Path) -> list[Path]:
    """The files beside `path` that hold earlier parts of its chain, in the chain's order: those we rotated, and those
    moved by hand or by logrotate (`audit.jsonl.1`, `audit.jsonl-20250115.gz`)."""
    pattern = re.compile(
        rf"{re.escape(path.stem)}\.\d+-\d+{re.escape(path.suffix)}(\.\d+)?(\.gz)?|{re.escape(path.name)}[.-][0-9A-Za-z_.-]+"
    )
    not_chain = re.compile(rf"{re.escape(path.name)}\.(lock|torn-.*|aside-.*)")
    try:
        names = sorted(entry.name for entry in os.scandir(path.parent) if entry.is_file(follow_symlinks=False))
    except OSError:
        return []
    found = [path.with_name(name) for name in names if pattern.fullmatch(name) and not not_chain.fullmatch(name)]
    numbered = [(line.seq, file) for file in found if (line := first_line(file)) is not None]
    return [file for _, file in sorted(numbered)]


def parts_without_records(path: Path) -> list[Path]:
    """The files that a rotation named after the numbers of their records and that begin with no record."""
    rotated = re.compile(rf"{re.escape(path.stem)}\.\d+-\d+{re.escape(path.suffix)}")
    try:
        found = sorted(path.with_name(entry.name) for entry in os.scandir(path.parent) if rotated.fullmatch(entry.name))
    except OSError:
        return []
    return [file for file in found if first_line(file) is None]


def rotated_path(path: Path, first: int, last: int) -> Path:
    return free_path(path.with_name(f"{path.stem}.{first:0{NUMBER_DIGITS}d}-{last:0{NUMBER_DIGITS}d}{path.suffix}"))


def aside_path(path: Path, what: str, number: int) -> Path:
    """A name for a file or rest that is kept but is no part of the chain; `what` is torn or aside."""
    return free_path(path.with_name(f"{path.name}.{what}-{number}"))


def free_path(path: Path) -> Path:
    """The path, or one with a counter where a file of that name is there already."""
    candidate, counter = path, 1
    while os.path.lexists(candidate):
        counter += 1
        candidate = path.with_name(f"{path.name}.{counter}")
    return candidate


def newest_head(path: Path) -> Head:
    """Where the chain stands that the files before `path` hold; the empty head when there are none."""
    for file in reversed(earlier_files(path)):
        last = None
        with contextlib.suppress(OSError, EOFError):
            last = last_record(file)
        if last is not None:
            return last.head
    return Head()


def last_record(path: Path) -> Line | None:
    """The last record of a file. Looks at its end first, as files may be large. Raises OSError, EOFError."""
    if path.suffix != ".gz":
        with open_to_read(path) as file:
            last = read_tail(file.fileno()).last
        if last is not None:
            return last
    chained = chained_lines(path)
    return None if chained is None else chained[1]
