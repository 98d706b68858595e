"""The anchor: keeps the newest seal on another disk, mount or machine, so that a truncated trail is detected.

One line per look: `{"time":…,"seq":…,"seal":…,"hash":…}`, sealed as the records are (with `mac` when there is a key). The
file is only ever appended to, so it may lie on a medium that allows nothing else.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from handlers.audit.chain import SEALS, Head, digest
from handlers.audit.files import open_for_append, open_to_read

LINE = re.compile(rb'(\{"time":"([^"\\]*)","seq":(\d{1,18}),"seal":"([0-9a-f]{64})"),"(hash|mac)":"([0-9a-f]{64})"\}')


@dataclass(frozen=True)
class Anchored:
    """A head that was anchored. `sound`: the line has the right form and seal."""

    head: Head
    time: str
    sound: bool


class Anchor:
    """Appends heads to the anchor file. `write` raises OSError or `AuditFileError` when it cannot."""

    def __init__(self, path: Path, key: bytes | None) -> None:
        self._path = path
        self._key = key

    def write(self, head: Head, time: str) -> None:
        descriptor = open_for_append(self._path)
        try:
            line = anchor_line(head, time, self._key)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # an earlier write was cut short
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def anchor_line(head: Head, time: str, key: bytes | None) -> bytes:
    body = json.dumps({"time": time, "seq": head.seq, "seal": head.seal}, separators=(",", ":")).encode("ascii")
    return body[:-1] + f',"{SEALS[key is not None]}":"{digest(body, key)}"}}\n'.encode("ascii")


def read_anchors(path: Path, keys: tuple[bytes, ...]) -> list[Anchored]:
    """All lines of an anchor file in their order; with keys, an unkeyed line is not sound. Raises OSError."""
    with open_to_read(path) as file:
        data = file.read()
    found = []
    for raw in data.splitlines():
        match = LINE.fullmatch(raw)
        if match is None:
            if raw.strip(b"\0 "):
                found.append(Anchored(Head(), "", sound=False))
            continue
        start, time, seq, seal, kind, own = match.groups()
        body = start + b"}"
        candidates = keys if kind == b"mac" else () if keys else (None,)
        sound = any(digest(body, key) == own.decode() for key in candidates)
        found.append(Anchored(Head(int(seq), seal.decode()), time.decode(), sound))
    return found


def newest(anchors: list[Anchored]) -> Anchored | None:
    """The sound anchor with the highest number."""
    return max((anchor for anchor in anchors if anchor.sound), key=lambda anchor: anchor.head.seq, default=None)
