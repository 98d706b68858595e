"""Values of enumerated columns that no rule knows: counted and named, so that no number omits rows silently. Pure."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from analytics.responses import cut
from analytics.state.snapshot import ScopedSnapshot
from analytics.view_context import ViewContext
from config.enumerations import WHITE_SPACE
from config.settings import Settings

NAMED_VALUES = 5  # of each kind; the rest are counted
VALUE_CHARACTERS = 40

DECIDED_STATUSES = (
    "approved",
    "auto_approved",
    "conditional_approved",
    "emergency_approved",
    "denied",
    "rejected",
    "blocked",
    "false_positive",
)
COMPLIANCE_ACTIONS = ("approve", "deny", "review")
AUDIT_ACTIONS = (*COMPLIANCE_ACTIONS, "create", "read", "update", "delete", "login", "logout")
DECISIONS = ("allow", "deny", "pending")
ORDINARY_ROLES = ("user", "viewer", "analyst", "operator", "manager", "platform_admin")

# What is counted, and what it means for the numbers that its value is unknown.
WORDS = {
    "status": (("action", "actions"), "status (neither success nor failure, decided nor pending)"),
    "risk": (("action", "actions"), "risk level (no weight in security_posture)"),
    "decision": (("action", "actions"), "decision (no number uses the column)"),
    "audit": (("audit event", "audit events"), "action (not counted in compliance_actions)"),
    "role": (("user", "users"), "role (not admin)"),
}
MISSING = "none"


class UnruledValue(NamedTuple):
    """A row of sql/unruled_values.sql."""

    kind: str
    value: str | None
    rows: int
    kind_rows: int
    kind_values: int


def known_values(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The values of each kind that a rule knows, in normal form."""
    meaning = settings.meaning
    return {
        "status": (
            *meaning.pending_statuses,
            *meaning.success_statuses,
            *meaning.failure_statuses,
            *meaning.other_statuses,
            *DECIDED_STATUSES,
        ),
        "decision": DECISIONS,
        "audit": AUDIT_ACTIONS,
        "role": (*settings.auth.admin_roles, *ORDINARY_ROLES),
    }


def unruled_caveats(snapshot: ScopedSnapshot, question: ViewContext, start: datetime) -> tuple[str, ...]:
    """One sentence for each kind that has such values in [start, now)."""
    known = [(kind, value) for kind, values in known_values(question.settings).items() for value in values]
    found = snapshot.named(
        UnruledValue,
        "unruled_values",
        start=start,
        end=question.end,
        white_space=WHITE_SPACE,
        known_kinds=[kind for kind, _ in known],
        known_values=[value for _, value in known],
        size=NAMED_VALUES,
    )
    by_kind = {kind: list(values) for kind, values in groupby(found, key=lambda one: one.kind)}
    return tuple(sentence(by_kind[kind]) for kind in WORDS if kind in by_kind)


def sentence(values: list[UnruledValue]) -> str:
    """Every value of one kind with its count, the commonest first."""
    (one, many), what = WORDS[values[0].kind]
    rows = values[0].kind_rows
    named = [f"{MISSING if each.value is None else quoted(each.value)} ({each.rows})" for each in values]
    if (rest := values[0].kind_values - len(values)) > 0:
        named.append(f"{rest} more")
    subject = f"1 {one} has" if rows == 1 else f"{rows} {many} have"
    return f"{subject} no known {what}: {', '.join(named)}."


def quoted(value: str) -> str:
    return f'"{cut(" ".join(value.split()), VALUE_CHARACTERS)}"'
