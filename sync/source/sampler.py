"""Samples of the source on a connection of their own: the end of WAL every second, connections and retained WAL less often.

No request waits for these; views read the newest sample from the status board.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

import psycopg

from analytics.state.background import BackgroundThread
from analytics.state.sync_status import Connections, RoundTrip, StatusBoard
from config.settings import Settings
from sync.freshness import Freshness
from sync.publication.catalogue import read_publication
from sync.publication.changes import publication_fingerprint
from sync.publication.generated_columns import streamed_mapping, unstreamed_columns
from sync.publication.write_guard import WriteGuard
from sync.source.connections import SourceError, connect, repeatable_read, server_text, wal_position
from sync.source.organization_names import read_organization_names
from sync.source.schema import Mapping, read_mapping
from sync.source.statement_statistics import StatementSampler

log = logging.getLogger(__name__)

WAL_SECONDS = 1.0
NAMES_SECONDS = 60.0
ROUND_TRIPS = 15  # the median of this many: one slow sample may be this machine, not the network
CLOCK_TOLERANCE = timedelta(seconds=1)

_CONNECTIONS = """
SELECT count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE state LIKE 'idle%'), count(*),
       current_setting('max_connections')::int,
       count(*) FILTER (WHERE state IS NULL) > 0 AND NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
FROM pg_stat_activity WHERE backend_type = 'client backend'"""

_RETAINED = """
SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - restart_lsn)::bigint
FROM pg_replication_slots WHERE slot_name = %s"""


class Sampler:
    """A thread that samples until `stop`. While the source is unreachable, samples only grow older."""

    def __init__(
        self, settings: Settings, board: StatusBoard, freshness: Freshness, clock: Callable[[], datetime]
    ) -> None:
        self._settings, self._board, self._freshness, self._clock = settings, board, freshness, clock
        self._statements = StatementSampler()
        self._write_guard = WriteGuard(settings, board)
        self._round_trips: deque[float] = deque(maxlen=ROUND_TRIPS)
        self._stop = threading.Event()
        self._watched: Mapping | None = None
        self._mark: str | None = None
        self.shape_changed = False
        self._clock_zero = clock() - timedelta(seconds=time.monotonic())
        self._thread = BackgroundThread("owkai-sampler", self._run, self._stop, board.jobs)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        self._stop.set()
        self._thread.join(timeout_seconds)

    def watch(self, mapping: Mapping | None, mark: str | None = None) -> None:
        """Compare the source with this mapping and publication from now on and set `shape_changed`; None: stop comparing.

        Without a `mark` the publication is not compared.
        """
        self._mark = mark
        self._watched = mapping
        self.shape_changed = False

    def _check_shape(self, connection: psycopg.Connection) -> None:
        """Detect changes of tables, columns and publication, which the stream shows late or never."""
        watched = self._watched
        if watched is None:
            return
        expected, mark = self._mark, None
        with repeatable_read(connection):
            mapping, problems = read_mapping(connection, self._settings)
            if expected is not None:
                mark = publication_fingerprint(self._settings, connection, watched)
                publication = read_publication(connection, self._settings.source.publication, mapping)
                mapping = streamed_mapping(
                    mapping, unstreamed_columns(mapping, publication, connection.info.server_version)
                )
        if self._watched is not watched:
            return
        changed = bool(problems) or mapping.fingerprint != watched.fingerprint or mark != expected
        self.shape_changed = self.shape_changed or changed

    def _run(self) -> None:
        while not self._stop.is_set():
            self._check_clock()
            try:
                with connect(self._settings) as connection:
                    self._sample(connection)
            except (psycopg.Error, SourceError, OSError) as error:
                log.debug("sampling the source failed: %s", server_text(str(error)))
                self._round_trips.clear()
                self._board.update(round_trip=None)
            self._stop.wait(WAL_SECONDS)

    def _check_clock(self) -> None:
        """A clock set back would leave `fresh_at` in the future, and old data would pass for fresh.

        A clock set ahead only makes data look older, until the next sample.
        """
        zero = self._clock() - timedelta(seconds=time.monotonic())
        back, self._clock_zero = self._clock_zero - zero, zero
        if back > CLOCK_TOLERANCE:
            log.warning("this machine's clock was set back by %.0f s", back.total_seconds())
            self._board.update(fresh_at=self._freshness.set_back(back))

    def _sample(self, connection: psycopg.Connection) -> None:
        due = shape_due = names_due = 0.0
        while not self._stop.is_set():
            self._check_clock()
            if time.monotonic() >= shape_due:  # first, so that a failing sample cannot prevent it
                shape_due = time.monotonic() + self._settings.sync.survey_seconds
                self._write_guard.check(connection)
                self._check_shape(connection)
            self._round_trips.append(round_trip_milliseconds(connection))
            at = self._clock()
            self._board.update(round_trip=RoundTrip(statistics.median(self._round_trips), at))
            source_lsn = wal_position(connection)
            self._board.update(source_lsn=source_lsn, fresh_at=self._freshness.sampled(source_lsn, at))
            if time.monotonic() >= due:
                due = time.monotonic() + self._settings.sync.sample_seconds
                self._board.update(
                    connections=sample_connections(connection, at),
                    statements=self._statements.sample(connection, at),
                    retained_wal_bytes=retained_wal(connection, self._settings.source.slot),
                )
            if time.monotonic() >= names_due:
                names_due = time.monotonic() + NAMES_SECONDS
                self._board.update(organization_names=read_organization_names(connection, self._settings))
            self._stop.wait(WAL_SECONDS)


def round_trip_milliseconds(connection: psycopg.Connection) -> float:
    """From sending an empty query to receiving its response."""
    start = time.perf_counter()
    connection.execute("")
    return 1000 * (time.perf_counter() - start)


def sample_connections(connection: psycopg.Connection, at: datetime) -> Connections | None:
    """Client connections of the whole server; the states are unknown (None) where the role may not see them."""
    row = connection.execute(_CONNECTIONS).fetchone()
    if row is None:
        return None
    active, idle, total, maximum, hidden = row
    return Connections(None if hidden else active, None if hidden else idle, total, maximum, at)


def retained_wal(connection: psycopg.Connection, slot: str) -> int | None:
    """Bytes of WAL the source keeps for our slot; None without a slot."""
    row = connection.execute(_RETAINED, [slot]).fetchone()
    return None if row is None or row[0] is None else int(row[0])
