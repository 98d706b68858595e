"""Files that only their owner can read (mode 0600). Symbolic links are never followed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PRIVATE_MODE = 0o600


def open_private(path: Path, flags: int) -> int:
    """Open `path` with `flags`, creating it with mode 0600 if it does not exist; returns the descriptor.

    The mode of an existing file does not change. Raises OSError, also for a symbolic link.
    """
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_MODE)


def ensure_private(path: Path) -> None:
    """Create `path` if it does not exist, and set its mode to 0600. Raises OSError, also for a symbolic link."""
    descriptor = open_private(path, os.O_RDWR)
    try:
        os.fchmod(descriptor, PRIVATE_MODE)
    finally:
        os.close(descriptor)


def create_private(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600 to disk. Raises OSError; FileExistsError if `path` exists."""
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_EXCL), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_private(path: Path, text: str) -> None:
    """Replace `path` by a UTF-8 file of mode 0600, atomically and durably: after a crash it has the old content or the new.

    The new content is first written to `<name>.new` in the same folder. Raises OSError that names `path`.
    """
    temporary = path.with_name(f"{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        create_private(temporary, text.encode("utf-8"))
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to disk, so that a new name or a rename survives a loss of power. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
