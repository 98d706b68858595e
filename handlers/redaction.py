"""Text from outside made safe for a record: one bounded line, without anything that looks like a credential."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

MAX_CHARACTERS = 256
# Session tokens and keys are long unbroken runs; names of routes, agents and e-mail parts are not.
SECRET_RUN = re.compile(r"[A-Za-z0-9_+/=~-]{28,}")
SECRET_PATH_RUN = re.compile(r"[A-Za-z0-9_+=~-]{28,}")
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
CLIENT_REQUEST_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}|[A-Za-z0-9._-]{1,24}")


def shown(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Bounded, secrets masked, control characters as \\xNN."""
    masked = SECRET_RUN.sub("***", text[: 4 * limit])
    return _bounded(masked, limit)


def shown_path(raw: str, limit: int = MAX_CHARACTERS) -> str:
    """A request path, percent-decoded; the query must be cut off before."""
    decoded = unquote_to_bytes(raw[: 12 * limit]).decode("utf-8", "backslashreplace")
    return _bounded(SECRET_PATH_RUN.sub("***", decoded), limit)


def client_request_id(text: str | None) -> str | None:
    """A client's own request id when it is well-formed, else None."""
    return text if text is not None and CLIENT_REQUEST_ID.fullmatch(text) else None


def _bounded(text: str, limit: int) -> str:
    escaped = CONTROLS.sub(lambda found: f"\\x{ord(found.group()):02x}", text[: limit + 1])
    return escaped if len(text) <= limit else escaped[:limit] + "…"
