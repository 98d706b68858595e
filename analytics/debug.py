"""GET /debug: the newest actions as the source has them, five unless asked for more. Pure: no clock, HTTP or Postgres."""

from __future__ import annotations

from typing import NamedTuple

from analytics.responses import NAME_CHARACTERS, TEXT_CHARACTERS, DebugAction, cut
from analytics.state.snapshot import ScopedSnapshot
from analytics.view_context import ViewContext

LATEST = 5


class DebugRow(NamedTuple):
    """A row of sql/debug_actions.sql."""

    id: int
    agent_id: str | None
    risk: str | None
    mitre_tactic: str | None
    nist_control: str | None
    recommendation: str | None
    summary: str | None


def debug(snapshot: ScopedSnapshot, context: ViewContext, *, limit: int | None = None) -> tuple[DebugAction, ...]:
    """The `limit` newest actions, without it five, newest first; what is missing stays null, the risk level is normalised."""
    rows = snapshot.named(DebugRow, "debug_actions", latest=context.latest, size=limit or LATEST)
    return tuple(
        DebugAction(
            id=row.id,
            agent_id=cut_optional(row.agent_id),
            risk_level=row.risk,
            mitre_tactic=cut_optional(row.mitre_tactic),
            nist_control=cut_optional(row.nist_control),
            recommendation=cut_optional(row.recommendation, TEXT_CHARACTERS),
            summary=cut_optional(row.summary, TEXT_CHARACTERS),
        )
        for row in rows
    )


def cut_optional(text: str | None, characters: int = NAME_CHARACTERS) -> str | None:
    return None if text is None else cut(text, characters)
