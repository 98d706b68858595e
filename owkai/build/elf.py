"""What an x86-64 ELF file needs: libraries, search paths and versions of glibc. Parsed with pyelftools."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

MAGIC = b"\x7fELF"
RPATH, RUNPATH = "DT_RPATH", "DT_RUNPATH"
# glibc's own libraries. Bundling any of them next to the machine's would mix two versions of glibc.
GLIBC = frozenset({
    "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libresolv.so.2",
    "ld-linux-x86-64.so.2", "libanl.so.1", "libnss_files.so.2", "libnss_dns.so.2",
})  # fmt: skip


class ElfError(ValueError):
    """The file cannot be packed; the text states why."""


@dataclass(frozen=True)
class ElfFile:
    """`needed` and `soname` are library names; `paths` maps a search path's tag to its text.

    `versions` are the symbol versions it needs, by library.
    """

    needed: tuple[str, ...] = ()
    soname: str = ""
    paths: dict[str, str] = field(default_factory=dict)
    versions: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def glibc(self) -> frozenset[tuple[int, ...]]:
        """Versions of glibc it needs, as numbers: (2, 35)."""
        named = [version for library, found in self.versions.items() if library in GLIBC for version in found]
        return frozenset(version_number(name) for name in named if name.startswith("GLIBC_2"))


def version_number(name: str) -> tuple[int, ...]:
    """GLIBC_2.35 as (2, 35)."""
    return tuple(int(part) for part in name.partition("_")[2].split("."))


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == MAGIC


def read(path: Path) -> ElfFile:
    """Raises ElfError for anything but a 64-bit little-endian x86-64 file."""
    with path.open("rb") as stream:
        elf = _opened(path, stream)
        dynamic = _dynamic_segment(elf)
        if dynamic is None:
            return ElfFile()
        tags: list[Any] = list(dynamic.iter_tags())
        return ElfFile(
            needed=tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"),
            soname=next((tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"), ""),
            paths={str(tag.entry.d_tag): _search_path(tag) for tag in tags if tag.entry.d_tag in (RPATH, RUNPATH)},
            versions={
                str(library.name): frozenset(str(version.name) for version in versions)
                for section in elf.iter_sections()
                if isinstance(section, GNUVerNeedSection)
                for library, versions in section.iter_versions()
            },
        )


def _opened(path: Path, stream: Any) -> ELFFile:
    try:
        elf = ELFFile(stream)
    except ELFError:
        elf = None
    if elf is None or elf.elfclass != 64 or not elf.little_endian or elf["e_machine"] != "EM_X86_64":
        raise ElfError(f"{path}: not an ELF file for x86-64; packages for another machine cannot be packed")
    return elf


def _dynamic_segment(elf: ELFFile) -> DynamicSegment | None:
    return next((segment for segment in elf.iter_segments() if isinstance(segment, DynamicSegment)), None)


def _search_path(tag: Any) -> str:
    return str(tag.rpath if tag.entry.d_tag == RPATH else tag.runpath)


def replace_search_path(path: Path, tag: str, replacement: str) -> None:
    """Overwrite a search path with `replacement`, which must not be longer; an empty one removes the entry.

    Empty text is not enough: the loader ignores the search path of the program for a file that has a DT_RUNPATH, even an
    empty one (ld.so(8)).
    """
    with path.open("rb") as stream:
        elf = _opened(path, stream)
        dynamic = _dynamic_segment(elf)
        entry = next((one for one in dynamic.iter_tags() if one.entry.d_tag == tag), None) if dynamic else None
        if dynamic is None or entry is None:
            raise ElfError(f"{path}: it has no {tag}")
        old, fresh = _search_path(entry).encode(), replacement.encode()
        if len(fresh) > len(old):
            raise ElfError(f"{path}: its search path {old.decode()} is shorter than {replacement}")
        _, strings = dynamic.get_table_offset("DT_STRTAB")
        text = strings + entry.entry.d_val
        start, size, each = dynamic["p_offset"], dynamic["p_filesz"], elf.structs.Elf_Dyn.sizeof()
        index = [one.entry.d_tag for one in dynamic.iter_tags()].index(tag)
    data = bytearray(path.read_bytes())
    data[text : text + len(old)] = fresh.ljust(len(old), b"\0")
    if not fresh:
        table = data[start : start + size]
        del table[index * each : (index + 1) * each]
        data[start : start + size] = table.ljust(size, b"\0")
    path.write_bytes(bytes(data))
