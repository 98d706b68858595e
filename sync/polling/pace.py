"""How often polling reads the source, and what it may promise: from what the last cycles took."""

from __future__ import annotations

import math
from collections import deque

READING_SHARE = 5  # looking for changes takes at most a fifth of the time of one source connection
RECONCILING_SHARE = 10  # comparing checksums takes at most a tenth
CYCLES_REMEMBERED = 100


class Pace:
    """The wait between cycles and the bounds of the guarantee, in seconds."""

    def __init__(self, poll: float, reconcile: float) -> None:
        self._poll, self._reconcile = poll, reconcile
        self._reading: deque[float] = deque([0.0], maxlen=CYCLES_REMEMBERED)
        self._reconciling: deque[float] = deque([0.0], maxlen=CYCLES_REMEMBERED)

    def read(self, seconds: float) -> None:
        """A cycle took this long to look for changed rows."""
        self._reading.append(seconds)

    def reconciled(self, seconds: float) -> None:
        """A cycle took this long to compare tables."""
        self._reconciling.append(seconds)

    @property
    def pause(self) -> float:
        """Until the next cycle: a slow scan runs less often, so that the source keeps most of its time."""
        return max(self._poll, (READING_SHARE - 1) * self._reading[-1])

    @property
    def inserts_within(self) -> int:
        """A row that commits just after a snapshot is seen by the next one, and visible when that cycle is done.

        Either cycle may compare tables as well.
        """
        reading, reconciling = max(self._reading), max(self._reconciling)
        return math.ceil(max(self._poll, (READING_SHARE - 1) * reading) + 2 * (reading + reconciling))

    @property
    def deletes_within(self) -> int:
        """The same, after the longest time between two comparisons of a table."""
        return math.ceil(max(self._reconcile, RECONCILING_SHARE * max(self._reconciling))) + self.inserts_within

    @property
    def guarantee(self) -> str:
        return (
            f"eventual: inserts and updates within {self.inserts_within} s, "
            f"deletes and silent changes within {self.deletes_within} s"
        )
