"""The log of requests, and a filter for the framework's own log, whose texts quote addresses, queries and header values."""

from __future__ import annotations

import logging
import re

from handlers.redaction import shown

log = logging.getLogger(__name__)

FRAMEWORK_LOGGERS = ("tornado.access", "tornado.general", "tornado.application")
PLACEHOLDER = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]")


class FrameworkTexts(logging.Filter):
    """Rewrites a framework record to its constant text: values become `*`, a trace keeps only its exception's type."""

    def filter(self, record: logging.LogRecord) -> bool:
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        text = PLACEHOLDER.sub("*", template) if record.args else template
        if record.exc_info and record.exc_info[0] is not None:
            text = f"{text} ({record.exc_info[0].__name__})"
        record.msg = shown(text.replace("%", "%%") if record.args else text)
        record.args = ()
        record.exc_info = None
        record.exc_text = None
        return True


def filter_framework_loggers() -> None:
    """Install the filter on the framework's loggers. Idempotent."""
    for name in FRAMEWORK_LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, FrameworkTexts) for known in logger.filters):
            logger.addFilter(FrameworkTexts())


def log_request(
    method: str, path: str, status: int, milliseconds: float, request_id: str, reason: str | None = None
) -> None:
    """One line per request. `path` is shown text (`redaction.shown_path`): no query, no secret, no control character.

    `reason` is the code of a refusal, which no client sees: why a credential did not hold, for instance.
    """
    level = logging.WARNING if status >= 500 else logging.INFO
    extra: dict[str, object] = {"request_id": request_id, "status": status, "milliseconds": round(milliseconds, 2)}
    if reason is not None:
        extra["reason"] = reason
    log.log(
        level,
        "%s %s %d%s in %.1f ms",
        shown(method, 16),
        path,
        status,
        f" ({reason})" if reason is not None else "",
        milliseconds,
        extra=extra,
    )
