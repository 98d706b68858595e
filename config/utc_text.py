"""Points in time as text: ISO 8601 in UTC, `2025-01-15T14:30:00Z`."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_text(time: datetime, *, milliseconds: bool = False) -> str:
    """An aware time in UTC with whole seconds or milliseconds; the rest is cut off, not rounded."""
    precision = "milliseconds" if milliseconds else "seconds"
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def parse_aware(text: str) -> datetime:
    """The time of an ISO 8601 text. Raises ValueError for other text and for a time without a zone."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return time
