"""The log on standard error: one line per record, as JSON or plain text, without secrets and control characters."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

from config.secrets import HIDDEN, masked
from config.settings import LogSettings
from config.utc_text import utc_text

MAXIMUM_MESSAGE = 4096
MAXIMUM_TRACE = 32_768
SHORTEST_SECRET = 4  # hiding a shorter one would also hide ordinary words

# Credentials that are not in the settings: tokens, keys and their headers.
_TOKENS = re.compile(
    r"\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|\bowkai_[A-Za-z_]{1,20}_[A-Za-z0-9_-]{20,}"
    r"|(?<=Bearer )[^\s'\"]+",
)
_UNPRINTED = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Cleaner:
    """Removes secrets and control characters from text. `secrets` are exact texts, longest first."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = tuple(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)

    def without_secrets(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return _TOKENS.sub(HIDDEN, masked(text))

    def one_line(self, text: str, limit: int = MAXIMUM_MESSAGE) -> str:
        """The text without secrets, controls as escapes, cut at `limit` characters with a mark."""
        text = self.without_secrets(text)
        if len(text) > limit:
            text = f"{text[:limit]}… ({len(text)} characters)"
        return _UNPRINTED.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def message_of(record: logging.LogRecord) -> str:
    """The message; the template itself if the arguments do not fit it."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave as `extra`, e.g. `request_id`."""
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in vars(record).items()
        if name not in _STANDARD and not name.startswith("_") and value is not None
    }


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, extra fields, error and trace of an exception."""

    def __init__(self, cleaner: Cleaner) -> None:
        super().__init__()
        self.cleaner = cleaner

    def format(self, record: logging.LogRecord) -> str:
        clean = self.cleaner.one_line
        entry: dict[str, Any] = {
            "time": time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean(message_of(record)),
        }
        for name, value in fields_of(record).items():
            entry.setdefault(clean(name, 64), clean(value) if isinstance(value, str) else value)
        if record.exc_info and record.exc_info[1] is not None:
            entry["error"] = type(record.exc_info[1]).__name__
            entry["trace"] = clean(trace_of(record), MAXIMUM_TRACE)
        return json.dumps(entry, ensure_ascii=True, allow_nan=True)


class ConsoleFormatter(logging.Formatter):
    """`time LEVEL logger: message  name=value …`, one line; a trace follows as escaped text on the same line."""

    def __init__(self, cleaner: Cleaner) -> None:
        super().__init__()
        self.cleaner = cleaner

    def format(self, record: logging.LogRecord) -> str:
        clean = self.cleaner.one_line
        line = f"{time_of(record)} {record.levelname:<7} {record.name}: {clean(message_of(record))}"
        for name, value in fields_of(record).items():
            line += f"  {clean(name, 64)}={clean(str(value))}"
        if record.exc_info and record.exc_info[1] is not None:
            line += f"  trace={clean(trace_of(record), MAXIMUM_TRACE)}"
        return line


def time_of(record: logging.LogRecord) -> str:
    return utc_text(datetime.fromtimestamp(record.created, UTC), milliseconds=True)


def trace_of(record: logging.LogRecord) -> str:
    return "".join(traceback.format_exception(*record.exc_info)).rstrip() if record.exc_info else ""


def set_up(settings: LogSettings, secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Send every record of the process to `stream` (standard error) in the chosen form. Replaces earlier handlers."""
    target = stream or sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not target.isatty())
    handler = logging.StreamHandler(target)
    cleaner = Cleaner(secrets)
    handler.setFormatter(JsonFormatter(cleaner) if as_json else ConsoleFormatter(cleaner))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    logging.captureWarnings(True)
    for name in ("asyncio", "botocore", "urllib3"):  # their debug records hold requests
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
