"""Counts from the trail: by user, endpoint, outcome and day. Reads only (NIST SP 800-53 AU-7).

Records from before they were chained are read as well; they have no `route`, so their path stands for it.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from config.utc_text import parse_aware
from handlers.audit.files import TAIL_BYTES, open_to_read

DIMENSIONS = ("user", "endpoint", "outcome", "day")
ACCESSES = ("access", "ws_open", "sign_in", "sign_out")
NO_CREDENTIAL = "(no credential)"
FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")


@dataclass
class AuditReport:
    """Counts per dimension, newest period first asked for. `unread` lines were no JSON objects."""

    since: datetime | None
    until: datetime | None
    records: int = 0
    accesses: int = 0
    gathered: int = 0
    unread: int = 0
    first: str | None = None
    last: str | None = None
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in DIMENSIONS})
    refused: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def add(self, entry: dict[str, Any]) -> None:
        time = str(entry.get("time", ""))
        moment = moment_of(time)
        if (self.since or self.until) and moment is None:
            return
        if moment is not None and (
            (self.since is not None and moment < self.since) or (self.until is not None and moment >= self.until)
        ):
            return
        weight = entry.get("count", 1) if entry.get("event") == "similar" else 1
        weight = weight if isinstance(weight, int) and weight > 0 else 1
        event = str(entry.get("of") if entry.get("event") == "similar" else entry.get("event"))
        self.records += 1
        self.gathered += weight if entry.get("event") == "similar" else 0
        self.first = time if self.first is None else min(self.first, time)
        self.last = time if self.last is None else max(self.last, time)
        self.events[event] += weight
        if event not in ACCESSES:
            return
        self.accesses += weight
        user = user_of(entry)
        outcome = str(entry.get("outcome", "unknown"))
        keys = {"user": user, "endpoint": str(entry.get("route") or entry.get("path") or "unknown"),
                "outcome": outcome, "day": time[:10] or "unknown"}  # fmt: skip
        for name, value in keys.items():
            self.counts[name][value] += weight
        if outcome == "denied":
            self.refused[f"{entry.get('reason')} from {entry.get('address')}"] += weight


def user_of(entry: dict[str, Any]) -> str:
    """Who a record is about: principal and organization."""
    principal = entry.get("principal")
    if principal is None:
        return NO_CREDENTIAL
    organization = entry.get("organization_id")
    return f"{principal} (organization {organization})" if organization is not None else str(principal)


def moment_of(text: str) -> datetime | None:
    try:
        return parse_aware(text)
    except ValueError:
        return None


def reduce_files(files: Iterable[Path], since: datetime | None, until: datetime | None) -> AuditReport:
    """Read the files once. `since` and `until` are aware, the period is half-open. Raises OSError."""
    report = AuditReport(since, until)
    for path in files:
        with open_to_read(path) as handle:
            while raw := handle.readline(TAIL_BYTES):
                try:
                    entry = json.loads(raw)
                except ValueError:
                    entry = None
                if isinstance(entry, dict):
                    report.add(entry)
                elif raw.endswith(b"\n"):
                    report.unread += 1
    return report


def as_json(report: AuditReport, dimensions: Sequence[str]) -> str:
    document = {
        "since": None if report.since is None else report.since.isoformat(),
        "until": None if report.until is None else report.until.isoformat(),
        "first_record": report.first,
        "last_record": report.last,
        "records": report.records,
        "accesses": report.accesses,
        "counted_together": report.gathered,
        "unread_lines": report.unread,
        **{f"by_{name}": dict(ordered(report.counts[name], name)) for name in dimensions},
        "refusals": dict(ordered(report.refused, "refusal")),
        "events": dict(ordered(report.events, "event")),
    }
    return json.dumps(document, indent=2)


def as_csv(report: AuditReport, dimensions: Sequence[str]) -> str:
    """RFC 4180 rows `dimension,value,count`; a text that a spreadsheet would run begins with an apostrophe."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(("dimension", "value", "count"))
    for name, counter in _tables(report, dimensions):
        for value, count in ordered(counter, name):
            writer.writerow((name, harmless(value), count))
    return stream.getvalue()


def as_text(report: AuditReport, dimensions: Sequence[str]) -> str:
    lines = [
        f"{report.accesses} accesses in {report.records} records, {report.first or 'none'} to {report.last or 'none'}"
        + (f"; {report.gathered} of them counted together" if report.gathered else "")
        + (f"; {report.unread} lines could not be read" if report.unread else "")
    ]
    for name, counter in _tables(report, dimensions):
        if counter:
            lines += ["", f"by {name}"]
            lines += [f"  {count:>10}  {printable(value)}" for value, count in ordered(counter, name)]
    return "\n".join(lines)


def ordered(counter: Counter[str], dimension: str) -> list[tuple[str, int]]:
    """Days in order, everything else by count, then name."""
    if dimension == "day":
        return sorted(counter.items())
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def _tables(report: AuditReport, dimensions: Sequence[str]) -> Iterator[tuple[str, Counter[str]]]:
    for name in dimensions:
        yield name, report.counts[name]
    yield "refusal", report.refused
    yield "event", report.events


def harmless(text: str) -> str:
    text = printable(text)
    return f"'{text}" if text.lstrip(" \"'").startswith(FORMULA_STARTS) else text


def printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)
