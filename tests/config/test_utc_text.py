"""Points in time as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from config.utc_text import parse_aware, utc_text

INDIA = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("time", "seconds", "milliseconds"),
    [
        (datetime(2025, 1, 15, 14, 30, tzinfo=UTC), "2025-01-15T14:30:00Z", "2025-01-15T14:30:00.000Z"),
        (datetime(2025, 1, 1, 0, 0, 0, 999_999, tzinfo=INDIA), "2024-12-31T18:30:00Z", "2024-12-31T18:30:00.999Z"),
        (datetime(33, 4, 3, tzinfo=UTC), "0033-04-03T00:00:00Z", "0033-04-03T00:00:00.000Z"),
    ],
)
def test_a_time_is_written_in_utc_and_cut(time: datetime, seconds: str, milliseconds: str) -> None:
    assert utc_text(time) == seconds
    assert utc_text(time, milliseconds=True) == milliseconds
    assert parse_aware(seconds) == time.replace(microsecond=0)


@pytest.mark.parametrize("text", ["", "yesterday", "2025-01-15T14:30:00", "2025-01-15"])
def test_a_text_without_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"zone|isoformat"):
        parse_aware(text)
