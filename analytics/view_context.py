"""What a view is asked: whose numbers, at which moment, under which settings. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from analytics.calendar import naive_utc
from analytics.state.sync_status import SyncStatus
from analytics.state.telemetry_board import OFF, TelemetryStatus
from analytics.telemetry import TelemetryReport, report
from config.settings import Settings

if TYPE_CHECKING:
    from analytics.predictive.outlook import Outlook

HOUR = timedelta(hours=1)

DataStatus = Literal["live", "no_recent_activity", "stale"]


@dataclass(frozen=True, slots=True)
class ViewContext:
    """One organization's question at `now` (aware); `sync` and `telemetry` are where the data stood then.

    `outlook` is the organization's own; None before the first has been made.
    """

    organization_id: int
    now: datetime
    sync: SyncStatus
    settings: Settings
    telemetry: TelemetryStatus = OFF
    outlook: Outlook | None = None

    @property
    def telemetry_report(self) -> TelemetryReport | None:
        """The state of machine and application telemetry; None if telemetry is off."""
        return report(self.telemetry, self.settings.telemetry, self.now)

    @property
    def organization_name(self) -> str | None:
        """The organization's name as the source has it; None where no table provides it."""
        return self.sync.organization_names.get(self.organization_id)

    @property
    def end(self) -> datetime:
        """The open end of every window, as the cache keeps times (naive UTC)."""
        return naive_utc(self.now)

    @property
    def latest(self) -> datetime:
        """Rows dated after this (naive UTC) come from a clock that is wrong; lists leave them out."""
        return self.end + timedelta(seconds=self.settings.meaning.future_tolerance_seconds)

    @property
    def stale(self) -> bool:
        """Whether the cache may lack what the source has committed for longer than the settings allow."""
        return self.sync.stale(self.now, self.settings.sync.stale_after_seconds)

    def data_status(self, *, recent: bool) -> DataStatus:
        """`recent`: whether there was an action within the last hour. Being behind the source comes first."""
        if self.stale:
            return "stale"
        return "live" if recent else "no_recent_activity"
