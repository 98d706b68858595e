"""Writes the single executable file: launcher, compressed bundle, trailer. The format is described in native/launcher.c, which reads it."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAGIC = b"OWKAI-1\n"
TRAILER = struct.Struct("<QQQQq32s64s16s8s")
WINDOW_LOG = 27  # matches ZSTD_d_windowLogMax in the launcher
BLOCK = 1 << 20


class ArchiveError(RuntimeError):
    """The bundle cannot be packed; the text states why."""


@dataclass(frozen=True)
class Entry:
    """One line of the manifest. `kind` is d, l, f or x, as in native/launcher.c."""

    kind: str
    path: str
    size: int = 0
    sha256: str = ""
    target: str = ""

    @property
    def line(self) -> str:
        if self.kind == "d":
            return f"d {self.path}\n"
        if self.kind == "l":
            return f"l {self.target}\t{self.path}\n"
        return f"{self.kind} {self.size} {self.sha256} {self.path}\n"


def entries(tree: Path) -> Iterator[Entry]:
    """Folders first, then links and files, each by path; so every folder exists before its contents."""
    found = sorted(tree.rglob("*"), key=lambda path: path.relative_to(tree).as_posix())
    names = {path: path.relative_to(tree).as_posix() for path in found}
    for path, name in names.items():
        if any(character in name for character in "\n\t"):
            raise ArchiveError(f"{name!r}: a name with a tab or a line break cannot be packed")
        if path.is_dir() and not path.is_symlink():
            yield Entry("d", name)
    for path, name in names.items():
        if path.is_symlink():
            yield Entry("l", name, target=os.readlink(path))
        elif path.is_file():
            data = path.read_bytes()
            yield Entry("x" if path.stat().st_mode & 0o100 else "f", name, len(data), hashlib.sha256(data).hexdigest())


def manifest_of(tree: Path) -> tuple[str, list[Entry]]:
    found = list(entries(tree))
    return "".join(entry.line for entry in found), found


def folder_name(version: str, manifest: str) -> str:
    """The name of the unpacked bundle's folder, derived from its contents."""
    return f"{version}-{hashlib.sha256(manifest.encode()).hexdigest()[:16]}"


def write(launcher: Path, tree: Path, target: Path, *, version: str, libc: str, time: int, level: int) -> str:
    """Write the executable file `target`; returns the name of the unpacked folder. `time` is seconds since 1970."""
    manifest, found = manifest_of(tree)
    name = folder_name(version, manifest)
    text = manifest.encode()
    with target.open("wb") as file:
        file.write(launcher.read_bytes())
        file.write(b"\0" * (-file.tell() % 4096))
        offset = file.tell()
        _compress(text, [tree / entry.path for entry in found if entry.kind in "fx"], file, level)
        trailer = TRAILER.pack(
            offset, file.tell() - offset, len(text), len(text) + sum(entry.size for entry in found), time,
            hashlib.sha256(text).digest(), name.encode(), libc.encode(), MAGIC,
        )  # fmt: skip
        file.write(trailer)
    target.chmod(0o755)
    return name


def _compress(manifest: bytes, files: list[Path], target: BinaryIO, level: int) -> None:
    """One zstd frame of the manifest and all contents; with one thread, so that the result does not depend on timing."""
    target.flush()
    command = ["zstd", f"-{level}", f"--long={WINDOW_LOG}", "--single-thread", "--check", "-q", "-c"]
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=target, stderr=errors)  # noqa: S603
        except FileNotFoundError as error:
            raise ArchiveError("the program zstd is missing; install the package of that name") from error
        assert process.stdin is not None  # noqa: S101
        with process.stdin as pipe:
            pipe.write(manifest)
            for path in files:
                with path.open("rb") as file:
                    shutil.copyfileobj(file, pipe, BLOCK)
        if process.wait() != 0:
            errors.seek(0)
            raise ArchiveError(f"zstd failed: {errors.read().decode(errors='replace').strip()}")
    target.seek(0, os.SEEK_END)
