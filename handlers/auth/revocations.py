"""The list of revoked credentials and users: `auth.revoked_file`, one entry a line.

    jti 5f0c2b…        the token with this `jti` claim
    token b5d3a1f0…    the token with this credential_id in audit records
    key owkai_user_Ab  the API key with this key_prefix, or the local key with this id or prefix
    user 42            every token and key of this user id

Blank lines and what follows a # do not count. The file is looked at once a second, and on SIGHUP; a new file that cannot be
read whole changes nothing, nor does a missing one: no one regains access by accident. Open live connections end at their next
tick. Entries may be removed when what they name has expired.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from config.watched_files import WatchedFiles

log = logging.getLogger(__name__)

MAX_BYTES = 64 << 20
TOKEN = re.compile(r"[0-9a-f]{16}")
USER = re.compile(r"[1-9]\d{0,9}")


class RevokedFileError(ValueError):
    """The list cannot be used; the text names file, line and remedy."""


@dataclass(frozen=True)
class Revoked:
    """A list as read. `credentials` are identifiers of proofs: hashes of token ids, prefixes and ids of keys."""

    tokens: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    users: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.tokens) + len(self.keys) + len(self.users)


class Revocations:
    """The list in force. `load` raises `RevokedFileError`; afterwards `now` never does. Belongs to the event loop."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found = Revoked()
        self._watched = WatchedFiles(lambda: () if path is None else (path,))

    def load(self) -> int:
        """Read the file now; the number of entries. Raises, changing nothing, where it cannot be used."""
        if self._path is None:
            return 0
        with self._watched.reading():
            found = read_revoked(self._path)
        if found != self._found:
            self._found = found
            log.info("the revocation list has %d entries", len(found))
        return len(found)

    @property
    def now(self) -> Revoked:
        """The list as it is; read again when the file has changed."""
        if self._path is not None and self._watched.due:
            try:
                self.load()
            except RevokedFileError as error:
                if self._watched.is_new_failure(error):
                    log.error("the revocation list stays as it is: %s", error)
        return self._found


def token_identifier(token_id: str) -> str:
    """What a `jti` claim is called in records: 16 hex digits of its hash."""
    return hashlib.sha256(token_id.encode("utf-8", "replace")).hexdigest()[:16]


def read_revoked(path: Path) -> Revoked:
    """Read a list whole; raises `RevokedFileError` for a line that is none of the four kinds."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RevokedFileError(f"auth.revoked_file: {path} is larger than {MAX_BYTES} bytes")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RevokedFileError(f"auth.revoked_file: {path} cannot be read: {reason}") from error
    tokens, keys, users = set(), set(), set()
    for number, text in enumerate(lines, 1):
        kind, _, value = text.partition("#")[0].strip().partition(" ")
        value = value.strip()
        if not kind:
            continue
        if kind == "jti" and value:
            tokens.add(token_identifier(value))
        elif kind == "token" and TOKEN.fullmatch(value):
            tokens.add(value)
        elif kind == "key" and value:
            keys.add(value)
        elif kind == "user" and USER.fullmatch(value):
            users.add(int(value))
        else:
            raise RevokedFileError(
                f"auth.revoked_file: {path}:{number} is no entry; write jti ID, token CREDENTIAL-ID, key PREFIX or user NUMBER"
            )
    return Revoked(frozenset(tokens), frozenset(keys), frozenset(users))
