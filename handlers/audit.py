"""The record of every access: one JSON line each, appended by a thread of its own so that no request waits for a disk."""

from __future__ import annotations

import json
import logging
import os
import queue
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

MAX_QUEUED = 100_000
MAX_BATCH = 2000


class AuditFileError(RuntimeError):
    """The audit file cannot be used; the text names it and the remedy."""


class AuditLog:
    """`record` takes a mapping of plain values and returns at once; order is kept. `close` writes what is queued.

    The file is opened once, 0600, for appending only, and never through a link. `path` None records nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._queue: queue.SimpleQueue[Mapping[str, Any] | threading.Event | None] = queue.SimpleQueue()
        self._lost = 0
        self.failed_writes = 0
        self._thread: threading.Thread | None = None
        if path is not None:
            self._descriptor = open_for_append(path)
            self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
            self._thread.start()

    def record(self, entry: Mapping[str, Any]) -> None:
        """Queue one record. Beyond the queue's bound records are counted, and the next line carries the count."""
        if self._thread is None:
            return
        if self._queue.qsize() >= MAX_QUEUED:
            self._lost += 1
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self._queue.put({"time": entry.get("time"), "event": "records_lost", "count": lost})
        self._queue.put(entry)

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
            self._queue.put(None)
            thread.join(timeout=10)
            os.close(self._descriptor)

    def _run(self) -> None:
        while True:
            batch, waiters, last = self._gather()
            if batch:
                self._append(b"".join(batch))
            for waiter in waiters:
                waiter.set()
            if last:
                return

    def _gather(self) -> tuple[list[bytes], list[threading.Event], bool]:
        lines: list[bytes] = []
        waiters: list[threading.Event] = []
        entry = self._queue.get()
        while True:
            if entry is None:
                return lines, waiters, True
            if isinstance(entry, threading.Event):
                waiters.append(entry)
            else:
                # ASCII only: every control and line separator leaves as an escape, a record is one line.
                lines.append(json.dumps(entry, default=str).encode("ascii") + b"\n")
            if len(lines) >= MAX_BATCH:
                return lines, waiters, False
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                return lines, waiters, False

    def _append(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            self.failed_writes += 1
            if self.failed_writes == 1:
                log.error("the audit file cannot be written: %s", error.strerror)


def open_for_append(path: Path) -> int:
    """A descriptor of the audit file; raises `AuditFileError` for a link, pipe, device or folder."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise AuditFileError(
            f"the audit file {path} cannot be opened ({error.strerror}); audit.file must name a regular file in a folder "
            "this user may write"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AuditFileError(f"the audit file {path} is no regular file; audit.file must name one")
    os.fchmod(descriptor, 0o600)
    return descriptor
