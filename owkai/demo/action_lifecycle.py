"""The outcome of an action by its risk level, chance and age, as on the platform. Pure."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
RECORDED = 0.7


class ActionOutcome(NamedTuple):
    """The state of an action. Delays in seconds after the action; None: has not happened or was not recorded.

    `approved` is the platform's tri-state; `human`: a person decided, and the reviewer's name is recorded.
    """

    status: str | None
    approved: bool | None
    decision: str | None
    human: bool
    false_positive: bool
    requires_approval: bool
    decided_after: float | None
    updated_after: float


class Weights:
    """Draws one of several values by a number in [0, 1)."""

    def __init__(self, *choices: tuple[str | None, float]) -> None:
        self._values = [value for value, _ in choices]
        total = sum(weight for _, weight in choices)
        self._edges = list(accumulate(weight / total for _, weight in choices))[:-1]

    def draw(self, chance: float) -> str | None:
        return self._values[bisect(self._edges, chance)]


LOW = Weights(
    ("completed", 80), ("executed", 7), ("approved", 8), ("failed", 2.6), ("pending", 0.6), ("imported", 1), (None, 0.2)
)
MEDIUM = Weights(
    ("completed", 68), ("approved", 13), ("executed", 5), ("failed", 4), ("execution_failed", 0.6), ("pending", 3),
    ("denied", 3), ("rejected", 1.6), ("false_positive", 1.5), ("deleted", 0.3),
)  # fmt: skip
ELEVATED = Weights(
    ("approved", 41), ("completed", 28), ("denied", 13), ("rejected", 5), ("blocked", 2), ("executed", 3),
    ("failed", 3), ("false_positive", 3), ("conditional_approved", 1.5), ("emergency_approved", 0.5),
)  # fmt: skip

DENIALS = frozenset({"denied", "rejected", "blocked"})
OPEN = frozenset({"pending", "pending_approval", "processing", "in_progress", None})


def level_of(score: float) -> str:
    """The level that the platform's trigger derives from a score."""
    if score >= 90:
        return "critical"
    if score >= 70:
        return "high"
    return "medium" if score >= 40 else "low"


def still_waiting(age: float, chance: float) -> bool:
    """Whether an elevated action still waits for a person `age` seconds after it."""
    if age < 4 * HOUR:
        return chance < 0.55
    if age < DAY:
        return chance < 0.2
    return chance < (0.05 if age < 3 * DAY else 0.003)


def outcome(level: str, age: float, chances: Sequence[float], recorded: float = RECORDED) -> ActionOutcome:
    """The state of an action of `level` when it is `age` seconds old. `chances`: six independent numbers in [0, 1).

    `recorded`: share (0–1) of outcomes whose decision is recorded.
    """
    status_chance, wait_chance, human_chance, path_chance, delay_chance, false_chance = chances
    elevated = level in ("high", "critical")
    if age < 90 and wait_chance < 0.5:
        return ActionOutcome(
            "processing" if path_chance < 0.7 else "in_progress", None, "PENDING", False, False, True, None, 0.0
        )
    if elevated and still_waiting(age, wait_chance):
        return ActionOutcome("pending_approval", None, "PENDING", False, False, True, None, min(age, 2.0))
    weights = ELEVATED if elevated else MEDIUM if level == "medium" else LOW
    status = weights.draw(status_chance)
    if status in OPEN:
        return ActionOutcome(status, None, None, False, False, level != "low", None, 0.0)
    human = human_chance < (0.86 if elevated else 0.14 if level == "medium" else 0.004)
    # A person takes minutes to hours, and never longer than the row's age.
    delay = min(age, (4 * MINUTE + 9 * HOUR * delay_chance**4) if human else 0.4 + 20 * delay_chance)
    denied = status in DENIALS
    # The newer interface changes only the status and records no reviewer.
    older_interface = path_chance < recorded
    by_name = human and older_interface
    approved = None if not older_interface or status == "false_positive" else not denied
    false_positive = status == "false_positive" or (level != "low" and false_chance < 0.012)
    decision = "DENY" if denied else "ALLOW"
    # The result of the work is reported some time after the decision.
    finished = min(age, delay + 2 + 400 * false_chance)
    return ActionOutcome(
        status, approved, decision, by_name, false_positive, level != "low", delay if by_name else None, finished
    )
