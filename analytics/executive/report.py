"""What the printed forms of the executive dashboard are made from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from analytics.executive.responses import ExecutiveDashboard
from analytics.executive.rules import Figures


@dataclass(frozen=True, slots=True)
class DayActivity:
    """One date of the report's time zone."""

    date: date
    actions: int
    high_risk: int  # high and critical


@dataclass(frozen=True, slots=True)
class ExecutiveReport:
    """What is printed: the response, which of its figures were measured, and the period's days, ascending."""

    organization_id: int
    dashboard: ExecutiveDashboard
    figures: Figures
    days: tuple[DayActivity, ...]

    @property
    def organization_name(self) -> str | None:
        """As the source has it; None where no table provides it."""
        return self.dashboard.meta.organization_name
