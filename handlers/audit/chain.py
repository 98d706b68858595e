"""The chain of records: how a line is sealed, and how a line is read back. Pure.

A line is one JSON object in ASCII. It begins with `seq` (1, 2, 3 …) and `prev` (the seal of the record before; 64 zeros
before the first) and ends with its own seal: `hash`, the SHA-256 of the object without that last member, or `mac`, the
HMAC-SHA-256 of the same bytes under the key of `audit.key_file`. So a record cannot be changed, removed, moved or inserted
without a seal that fits no longer; who has no key cannot make a `mac` that fits.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NO_SEAL = "0" * 64
SEALS = ("hash", "mac")
LINE = re.compile(rb'(\{"seq":([1-9]\d{0,17}),"prev":"([0-9a-f]{64})".*),"(hash|mac)":"([0-9a-f]{64})"\}')


@dataclass(frozen=True)
class Head:
    """The newest record of a chain: its number and its seal. `Head()` is the head of an empty chain."""

    seq: int = 0
    seal: str = NO_SEAL


@dataclass(frozen=True)
class Line:
    """A line that has the form of a record; whether its seal fits is another question (`fits`)."""

    seq: int
    prev: str
    seal: str
    keyed: bool
    body: bytes

    @property
    def head(self) -> Head:
        return Head(self.seq, self.seal)

    def fits(self, keys: Sequence[bytes]) -> bool:
        """Whether the seal is that of the body; a keyed one under any of the keys."""
        if not self.keyed:
            return hmac.compare_digest(digest(self.body, None), self.seal)
        return any(hmac.compare_digest(digest(self.body, key), self.seal) for key in keys)

    def entry(self) -> dict[str, Any]:
        """The members; raises ValueError where the body is no JSON object."""
        found = json.loads(self.body)
        if not isinstance(found, dict):
            raise ValueError("no object")
        return found


def digest(body: bytes, key: bytes | None) -> str:
    """64 hex digits over the bytes of a body."""
    if key is None:
        return hashlib.sha256(body).hexdigest()
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def seal(entry: Mapping[str, Any], head: Head, key: bytes | None) -> tuple[bytes, Head]:
    """The line that follows `head` (with its newline), and the head it makes. The members seq, prev, hash and mac are ours."""
    members = {"seq": head.seq + 1, "prev": head.seal}
    members.update((name, value) for name, value in entry.items() if name not in ("seq", "prev", *SEALS))
    # ASCII only: every control and line separator leaves as an escape, a record is one line.
    body = json.dumps(members, default=str, separators=(",", ":")).encode("ascii")
    found = digest(body, key)
    line = body[:-1] + f',"{SEALS[key is not None]}":"{found}"}}\n'.encode("ascii")
    return line, Head(head.seq + 1, found)


def read_line(line: bytes) -> Line | None:
    """A line (without its newline) as a record; None when it has not the form of one."""
    found = LINE.fullmatch(line)
    if found is None:
        return None
    start, seq, prev, kind, seal_text = found.groups()
    return Line(int(seq), prev.decode(), seal_text.decode(), kind == b"mac", start + b"}")
