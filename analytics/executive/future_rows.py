"""Actions dated after now: no number counts them yet; a caveat reports them. Pure."""

from __future__ import annotations

from analytics.state.snapshot import ScopedSnapshot
from analytics.view_context import ViewContext


def future_caveats(snapshot: ScopedSnapshot, question: ViewContext) -> tuple[str, ...]:
    """For `meta.caveats`: how many actions are dated after now, and how far ahead the newest are; empty without one."""
    ((actions, newest),) = snapshot.rows("future_actions", latest=question.latest)
    if not actions:
        return ()
    minutes = max(1, round((newest - question.end).total_seconds() / 60))
    what = "action is" if actions == 1 else "actions are"
    return (
        f"The newest rows are {minutes} minutes ahead: {actions} {what} dated after now and not counted yet. "
        "A clock or the time zone of the source's columns is wrong (source.zones).",
    )
