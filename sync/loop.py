"""The sync loop: examine the source → continue or copy → follow it → (fault → pause → again).

One thread runs it, and only this thread writes the cache. `sync.stream.follower` and `sync.polling.follower` follow the source;
`sync.faults` judges errors; `sync.state` decides what the state is after each event.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from analytics.state.background import BackgroundThread
from analytics.state.cache import Cache
from analytics.state.store import Store
from analytics.state.sync_status import StatusBoard
from config.settings import Settings
from sync.cache_damage import with_damage_found
from sync.faults import Action, FaultVerdict, judge
from sync.freshness import Freshness
from sync.polling.follower import follow_by_polling
from sync.session import SyncSession
from sync.source.findings import Survey
from sync.source.preflight import survey
from sync.source.sampler import Sampler
from sync.state import CopyRequired, FaultMet, SyncEnded
from sync.stream.follower import follow_by_stream

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.2
MOST_DOUBLINGS = 20  # of the pause; any number that reaches sync.backoff_max_seconds


class SyncLoop:
    """Runs sync in a thread until `stop`. `failed` is set when sync has ended for good and the process must exit."""

    def __init__(self, settings: Settings, cache: Cache, board: StatusBoard, clock: Callable[[], datetime]) -> None:
        stop, freshness = threading.Event(), Freshness()
        self._session = SyncSession(
            settings, cache, board, clock, stop, freshness, Sampler(settings, board, freshness, clock)
        )
        self._try_now = threading.Event()
        self._thread = BackgroundThread("owkai-sync", self._run, stop, board.jobs)
        self._warned: set[str] = set()

    @property
    def failed(self) -> str | None:
        """Why sync has ended for good, with the remedy."""
        failure = self._session.state.failure
        return None if failure is None else f"{failure.message}; {failure.remedy}"

    def start(self) -> None:
        self._session.sampler.start()
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Stop after the current batch; what it cannot finish is undone. Idempotent."""
        self._session.stop.set()
        self._try_now.set()
        self._session.sampler.stop(timeout_seconds)
        self._thread.join(timeout_seconds)

    def try_now(self) -> None:
        """End the pause after a fault: its cause may just have been removed."""
        self._try_now.set()

    def at_position(self, lsn: int, action: Callable[[Store], T]) -> Future[T]:
        """Run `action` in the sync thread when the cache holds exactly what committed before `lsn`.

        No transaction of the writer is open then. The future is cancelled if sync ends first, and raises `PassedError` if the cache
        is already past `lsn`. `NOW` means between two batches, at any position.
        """
        return self._session.barrier.request(lsn, action)

    # -- the sync thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        session = self._session
        while not session.stopping():
            try:
                self._attempt()
            except BaseException as caught:
                # Whatever it was, sync goes on from the last commit: no error may end the thread.
                verdict = judge(with_damage_found(caught, session.cache.live))
                if verdict.action is Action.STOP:
                    break
                if verdict.unexpected:
                    log.exception("sync met an error that no rule covers")
                self._recover(verdict)
        session.barrier.close()
        session.apply(SyncEnded(time.monotonic()))

    def _attempt(self) -> None:
        """Examine the source, then follow it until a fault."""
        session = self._session
        found = survey(session.settings)
        if found.unidentified and session.cache.live is not None:
            session.apply(CopyRequired("changes on the source did not identify the changed rows"))
        found.require()
        identity = found.identity
        assert identity is not None  # noqa: S101 - a survey without errors has it
        self._warn(found)
        lost = None if session.mapping is None else session.mapping.lost_in(found.mapping)
        if found.streamable:
            follow_by_stream(session, found, identity, lost)
            return
        if lost is not None:
            raise lost
        follow_by_polling(session, found, identity)

    def _warn(self, found: Survey) -> None:
        for finding in found.findings:
            if finding.level == "warning" and str(finding) not in self._warned:
                self._warned.add(str(finding))
                log.warning("%s", finding)

    def _recover(self, verdict: FaultVerdict) -> None:
        """Do what the verdict asks for, then wait before the next attempt."""
        session = self._session
        if verdict.action is Action.REOPEN and not session.cache.reopen():
            verdict = replace(verdict, copy_reason=verdict.copy_reason or verdict.message)
        session.apply(FaultMet(verdict, time.monotonic()))
        if self.failed is not None:
            log.error("%s", self.failed)
            session.stop.set()
            return
        self._try_now.wait(self._pause_seconds(verdict) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        self._try_now.clear()

    def _pause_seconds(self, verdict: FaultVerdict) -> float:
        longest = self._session.settings.sync.backoff_max_seconds
        if verdict.action is Action.PAUSE:
            return longest
        doublings = min(self._session.state.faults_in_a_row - 1, MOST_DOUBLINGS)
        return min(longest, FIRST_PAUSE_SECONDS * 2.0**doublings)
