"""The keys that tokens are verified with, as they are now: exchanged without a restart, the old ones valid for a while.

The files are looked at once a second and read again when they have changed, and on SIGHUP. A new file that cannot be used
changes nothing: the keys in force stay, the log has the reason, and reading is tried again. After an exchange the keys that were
in force before verify for `auth.jwt_overlap_seconds` more, so that sessions live on; 0 ends them at once. A restart knows only
the new keys.

Belongs to the event loop; not thread-safe.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from config.secrets import read_secret, weakness
from config.settings import MINIMUM_SECRET_BYTES, AuthSettings
from config.watched_files import WatchedFiles
from handlers.auth.token_keys import KeyFileError, VerificationKey, read_public_keys

log = logging.getLogger(__name__)

Keys = tuple[VerificationKey, ...]


class KeyRing:
    """The current keys and those retired within the overlap. Raises `KeyFileError` on construction."""

    def __init__(self, auth: AuthSettings) -> None:
        self._auth = auth
        self._watched = WatchedFiles(self._files)
        with self._watched.reading():
            self.current: Keys = verification_keys(auth) if auth.jwt_enabled else ()
        self._retired: list[tuple[Keys, float]] = []
        self._exchanges = 0

    def sets(self, now: float) -> Iterator[Keys]:
        """The sets of keys that count at `now` (seconds since 1970), the current one first."""
        self._look(now)
        yield self.current
        for keys, until in self._retired:
            if now < until:
                yield keys

    def version(self, now: float) -> tuple[int, int]:
        """Differs from an earlier one when other keys count than then."""
        return self._exchanges, sum(1 for _ in self.sets(now))

    def trusts(self, fingerprint: str, now: float) -> bool:
        """Whether a key still verifies."""
        return any(key.fingerprint == fingerprint for keys in self.sets(now) for key in keys)

    def reload(self, auth: AuthSettings, now: float) -> bool:
        """Take the keys of these settings; whether they are others than before. Raises `KeyFileError`, changing nothing."""
        if not auth.jwt_enabled:
            return False
        before, self._auth = self._auth, auth
        try:
            with self._watched.reading():
                keys = verification_keys(with_secret_of_file(auth))
        except KeyFileError:
            self._auth = before
            raise
        return self._exchange(keys, now)

    def _exchange(self, keys: Keys, now: float) -> bool:
        if [(key.key_id, key.fingerprint) for key in keys] == [(key.key_id, key.fingerprint) for key in self.current]:
            return False
        overlap = self._auth.jwt_overlap_seconds
        self._retired = [(old, until) for old, until in self._retired if now < until]
        if overlap:
            self._retired.insert(0, (self.current, now + overlap))
        else:
            self._retired = []
        self.current = keys
        self._exchanges += 1
        log.warning("the keys for tokens were exchanged; the old ones verify for %g s more", overlap)
        return True

    def _look(self, now: float) -> None:
        if not self._auth.jwt_enabled or not self._files() or not self._watched.due:
            return
        try:
            self.reload(self._auth, now)
        except KeyFileError as error:
            if self._watched.is_new_failure(error):
                log.error("the keys for tokens stay as they are: %s", error)

    def _files(self) -> tuple[Path, ...]:
        path = key_file(self._auth)
        return () if path is None else (path,)


def key_file(auth: AuthSettings) -> Path | None:
    """The file that the keys come from; None when the settings hold them."""
    return auth.jwt_secret_file if auth.jwt_algorithm == "HS256" else auth.jwt_public_key_file


def with_secret_of_file(auth: AuthSettings) -> AuthSettings:
    """The settings with the secret that its file holds now. Raises `KeyFileError`."""
    if auth.jwt_algorithm != "HS256" or auth.jwt_secret_file is None:
        return auth
    try:
        secret = read_secret(auth.jwt_secret_file)
        reason = weakness(secret)
        if reason:
            raise ValueError(f"{auth.jwt_secret_file} {reason}")
    except ValueError as error:
        raise KeyFileError(f"auth.jwt_secret_file: {error}") from error
    return auth.model_copy(update={"jwt_secret": SecretStr(secret)})


def verification_keys(auth: AuthSettings) -> Keys:
    """The configured keys; raises `KeyFileError` (a ValueError) naming the setting, never a value."""
    if auth.jwt_algorithm != "HS256":
        if auth.jwt_public_key_file is None:
            raise KeyFileError(
                f"auth.jwt_public_key_file is missing: {auth.jwt_algorithm} needs a PEM or JWKS file with the public keys"
            )
        return read_public_keys(auth.jwt_public_key_file, auth.jwt_algorithm)
    secret = auth.jwt_secret.get_secret_value().encode()
    if not secret and auth.jwt_secret_file is not None:
        secret = with_secret_of_file(auth).jwt_secret.get_secret_value().encode()
    if len(secret) < MINIMUM_SECRET_BYTES:
        raise KeyFileError(
            f"auth.jwt_secret has fewer than {MINIMUM_SECRET_BYTES} bytes; make one with `openssl rand -base64 48`"
        )
    return (VerificationKey(None, secret),)
