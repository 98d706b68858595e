"""Published views: each answer computed once per cache version and second, kept as bytes with its ETag.

Between the cache and the event loop: queries, encoding and compression run in worker threads, the loop looks up bytes.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import duckdb

from analytics.debug import debug
from analytics.executive.formats import executive_report
from analytics.executive.rendered_document import RenderedDocument
from analytics.fair_workers import FairWorkers, Requester, Shares, default_shares
from analytics.performance import performance
from analytics.predictive.predictions import predictions
from analytics.predictive.schedule import Forecasting
from analytics.realtime import metrics_update, realtime
from analytics.responses import encode
from analytics.single_flight import SingleFlight
from analytics.state.cache import Cache
from analytics.state.snapshot import Snapshot
from analytics.state.store import CacheNotReadyError
from analytics.state.sync_status import StatusBoard
from analytics.state.telemetry_board import TelemetryBoard
from analytics.trends import trends
from analytics.view_context import ViewContext
from config.settings import ServerSettings, Settings

log = logging.getLogger(__name__)

JSON = "application/json; charset=utf-8"
GZIP_FROM_BYTES = 1024
GZIP_LEVEL = 5
GZIP_WORTH = 0.9  # of the plain size at the most
MOST_WAITING_DOCUMENTS = 32  # of one caller; beyond it the caller is asked to come back
LOOKUP_THREADS = 2
FORECAST_VIEW = "predictive"  # an outlook is looked for first
ENTRY_BYTES = 600  # an entry beside its body: key, ETag, bookkeeping

# name → (snapshot, context, **options) → response of `analytics.responses`, or a `RenderedDocument`
VIEWS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "trends": trends,
        "realtime": realtime,
        "performance": performance,
        "predictive": predictions,
        "executive": executive_report,
        "debug": debug,
        "metrics_update": metrics_update,
    }
)


class ViewTimeoutError(RuntimeError):
    """Computing an answer took longer, or more memory, than the settings allow."""


@dataclass(frozen=True, slots=True)
class ViewKey:
    """Which answer: a view of one organization, with its options in the order of their names.

    `account` is who asks, within the organization; None: all of it, as its live updates do. It decides whose turn it is to
    have something computed, not what the answer is.
    """

    name: str
    organization_id: int
    options: tuple[tuple[str, Any], ...] = ()
    account: Hashable = field(default=None, compare=False)

    @property
    def is_document(self) -> bool:
        """Whether the answer is a file to make rather than JSON."""
        return any(name == "format" and value != "json" for name, value in self.options)


@dataclass(frozen=True, slots=True)
class Published:
    """An answer as bytes. `etag` is strong, quotes included, and of the plain body; `gzipped` where it pays.

    `version` is the cache version the answer holds at least; `computed_at` is the moment of its windows (aware).
    An answer that is kept as a file has a `file_name`.
    """

    body: bytes
    gzipped: bytes | None
    etag: str
    content_type: str
    version: int
    computed_at: datetime
    file_name: str | None = None

    @property
    def held_bytes(self) -> int:
        return len(self.body) + len(self.gzipped or b"") + ENTRY_BYTES


class Publisher:
    """Answers by key. `cached`, `get` belong to one event loop; sync may commit in another thread meanwhile.

    An answer is valid while the cache version and the wall-clock second are those of its computation. Bounded by
    `cache.views_megabytes`, the least recently asked goes first; `server.workers` threads compute, shared fairly between
    organizations and their callers. Documents are made one at a time in a thread of their own: other answers never queue
    behind them. Look-ups (users, keys, what has changed) have threads of their own too, so that no computation delays
    a sign-in.
    """

    def __init__(
        self,
        cache: Cache,
        board: StatusBoard,
        settings: Settings,
        clock: Callable[[], datetime],
        telemetry: TelemetryBoard | None = None,
        forecasting: Forecasting | None = None,
    ) -> None:
        self._cache = cache
        self._forecasting = forecasting
        self._board = board
        self._telemetry = telemetry or TelemetryBoard()
        self._settings = settings
        self._clock = clock
        self._entries: OrderedDict[ViewKey, Published] = OrderedDict()
        self._held_bytes = 0
        self._limit_bytes = settings.cache.views_megabytes * 1024 * 1024
        patience_seconds = settings.server.query_timeout_seconds
        self._workers = FairWorkers(settings.server.workers, "views", shares(settings.server), patience_seconds)
        self._view_flights: SingleFlight[ViewKey, Published] = SingleFlight(self._workers, lambda: cache.version)
        self._document_workers = FairWorkers(1, "documents", default_shares(1), most_waiting=MOST_WAITING_DOCUMENTS)
        self._document_flights: SingleFlight[ViewKey, Published] = SingleFlight(
            self._document_workers, lambda: cache.version
        )
        self._lookups = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookups")
        self._closed = False

    @property
    def lookups(self) -> Executor:
        """Threads for short questions of others who must not block the loop; answers are never computed there."""
        return self._lookups

    @property
    def held_bytes(self) -> int:
        """What the kept answers take."""
        return self._held_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def cached(self, key: ViewKey) -> Published | None:
        """The valid answer, if there is one. Dict look-ups and one clock reading, nothing else."""
        entry = self._entries.get(key)
        if entry is None or entry.version != self._cache.version or not self._cache.ready:
            return None
        if int(self._clock().timestamp()) != int(entry.computed_at.timestamp()):
            return None
        self._entries.move_to_end(key)
        return entry

    async def get(self, key: ViewKey) -> Published:
        """The valid answer, computed in a worker thread when it is absent; concurrent callers share one computation.

        Raises `CacheNotReadyError` before the first copy is done and after `close`, `ViewTimeoutError`,
        `analytics.fair_workers.BacklogFullError` when too much waits for the key's account already,
        `analytics.telemetry.TelemetryUnavailableError`, and `ValueError` for a view that does not exist.
        """
        found = self.cached(key)
        if found is not None:
            return found
        if key.name not in VIEWS:
            raise ValueError(f"there is no view {key.name!r}; views are {', '.join(VIEWS)}")
        if self._closed:
            raise CacheNotReadyError("the server is stopping")
        if key.name == FORECAST_VIEW and self._forecasting is not None:
            await self._forecasting.ready(key.organization_id)
        before = self._entries.get(key)
        bound = self._settings.server.query_timeout_seconds
        try:
            # The wait is bounded by one computation in progress and the one queued behind it.
            async with asyncio.timeout(2 * bound):
                flights = self._document_flights if key.is_document else self._view_flights
                requester = Requester(key.organization_id, key.account)
                return await flights.join(
                    key, lambda version: self._compute(key, version, before), self._keep, requester
                )
        except TimeoutError as error:
            raise ViewTimeoutError(
                f"no answer within {2 * bound:g} s: every worker is busy; raise server.workers or "
                "server.query_timeout_seconds"
            ) from error

    def close(self) -> None:
        """No further computations; running ones end by themselves. Idempotent."""
        self._closed = True
        for workers in (self._workers, self._document_workers):
            workers.shutdown()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def _compute(self, key: ViewKey, version: int, before: Published | None) -> Published:
        """In a worker. `version` was read before the snapshot opened, so that the snapshot holds it or more."""
        try:
            with self._cache.read(self._settings.server.query_timeout_seconds) as snapshot:
                # Taken after the snapshot: what it holds was committed before now and belongs into the windows.
                now = self._clock()
                context = ViewContext(
                    key.organization_id,
                    now,
                    self._board.current,
                    self._settings,
                    self._telemetry.current,
                    self._forecasting.outlook(key.organization_id) if self._forecasting is not None else None,
                )
                response = compute_response(key, snapshot, context)
                document = (
                    response if isinstance(response, RenderedDocument) else RenderedDocument(JSON, encode(response))
                )
        except duckdb.InterruptException as error:
            log.warning("view %s took longer than %s s", key.name, self._settings.server.query_timeout_seconds)
            raise ViewTimeoutError(
                f"the answer took longer than {self._settings.server.query_timeout_seconds:g} s to compute; "
                "ask for fewer days or raise server.query_timeout_seconds"
            ) from error
        except duckdb.OutOfMemoryException as error:
            log.warning("view %s needs more memory than cache.memory_limit and cache.temp_limit allow", key.name)
            raise ViewTimeoutError("the answer needs more memory than there is; raise cache.memory_limit") from error
        if before is not None and before.body == document.body:
            return replace(before, version=version, computed_at=now, file_name=document.file_name)
        return publish(
            document.body,
            version,
            now,
            document.content_type,
            document.file_name,
            organization_id=key.organization_id,
        )

    def _keep(self, key: ViewKey, published: Published) -> None:
        self._drop(key)
        if published.held_bytes > self._limit_bytes:
            return
        self._entries[key] = published
        self._held_bytes += published.held_bytes
        while self._held_bytes > self._limit_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: ViewKey) -> None:
        gone = self._entries.pop(key, None)
        if gone is not None:
            self._held_bytes -= gone.held_bytes


def shares(server: ServerSettings) -> Shares:
    """How many computations may be under way at once, as the settings say or as the workers allow."""
    derived = default_shares(server.workers)
    return Shares(
        server.computations_at_once or derived.per_caller,
        server.organization_computations_at_once or derived.per_organization,
    )


def compute_response(key: ViewKey, snapshot: Snapshot, context: ViewContext) -> Any:
    """The response of a view; `context.organization_id` is the key's."""
    return VIEWS[key.name](snapshot.of(key.organization_id), context, **dict(key.options))


def publish(
    body: bytes,
    version: int,
    now: datetime,
    content_type: str = JSON,
    file_name: str | None = None,
    *,
    organization_id: int = 0,
) -> Published:
    """Bytes with their ETag, and compressed where that saves at least a tenth.

    The organization is part of the ETag, so that equal answers of two organizations do not tell that they are equal.
    """
    gzipped = gzip.compress(body, GZIP_LEVEL, mtime=0) if len(body) >= GZIP_FROM_BYTES else None
    if gzipped is not None and len(gzipped) > GZIP_WORTH * len(body):
        gzipped = None
    etag = f'"{hashlib.sha256(b"%d " % organization_id + body).hexdigest()[:32]}"'
    return Published(body, gzipped, etag, content_type, version, now, file_name)
