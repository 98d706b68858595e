"""The state of sync, the events that change it, and the one function that decides how. Pure: no I/O, no clock.

The sync thread is the only one that applies events (`SyncSession.apply`). Nothing of the state survives a restart: the position is
committed with the rows of the cache, and a new process starts by comparing it with the source. Times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from analytics.state.sync_status import Phase
from sync.faults import Action, ClearedBy, FaultVerdict

COPY_REMEDY = "none needed: a new copy is made beside the live cache"


@dataclass(frozen=True)
class Reason:
    """Why sync does not simply follow the source, what the operator can do, and what proves that it is over."""

    message: str
    remedy: str = ""
    cleared_by: ClearedBy = ClearedBy.FOLLOWING


@dataclass(frozen=True)
class SyncState:
    """Where sync is. `Phase` documents who sets each phase, what it waits for and what it guarantees.

    `position` is the LSN that the cache is known to hold. `copy_reason` is set while the cache cannot be continued, from the time
    this is known until a new copy is complete; faults in between do not change it.
    """

    phase: Phase = Phase.STARTING
    since: float = 0.0
    position: int | None = None
    reason: Reason | None = None
    copy_reason: str | None = None
    followed: bool = False  # this process has followed the source at least once
    blocked_since: float | None = None  # when a fault that sync waits out with `Patience` was first met
    faults_in_a_row: int = 0  # sets the pause before the next attempt
    failure: Reason | None = None  # why sync ended for good, so that the process must exit; None otherwise

    @property
    def following(self) -> bool:
        return self.phase in (Phase.STREAMING, Phase.POLLING)


@dataclass(frozen=True)
class CopyRequired:
    """The cache cannot be continued."""

    reason: str


@dataclass(frozen=True)
class CopyStarted:
    """A new generation is being filled. It may be the first one, or sync may have met faults before."""

    at: float


@dataclass(frozen=True)
class CopyCompleted:
    """A new generation is committed and published; it equals the source at `position`."""

    position: int


@dataclass(frozen=True)
class Followed:
    """Sync follows the source: `phase` is STREAMING (the stream is open) or POLLING (a poll has completed).

    Everything before `position` is in the cache. `committed`: this took a commit to the cache.
    """

    phase: Phase
    position: int
    committed: bool
    at: float


@dataclass(frozen=True)
class FaultMet:
    """The attempt ended with an error, which `faults.judge` has judged."""

    verdict: FaultVerdict
    at: float


@dataclass(frozen=True)
class SyncEnded:
    """The server is stopping."""

    at: float


Event = CopyRequired | CopyStarted | CopyCompleted | Followed | FaultMet | SyncEnded


def next_state(state: SyncState, event: Event) -> SyncState:
    """The state after `event`."""
    match event:
        case CopyRequired(reason):
            return replace(state, copy_reason=reason, reason=Reason(reason, COPY_REMEDY))
        case CopyStarted(at):
            return _entered(state, Phase.COPYING, at)
        case CopyCompleted(position):
            # The copy was committed, so the cache can be written: what is left is shown to be over by following the source.
            left = None if state.reason is None else replace(state.reason, cleared_by=ClearedBy.FOLLOWING)
            return replace(state, position=position, copy_reason=None, reason=left)
        case Followed():
            return _followed(state, event)
        case FaultMet(verdict, at):
            return _fault_met(state, verdict, at)
        case SyncEnded(at):
            return _entered(state, Phase.STOPPED, at)


def _entered(state: SyncState, phase: Phase, at: float) -> SyncState:
    return state if state.phase is phase else replace(state, phase=phase, since=at)


def _followed(state: SyncState, event: Followed) -> SyncState:
    state = replace(state, position=event.position, followed=True)
    if state.reason is not None and state.reason.cleared_by is ClearedBy.COMMIT and not event.committed:
        return state
    return _entered(replace(state, reason=None, blocked_since=None, faults_in_a_row=0), event.phase, event.at)


def _fault_met(state: SyncState, verdict: FaultVerdict, at: float) -> SyncState:
    if verdict.action is Action.STOP:
        return _entered(state, Phase.STOPPED, at)
    blocked_since = state.blocked_since
    if verdict.patience is not None and blocked_since is None:
        blocked_since = at
    state = replace(
        state,
        reason=Reason(verdict.message, verdict.remedy, verdict.cleared_by),
        copy_reason=verdict.copy_reason or state.copy_reason,
        blocked_since=blocked_since,
        faults_in_a_row=state.faults_in_a_row + 1,
    )
    if verdict.patience is not None and blocked_since is not None:
        blocked_seconds = at - blocked_since
        if blocked_seconds > verdict.patience.exit_seconds and not state.followed:
            return _entered(replace(state, failure=state.reason), Phase.STOPPED, at)
        if blocked_seconds > verdict.patience.attention_seconds:
            return _entered(state, Phase.PAUSED, at)
    return _entered(state, Phase.PAUSED if verdict.action is Action.PAUSE else Phase.RETRYING, at)
