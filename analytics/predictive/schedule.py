"""When outlooks are made: on a schedule, after the day and the hour change, and when the past has changed. Never in a request.

Two threads compute, one for the schedule and one for organizations that are being requested; the event loop only waits.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import duckdb

from analytics.calendar import midnight, naive_utc
from analytics.predictive.anomalies.findings import Acknowledgement
from analytics.predictive.forecast_record import UNPROVEN, Accuracy, Due, ForecastRecord, Issued
from analytics.predictive.history import BUSIEST_WINDOW, Days, read_days, read_hours
from analytics.predictive.outlook import Forecasts, Outlook, make_anomalies, make_forecasts
from analytics.single_flight import SingleFlight
from analytics.state.background import Jobs, keep_running
from analytics.state.cache import Cache
from analytics.state.snapshot import Snapshot
from analytics.state.store import CacheNotReadyError
from config.settings import Settings

log = logging.getLogger(__name__)

TABLE = "agent_actions"
CHECK_SECONDS = 1.0
HOUR_SETTLES = timedelta(seconds=10)  # rows of the last seconds of an hour are still on their way when it ends
READ_SECONDS = 120.0
WAIT_SECONDS = 10.0
FAILED_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ForecastStatus:
    """For metrics. Durations in seconds, of the newest outlook; `accuracy` over all organizations."""

    outlooks: int = 0
    made: int = 0
    failures: int = 0
    last_seconds: float | None = None
    last_round_seconds: float | None = None
    accuracy: Accuracy = UNPROVEN


class ComputedOutlook(NamedTuple):
    """One computation: its outlook, None where it failed, and how long it took."""

    outlook: Outlook | None
    seconds: float


class Forecasting:
    """Keeps the outlooks of all organizations that act. Belongs to one event loop, as the publisher does.

    A new outlook is made when its UTC day or hour is over, or when actions have changed and
    `predictive.refresh_seconds` have passed; what its history did not change is taken over, not computed again.
    """

    def __init__(
        self,
        cache: Cache,
        settings: Settings,
        clock: Callable[[], datetime],
        forecast_record: ForecastRecord,
        jobs: Jobs,
    ) -> None:
        self._cache, self._settings, self._clock, self._forecast_record = cache, settings, clock, forecast_record
        self._outlooks: dict[int, Outlook] = {}
        self._acknowledged: dict[int, tuple[Acknowledgement, ...]] = {}
        self._checked_at: dict[int, float] = {}
        self._scheduled = ThreadPoolExecutor(1, thread_name_prefix="forecasts")
        self._requested = ThreadPoolExecutor(1, thread_name_prefix="forecasts-requested")
        self._recorder = ThreadPoolExecutor(1, thread_name_prefix="acknowledgements")
        self._requested_flights: SingleFlight[int, ComputedOutlook] = SingleFlight(self._requested, lambda: 0)
        self._scheduled_flights: SingleFlight[int, ComputedOutlook] = SingleFlight(self._scheduled, lambda: 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._schedule: asyncio.Task[None] | None = None
        self._jobs = jobs
        self._closed = False
        self.status = ForecastStatus()

    # -- for answers -----------------------------------------------------------------------------------------------

    def outlook(self, organization_id: int) -> Outlook | None:
        """The newest outlook, with what people acknowledged. From any thread."""
        found = self._outlooks.get(organization_id)
        acknowledged = self._acknowledged.get(organization_id, ())
        if found is None or found.acknowledged == acknowledged:
            return found
        return replace(found, acknowledged=acknowledged)

    async def acknowledge(self, organization_id: int, anomaly_id: str, by: str) -> Acknowledgement | None:
        """Record that `by` knows an anomaly of the newest outlook, which has no other of this id; None where it has none.

        Raises `sqlite3.Error` where it cannot be recorded; nothing has changed then.
        """
        found = self.outlook(organization_id)
        one = None if found is None else next((one for one in found.anomalies if one.id == anomaly_id), None)
        if found is None or one is None:
            return None
        acknowledgement = Acknowledgement(one.type, one.agent_id, one.timestamp, self._clock(), by)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(
            self._recorder, self._forecast_record.acknowledge, found.source, organization_id, acknowledgement
        )
        others = [other for other in self._acknowledged.get(organization_id, ()) if not other.covers(one)]
        self._acknowledged[organization_id] = (*others, acknowledgement)
        self._cache.touched()  # the responses published before show the anomaly as open
        return acknowledgement

    async def withdraw(self, organization_id: int, anomaly_id: str) -> bool:
        """Take the acknowledgement of an anomaly back; whether the newest outlook has this anomaly. Raises as `acknowledge`."""
        found = self.outlook(organization_id)
        one = None if found is None else next((one for one in found.anomalies if one.id == anomaly_id), None)
        if found is None or one is None:
            return False
        loop = asyncio.get_running_loop()
        for acknowledgement in [
            acknowledgement for acknowledgement in found.acknowledged if acknowledgement.covers(one)
        ]:
            await loop.run_in_executor(
                self._recorder, self._forecast_record.withdraw, found.source, organization_id, acknowledgement
            )
        others = [other for other in self._acknowledged.get(organization_id, ()) if not other.covers(one)]
        self._acknowledged[organization_id] = tuple(others)
        self._cache.touched()
        return True

    async def ready(self, organization_id: int) -> None:
        """See to it that there is an outlook; waits for the first one only, and never for long.

        One that is out of date is shown as it is while the next is made.
        """
        before = self._outlooks.get(organization_id)
        if self._closed or not self._cache.ready or not self._due(organization_id, before):
            return
        task = asyncio.get_running_loop().create_task(self._refresh(organization_id, self._requested_flights))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if before is None or before.forecasts is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(task), WAIT_SECONDS)

    # -- the schedule ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the schedule; needs a running event loop."""
        self._schedule = asyncio.get_running_loop().create_task(keep_running("forecasts", self._run, self._jobs))

    async def _run(self) -> None:
        done: datetime | None = None  # the hour whose round is over
        while True:
            hour = hour_of(self._clock() - HOUR_SETTLES)
            if self._cache.ready and hour != done:
                if await self.round():
                    done = hour
                else:
                    await asyncio.sleep(FAILED_AGAIN_SECONDS)
            await asyncio.sleep(CHECK_SECONDS)

    async def round(self) -> bool:
        """An outlook for every organization that acted in the last 30 days. False where the list could not be read."""
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            acting = await loop.run_in_executor(self._scheduled, self._acting)
        except (CacheNotReadyError, duckdb.Error) as error:
            log.warning("the organizations to forecast cannot be listed: %s", error)
            return False
        except RuntimeError:
            return False  # closed
        for gone in self._outlooks.keys() - set(acting):
            del self._outlooks[gone]
            self._acknowledged.pop(gone, None)
            self._checked_at.pop(gone, None)
        for organization_id in acting:
            await self._refresh(organization_id, self._scheduled_flights)
        with suppress(sqlite3.Error, RuntimeError):
            accuracy = await loop.run_in_executor(self._scheduled, self._forecast_record.accuracy)
            self._update_status(accuracy=accuracy, last_round_seconds=time.monotonic() - began)
        return True

    def close(self) -> None:
        """No further outlooks; one that is being made ends by itself. Idempotent."""
        self._closed = True
        if self._schedule is not None:
            self._schedule.cancel()
        for threads in (self._scheduled, self._requested, self._recorder):
            threads.shutdown(wait=False, cancel_futures=True)

    # -- making ----------------------------------------------------------------------------------------------------

    def _due(self, organization_id: int, before: Outlook | None) -> bool:
        since = time.monotonic() - self._checked_at.get(organization_id, -1e9)
        if before is None:
            return since >= CHECK_SECONDS
        now = self._clock()
        if before.hours_end != hour_of(now) and before.hours_end != hour_of(now - HOUR_SETTLES):
            return since >= CHECK_SECONDS
        if before.data_version == self._cache.table_version(TABLE):
            return False
        return since >= (CHECK_SECONDS if before.forecasts is None else self._settings.predictive.refresh_seconds)

    async def _refresh(self, organization_id: int, flights: SingleFlight[int, ComputedOutlook]) -> None:
        with suppress(CacheNotReadyError):
            await flights.join(organization_id, lambda _: self._compute(organization_id), self._keep)

    def _compute(self, organization_id: int) -> ComputedOutlook:
        """In a thread. A failure is logged once, however many wait for the outlook."""
        began = time.monotonic()
        try:
            outlook = self._make(organization_id)
        except CacheNotReadyError:
            raise
        except Exception:
            log.exception("the outlook of organization %d could not be made", organization_id)
            return ComputedOutlook(None, time.monotonic() - began)
        return ComputedOutlook(outlook, time.monotonic() - began)

    def _keep(self, organization_id: int, found: ComputedOutlook) -> None:
        """On the loop, once for each computation."""
        self._checked_at[organization_id] = time.monotonic()
        if found.outlook is None:
            self._update_status(failures=self.status.failures + 1)
            return
        # Read once; from then on this process is the only one that changes them.
        self._acknowledged.setdefault(organization_id, found.outlook.acknowledged)
        before = self._outlooks.get(organization_id)
        if before is None or before.made_at <= found.outlook.made_at:
            self._outlooks[organization_id] = found.outlook
        self._update_status(outlooks=len(self._outlooks), made=self.status.made + 1, last_seconds=found.seconds)

    def _update_status(self, **changes: object) -> None:
        self.status = replace(self.status, **changes)  # type: ignore[arg-type]

    def _acting(self) -> list[int]:
        now = self._clock()
        with self._cache.read(READ_SECONDS) as snapshot:
            rows = snapshot.rows_across_organizations(
                "acting_organizations", start=midnight(now) - BUSIEST_WINDOW, end=naive_utc(now)
            )
        return [int(organization_id) for organization_id, _ in rows]

    def _make(self, organization_id: int) -> Outlook:
        """In a thread. What has not changed since the outlook before is taken over."""
        before = self._outlooks.get(organization_id)
        counting = self._settings.meaning.count_false_positives
        version = self._cache.table_version(TABLE)  # before the read, so that it is never newer than what was read
        with self._cache.read(READ_SECONDS) as snapshot:
            now = self._clock()
            source = source_of(snapshot)
            due = self._due_scores(source, organization_id, now)
            days = read_days(snapshot.of(organization_id), now, counting, [one.subject for one in due if one.subject])
            hours = read_hours(snapshot.of(organization_id), now, counting)
        forecasts = self._forecasts(days, before)
        accuracy = self._record(source, organization_id, now, forecasts, days, due)
        hours_digest = hours.digest
        if before is not None and before.hours_digest == hours_digest:
            if forecasts is before.forecasts:
                # Nothing of its own has changed, so the moment it was made does not move with others' actions either.
                return replace(before, data_version=version, accuracy=accuracy)
            anomalies = before.anomalies
        else:
            anomalies = make_anomalies(hours, now)
        return Outlook(
            organization_id,
            now,
            version,
            forecasts,
            hours_digest,
            hours.end,
            anomalies,
            accuracy,
            hours.established,
            source,
            self._acknowledgements(source, organization_id),
        )

    def _forecasts(self, days: Days | None, before: Outlook | None) -> Forecasts | None:
        if days is None:
            return None
        if before is not None and before.forecasts is not None and before.forecasts.digest == days.digest:
            return before.forecasts
        return make_forecasts(days)

    # -- the record ------------------------------------------------------------------------------------------------

    def _acknowledgements(self, source: str, organization_id: int) -> tuple[Acknowledgement, ...]:
        try:
            return self._forecast_record.acknowledged(source, organization_id)
        except sqlite3.Error as error:
            log.warning("acknowledged anomalies cannot be read: %s", error)
            return ()

    def _due_scores(self, source: str, organization_id: int, now: datetime) -> list[Due]:
        try:
            return self._forecast_record.due(source, organization_id, naive_utc(now).date())
        except sqlite3.Error as error:
            log.warning("issued forecasts cannot be read: %s", error)
            return []

    def _record(
        self,
        source: str,
        organization_id: int,
        now: datetime,
        forecasts: Forecasts | None,
        days: Days | None,
        due: list[Due],
    ) -> Accuracy:
        """Issue what is new, score what is over. A record that cannot be written costs the scores, not the forecast."""
        try:
            if forecasts is not None:
                self._forecast_record.record(source, organization_id, issued(forecasts))
            if days is not None:
                self._forecast_record.score(source, organization_id, actuals(days, due), naive_utc(now).date())
            return self._forecast_record.accuracy(source, organization_id)
        except sqlite3.Error as error:
            log.warning("forecasts of organization %d cannot be recorded: %s", organization_id, error)
            return UNPROVEN


def source_of(snapshot: Snapshot) -> str:
    """What tells one source from another in the record."""
    ((system_identifier, database),) = snapshot.rows_across_organizations("origin")
    return f"{system_identifier}/{database}"


def issued(forecasts: Forecasts) -> Iterator[Issued]:
    """The forecasts as entries of the record."""
    made_on = forecasts.today
    for day in forecasts.risk:
        yield Issued(
            "high_risk", "", made_on, day.day, day.point, day.lower, day.upper, day.confidence, day.usual, day.method
        )
    for one in forecasts.workload:
        yield Issued(
            "workload",
            one.agent_id,
            made_on,
            one.day,
            one.point,
            one.lower,
            one.upper,
            one.confidence,
            one.usual,
            one.method,
        )


def actuals(days: Days, due: list[Due]) -> Iterator[tuple[Due, float]]:
    """The counts of days that are over. A day from before the history has none; an agent without an action has zero."""
    for one in due:
        whole = days.organization.on(one.target)
        if whole is None:
            continue
        if one.kind == "high_risk":
            yield one, whole[1]
        else:
            found = days.agents[one.subject].on(one.target)
            yield one, found[0] if found is not None else 0.0


def hour_of(instant: datetime) -> datetime:
    """When the hour of `instant` (aware) began."""
    return instant.replace(minute=0, second=0, microsecond=0)
