"""The report of one incident: an `Anomaly`, its text and its severity; and which findings are significant. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Kind = Literal["spike", "drop", "new_agent", "risk_shift"]
Severity = Literal["low", "medium", "high"]

NAMED = 3
SAME_BEGINNING = timedelta(hours=12)
STRONG = {"high": (1e-4, 3.0), "medium": (1e-2, 2.0)}  # adjusted tail at most, factor at least
EXACT_FROM = 10  # larger expectations are reported as whole numbers


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One incident. `timestamp`: the start of its first hour (new_agent: first seen), aware, UTC; `description` names it too.

    `observed`, `expected`: actions over the `hours` hours from `timestamp` to its end, or until now while it lasts (spike,
    drop); shares 0–1 of elevated risk in the same hours (risk_shift); actions so far against 0 (new_agent). Both as rounded
    for display. `ends_at`: when the series was as before again, None while it is not. `agent_id`: None for the whole
    organization. `tail`: probability of the like under ordinary conditions, adjusted for everything tested at once.
    """

    type: Kind
    description: str
    severity: Severity
    timestamp: datetime
    agent_id: str | None
    observed: float
    expected: float
    ends_at: datetime | None
    tail: float
    hours: int = 1

    @property
    def id(self) -> str:
        """Tells it from other incidents of its organization; equal as long as its beginning is."""
        parts = (self.type, self.agent_id, self.timestamp.astimezone(UTC).isoformat())
        return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A person's word that an incident is known: the one of `type` and `agent_id` that began at `started_at` (aware)."""

    type: Kind
    agent_id: str | None
    started_at: datetime
    acknowledged_at: datetime
    acknowledged_by: str

    def covers(self, one: Anomaly) -> bool:
        """Whether it refers to `one`, whose start may have moved meanwhile because of late rows."""
        if (self.type, self.agent_id) != (one.type, one.agent_id):
            return False
        if abs(one.timestamp - self.started_at) <= SAME_BEGINNING:
            return True
        return one.timestamp <= self.started_at and (one.ends_at is None or self.started_at < one.ends_at)


def adjusted_tails(tails: Sequence[float], tests: int) -> list[float]:
    """Benjamini–Hochberg: the false discovery rate at which each would be reported, of `tests` tests made in all."""
    order = sorted(range(len(tails)), key=lambda place: tails[place], reverse=True)
    adjusted = [1.0] * len(tails)
    least = 1.0
    for behind, place in enumerate(order):
        least = min(least, tails[place] * max(tests, len(tails)) / (len(tails) - behind))
        adjusted[place] = least
    return adjusted


def severity(tail: float, factor: float) -> Severity:
    """By how unlikely and by how large: both must be reached."""
    for name in ("high", "medium"):
        most, least = STRONG[name]
        if tail <= most and factor >= least:
            return "high" if name == "high" else "medium"
    return "low"


def rounded(count: float) -> float:
    """An expected count for display: one decimal below ten, else whole."""
    return round(count, 1) if count < EXACT_FROM else float(round(count))


def amount(count: float) -> str:
    """A `rounded` count in words."""
    return f"{count:,.0f}" if count >= EXACT_FROM or count == round(count) else f"{count:.1f}"


def format_time(at: datetime) -> str:
    """With its zone: the page finds this form and shows it in the reader's own."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def span(hours: int, start: datetime) -> str:
    return f"in the hour from {format_time(start)}" if hours == 1 else f"in the {hours} hours from {format_time(start)}"


def subject(agent_id: str | None) -> str:
    return agent_id if agent_id is not None else "the organization"


def listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown
