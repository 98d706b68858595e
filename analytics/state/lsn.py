"""Positions in the source's write-ahead log (LSN) as numbers and as Postgres writes them."""

from __future__ import annotations


def format_lsn(lsn: int | None) -> str | None:
    """A WAL position as Postgres writes it, e.g. 0/16B3748."""
    return None if lsn is None else f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)
