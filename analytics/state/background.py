"""Work that goes on as long as the server does: no thread and no task of it ends unnoticed.

Each job runs under its name. One that raises, or ends without being asked to, is logged with its traceback, counted, shown by
/readyz and /metrics, and started again after a pause.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
SETTLED_SECONDS = 120.0  # a job counts as failing until it has run this long since its last failure


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How a job has fared. `failed_at` is a monotonic time in seconds."""

    failures: int = 0
    failed_at: float | None = None
    running: bool = True

    def failing(self, now_seconds: float) -> bool:
        if self.failed_at is None:
            return False
        return not self.running or now_seconds - self.failed_at < SETTLED_SECONDS


class EndedError(RuntimeError):
    """A job returned although it was not asked to end."""


class Jobs:
    """The jobs of one server by name. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, JobStatus] = {}

    @property
    def current(self) -> dict[str, JobStatus]:
        """Every job that was ever started, by name."""
        with self._lock:
            return dict(self._jobs)

    @property
    def failing(self) -> tuple[str, ...]:
        """Names of the jobs that failed and have not yet proved well again, in order."""
        now = time.monotonic()
        return tuple(sorted(name for name, status in self.current.items() if status.failing(now)))

    def started(self, name: str) -> None:
        with self._lock:
            self._jobs[name] = replace(self._jobs.get(name, JobStatus()), running=True)

    def failed(self, name: str, error: BaseException) -> float:
        """Log and count a failure; returns how many seconds to wait before the job is started again."""
        now = time.monotonic()
        with self._lock:
            before = self._jobs.get(name, JobStatus())
            repeated = before.failed_at is not None and now - before.failed_at < SETTLED_SECONDS
            self._jobs[name] = JobStatus(before.failures + 1, now, running=False)
            in_a_row = before.failures if repeated else 0
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(in_a_row, 10))
        log.error("background job %s failed and is started again in %g s", name, pause, exc_info=error)
        return pause


class BackgroundThread:
    """A daemon thread that runs `body` until `stopping` is set. `body` must return soon after that, and not before."""

    def __init__(self, name: str, body: Callable[[], None], stopping: threading.Event, jobs: Jobs) -> None:
        self.name, self._body, self._stopping, self._jobs = name, body, stopping, jobs
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the end; returns at once where it was never started."""
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._jobs.started(self.name)
            try:
                self._body()
                if self._stopping.is_set():
                    return
                raise EndedError(f"{self.name} ended without being asked to")
            except BaseException as error:  # noqa: BLE001 - whatever it was, the job goes on
                self._stopping.wait(self._jobs.failed(self.name, error))


async def keep_running(name: str, body: Callable[[], Awaitable[None]], jobs: Jobs) -> None:
    """The same for a task of the event loop, which ends when it is cancelled."""
    while True:
        jobs.started(name)
        try:
            await body()
            raise EndedError(f"{name} ended without being asked to")
        except Exception as error:  # noqa: BLE001 - whatever it was, the job goes on
            await asyncio.sleep(jobs.failed(name, error))
