"""The record of issued forecasts and of acknowledged anomalies: a small database beside the cache, which survives new copies.

Unlike the cache it cannot be rebuilt from the source: a forecast that is made afterwards proves nothing. So the first one
issued on a day for a target stands, whatever is computed later, and is scored by the count of its day once that is over.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from analytics.predictive.anomalies.findings import Acknowledgement
from config.private_files import ensure_private

log = logging.getLogger(__name__)

FILE = "forecasts.sqlite"
ASIDE = "unusable-forecasts.sqlite"
SCHEMA = 1
RETRY_SECONDS = 60.0  # between attempts to keep in a file what had to begin in memory
KEEP = timedelta(days=90)
SETTLED = timedelta(days=7)  # a day's count may still change for so long, by rows that come late

Kind = Literal["high_risk", "workload"]
Result = TypeVar("Result")

TABLE = """
create table if not exists issued (
    source text not null,
    organization integer not null,
    kind text not null,
    subject text not null,
    made_on text not null,
    target text not null,
    point real not null,
    lower real not null,
    upper real not null,
    confidence real not null,
    usual real not null,
    method text not null,
    actual real,
    primary key (source, organization, kind, subject, made_on, target)
) without rowid
"""


ACKNOWLEDGED = """
create table if not exists acknowledged (
    source text not null,
    organization integer not null,
    kind text not null,
    agent text,
    started_at text not null,
    acknowledged_at text not null,
    acknowledged_by text not null
)
"""


class Issued(NamedTuple):
    """One forecast as it was issued: on `made_on` (UTC) for the day `target`. `subject`: the agent, "" for high_risk.

    `usual` is the forecast of the simplest method: the mean of the same weekday in four weeks.
    """

    kind: Kind
    subject: str
    made_on: date
    target: date
    point: float
    lower: float
    upper: float
    confidence: float
    usual: float
    method: str


class Due(NamedTuple):
    """A forecast whose day is over and whose count is wanted."""

    kind: Kind
    subject: str
    target: date


class Score(NamedTuple):
    """How the scored forecasts of one kind turned out; counts are actions a day.

    `within_band`: share (0–1) whose actual lay in the stated band; `stated_confidence`: the mean of what was stated;
    `mean_absolute_error` beside `usual_absolute_error`, that of the same weekday's four-week mean. None without any.
    """

    forecasts_scored: int = 0
    within_band: float | None = None
    stated_confidence: float | None = None
    mean_absolute_error: float | None = None
    usual_absolute_error: float | None = None
    since: date | None = None


UNSCORED = Score()


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Scores by kind of the forecasts whose days ended in the last 90."""

    high_risk: Score = UNSCORED
    workload: Score = UNSCORED


UNPROVEN = Accuracy()


class DamagedRecordError(sqlite3.DatabaseError):
    """The file is no record of ours: of another version, or its pages contradict each other."""


class ForecastRecord:
    """The record of one installation. Methods may be called from any thread; each is one transaction.

    `directory` None keeps it in memory; `later` is then where it moves as soon as a file can be opened there. A file that is
    damaged is set aside and a new record begun, at the start and later. Other errors (`OSError`, `sqlite3.Error`), such as a disk
    without space, do not concern the file and leave it unchanged. The caller logs them, because a forecast is worth showing
    even where it cannot be recorded.
    """

    def __init__(self, directory: Path | None, *, later: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._path = None if directory is None else directory / FILE
        self._later = None if later is None else later / FILE
        self._next_try = time.monotonic() + RETRY_SECONDS
        self._database = prepared(":memory:") if self._path is None else opened_or_begun(self._path)

    def _transact(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._lock:
            self._move_to_file()
            try:
                with self._database:
                    return work(self._database)
            except sqlite3.DatabaseError as error:
                if self._path is None or not damaged(error):
                    raise
                self._database.close()
                set_aside(self._path, error)
                self._database = opened(self._path)
                with self._database:
                    return work(self._database)

    def _move_to_file(self) -> None:
        """Where the record had to begin in memory: try now and then whether it can be kept by now."""
        if self._later is None or time.monotonic() < self._next_try:
            return
        self._next_try = time.monotonic() + RETRY_SECONDS
        try:
            database = opened_or_begun(self._later)
            with database:
                rows = self._database.execute("select * from issued").fetchall()
                marks = ", ".join("?" * len(rows[0])) if rows else "?"
                database.executemany(f"insert or ignore into issued values ({marks})", rows)  # noqa: S608 - only placeholders
        except (OSError, sqlite3.Error) as error:
            log.debug("issued forecasts are still kept in memory only: %s", error)
            return
        self._database.close()
        self._database, self._path, self._later = database, self._later, None
        log.info("issued forecasts are kept in %s again", FILE)

    def record(self, source: str, organization_id: int, forecasts: Iterable[Issued]) -> int:
        """Add forecasts; those of a day, target and subject that were issued before stay as they were. Number added."""
        rows = [
            (source, organization_id, *one._replace(made_on=one.made_on.isoformat(), target=one.target.isoformat()))  # type: ignore[arg-type]
            for one in forecasts
        ]

        def add(database: sqlite3.Connection) -> int:
            before = database.total_changes
            database.executemany(
                "insert or ignore into issued (source, organization, kind, subject, made_on, target, point, lower,"
                " upper, confidence, usual, method) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            return database.total_changes - before

        return self._transact(add)

    def due(self, source: str, organization_id: int, today: date) -> list[Due]:
        """What needs a count: days before `today` without one, and those of the last week, whose count may have changed."""
        found = self._transact(
            lambda database: database.execute(
                "select distinct kind, subject, target from issued where source = ? and organization = ? and target < ?"
                " and (actual is null or target >= ?)",
                (source, organization_id, today.isoformat(), (today - SETTLED).isoformat()),
            ).fetchall()
        )
        return [Due(kind, subject, date.fromisoformat(target)) for kind, subject, target in found]

    def score(self, source: str, organization_id: int, counts: Iterable[tuple[Due, float]], today: date) -> None:
        """Set the counts of days that are over, and forget what is older than 90 days."""
        rows = [
            (actual, source, organization_id, due.kind, due.subject, due.target.isoformat()) for due, actual in counts
        ]

        def settle(database: sqlite3.Connection) -> None:
            database.executemany(
                "update issued set actual = ? where source = ? and organization = ? and kind = ? and subject = ?"
                " and target = ?",
                rows,
            )
            database.execute(
                "delete from issued where source = ? and organization = ? and target < ?",
                (source, organization_id, (today - KEEP).isoformat()),
            )

        self._transact(settle)

    def accuracy(self, source: str | None = None, organization_id: int | None = None) -> Accuracy:
        """Scores of one organization, or of all."""
        where, values = "actual is not null", []
        if source is not None:
            where, values = where + " and source = ? and organization = ?", [source, organization_id]
        found = self._transact(
            lambda database: database.execute(
                "select kind, count(*), avg(actual between lower and upper), avg(confidence), avg(abs(actual - point)),"  # noqa: S608 - no text from outside
                f" avg(abs(actual - usual)), min(target) from issued where {where} group by kind",
                values,
            ).fetchall()
        )
        scores = {
            kind: Score(number, inside, stated, error, usual, date.fromisoformat(since))
            for kind, number, inside, stated, error, usual, since in found
        }
        return Accuracy(scores.get("high_risk", UNSCORED), scores.get("workload", UNSCORED))

    def acknowledge(self, source: str, organization_id: int, acknowledgement: Acknowledgement) -> None:
        """Keep it, in place of an earlier one of the same incident."""
        with self._lock, self._database:
            self._forget(source, organization_id, acknowledgement)
            self._database.execute(
                "insert into acknowledged (source, organization, kind, agent, started_at, acknowledged_at, acknowledged_by)"
                " values (?, ?, ?, ?, ?, ?, ?)",
                (
                    source,
                    organization_id,
                    acknowledgement.type,
                    acknowledgement.agent_id,
                    acknowledgement.started_at.isoformat(),
                    acknowledgement.acknowledged_at.isoformat(),
                    acknowledgement.acknowledged_by,
                ),
            )

    def withdraw(self, source: str, organization_id: int, acknowledgement: Acknowledgement) -> None:
        """Forget an acknowledgement."""
        with self._lock, self._database:
            self._forget(source, organization_id, acknowledgement)

    def _forget(self, source: str, organization_id: int, acknowledgement: Acknowledgement) -> None:
        self._database.execute(
            "delete from acknowledged where source = ? and organization = ? and kind = ? and agent is ? and started_at = ?",
            (
                source,
                organization_id,
                acknowledgement.type,
                acknowledgement.agent_id,
                acknowledgement.started_at.isoformat(),
            ),
        )

    def acknowledged(self, source: str, organization_id: int) -> tuple[Acknowledgement, ...]:
        """All of an organization, oldest first."""
        with self._lock:
            found = self._database.execute(
                "select kind, agent, started_at, acknowledged_at, acknowledged_by from acknowledged"
                " where source = ? and organization = ? order by acknowledged_at",
                (source, organization_id),
            ).fetchall()
        return tuple(
            Acknowledgement(kind, agent, datetime.fromisoformat(started), datetime.fromisoformat(at), by)
            for kind, agent, started, at, by in found
        )

    def close(self) -> None:
        with self._lock:
            self._database.close()


def open_forecast_record(directory: Path | None) -> ForecastRecord:
    """The record in `directory`; in memory, with a warning, while none can be kept there: a server forecasts all the same."""
    try:
        return ForecastRecord(directory)
    except (OSError, sqlite3.Error) as error:
        log.warning("issued forecasts are kept in memory only, until %s can be opened: %s", FILE, error)
        return ForecastRecord(None, later=directory)


def opened_or_begun(path: Path) -> sqlite3.Connection:
    """The database at `path`; a new one where what is there is damaged, which is set aside."""
    try:
        return opened(path)
    except sqlite3.DatabaseError as error:
        if not damaged(error):
            raise
        set_aside(path, error)
        return opened(path)


def damaged(error: sqlite3.Error) -> bool:
    """Whether an error is the file's own fault: a disk without room, a lock or a missing right is not."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, DamagedRecordError) or primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def set_aside(path: Path, error: sqlite3.Error) -> None:
    log.warning("%s cannot be read and is set aside as %s; a new record begins: %s", path, ASIDE, error)
    with suppress(OSError):
        path.replace(path.with_name(ASIDE))


def opened(path: Path) -> sqlite3.Connection:
    """The database at `path`, made where it is missing; readable only by its owner."""
    ensure_private(path)
    return prepared(str(path))


def prepared(name: str) -> sqlite3.Connection:
    """Opens and checks; writes only to a new file, so that a record can be read from a disk without room."""
    database = sqlite3.connect(name, check_same_thread=False, timeout=5)
    try:
        database.execute("pragma journal_mode = delete")
        (version,) = database.execute("pragma user_version").fetchone()
        if version not in (0, SCHEMA):
            raise DamagedRecordError(f"its version is {version}, this program's is {SCHEMA}")
        (sound,) = database.execute("pragma quick_check(1)").fetchone()
        if sound != "ok":
            raise DamagedRecordError(sound)
        tables = {name for (name,) in database.execute("select name from sqlite_schema where type = 'table'")}
        if version == 0 or not {"issued", "acknowledged"} <= tables:
            with database, closing(database.cursor()) as cursor:
                cursor.execute(TABLE)
                cursor.execute(ACKNOWLEDGED)
                cursor.execute(f"pragma user_version = {SCHEMA}")
    except BaseException:
        database.close()
        raise
    return database
