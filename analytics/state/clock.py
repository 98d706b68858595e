"""The clock of the server."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The one clock of the server; passed down as a value or a callable, never called inside a computation."""
    return datetime.now(UTC)
