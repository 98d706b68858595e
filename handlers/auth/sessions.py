"""Sessions of people who signed in on the page.

A session is a random id in the browser's cookie, and in this process the proof that stood at the sign-in. The credential
itself is kept nowhere: a proof is confirmed again on every request, so a session never outlives what it was opened with.
Only digests of ids are kept, and on disk too where there is a record, so that a restart ends no session. Bounded: so many
sessions in all, so many of one person, the oldest of whose gives way. Belongs to the event loop; not thread-safe.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

ID_BYTES = 32
USES_TO_RECORD = 20  # a use is recorded when this part of the idle time has passed since the last recorded one
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
    cookie: str = ""  # the name of the cookie that it was given in, and counts in


class SessionRecord(Protocol[ProofT]):
    """Where sessions outlive the process."""

    def load(self) -> list[Session[ProofT]] | None: ...

    def note(self, session: Session[ProofT]) -> None: ...

    def forget(self, digest: bytes) -> None: ...

    async def settled(self) -> None: ...

    def close(self) -> None: ...


class Sessions(Generic[ProofT]):
    """The open sessions. `now` is aware UTC everywhere."""

    def __init__(
        self,
        idle: timedelta,
        longest: timedelta,
        max_total: int,
        max_per_owner: int,
        record: SessionRecord[ProofT] | None = None,
    ) -> None:
        self._idle = idle
        self._longest = longest
        self._max_total = max_total
        self._max_per_owner = max_per_owner
        self._record = record
        self._restored = False
        self._recorded_use: dict[bytes, datetime] = {}
        self._open: dict[bytes, Session[ProofT]] = {}  # by age

    def __len__(self) -> int:
        return len(self._open)

    def restore(self, now: datetime) -> int:
        """Open the recorded sessions again, under the bounds of now; how many there are."""
        found = None if self._record is None else self._record.load()
        if self._record is None or found is None:
            return 0
        self._restored = True
        for session in sorted(found, key=lambda session: session.ends_at):
            session.ends_at = min(session.ends_at, now + self._longest)
            session.used_at = min(session.used_at, now)  # the clock may have been set back
            if self._ended(session, now) or len(self._open) >= self._max_total:
                self._record.forget(session.digest)
            else:
                self._open[session.digest] = session
                self._recorded_use[session.digest] = session.used_at
        return len(self._open)

    async def settled(self) -> None:
        """Wait until what was opened and closed so far outlives the process."""
        if self._record is not None:
            await self._record.settled()

    def shut(self) -> None:
        """Write down when the open sessions were last used, and leave the record. Idempotent."""
        if self._record is not None:
            for session in self._open.values():
                if session.used_at != self._recorded_use.get(session.digest):
                    self._note(session)
            self._record.close()
            self._record = None

    def open(self, proof: ProofT, owner: Owner, now: datetime, cookie: str = "") -> tuple[str, Session[ProofT]]:
        """A new session and the text of its id, which is returned only here. Raises `SessionsFullError`."""
        self._drop_ended(now)
        own = [session for session in self._open.values() if session.owner == owner]
        for oldest in own[: max(0, len(own) - self._max_per_owner + 1)]:
            self.close(oldest.digest)
        if len(self._open) >= self._max_total:
            raise SessionsFullError
        text = secrets.token_urlsafe(ID_BYTES)
        session = Session(digest(text), owner, proof, now + self._longest, now, cookie)
        self._open[session.digest] = session
        self._note(session)
        return text, session

    def use(self, text: str, now: datetime) -> Session[ProofT] | None:
        """The session of an id, noted as used; None when there is none."""
        session = self.find(digest(text), now) if ID_TEXT.fullmatch(text) else None
        if session is not None:
            session.used_at = now
            if now - self._recorded_use.get(session.digest, now) >= self._idle / USES_TO_RECORD:
                self._note(session)
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
        known = self._open.pop(session_digest, None)
        self._recorded_use.pop(session_digest, None)
        # A record that could not be read at the start may hold sessions that are not open here.
        if self._record is not None and (known is not None or not self._restored):
            self._record.forget(session_digest)

    def _note(self, session: Session[ProofT]) -> None:
        self._recorded_use[session.digest] = session.used_at
        if self._record is not None:
            self._record.note(session)

    def _ended(self, session: Session[ProofT], now: datetime) -> bool:
        return now >= session.ends_at or now - session.used_at >= self._idle

    def _drop_ended(self, now: datetime) -> None:
        for session in [session for session in self._open.values() if self._ended(session, now)]:
            self.close(session.digest)


def digest(text: str) -> bytes:
    """What is kept of an id: its SHA-256. An id has 256 random bits, so nothing stronger is needed."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
