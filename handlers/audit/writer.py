"""Writes records to the trail: one writer per trail, held by a lock. Synchronous; `audit_log` runs it in a separate thread.

Start: a torn last line is kept aside (`recovered` follows), a file without a single record of ours is set aside whole
(`set_aside`), and where the anchor knows newer records than the files do, the gap is recorded
(`records_missing`) and the numbers go on behind it. Nothing of the trail is ever overwritten or deleted.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from config.private_files import create_private, sync_folder
from config.utc_text import utc_text
from handlers.audit.anchor import Anchor, newest, read_anchors
from handlers.audit.chain import Head, Line, seal
from handlers.audit.files import (
    AuditFileError,
    aside_path,
    chained_lines,
    first_line,
    lock,
    newest_head,
    open_for_append,
    read_tail,
    rotated_path,
)

log = logging.getLogger(__name__)

SYNC_SECONDS = 1.0


@dataclass(frozen=True)
class Shape:
    """How a trail is kept. `keys`: the first seals, all are accepted when reading; none: an unkeyed chain.

    `rotate_bytes` and `rotate_seconds` 0: never for that reason. `anchor` None: no second place.
    """

    path: Path
    keys: tuple[bytes, ...] = ()
    anchor: Path | None = None
    anchor_seconds: float = 60.0
    rotate_bytes: int = 0
    rotate_seconds: float = 0.0

    @property
    def key(self) -> bytes | None:
        return self.keys[0] if self.keys else None


class TrailWriter:
    """`append` seals and writes. What could not be written is kept, in its order, for the next `append`.

    The constructor raises `AuditFileError` if the file cannot be used or another process writes to it.
    """

    def __init__(self, shape: Shape, clock: Callable[[], datetime]) -> None:
        self._shape = shape
        self._clock = clock
        self._anchor = None if shape.anchor is None else Anchor(shape.anchor, shape.key)
        self.anchor_failure: str | None = None
        self._pending: list[tuple[bytes, Head]] = []
        self._descriptor = -1
        self._size = 0
        self._first_seq = 0
        self._begun_at: float | None = None
        self._unsynced = False
        self._next_sync = 0.0
        self._next_anchor = 0.0
        self._anchored_seq = 0
        self.head = Head()  # of what is sealed
        self.written = Head()  # of what is in the file
        self._lock = lock(shape.path)
        try:
            self._take_over()
        except BaseException:
            self.close()
            raise

    @property
    def waiting(self) -> int:
        """Records sealed and not yet written."""
        return len(self._pending)

    def append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Seal the entries and write all that waits. Raises OSError or `AuditFileError`; then the rest waits."""
        try:
            self._check_file()
        finally:
            for entry in entries:
                self._seal(entry)
        if not self._pending:
            return
        if self._due_for_rotation(sum(len(line) for line, _ in self._pending)):
            self._rotate()
        self._write_pending()
        self._keep_safe()

    def reopen(self) -> None:
        """Look whether the file was moved away, and go on in a new one if so. Raises as `append` does."""
        self.append(())

    def settle(self) -> None:
        """What is due by the clock: the disk's own buffers, the anchor. Raises OSError when the disk fails."""
        self._keep_safe()

    def close(self) -> None:
        """Bring everything to the disk and the anchor, and give the lock back. Idempotent."""
        if self._descriptor >= 0:
            try:
                self._keep_safe(now=True)
            except OSError as error:
                log.error("the end of the audit trail may not be on the disk: %s", error.strerror)
            os.close(self._descriptor)
            self._descriptor = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # -- the start ---------------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        notes = self._open()
        if not self.head.seq:
            self.head = newest_head(self._shape.path)
        self.written = self.head
        notes += self._compare_with_anchor()
        self.append(notes)

    def _open(self) -> list[dict[str, Any]]:
        """Open the file; what is to be recorded about it. Sets `head` where the file has a record."""
        path = self._shape.path
        notes: list[dict[str, Any]] = []
        descriptor = open_for_append(path)
        try:
            tail = read_tail(descriptor)
            begin, last = first_line(path) if tail.complete_bytes else None, tail.last
            if tail.complete_bytes and (begin is None or last is None):
                # Lines that are no records stay where they are, for the check to find, unless there is nothing else.
                begin, last = chained_lines(path) or (None, None)
            if tail.complete_bytes and begin is None:
                aside = aside_path(path, "aside", self.head.seq + 1)
                path.rename(aside)
                os.close(descriptor)
                descriptor = open_for_append(path)
                tail = read_tail(descriptor)
                notes.append({"event": "set_aside", "file": aside.name, "reason": "none of its lines is chained"})
                log.warning("no line of %s is chained; it is kept as %s", path, aside.name)
            if tail.torn:
                seq = (last.seq if last else self.head.seq) + 1
                aside = aside_path(path, "torn", seq)
                create_private(aside, tail.torn)
                os.ftruncate(descriptor, tail.complete_bytes)
                notes.append({"event": "recovered", "file": aside.name, "bytes": len(tail.torn)})
                log.warning("the last line of %s was cut short; the rest is kept as %s", path, aside.name)
        except OSError as error:
            os.close(descriptor)
            raise AuditFileError(f"the audit file {path} cannot be continued: {error.strerror}") from error
        self._descriptor = descriptor
        self._size = tail.complete_bytes
        self._first_seq, self._begun_at = 0, None
        if begin is not None and last is not None:
            self.head = last.head
            self._first_seq, self._begun_at = begin.seq, begun_at(begin)
        return notes

    def _compare_with_anchor(self) -> list[dict[str, Any]]:
        if self._shape.anchor is None:
            return []
        try:
            anchored = newest(read_anchors(self._shape.anchor, self._shape.keys))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise AuditFileError(
                f"the anchor file {self._shape.anchor} cannot be read ({error.strerror}); audit.anchor_file must name a "
                "regular file"
            ) from error
        if anchored is None or anchored.head.seq < self.head.seq or anchored.head == self.head:
            return []
        if anchored.head.seq == self.head.seq:
            log.error("the last record of %s is not the one that was anchored", self._shape.path)
            return [{"event": "record_replaced", "record": anchored.head.seq, "anchored_at": anchored.time}]
        missing = (self.head.seq + 1, anchored.head.seq)
        log.error("records %d to %d are missing at the end of %s", *missing, self._shape.path)
        self.head = self.written = anchored.head
        return [{"event": "records_missing", "first": missing[0], "last": missing[1], "anchored_at": anchored.time}]

    # -- writing -----------------------------------------------------------------------------------------------------

    def _seal(self, entry: Mapping[str, Any]) -> None:
        if "time" not in entry:
            entry = {"time": utc_text(self._clock(), milliseconds=True), **entry}
        line, self.head = seal(entry, self.head, self._shape.key)
        self._pending.append((line, self.head))

    def _write_pending(self) -> None:
        data = b"".join(line for line, _ in self._pending)
        done = 0
        try:
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        finally:
            self._account_for(done)

    def _account_for(self, done: int) -> None:
        """Forget what is written whole; take the beginning of a line that is not out of the file again."""
        whole, count = 0, 0
        for line, head in self._pending:
            if whole + len(line) > done:
                break
            whole, count, self.written = whole + len(line), count + 1, head
            if not self._first_seq:
                self._first_seq, self._begun_at = head.seq, self._clock().timestamp()
        del self._pending[:count]
        self._size += whole
        self._unsynced = self._unsynced or count > 0
        if done > whole:
            try:
                os.ftruncate(self._descriptor, self._size)
            except OSError:  # a file that may only grow: the line is finished later
                line, head = self._pending[0]
                self._pending[0] = (line[done - whole :], head)
                self._size += done - whole

    def _keep_safe(self, *, now: bool = False) -> None:
        moment = time.monotonic()
        if self._unsynced and (now or moment >= self._next_sync):
            os.fdatasync(self._descriptor)
            self._unsynced = False
            self._next_sync = moment + SYNC_SECONDS
        if self._anchor is None or self.written.seq == self._anchored_seq:
            return
        if now or moment >= self._next_anchor:
            self._next_anchor = moment + self._shape.anchor_seconds
            self._write_anchor(self._anchor)

    def _write_anchor(self, anchor: Anchor) -> None:
        try:
            anchor.write(self.written, utc_text(self._clock(), milliseconds=True))
        except (OSError, AuditFileError) as error:
            if self.anchor_failure is None:
                log.error("the anchor of the audit trail cannot be written: %s", error)
            self.anchor_failure = getattr(error, "strerror", None) or "unusable"
        else:
            self.anchor_failure = None
            self._anchored_seq = self.written.seq

    # -- from file to file -------------------------------------------------------------------------------------------

    def _check_file(self) -> None:
        """Go on in a new file where the old one is no longer under its name, and say when it lost something."""
        if self._descriptor < 0:
            self._continue_in_new_file([])
            return
        ours = os.fstat(self._descriptor)
        try:
            there = os.lstat(self._shape.path)
        except FileNotFoundError:
            there = None
        if there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
            if ours.st_size < self._size:
                note = {"event": "file_shrunk", "bytes_before": self._size, "bytes_now": ours.st_size}
                self._size, self._first_seq = ours.st_size, self._first_seq if ours.st_size else 0
                self._seal(note)
            return
        event = "file_moved" if ours.st_nlink else "file_lost"
        log.log(
            logging.INFO if ours.st_nlink else logging.ERROR,
            "the audit file was %s; records go on in a new one",
            "moved" if ours.st_nlink else "deleted",
        )
        os.fdatasync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self._continue_in_new_file([{"event": event, "last_record": self.written.seq}])

    def _continue_in_new_file(self, notes: list[dict[str, Any]]) -> None:
        sealed = self.head
        notes += self._open()
        found, self.head = self.head, sealed
        if self._size and found != self.written:
            # Another trail was put here: this one continues in a new file.
            os.close(self._descriptor)
            self._descriptor = -1
            aside = aside_path(self._shape.path, "aside", self.written.seq)
            self._shape.path.rename(aside)
            notes += [{"event": "set_aside", "file": aside.name, "reason": "it is not the chain being written"}]
            notes += self._open()
        for note in notes:
            self._seal(note)

    def _due_for_rotation(self, coming: int) -> bool:
        shape = self._shape
        if self._size == 0:
            return False
        if shape.rotate_bytes and self._size + coming > shape.rotate_bytes:
            return True
        age = 0.0 if self._begun_at is None else self._clock().timestamp() - self._begun_at
        return bool(shape.rotate_seconds) and age >= shape.rotate_seconds

    def _rotate(self) -> None:
        """Rename the file to the numbers it holds, and open a new one whose first record states this."""
        path = self._shape.path
        target = rotated_path(path, self._first_seq, self.written.seq)
        os.fdatasync(self._descriptor)
        path.rename(target)
        os.close(self._descriptor)
        self._descriptor = -1
        self._open()
        sync_folder(path.parent)
        self._seal({"event": "rotated", "file": target.name})


def begun_at(line: Line) -> float | None:
    """Seconds since 1970 of a record's time; None where it has none that can be read."""
    try:
        return datetime.fromisoformat(str(line.entry().get("time"))).timestamp()
    except ValueError:
        return None
