"""Sessions of people who signed in on the page.

A session is a random id in the browser's cookie, and in this process the proof that stood at the sign-in. The credential
itself is kept nowhere: a proof is confirmed again on every request, so a session never outlives what it was opened with.
Only digests of ids are kept; a restart ends every session. Bounded: so many sessions in all, so many of one person, the
oldest of whose gives way. Belongs to the event loop; not thread-safe.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

ID_BYTES = 32
ID_TEXT = re.compile(r"[A-Za-z0-9_-]{43}")

ProofT = TypeVar("ProofT")
Owner = tuple[object, ...]


class SessionsFullError(RuntimeError):
    """No place is left for another session."""


@dataclass
class Session(Generic[ProofT]):
    """An open session. Times are aware UTC; `ends_at` is its end however busy it is."""

    digest: bytes
    owner: Owner
    proof: ProofT
    ends_at: datetime
    used_at: datetime


class Sessions(Generic[ProofT]):
    """The open sessions. `now` is aware UTC everywhere."""

    def __init__(self, idle: timedelta, longest: timedelta, max_total: int, max_per_owner: int) -> None:
        self._idle = idle
        self._longest = longest
        self._max_total = max_total
        self._max_per_owner = max_per_owner
        self._open: dict[bytes, Session[ProofT]] = {}  # by age

    def __len__(self) -> int:
        return len(self._open)

    def open(self, proof: ProofT, owner: Owner, now: datetime) -> tuple[str, Session[ProofT]]:
        """A new session and the text of its id, which is told once. Raises `SessionsFullError`."""
        self._drop_ended(now)
        own = [session for session in self._open.values() if session.owner == owner]
        for oldest in own[: max(0, len(own) - self._max_per_owner + 1)]:
            self.close(oldest.digest)
        if len(self._open) >= self._max_total:
            raise SessionsFullError
        text = secrets.token_urlsafe(ID_BYTES)
        session = Session(digest(text), owner, proof, now + self._longest, now)
        self._open[session.digest] = session
        return text, session

    def use(self, text: str, now: datetime) -> Session[ProofT] | None:
        """The session of an id, noted as used; None when there is none."""
        session = self.find(digest(text), now) if ID_TEXT.fullmatch(text) else None
        if session is not None:
            session.used_at = now
        return session

    def find(self, session_digest: bytes, now: datetime) -> Session[ProofT] | None:
        """The session of a digest; None when it was closed or has ended. Looking does not count as use."""
        session = self._open.get(session_digest)
        if session is not None and self._ended(session, now):
            self.close(session_digest)
            return None
        return session

    def close(self, session_digest: bytes) -> None:
        """End a session. Idempotent."""
        self._open.pop(session_digest, None)

    def _ended(self, session: Session[ProofT], now: datetime) -> bool:
        return now >= session.ends_at or now - session.used_at >= self._idle

    def _drop_ended(self, now: datetime) -> None:
        for session in [session for session in self._open.values() if self._ended(session, now)]:
            self.close(session.digest)


def digest(text: str) -> bytes:
    """What is kept of an id: its SHA-256. An id has 256 random bits, so nothing stronger is needed."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
