"""The server's audit log: entries are queued at once and written by a separate thread, so that no request waits
for a disk.

When the trail cannot be written, `on_failure` decides. `refuse`: `accepting` is False, protected routes answer 503 until
records are written again. `continue`: requests are served and their records counted together (`coalescing`). Either way nothing
that was answered is without a record: what waits is kept in memory, in order, and written as soon as it can be.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from analytics.state.background import BackgroundThread, Jobs
from analytics.state.clock import utc_now
from config.secrets import read_secret
from config.settings import Settings
from config.utc_text import utc_text
from handlers.audit.coalescing import RecordCoalescer
from handlers.audit.files import AuditFileError
from handlers.audit.writer import Shape, TrailWriter

log = logging.getLogger(__name__)

MAX_QUEUED = 20_000
MAX_BATCH = 2000
MINIMUM_KEY_CHARACTERS = 32
IDLE_SECONDS = 0.5
RETRY_SECONDS = 0.25
CLOSE_SECONDS = 10.0

Entry = Mapping[str, Any]


class _Reopen:
    """Tells the writing thread to check whether the file was moved."""


class AuditLog:
    """`record` takes a mapping of plain values and returns at once; order is kept. `close` writes what is queued.

    `shape` None records nothing. May be called from any thread.
    """

    def __init__(
        self,
        shape: Shape | None,
        *,
        refuse: bool = True,
        clock: Callable[[], datetime] = utc_now,
        gathering: RecordCoalescer | None = None,
        jobs: Jobs | None = None,
    ) -> None:
        self._queue: queue.SimpleQueue[Entry | threading.Event | _Reopen | None] = queue.SimpleQueue()
        self._refuse = refuse
        self._clock = clock
        self._guard = threading.Lock()
        self._gathering = gathering or RecordCoalescer()
        self._next_similar = 0.0
        self._closing = threading.Event()
        self.failing: str | None = None
        self.failed_writes = 0
        self.written_records = 0
        self._failed_since: str | None = None
        self._thread: BackgroundThread | None = None
        self._writer = None if shape is None else TrailWriter(shape, clock)
        if self._writer is not None:
            self._thread = BackgroundThread("audit", partial(self._run, self._writer), self._closing, jobs or Jobs())
            self._thread.start()

    @property
    def enabled(self) -> bool:
        return self._writer is not None

    @property
    def accepting(self) -> bool:
        """Whether protected routes may be served: their record will be written, or the operator chose to go on without."""
        return not self._refuse or (self.failing is None and self._queue.qsize() < MAX_QUEUED)

    @property
    def anchor_failure(self) -> str | None:
        """Why the anchor could not be written the last time; None: it could, or there is none."""
        return None if self._writer is None else self._writer.anchor_failure

    def record(self, entry: Entry) -> None:
        """Queue one record. A flood of refused requests, and what comes while the queue is full, is counted together."""
        if self._thread is None:
            return
        with self._guard:
            gathered = (
                self._gathering.is_flood(entry, time.monotonic())
                or self._queue.qsize() >= MAX_QUEUED
                or (self.failing is not None and "principal" not in entry and "status" in entry)
            )
            if gathered:
                self._gathering.add(entry)
                return
        self._queue.put(entry)

    def note(self, event: str, **members: Any) -> None:
        """Record an event of the server itself, now."""
        self.record({"time": utc_text(self._clock(), milliseconds=True), "event": event, **members})

    def reopen(self) -> None:
        """Go on in a new file where the present one was moved away. Returns at once."""
        if self._thread is not None:
            self._queue.put(_Reopen())

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until everything recorded before is written; False after the timeout."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout_seconds)

    def close(self) -> None:
        """Write what is queued and close the file. Idempotent; later records are dropped."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._closing.set()
            self._queue.put(None)
            thread.join(CLOSE_SECONDS)

    # -- the writing thread --------------------------------------------------------------------------------------------

    def _run(self, writer: TrailWriter) -> None:
        try:
            self._write_all(writer)
        except Exception:
            # Any failure must stay visible until a record is written again.
            self.failing = "the recording thread failed"
            self._failed_since = utc_text(self._clock(), milliseconds=True)
            raise

    def _write_all(self, writer: TrailWriter) -> None:
        last = False
        while not last:
            batch, waiters, last = self._gather()
            moment = time.monotonic()
            if waiters or last or moment >= self._next_similar:
                self._next_similar = moment + 1.0
                with self._guard:
                    batch += self._gathering.take_all()
            if self._write(writer, batch):
                for waiter in waiters:
                    waiter.set()
        writer.close()
        lost = writer.waiting + self._queue.qsize()
        if lost:
            log.error("%d audit records could not be written before the end: %s", lost, self.failing)

    def _gather(self) -> tuple[list[Entry], list[threading.Event], bool]:
        batch: list[Entry] = []
        waiters: list[threading.Event] = []
        try:
            item = self._queue.get(timeout=IDLE_SECONDS)
            while True:
                if item is None:
                    return batch, waiters, True
                if isinstance(item, threading.Event):
                    waiters.append(item)
                elif not isinstance(item, _Reopen):  # which has done its work by waking this thread
                    batch.append(item)
                if len(batch) >= MAX_BATCH:
                    break
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        return batch, waiters, False

    def _write(self, writer: TrailWriter, batch: list[Entry]) -> bool:
        """Write until it succeeds; False when the end came first."""
        before = writer.written.seq
        while True:
            try:
                writer.append(batch)
                if self.failing is not None:
                    writer.append([self._resumed()])
                writer.settle()
            except (OSError, AuditFileError) as error:
                self._fail(error)
                batch = []  # the writer keeps what it was given
                if self._closing.is_set():
                    return False
                self._closing.wait(RETRY_SECONDS)
            else:
                self.written_records += writer.written.seq - before
                return True

    def _fail(self, error: OSError | AuditFileError) -> None:
        self.failed_writes += 1
        reason = (error.strerror if isinstance(error, OSError) else None) or "the file cannot be used"
        if self.failing is None:
            self._failed_since = utc_text(self._clock(), milliseconds=True)
            after = "protected routes answer 503 until it can" if self._refuse else "requests are served all the same"
            log.error("the audit trail cannot be written (%s); %s", error, after)
        self.failing = reason

    def _resumed(self) -> Entry:
        reason, self.failing = self.failing, None
        log.warning("the audit trail is written again")
        return {
            "time": utc_text(self._clock(), milliseconds=True),
            "event": "recording_resumed",
            "failed_since": self._failed_since,
            "reason": reason,
        }


def shape_of(settings: Settings) -> Shape | None:
    """How the settings want the trail kept; None: not at all. Raises `AuditFileError` for a key file that is none."""
    audit = settings.audit
    if not audit.enabled:
        return None
    keys: tuple[bytes, ...] = ()
    if audit.key_file is not None:
        try:
            lines = [line.strip() for line in read_secret(audit.key_file).splitlines() if line.strip()]
        except ValueError as error:
            raise AuditFileError(f"audit.key_file: {error}") from error
        if any(len(line) < MINIMUM_KEY_CHARACTERS for line in lines):
            raise AuditFileError(
                f"audit.key_file: {audit.key_file} has a key of fewer than {MINIMUM_KEY_CHARACTERS} characters; make one "
                "with `openssl rand -hex 32`"
            )
        keys = tuple(line.encode() for line in lines)
    return Shape(
        path=settings.audit_file,
        keys=keys,
        anchor=audit.anchor_file,
        anchor_seconds=audit.anchor_seconds,
        rotate_bytes=audit.rotate_megabytes * 1_000_000,
        rotate_seconds=audit.rotate_hours * 3600,
    )


def open_journal(settings: Settings, clock: Callable[[], datetime], jobs: Jobs | None = None) -> AuditLog:
    """The trail of a server. Raises `AuditFileError`."""
    return AuditLog(shape_of(settings), refuse=settings.audit.on_failure == "refuse", clock=clock, jobs=jobs)
