"""Ask a cache for views as the publisher does, without the event loop, and read the JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from analytics.predictive.outlook import Outlook
from analytics.responses import encode
from analytics.state.cache import Cache
from analytics.state.sync_status import StatusBoard
from analytics.state.telemetry_board import OFF, TelemetryStatus
from analytics.view_context import ViewContext
from analytics.views import ViewKey, compute_response
from config.settings import Settings
from tests.analytics.rows import NOW, filled_cache, fresh_board


class Asker:
    """Views of one cache at one moment."""

    def __init__(self, cache: Cache, given: Settings, now: datetime, board: StatusBoard) -> None:
        self.cache, self.settings, self.now, self.board = cache, given, now, board
        self.telemetry: TelemetryStatus = OFF
        self.outlook: Outlook | None = None

    def context(self, org: int) -> ViewContext:
        return ViewContext(org, self.now, self.board.current, self.settings, self.telemetry, self.outlook)

    def body(self, view: str, org: int = 1, **options: Any) -> bytes:
        key = ViewKey(view, org, tuple(sorted(options.items())))
        with self.cache.read(30) as snapshot:
            return encode(compute_response(key, snapshot, self.context(org)))

    def __call__(self, view: str, org: int = 1, **options: Any) -> Any:
        return json.loads(self.body(view, org, **options))


@contextmanager
def asking(given: Settings, *, now: datetime = NOW, board: StatusBoard | None = None, **tables: Any) -> Iterator[Asker]:
    """An asker over a cache that holds just these rows."""
    with filled_cache(given, **tables) as cache:
        yield Asker(cache, given, now, board or fresh_board(now))
