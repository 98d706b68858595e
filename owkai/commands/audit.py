"""The operator's side of the audit trail: `owkai audit …`, and records of what operators do on the command line."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analytics.state.clock import utc_now
from analytics.state.sync_status import SyncStatus
from config.settings import Settings
from config.utc_text import utc_text
from handlers.audit.audit_log import AuditLog, shape_of
from handlers.audit.files import AuditFileError, earlier_files
from handlers.audit.verify import TrailVerdict, verify_trail
from handlers.audit.writer import Shape
from owkai.control import SOCKET, ControlError, NoServerError, ask

if TYPE_CHECKING:
    from handlers.audit.report import AuditReport

COMMAND = "audit"
FLUSH_SECONDS = 5.0


class NotRecordedError(RuntimeError):
    """An operator's command could not be recorded; the text gives the reason."""


def trail_shape(settings: Settings) -> Shape:
    """The settings' trail, also when recording is off: its files may still exist."""
    return shape_of(settings) or Shape(path=settings.audit_file)


def trail_files(shape: Shape) -> list[Path]:
    """All files of a trail in the order of the chain."""
    return [*earlier_files(shape.path), *([shape.path] if shape.path.exists() else [])]


def verdict_lines(verdict: TrailVerdict) -> list[str]:
    """A verdict as lines of text, most severe first."""
    lines = list(verdict.faults)
    if verdict.fault_count > len(verdict.faults):
        lines.append(f"… and {verdict.fault_count - len(verdict.faults)} more")
    lines += [f"note: {note}" for note in verdict.notes]
    span = f"records {verdict.first} to {verdict.head.seq}" if verdict.records else "no record"
    sealed = "keyed" if verdict.keyed_records else "not keyed"
    lines.append(
        f"{len(verdict.files)} files, {verdict.records} records ({span}, {sealed}): "
        + ("intact" if verdict.whole else f"NOT intact, {verdict.fault_count} faults")
    )
    if verdict.records:
        lines.append(f"head {verdict.head.seq}:{verdict.head.seal}")
    return lines


def verify(settings: Settings, files: Sequence[Path]) -> TrailVerdict:
    """Check the trail, or the files given. Raises `AuditFileError` for a key file that is none."""
    return verify_trail(trail_shape(settings), files)


def report(settings: Settings, files: Sequence[Path], since: datetime | None, until: datetime | None) -> AuditReport:
    """Reduce the trail, or the files given. Raises OSError."""
    from handlers.audit.report import reduce_files

    return reduce_files(files or trail_files(trail_shape(settings)), since, until)


def parse_time(text: str, *, end: bool) -> datetime:
    """A date (its beginning, or with `end` the end of that day) or an ISO 8601 time; without a zone it is UTC."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return time + timedelta(days=1) if end and len(text) == len("2025-01-15") else time


def operator() -> dict[str, Any]:
    """The operator at the command line: the account, and the one before sudo."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "unnamed"
    members: dict[str, Any] = {
        "principal": f"{name} (uid {os.getuid()})",
        "address": "command line",
        "outcome": "success",
    }
    if before := os.environ.get("SUDO_USER"):
        members["sudo_user"] = before[:64]
    return members


def record_operator(settings: Settings, event: str, **members: Any) -> None:
    """Record an operator's command through the running server, or in the file itself if no server runs.

    Raises `NotRecordedError` if neither is possible.
    """
    entry = {"event": event, **operator(), **members}
    if not settings.audit.enabled:
        return
    try:
        answer = ask(settings.cache.directory / SOCKET, {"command": COMMAND, "entry": entry}, lambda _: None)
    except (NoServerError, FileNotFoundError):
        _record_without_server(settings, entry)
        return
    except ControlError as error:
        raise NotRecordedError(f"the server did not record it: {error}") from error
    if not answer.get("recorded"):
        raise NotRecordedError("the server cannot write its audit trail; see /readyz and its log")


def _record_without_server(settings: Settings, entry: Mapping[str, Any]) -> None:
    try:
        trail = AuditLog(shape_of(settings))
        trail.record({"time": utc_text(utc_now(), milliseconds=True), **entry})
        written = trail.flush(FLUSH_SECONDS)
        trail.close()
    except AuditFileError as error:
        raise NotRecordedError(str(error)) from error
    if not written:
        raise NotRecordedError(f"{settings.audit_file} cannot be written: {trail.failing}")


def answer(trail: AuditLog, request: Mapping[str, Any], *_: Callable[..., Any]) -> Mapping[str, Any]:
    """The server's side of `record_operator`. Runs in a thread; waits until the record is written."""
    entry = request.get("entry")
    if not isinstance(entry, dict):
        return {"recorded": False}
    trail.record(
        {
            "time": utc_text(utc_now(), milliseconds=True),
            **{str(name): value for name, value in entry.items() if name != "time"},
        }
    )
    return {"recorded": trail.failing is None and trail.flush(FLUSH_SECONDS)}


def process(settings: Settings, port: int) -> dict[str, Any]:
    """The members of a start record that describe the process."""
    return {
        "version": installed_version("owkai-analytics"),
        "pid": os.getpid(),
        "uid": os.geteuid(),
        "port": port,
        "host": settings.server.host,
        "chain": "mac" if settings.audit.key_file else "hash",
        "anchored": settings.audit.anchor_file is not None,
    }


def sync_role(status: SyncStatus) -> str:
    """What sync does, in two words: its phase, and whether it streams or polls."""
    return f"{status.phase.value} ({status.mode})"
