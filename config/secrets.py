"""Secrets: where they may come from, how they are hidden, who else may read their file."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from config.accounts import belongs_to
from config.settings import MINIMUM_SECRET_BYTES, SAMPLE_SECRETS, Settings

HIDDEN = "***"
MAXIMUM_SECRET_FILE_BYTES = 65_536
HOW_TO_MAKE_A_SECRET = "make one with `openssl rand -hex 32`"  # noqa: S105 - an instruction

_URL_PASSWORD = re.compile(r"(?P<before>[A-Za-z][A-Za-z0-9+.-]*://[^:/?#@\s]*:)[^\s/]*(?=@)")
_NAMED_PASSWORD = re.compile(
    r"(?P<before>\b(?:ssl)?password\s*=\s*)(?:'(?:\\.|[^'\\])*'|(?:\\.|[^\s&'\\])+)", re.IGNORECASE
)


def masked(text: str) -> str:
    """The text with the passwords of connection strings hidden: the URL form, `password=…`, and `?password=…`."""
    text = _URL_PASSWORD.sub(rf"\g<before>{HIDDEN}", text)
    return _NAMED_PASSWORD.sub(rf"\g<before>{HIDDEN}", text)


def has_password(dsn: str) -> bool:
    return masked(dsn) != dsn


def secret_texts(settings: Settings) -> tuple[str, ...]:
    """Every secret in force, longest first; for filters that keep them out of logs."""
    found = {settings.source.password.get_secret_value(), settings.auth.jwt_secret.get_secret_value()}
    dsn = settings.source.dsn.get_secret_value()
    if has_password(dsn):
        found.add(dsn)
        found.update(match.group()[len(match["before"]) :].strip("'") for match in _URL_PASSWORD.finditer(dsn))
        found.update(match.group()[len(match["before"]) :].strip("'") for match in _NAMED_PASSWORD.finditer(dsn))
    return tuple(sorted(filter(None, found), key=len, reverse=True))


def exposure(path: Path) -> str | None:
    """Why a file with a secret is not private, or None. The mode that counts is that of the file a link leads to."""
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        return f"{path} has mode {mode:04o}, so that others than its owner may read it"
    if found.st_uid not in (0, os.geteuid()):
        return f"{path} {belongs_to(found.st_uid)}"
    return None


def read_secret(path: Path) -> str:
    """The first line of a private file. Raises `ValueError` with the reason, never with the contents."""
    try:
        if not path.is_file():
            raise ValueError(f"{path} is no file" if path.exists() else f"{path} does not exist")
        reason = exposure(path)
        if reason:
            raise ValueError(reason)
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > MAXIMUM_SECRET_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAXIMUM_SECRET_FILE_BYTES} bytes, which no secret is")
    try:
        text = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def weakness(secret: str) -> str | None:
    """Why a text must not sign tokens, or None (RFC 7518 section 3.2: an HS256 key has at least 256 bits)."""
    if len(secret.encode()) < MINIMUM_SECRET_BYTES:
        return f"is shorter than {MINIMUM_SECRET_BYTES} bytes"
    if len(set(secret)) == 1:
        return "repeats one character"
    if len(set(secret)) < 8:
        return "uses fewer than eight different characters"
    if SAMPLE_SECRETS.search(secret):
        return "is a sample text of a documentation"
    if secret.lstrip().startswith(("{", "-----BEGIN", "ssh-")):
        return "is a key document, not a random text"
    return None
