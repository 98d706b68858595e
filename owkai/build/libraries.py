"""Shared libraries that the bundle needs: copied into it, or left to the target.

glibc is always the target's: it matches its kernel, name service and loader, and gets its security updates. The
compiler's run-time libraries are the target's where it has them, as those are built for its glibc; copies lie in
lib/fallback for a target that has none. Everything else, OpenSSL in particular, is copied.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from owkai.build import elf

COMPILER = frozenset({"libgcc_s.so.1", "libstdc++.so.6"})
PLACES = tuple(
    map(
        Path,
        ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/usr/local/lib"),
    )
)
FALLBACK = "fallback"
POSTGRES = "pginstall"


class LibraryError(RuntimeError):
    """A needed library is not on this machine."""


@dataclass(frozen=True)
class Library:
    """`package` and `version` are those of the package that installed it, empty if unknown."""

    name: str
    path: Path
    package: str = ""
    version: str = ""
    licence: Path | None = None


def programs(tree: Path) -> list[Path]:
    """Every ELF file of the bundle, sorted."""
    return sorted(
        path for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_size > 4 and elf.is_elf(path)
    )  # fmt: skip


def add_missing_libraries(tree: Path) -> list[Library]:
    """Copy what is missing below `tree`/lib, and what that needs in turn; returns what was copied, sorted by name."""
    brought: dict[str, Library] = {}
    while True:
        missing = missing_libraries(tree) - brought.keys()
        if not missing:
            return [brought[name] for name in sorted(brought)]
        for name in sorted(missing):
            found = next((place / name for place in PLACES if (place / name).exists()), None)
            if found is None:
                raise LibraryError(f"{name} is needed by the bundle and not on this machine; install its package")
            target = tree / "lib" / (f"{FALLBACK}/{name}" if name in COMPILER else name)
            shutil.copyfile(found.resolve(), target)
            brought[name] = described(name, found)


def missing_libraries(tree: Path) -> set[str]:
    """Names that some file needs and would not find in the bundle, besides those of glibc.

    Raises LibraryError where the embedded Postgres, whose programs search only their own folder, lacks one.
    """
    missing: set[str] = set()
    for path in programs(tree):
        file = elf.read(path)
        postgres = next((parent for parent in path.parents if parent.name == POSTGRES), None)
        places = search_places(path, file, postgres / "lib" if postgres else tree / "lib")
        absent = {name for name in file.needed if name not in elf.GLIBC | COMPILER and not _in(places, name)}
        if absent and postgres:
            raise LibraryError(f"{path} needs {', '.join(sorted(absent))}, which its package does not bring")
        missing |= absent | {name for name in file.needed if name in COMPILER}
    return missing


def search_places(path: Path, file: elf.ElfFile, program_libraries: Path) -> list[Path]:
    """Folders in which the loader looks for what `path` needs, before the machine's own.

    The path of the program counts for every file without one of the newer kind (ld.so(8), DT_RPATH and DT_RUNPATH).
    """
    own = [text.split(":") for text in file.paths.values()]
    places = [Path(str(path.parent) + part.removeprefix("$ORIGIN")) for parts in own for part in parts]
    if path.parent.name.endswith(".libs"):
        places.append(path.parent)  # what loads it has loaded its neighbours by this search path
    if elf.RUNPATH not in file.paths:
        places.append(program_libraries)
    return places


def _in(places: list[Path], name: str) -> bool:
    return any((place / name).exists() for place in places)


def glibc_floor(tree: Path) -> tuple[int, ...]:
    """The newest glibc that some file needs; the fallback libraries are loaded only if the target has none."""
    wanted = {version for path in programs(tree) if path.parent.name != FALLBACK for version in elf.read(path).glibc}
    return max(wanted)


def described(name: str, path: Path) -> Library:
    """Package, version and licence text from Debian's records, where this machine is one."""
    real = path.resolve()
    for candidate in (real, Path("/usr") / path.relative_to("/"), path):
        owner = _output_of("dpkg-query", "--search", str(candidate)).partition(": ")[0]
        package = owner.split(",")[0]
        if package:
            version = _output_of("dpkg-query", "--show", "--showformat=${Version}", package)
            bare = package.partition(":")[0]
            licence = Path("/usr/share/doc") / bare / "copyright"
            return Library(name, real, bare, version, licence if licence.is_file() else None)
    return Library(name, real)


def _output_of(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
