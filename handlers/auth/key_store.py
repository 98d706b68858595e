"""Local API keys, made by `owkai keys create`: a JSON file of hashes that only the server's user can read.

The file's rights (0600, own user) are the boundary: who may write it may grant access, so nothing in it is signed. A file
that cannot be read as a whole is refused as a whole. Keys have 256 random bits, so a plain SHA-256 is a sufficient hash.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from analytics.state.clock import utc_now
from config.private_files import open_private, write_private
from config.utc_text import parse_aware
from config.watched_files import WatchedFiles

log = logging.getLogger(__name__)

FORMAT = 1
ROLE = re.compile(r"[a-z][a-z_]{0,31}")
HASH = re.compile(r"[0-9a-f]{64}")


class KeyStoreError(ValueError):
    """The key file cannot be used; the text names the file and the remedy."""


@dataclass(frozen=True)
class LocalKey:
    """A local key without its text. Times are aware UTC; `expires_at` None: it never expires."""

    id: str
    prefix: str
    organization_id: int
    role: str
    email: str
    key_hash: str
    created_at: datetime
    expires_at: datetime | None


class KeyStore:
    """The key file. `find` and `get` check the file at most once a second and read it again when it has changed."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = utc_now) -> None:
        self.path = path
        self._clock = clock
        self._by_hash: dict[str, LocalKey] = {}
        self._by_id: dict[str, LocalKey] = {}
        self._watched = WatchedFiles(lambda: (self.path,), follow_links=False)

    def create(self, organization_id: int, role: str, email: str, days: int | None = None) -> tuple[str, LocalKey]:
        """Make a key; its text is returned once and kept nowhere. Raises ValueError for values no key can have."""
        if not 1 <= organization_id <= 2**31 - 1:
            raise ValueError("the organization must be a number from 1 to 2147483647")
        if not ROLE.fullmatch(role):
            raise ValueError("the role must be lower-case letters and underscores, at most 32")
        if days is not None and not 1 <= days <= 3650:
            raise ValueError("days must be from 1 to 3650")
        text = new_key_text(role)
        now = self._clock().replace(microsecond=0)
        key = LocalKey(
            id=secrets.token_hex(4),
            prefix=text[: len(f"owkai_{role}_") + 6],
            organization_id=organization_id,
            role=role,
            email=email,
            key_hash=key_hash(text),
            created_at=now,
            expires_at=None if days is None else now + timedelta(days=days),
        )
        with self._locked():
            self._write([*self._read(), key])
        return text, key

    def list(self) -> tuple[LocalKey, ...]:
        """All keys in the order of their making; raises `KeyStoreError`."""
        return tuple(self._read())

    def revoke(self, prefix_or_id: str) -> LocalKey:
        """Remove the one key of that id or prefix; raises `KeyError` when none or several match."""
        with self._locked():
            keys = self._read()
            matches = [key for key in keys if prefix_or_id == key.id or (prefix_or_id and key.prefix == prefix_or_id)]
            if len(matches) != 1:
                raise KeyError(
                    f"{len(matches)} keys have the id or prefix {prefix_or_id[:64]!r}; see `owkai keys list`"
                )
            self._write([key for key in keys if key is not matches[0]])
        return matches[0]

    def find(self, text: str) -> LocalKey | None:
        """The key of that text, expired or not; None when there is none."""
        self._look()
        digest = key_hash(text)
        key = self._by_hash.get(digest)
        return key if key is not None and hmac.compare_digest(key.key_hash, digest) else None

    def get(self, key_id: str) -> LocalKey | None:
        self._look()
        return self._by_id.get(key_id)

    def load(self) -> None:
        """Read the file now; raises `KeyStoreError`. For start-up, where a broken file must end the process."""
        with self._watched.reading():
            self._index(self._read())

    def look_at_once(self) -> None:
        """Look at the file with the next question, however short ago the last look was."""
        self._watched.look_at_once()

    def _look(self) -> None:
        if not self._watched.due:
            return
        try:
            self.load()
        except KeyStoreError as error:
            if self._watched.is_new_failure(error):
                log.error("no local key is accepted until this is fixed: %s", error)
            self._index([])

    def _index(self, keys: Sequence[LocalKey]) -> None:
        self._by_hash = {key.key_hash: key for key in keys}
        self._by_id = {key.id: key for key in keys}

    def _read(self) -> Sequence[LocalKey]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise KeyStoreError(
                f"{self.path} cannot be opened as a regular file; move it away and make new keys"
            ) from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise KeyStoreError(f"{self.path} is no regular file; move it away and make new keys")
            if found.st_mode & 0o077:
                raise KeyStoreError(f"{self.path} is open to others (mode {found.st_mode & 0o777:04o}); chmod 600 it")
            with os.fdopen(os.dup(descriptor), "rb") as file:
                data = file.read()
        finally:
            os.close(descriptor)
        try:
            document = json.loads(data)
            if document["format"] != FORMAT:
                raise ValueError("unknown format")
            keys = [_from_json(entry) for entry in document["keys"]]
            if len({key.id for key in keys}) != len(keys):
                raise ValueError("an id occurs twice")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise KeyStoreError(
                f"{self.path} is damaged; put a good copy in its place, or remove it and make new keys"
            ) from error
        return keys

    def _write(self, keys: Sequence[LocalKey]) -> None:
        document = {"format": FORMAT, "keys": [_to_json(key) for key in keys]}
        write_private(self.path, json.dumps(document, indent=1))
        self.look_at_once()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self.path.with_name(f"{self.path.name}.lock")
        descriptor = open_private(lock, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def new_key_text(role: str) -> str:
    """A fresh key in the platform's form: the role, then 256 random bits as 43 url-safe characters."""
    return f"owkai_{role}_{secrets.token_urlsafe(32)}"


def key_hash(text: str) -> str:
    """SHA-256 of a local key's text, 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _to_json(key: LocalKey) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(key).items()}


def _from_json(entry: dict[str, Any]) -> LocalKey:
    if entry.keys() != {field.name for field in fields(LocalKey)}:
        raise ValueError("members differ")
    expires = entry["expires_at"]
    key = LocalKey(
        **{
            **entry,
            "created_at": parse_aware(entry["created_at"]),
            "expires_at": None if expires is None else parse_aware(expires),
        }
    )
    sound = (
        all(isinstance(text, str) for text in (key.id, key.prefix, key.role, key.email))
        and isinstance(key.organization_id, int)
        and not isinstance(key.organization_id, bool)
        and key.organization_id > 0
        and HASH.fullmatch(key.key_hash)
    )
    if not sound:
        raise ValueError("a value has the wrong form")
    return key
