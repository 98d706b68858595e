"""pg_stat_statements of the source, where it is installed and readable: sums over an hour. Statement texts are never read."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import psycopg
from psycopg import sql

from analytics.state.sync_status import Statements

INTERVAL = timedelta(seconds=30)
AFTER_REFUSAL = timedelta(minutes=5)
HOUR = timedelta(hours=1)
SLOW_MILLISECONDS = 100.0

_WHERE = """
SELECT n.nspname, current_setting('server_version_num')::int >= 130000
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'"""

# showtext = false: the server does not read its file of statement texts.
_TOTALS = """
SELECT userid, queryid, sum(calls)::bigint, sum({time})
FROM {schema}.pg_stat_statements(false)
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY 1, 2"""

Key = tuple[int, int | None]


class Total(NamedTuple):
    """Executions and milliseconds of one statement since the source last reset its statistics."""

    calls: int
    milliseconds: float


class Interval(NamedTuple):
    """What was executed between two readings."""

    start: datetime
    calls: int
    slow: int
    milliseconds: float


def between(before: Mapping[Key, Total], after: Mapping[Key, Total], start: datetime) -> Interval:
    """The executions between two readings. If a count is lower than before, the statistics were reset and it counts from zero."""
    calls = slow = 0
    milliseconds = 0.0
    for key, total in after.items():
        earlier = before.get(key, Total(0, 0.0))
        if total.calls < earlier.calls:
            earlier = Total(0, 0.0)
        executed, took = total.calls - earlier.calls, max(0.0, total.milliseconds - earlier.milliseconds)
        calls += executed
        milliseconds += took
        if executed and took / executed >= SLOW_MILLISECONDS:
            slow += executed
    return Interval(start, calls, slow, milliseconds)


class StatementSampler:
    """Reads at intervals on the sampler's connection and keeps an hour. After a refusal it retries later."""

    def __init__(self, interval: timedelta = INTERVAL) -> None:
        self._interval = interval
        self._due: datetime | None = None
        self._before: tuple[datetime, Mapping[Key, Total]] | None = None
        self._intervals: deque[Interval] = deque()
        self._last: Statements | None = None

    def sample(self, connection: psycopg.Connection, now: datetime) -> Statements | None:
        """The sums of the last hour, or since the first reading; None without statistics, or after only one reading.

        Needs a connection in autocommit. Raises psycopg.OperationalError when it is broken.
        """
        if self._due is not None and self._due - max(self._interval, AFTER_REFUSAL) <= now < self._due:
            return self._last
        try:
            totals = read_totals(connection)
        except psycopg.Error:
            if connection.broken:
                raise
            totals = None
        if totals is None:
            self._due, self._before, self._last = now + AFTER_REFUSAL, None, None
            self._intervals.clear()
            return None
        self._due = now + self._interval
        if self._before is not None:
            self._intervals.append(between(self._before[1], totals, self._before[0]))
            self._last = self._summed(now)
        self._before = (now, totals)
        return self._last

    def _summed(self, now: datetime) -> Statements:
        while len(self._intervals) > 1 and self._intervals[0].start < now - HOUR:
            self._intervals.popleft()
        return Statements(
            executed=sum(interval.calls for interval in self._intervals),
            slow=sum(interval.slow for interval in self._intervals),
            milliseconds=sum(interval.milliseconds for interval in self._intervals),
            slow_milliseconds=SLOW_MILLISECONDS,
            since=self._intervals[0].start,
            sampled_at=now,
        )


def read_totals(connection: psycopg.Connection) -> dict[Key, Total] | None:
    """Totals of the connection's database by role and statement; None without the extension. Raises psycopg.Error."""
    found = connection.execute(_WHERE).fetchone()
    if found is None:
        return None
    schema, thirteen = found
    time = sql.SQL("total_exec_time" if thirteen else "total_time")
    query = sql.SQL(_TOTALS).format(time=time, schema=sql.Identifier(schema))
    return {(role, statement): Total(calls, spent) for role, statement, calls, spent in connection.execute(query)}
