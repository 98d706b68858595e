"""What an ELF file of x86-64 says about itself: what it needs, from where, and of which glibc. Pure.

Source of the layout: the System V ABI, its supplement for x86-64, and the Linux Standard Base on symbol versions.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Bytes = bytes | mmap.mmap

MAGIC = b"\x7fELF"
PT_LOAD, PT_DYNAMIC = 1, 2
DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 5, 14, 15, 29
DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
# What glibc itself ships: bundling any of it beside the machine's own would mix two of them.
GLIBC = frozenset({
    "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libresolv.so.2",
    "ld-linux-x86-64.so.2", "libanl.so.1", "libnss_files.so.2", "libnss_dns.so.2",
})  # fmt: skip


class ElfError(ValueError):
    """The file is no ELF file that can be packed; the text says why."""


@dataclass(frozen=True)
class ElfFile:
    """`needed` and `soname` are library names; `paths` maps the tag of a search path to (text, offset in the file).

    `versions` are the symbol versions it needs, by library.
    """

    needed: tuple[str, ...] = ()
    soname: str = ""
    paths: dict[int, tuple[str, int]] = field(default_factory=dict)
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
    """Raises ElfError for what is not a 64-bit little-endian file of x86-64."""
    data = _mapped(path)
    if data[:4] != MAGIC or data[4:6] != b"\x02\x01" or struct.unpack_from("<H", data, 18)[0] != 62:
        raise ElfError(f"{path}: not an ELF file for x86-64; packages for another machine cannot be packed")
    headers = _headers(data)
    loads = [(address, offset, size) for kind, _, offset, address, _, size, _, _ in headers if kind == PT_LOAD]
    start, end = _dynamic(data)
    if start == end:
        return ElfFile()

    def at(address: int) -> int:
        return next(offset + address - base for base, offset, size in loads if base <= address < base + size)

    entries: list[tuple[int, int]] = []
    for position in range(start, end, 16):
        tag, value = struct.unpack_from("<qQ", data, position)
        if tag == 0:
            break
        entries.append((tag, value))
    single = dict(entries)
    strings = at(single[DT_STRTAB])

    def text(offset: int) -> str:
        return data[strings + offset : data.find(b"\0", strings + offset)].decode()

    return ElfFile(
        needed=tuple(text(value) for tag, value in entries if tag == DT_NEEDED),
        soname=text(single[DT_SONAME]) if DT_SONAME in single else "",
        paths={tag: (text(value), strings + value) for tag, value in entries if tag in (DT_RPATH, DT_RUNPATH)},
        versions=_versions(data, at(single[DT_VERNEED]), single[DT_VERNEEDNUM], text) if DT_VERNEED in single else {},
    )


def _mapped(path: Path) -> mmap.mmap:
    """The file as bytes; of a large one only the pages that are looked at are read."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _headers(data: Bytes) -> list[tuple[int, ...]]:
    """Program headers: kind, flags, offset, address, physical address, size in the file, size in memory, alignment."""
    start, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    return [struct.unpack_from("<IIQQQQQQ", data, start + 56 * number) for number in range(count)]


def _dynamic(data: Bytes) -> tuple[int, int]:
    """Where the dynamic section starts and ends in the file; twice the same where there is none."""
    found = [(header[2], header[2] + header[5]) for header in _headers(data) if header[0] == PT_DYNAMIC]
    return found[0] if found else (0, 0)


def _versions(data: Bytes, position: int, count: int, text: Callable[[int], str]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for _ in range(count):
        _, entries, file, first, following = struct.unpack_from("<HHIII", data, position)
        at, names = position + first, set()
        for _ in range(entries):
            _, _, _, name, step = struct.unpack_from("<IHHII", data, at)
            names.add(text(name))
            at += step
        found[text(file)] = frozenset(names)
        position += following
    return found


def replace_search_path(path: Path, tag: int, replacement: str) -> None:
    """Write `replacement`, which must not be longer, over a search path; with an empty one the path is taken out.

    An empty text would not do: a file that has a search path of the newer kind, even an empty one, is not looked up
    along those of the program that loads it.
    """
    old, offset = read(path).paths[tag]
    fresh = replacement.encode()
    if len(fresh) > len(old.encode()):
        raise ElfError(f"{path}: its search path {old} leaves no room for {replacement}")
    data = bytearray(path.read_bytes())
    data[offset : offset + len(old.encode())] = fresh.ljust(len(old.encode()), b"\0")
    if not fresh:
        start, end = _dynamic(bytes(data))
        rest = [data[at : at + 16] for at in range(start, end, 16)]
        kept = [entry for entry in rest if struct.unpack_from("<q", entry)[0] != tag]
        data[start:end] = b"".join(kept).ljust(end - start, b"\0")
    path.write_bytes(bytes(data))
