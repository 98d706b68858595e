"""Trails for the tests of the audit group: written by the real writer, checked by the real check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from handlers.audit.files import earlier_files
from handlers.audit.verify import TrailVerdict, verify_trail
from handlers.audit.writer import Shape, TrailWriter
from tests.handlers.world import NOW

KEY = b"4e1f7c1a9b6d4d0f8f1f0a7f6b2c9d3e"


def shape(folder: Path, **changes: Any) -> Shape:
    return Shape(**{"path": folder / "audit.jsonl", **changes})


def write(kept: Shape, count: int, *, now: datetime = NOW, start: int = 1) -> None:
    """Append `count` records, one by one, and close."""
    writer = TrailWriter(kept, lambda: now)
    for number in range(start, start + count):
        writer.append([{"event": "access", "n": number, "principal": "user@one.example"}])
    writer.close()


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def records_of(kept: Shape) -> list[dict[str, Any]]:
    """All records over all files, in the order of the chain."""
    files = [*earlier_files(kept.path), kept.path]
    return [json.loads(line) for file in files for line in lines_of(file)]


def check(kept: Shape, files: Sequence[Path] = ()) -> TrailVerdict:
    return verify_trail(kept, files)


def whole(kept: Shape) -> TrailVerdict:
    verdict = check(kept)
    assert verdict.whole, verdict.faults
    return verdict
