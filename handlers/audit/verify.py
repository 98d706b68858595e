"""Whether a trail is whole: every seal fits, every record follows the one before, over all its files, up to the anchor.

Reads only. What the check gives: with keys, no record between the first and the last one read can have been changed, removed,
added or moved without a key. Without keys it finds damage and careless edits, but not a chain that was rebuilt.
Only an anchor reveals records cut from the end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from handlers.audit.anchor import Anchored, newest, read_anchors
from handlers.audit.chain import Head, Line, read_line
from handlers.audit.files import TAIL_BYTES, earlier_files, first_line, open_to_read, parts_without_records
from handlers.audit.writer import Shape

MAX_FAULTS = 20
GAPS = {
    "records_missing": "records before it were missing at a start",
    "record_replaced": "the record before it was replaced at a start",
    "file_shrunk": "the file was cut or emptied while it was being written",
    "file_lost": "the file before it was deleted while it was being written",
}
PATIENCE_SECONDS = 2.0  # between two files the server has none, or an empty one, for a moment


@dataclass
class TrailVerdict:
    """What a check found. `faults` are lines `file:line: what`, the first ones in the order of the chain."""

    faults: list[str] = field(default_factory=list)
    fault_count: int = 0
    notes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    records: int = 0
    keyed_records: int = 0
    first: int = 0
    head: Head = field(default_factory=Head)

    @property
    def whole(self) -> bool:
        return self.fault_count == 0

    def fault(self, where: str, what: str) -> None:
        self.fault_count += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(f"{where}: {what}")


class Check:
    """Goes through the lines of a trail in order. `keys` empty: the chain is expected to be unkeyed."""

    def __init__(self, keys: Sequence[bytes], anchors: Sequence[Anchored] = ()) -> None:
        self.verdict = TrailVerdict()
        self._keys = keys
        self._anchored = {anchor.head.seq: anchor.head.seal for anchor in anchors if anchor.sound}
        self._last: Line | None = None

    def file(self, path: Path, *, current: bool) -> None:
        """Check one file. `current`: it may be being written, so that its last line may not be complete yet."""
        self.verdict.files.append(path.name)
        number = 0
        try:
            with open_to_read(path) as handle:
                while raw := handle.readline(TAIL_BYTES):
                    number += 1
                    where = f"{path.name}:{number}"
                    if raw.endswith(b"\n"):
                        self._line(where, raw[:-1])
                    elif current:
                        self.verdict.notes.append(
                            f"{where}: the last line is not complete; it is being written, or was when the server died "
                            "(the next start keeps it aside)"
                        )
                    else:
                        self.verdict.fault(where, "the line is cut short")
        except (OSError, EOFError) as error:
            self.verdict.fault(f"{path.name}:{number + 1}", f"cannot be read: {error}")
            return
        if number == 0:
            self.verdict.fault(path.name, "is empty: its records were removed, or none was written yet")

    def _line(self, where: str, raw: bytes) -> None:
        verdict = self.verdict
        line = read_line(raw)
        if line is None:
            verdict.fault(where, "is no record, or one that was changed")
            return
        if line.keyed and not self._keys:
            verdict.fault(where, "is sealed with a key; name it with audit.key_file")
        elif not line.fits(self._keys):
            verdict.fault(where, f"record {line.seq} was changed: its seal does not fit")
        self._place(where, line)
        if self._anchored.get(line.seq, line.seal) != line.seal:
            verdict.fault(where, f"record {line.seq} is not the one that was anchored")
        for event, words in GAPS.items():
            if f'"event":"{event}"'.encode() in line.body:
                verdict.fault(where, f"record {line.seq} reports that {words}")
        if b'"event":"set_aside"' in line.body:
            verdict.notes.append(f"{where}: a file whose lines are not chained was set aside; nothing is known of them")
        verdict.records += 1
        verdict.keyed_records += line.keyed
        self._last = line
        verdict.head = line.head

    def _place(self, where: str, line: Line) -> None:
        """Whether the record follows the one before."""
        verdict, last = self.verdict, self._last
        if last is None:
            verdict.first = line.seq
            if line.seq > 1:
                verdict.notes.append(
                    f"{where}: the trail begins with record {line.seq}; earlier ones are not among these files"
                )
            elif line.prev != Head().seal:
                verdict.fault(where, "record 1 claims to follow another")
            return
        if last.keyed and not line.keyed:
            verdict.fault(where, f"record {line.seq} has no key's seal, the one before has")
        if line.seq == last.seq + 1:
            if line.prev != last.seal:
                verdict.fault(where, f"record {line.seq} does not follow the record before it")
        elif line.seq > last.seq + 1:
            verdict.fault(where, f"records {last.seq + 1} to {line.seq - 1} are missing before it")
        else:
            verdict.fault(where, f"record {line.seq} stands behind record {last.seq}: moved, copied or inserted")

    def end(self, anchors: Sequence[Anchored] | None) -> TrailVerdict:
        """The verdict, after the last file. `anchors` None: there is no anchor."""
        verdict = self.verdict
        last = verdict.head.seq
        if self._keys and verdict.records and self._last is not None and not self._last.keyed:
            verdict.fault(verdict.files[-1], "the last record has no key's seal, though audit.key_file is set")
        if verdict.keyed_records and verdict.keyed_records < verdict.records:
            count = verdict.records - verdict.keyed_records
            verdict.notes.append(f"{count} records at the beginning are from before there was a key")
        if anchors is None:
            verdict.notes.append(
                "tail not protected: without audit.anchor_file, records cut from the end are not missed; the newest is "
                f"record {last}"
            )
            return verdict
        unsound = sum(not anchor.sound for anchor in anchors)
        if unsound:
            verdict.fault("anchor", f"{unsound} of its lines are damaged or not sealed with the key")
        anchored = newest(list(anchors))
        if anchored is None:
            verdict.notes.append("tail not protected: the anchor has no line yet")
        elif anchored.head.seq > last:
            verdict.fault(
                verdict.files[-1] if verdict.files else "anchor",
                f"the tail is cut: the anchor knew record {anchored.head.seq} at {anchored.time}, the files end with record {last}",
            )
        else:
            verdict.notes.append(f"the anchor knows the records up to {anchored.head.seq}, at {anchored.time}")
        return verdict


def verify_trail(shape: Shape, files: Sequence[Path] = ()) -> TrailVerdict:
    """Check the trail of a server, running or not; `files` instead of its own: copies, in any order."""
    anchors: list[Anchored] | None = None
    damaged = ""
    if shape.anchor is not None:
        try:
            anchors = read_anchors(shape.anchor, shape.keys)  # before the files, which only grow
        except OSError as error:
            damaged = f"cannot be read: {error.strerror or error}"
    check = Check(shape.keys, anchors or ())
    if not files:
        _wait_between_files(shape.path)
        for path in parts_without_records(shape.path):
            check.verdict.fault(path.name, "does not begin with a record, although it is named after its records")
    for path, current in _in_order(shape.path, files):
        check.file(path, current=current)
    verdict = check.end(anchors if shape.anchor is None or not damaged else [])
    if damaged:
        verdict.fault(str(shape.anchor), damaged)
    if not files and shape.path.name not in verdict.files:
        verdict.fault(str(shape.path), "there is no audit file")
    return verdict


def _wait_between_files(current: Path) -> None:
    """A running server that has just renamed its file writes the first record of the next one in a moment."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while earlier_files(current) and not _has_content(current) and time.monotonic() < deadline:
        time.sleep(0.05)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _in_order(current: Path, files: Sequence[Path]) -> list[tuple[Path, bool]]:
    if files:
        return [(path, False) for path in sorted(files, key=_first_number)]
    earlier = earlier_files(current)
    return [(path, False) for path in earlier] + ([(current, True)] if current.exists() else [])


def _first_number(path: Path) -> int:
    """The number of a file's first record; 0, so that it comes first, where it has none."""
    line = first_line(path)
    return 0 if line is None else line.seq
