"""Why a cache cannot be continued is named exactly."""

from __future__ import annotations

import pytest

from analytics.state.store import CacheOrigin, Position
from sync.continuity import gap, polled_shape, stream_shape
from sync.stream.slots import Slot


def origin(slot: str = "owkai", **changes: object) -> CacheOrigin:
    parts = {"fingerprint": "f00d", "publication": "16400:16401,16402/abc", "retention": "400:pending", "timeline": 1}
    return CacheOrigin("7", "platform", slot, stream_shape(**{**parts, **changes}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (origin(), None),
        (origin("other"), "the slot has changed"),
        (origin(fingerprint="beef"), "the shape of the tables or their mapping has changed"),
        (origin(publication="16500:16401,16402/abc"), "the publication or a partition has changed"),
        (origin(publication="16400:16401,16402/def"), "the publication or a partition has changed"),
        (origin(publication="16400:16401"), "the publication or a partition has changed"),
        (
            origin(retention="30:pending"),
            "the retention rule (cache.keep_days, meaning.pending_statuses) has changed",
        ),
        (origin(timeline=2), "the timeline of the source (a failover or a restore) has changed"),
        (
            origin("other", fingerprint="beef"),
            "the slot and the shape of the tables or their mapping have changed",
        ),
        (
            CacheOrigin("7", "platform", "owkai", polled_shape("f00d")),
            "the source is now polled, the cache was streamed",
        ),
    ],
)
def test_what_changed_is_named(now: CacheOrigin, expected: str | None) -> None:
    slot = Slot(now.slot, "pgoutput", "platform", None, 100, lost=False)
    assert gap(Position(100, 1), origin(), now, slot, 100) == expected
