"""Stated confidence against observed coverage, as a table and as a drawing."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt

LEVELS = (0.5, 0.8, 0.9, 0.95)
EDGES = (0.0, 0.45, 0.5, 0.55, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
FEWEST_DAYS = 50  # in a bin that is drawn


class Calibration:
    """Collects stated confidences and whether the day landed inside, for bands asked at several levels."""

    def __init__(self) -> None:
        self._levels: list[float] = []
        self._stated: list[float] = []
        self._inside: list[bool] = []

    def note(self, level: float, confidence: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_]) -> None:
        self._levels += [level] * len(confidence)
        self._stated += confidence.tolist()
        self._inside += inside.tolist()

    def rows(self) -> list[tuple[str, int, float, float]]:
        """(bin, days, mean stated, observed): first by the level asked for, then by the confidence stated."""
        levels, stated, inside = np.array(self._levels), np.array(self._stated), np.array(self._inside, dtype=float)
        bins = [(f"asked {level:.0%}", levels == level) for level in LEVELS]
        bins += [
            (f"stated {low:.0%}-{high:.0%}", (stated >= low) & (stated < high))
            for low, high in itertools.pairwise(EDGES)
        ]
        return [
            (name, int(among.sum()), float(stated[among].mean()), float(inside[among].mean()))
            for name, among in bins
            if among.any()
        ]

    def table(self) -> str:
        lines = ["| bin | days | stated | observed | off by, points |", "|---|---|---|---|---|"]
        lines += [
            f"| {name} | {days} | {stated:.3f} | {seen:.3f} | {100 * (seen - stated):+.1f} |"
            for name, days, stated, seen in self.rows()
        ]
        return "\n".join(lines)

    def write(self, out: Path) -> None:
        with (out / "calibration.csv").open("w", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(["bin", "days", "stated", "observed"])
            writer.writerows([name, days, f"{stated:.4f}", f"{seen:.4f}"] for name, days, stated, seen in self.rows())
        (out / "calibration.svg").write_text(self.drawing())

    def drawing(self) -> str:
        """Stated to the right, observed upwards; on the diagonal the confidence is what it says."""
        size, edge = 400, 40
        span = size - 2 * edge

        def at(x: float, y: float) -> tuple[float, float]:
            return edge + span * x, size - edge - span * y

        marks = []
        for name, days, stated, seen in self.rows():
            if name.startswith("stated") and days >= FEWEST_DAYS:
                x, y = at(stated, seen)
                marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{name}: {days} days</title></circle>')
        labels = []
        for tick in (0, 0.25, 0.5, 0.75, 1):
            (x, y), (left, height) = at(tick, 0), at(0, tick)
            labels.append(f'<text x="{x:.0f}" y="{y + 16:.0f}" text-anchor="middle">{tick:.0%}</text>')
            labels.append(f'<text x="{left - 6:.0f}" y="{height + 4:.0f}" text-anchor="end">{tick:.0%}</text>')
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" font-family="sans-serif"'
            f' font-size="11"><rect width="{size}" height="{size}" fill="white"/>'
            f'<path d="M{edge} {size - edge}L{size - edge} {edge}" stroke="gray" stroke-dasharray="4"/>'
            f'<path d="M{edge} {edge}V{size - edge}H{size - edge}" fill="none" stroke="black"/>'
            f'<g fill="steelblue">{"".join(marks)}</g>{"".join(labels)}'
            f'<text x="{size / 2}" y="{size - 6}" text-anchor="middle">stated confidence</text>'
            f'<text x="{edge}" y="{edge - 14}">observed</text></svg>\n'
        )
