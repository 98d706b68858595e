"""The reference page of the metrics: `python -m handlers.metrics > docs/reference/metrics.md`."""

from __future__ import annotations

from handlers.metrics.reference import reference

if __name__ == "__main__":
    print(reference(), end="")
