"""Each transition of the state of sync, and what the fault policy makes of the errors that the source sends."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import psycopg
import pytest

from analytics.state.store import CacheDamagedError
from analytics.state.sync_status import Phase
from sync.copy.copy_stream import CommandRejectedError, Stopped
from sync.faults import (
    BUSY,
    CHECK,
    DISK,
    SLOT_PATIENCE,
    Action,
    ClearedBy,
    FaultVerdict,
    SlotBusyError,
    SlotGoneError,
    SourceChangedError,
    StreamRejectedError,
    judge,
)
from sync.source.schema import ShapeError
from sync.state import (
    COPY_REMEDY,
    CopyCompleted,
    CopyRequired,
    CopyStarted,
    FaultMet,
    Followed,
    Reason,
    SyncEnded,
    SyncState,
    next_state,
)

STREAMING = SyncState(Phase.STREAMING, since=1.0, position=100, followed=True)
LOST = FaultVerdict(Action.RETRY, "the connection broke", "check the network")
DISK_FULL = FaultVerdict(Action.RETRY, "the disk is full", DISK, ClearedBy.COMMIT)
UNFIT = FaultVerdict(Action.PAUSE, "a column is missing", "add it", copy_reason="the shape had changed")
SLOT_BUSY = FaultVerdict(Action.RETRY, "the slot is in use", BUSY, patience=SLOT_PATIENCE)


def after(state: SyncState, *events: object) -> SyncState:
    for event in events:
        state = next_state(state, event)  # type: ignore[arg-type]
    return state


def test_sync_starts_without_position_or_reason() -> None:
    assert SyncState() == SyncState(Phase.STARTING, 0.0, None, None, None, followed=False)


def test_a_first_copy_becomes_a_stream_without_a_reason() -> None:
    copying = after(SyncState(), CopyStarted(2.0))
    assert (copying.phase, copying.since, copying.position) == (Phase.COPYING, 2.0, None)
    copied = after(copying, CopyCompleted(500))
    assert (copied.phase, copied.position, copied.followed) == (Phase.COPYING, 500, False)
    streaming = after(copied, Followed(Phase.STREAMING, 500, committed=False, at=3.0))
    assert streaming == SyncState(Phase.STREAMING, since=3.0, position=500, followed=True)


def test_a_completed_poll_means_polling() -> None:
    assert after(SyncState(), Followed(Phase.POLLING, 7, committed=False, at=3.0)).phase is Phase.POLLING


def test_progress_moves_the_position_and_not_the_time_of_entry() -> None:
    assert after(STREAMING, Followed(Phase.STREAMING, 200, committed=True, at=9.0)) == replace(STREAMING, position=200)


def test_a_fault_that_can_pass_means_retrying_from_the_same_position() -> None:
    retrying = after(STREAMING, FaultMet(LOST, 5.0))
    assert (retrying.phase, retrying.since, retrying.position) == (Phase.RETRYING, 5.0, 100)
    assert retrying.reason == Reason(LOST.message, LOST.remedy)
    assert retrying.faults_in_a_row == 1
    again = after(retrying, FaultMet(LOST, 8.0))
    assert (again.since, again.faults_in_a_row) == (5.0, 2)


def test_an_open_stream_clears_a_lost_connection() -> None:
    resumed = after(STREAMING, FaultMet(LOST, 5.0), Followed(Phase.STREAMING, 100, committed=False, at=6.0))
    assert resumed == replace(STREAMING, since=6.0)


@pytest.mark.parametrize("phase", [Phase.STREAMING, Phase.POLLING])
def test_only_a_commit_clears_a_full_disk(phase: Phase) -> None:
    retrying = after(STREAMING, FaultMet(DISK_FULL, 5.0))
    opened = after(retrying, Followed(phase, 100, committed=False, at=6.0))
    assert (opened.phase, opened.reason, opened.since) == (Phase.RETRYING, retrying.reason, 5.0)
    committed = after(opened, Followed(phase, 200, committed=True, at=7.0))
    assert (committed.phase, committed.reason, committed.faults_in_a_row) == (phase, None, 0)


def test_a_completed_copy_is_a_commit() -> None:
    copied = after(SyncState(), FaultMet(DISK_FULL, 5.0), CopyStarted(6.0), CopyCompleted(500))
    assert copied.reason is not None
    assert after(copied, Followed(Phase.STREAMING, 500, committed=False, at=7.0)).phase is Phase.STREAMING


def test_a_later_fault_replaces_the_reason() -> None:
    after_both = after(STREAMING, FaultMet(DISK_FULL, 5.0), FaultMet(LOST, 6.0))
    assert after_both.reason == Reason(LOST.message, LOST.remedy)
    assert after(after_both, Followed(Phase.STREAMING, 100, committed=False, at=7.0)).phase is Phase.STREAMING


def test_a_fault_that_the_operator_must_end_means_paused_until_sync_follows_again() -> None:
    paused = after(STREAMING, FaultMet(UNFIT, 5.0))
    assert (paused.phase, paused.since, paused.copy_reason) == (Phase.PAUSED, 5.0, "the shape had changed")
    assert after(paused, FaultMet(LOST, 6.0)).phase is Phase.RETRYING
    assert after(paused, CopyStarted(6.0)).phase is Phase.COPYING


def test_the_reason_for_a_copy_outlives_faults_and_ends_with_the_copy() -> None:
    required = after(STREAMING, CopyRequired("the slot is gone"))
    assert required.phase is Phase.STREAMING
    assert required.reason == Reason("the slot is gone", COPY_REMEDY)
    failed = after(required, CopyStarted(2.0), FaultMet(LOST, 3.0))
    assert (failed.phase, failed.copy_reason, failed.reason) == (
        Phase.RETRYING,
        "the slot is gone",
        Reason(LOST.message, LOST.remedy),
    )
    assert after(failed, CopyStarted(4.0), CopyCompleted(900)).copy_reason is None


def test_a_busy_slot_is_retried_then_needs_attention() -> None:
    busy = after(STREAMING, FaultMet(SLOT_BUSY, 10.0))
    assert (busy.phase, busy.blocked_since) == (Phase.RETRYING, 10.0)
    assert after(busy, FaultMet(SLOT_BUSY, 13.0)).phase is Phase.RETRYING
    paused = after(busy, FaultMet(SLOT_BUSY, 13.5))
    assert (paused.phase, paused.since) == (Phase.PAUSED, 13.5)
    resumed = after(paused, Followed(Phase.STREAMING, 100, committed=False, at=14.0))
    assert (resumed.phase, resumed.blocked_since) == (Phase.STREAMING, None)


def test_another_fault_in_between_does_not_make_a_busy_slot_new() -> None:
    assert after(STREAMING, FaultMet(SLOT_BUSY, 10.0), FaultMet(LOST, 11.0)).blocked_since == 10.0


def test_sync_that_never_had_its_slot_gives_up_and_one_that_had_it_does_not() -> None:
    late = FaultMet(SLOT_BUSY, 30.5)
    ended = after(SyncState(), FaultMet(SLOT_BUSY, 10.0), late)
    assert (ended.phase, ended.failure) == (Phase.STOPPED, Reason(SLOT_BUSY.message, BUSY))
    waiting = after(STREAMING, FaultMet(SLOT_BUSY, 10.0), late)
    assert (waiting.phase, waiting.failure) == (Phase.PAUSED, None)


def test_the_end_of_the_server_ends_sync_in_every_phase() -> None:
    for phase in Phase:
        state = replace(STREAMING, phase=phase)
        assert after(state, SyncEnded(9.0)).phase is Phase.STOPPED
        assert after(state, FaultMet(judge(Stopped()), 9.0)).phase is Phase.STOPPED
    assert after(STREAMING, SyncEnded(9.0)).failure is None


def rejected(error: type[psycopg.Error]) -> StreamRejectedError:
    return StreamRejectedError("ein übersetzter Text", sqlstate=error.sqlstate or "")


def test_a_rejected_stream_is_judged_by_sqlstate_whatever_the_language_of_the_server() -> None:
    errors = psycopg.errors
    assert judge(rejected(errors.ObjectInUse)).patience == SLOT_PATIENCE
    for lost in (errors.ObjectNotInPrerequisiteState, errors.UndefinedFile):
        verdict = judge(rejected(lost))
        assert (verdict.action, verdict.copy_reason) == (Action.RETRY, "ein übersetzter Text")
    dropped = judge(rejected(errors.UndefinedObject))
    assert (dropped.action, dropped.copy_reason) == (Action.RETRY, None)
    assert judge(rejected(errors.FeatureNotSupported)).action is Action.PAUSE


def test_a_rejected_command_outside_the_stream_pauses_whatever_its_sqlstate() -> None:
    verdict = judge(CommandRejectedError("no", sqlstate="55000"))
    assert (verdict.action, verdict.copy_reason, verdict.remedy) == (Action.PAUSE, None, CHECK)


@pytest.mark.parametrize(
    ("error", "action", "copies", "cleared_by"),
    [
        (CacheDamagedError("damaged"), Action.RETRY, True, ClearedBy.FOLLOWING),
        (SlotGoneError("gone"), Action.RETRY, True, ClearedBy.FOLLOWING),
        (SourceChangedError("changed"), Action.RETRY, False, ClearedBy.FOLLOWING),
        (SlotBusyError("busy"), Action.RETRY, False, ClearedBy.FOLLOWING),
        (ShapeError("agent_actions", "status", "is missing"), Action.PAUSE, True, ClearedBy.FOLLOWING),
        (psycopg.OperationalError("connection refused"), Action.RETRY, False, ClearedBy.FOLLOWING),
        (psycopg.errors.InsufficientPrivilege("no"), Action.PAUSE, False, ClearedBy.FOLLOWING),
        (duckdb.FatalException("No space left on device"), Action.REOPEN, False, ClearedBy.COMMIT),
        (duckdb.FatalException("checksum"), Action.REOPEN, True, ClearedBy.FOLLOWING),
        (duckdb.InternalException("assertion"), Action.REOPEN, True, ClearedBy.FOLLOWING),
        (duckdb.IOException("cannot write"), Action.RETRY, False, ClearedBy.COMMIT),
        (duckdb.TransactionException("Failed to commit"), Action.RETRY, False, ClearedBy.COMMIT),
        (OSError("cannot open"), Action.RETRY, False, ClearedBy.COMMIT),
        (ValueError("a bug"), Action.RETRY, False, ClearedBy.FOLLOWING),
    ],
)
def test_the_policy(error: Exception, action: Action, copies: bool, cleared_by: ClearedBy) -> None:
    verdict = judge(error)
    assert (verdict.action, verdict.copy_reason is not None, verdict.cleared_by) == (action, copies, cleared_by)
    assert verdict.unexpected is isinstance(error, ValueError)
