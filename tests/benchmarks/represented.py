"""What a benchmark represents, printed before its figures, so that nobody reads them as something else."""

from __future__ import annotations

OPENING = "Represents "


def state(docstring: str | None) -> None:
    """Print the paragraph of a benchmark's docstring that begins with "Represents"; every benchmark has one."""
    for paragraph in (docstring or "").split("\n\n"):
        if paragraph.startswith(OPENING):
            print(" ".join(paragraph.split()), flush=True)
            return
    raise ValueError(f"the benchmark's docstring has no paragraph that begins with {OPENING!r}")
