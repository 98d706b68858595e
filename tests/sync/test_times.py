"""Times: one rule for whatever Postgres can store, and local times of columns without a zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from analytics.executive.dashboard import executive
from analytics.predictive.history import read_days, read_hours
from analytics.state.clock import utc_now
from analytics.state.sync_status import Phase
from analytics.view_context import ViewContext
from config.load import load_settings
from config.problems import SettingsError
from sync.comparison.verify import Scope, Verifier
from sync.source.preflight import inspect_source
from sync.values.local_time import EPOCH, LocalTime
from tests.postgres import Database
from tests.sync.running import RunningSync, cache_rows, running_sync, settings_for, wait_until
from tests.sync.test_verify import ODD_TIMES

ZONES = (
    "Asia/Kolkata", "America/New_York", "Europe/Dublin", "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns",
    "Africa/Casablanca", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Kiritimati", "UTC",
)  # fmt: skip


@pytest.mark.parametrize("zone", ZONES)
def test_local_times_become_the_moments_that_postgres_means(database: Database, zone: str) -> None:
    """At every half hour around each change of clocks since 1970, in skipped and in doubled hours, and far in the future."""
    database.execute("set timezone = 'UTC'")
    rows = database.execute(
        """
        with hours as (select generate_series(timestamp '1970-01-01', '2037-12-31', interval '1 hour') as h),
             changes as (select h from hours where (h at time zone %(zone)s) - ((h - interval '1 hour') at time zone %(zone)s)
                         <> interval '1 hour'),
             spots as (select h + n * interval '30 minutes' as t from changes, generate_series(-6, 6) n
                       union select generate_series(timestamp '1901-01-01', '1969-12-31', interval '97 days 5 hours')
                       union select generate_series(timestamp '2038-01-01', '2600-01-01', interval '61 days 7 hours')
                       union select timestamp '9999-12-31 23:59:59.999999')
        select (extract(epoch from t) * 1000000)::bigint - 946684800000000,
               (extract(epoch from t at time zone %(zone)s) * 1000000)::bigint - 946684800000000
        from spots order by 1""",
        {"zone": zone},
    ).fetchall()
    assert len(rows) > 3000
    local, moments = np.array(rows, np.int64).T
    found = LocalTime(zone).to_utc(local)
    wrong = np.flatnonzero(found != moments)
    shown = [
        (str(EPOCH + timedelta(microseconds=int(local[i]))), int(found[i] - moments[i]) / 3.6e9)
        for i in wrong[:5]
        if local[i] < 10**16
    ]
    assert not len(wrong), f"{len(wrong)} of {len(rows)} in {zone}: {shown}"


def assert_zoned(sync: RunningSync, database: Database, zone: str) -> int:
    """The cache's created_at of every action is the moment that Postgres makes of the local time."""
    wanted = {
        row[0]: row[1]
        for row in database.execute(
            "select id, case when created_at >= '10000-01-01' then 'infinity' when created_at < '0001-01-01' then '-infinity'"
            " else trunc(extract(epoch from created_at at time zone %s) * 1000000)::text end from agent_actions",
            [zone],
        ).fetchall()
    }
    with sync.cache.read() as snapshot:
        found = dict(
            snapshot._connection.execute(
                "select id, case when isfinite(created_at) then epoch_us(created_at)::varchar else created_at::varchar end"
                " from agent_actions"
            ).fetchall()
        )
    assert found == wanted
    return len(found)


def write_local(database: Database, moments: list[str]) -> None:
    for moment in moments:
        database.execute(
            "insert into agent_actions (agent_id, action_type, organization_id, timestamp, created_at, status)"
            " values ('a', 'x', 1, null, %s::timestamp, 'pending_approval')",
            [moment],
        )


@pytest.mark.parametrize("mode", ["stream", "poll"])
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
def test_columns_without_a_zone_are_read_in_the_zone_of_their_table(
    database: Database, tmp_path: Path, zone: str, mode: str
) -> None:
    """Copied and followed rows alike; every row that Postgres can store, and both halves of a doubled hour."""
    database.execute("alter table agent_actions disable trigger user")
    moments = ["2025-11-02 01:30:00", "2025-03-09 02:30:00", "2025-06-01 12:00:00.000001", "infinity", "-infinity",
               "0044-03-15 BC", "4713-01-01 BC", "11000-01-01", "294276-12-31 23:59:59.999999", "0002-01-01", "9999-12-30"]  # fmt: skip
    write_local(database, moments)
    options = {"source": {"zones": {"agent_actions": zone}}, "cache": {"keep_days": 36500}}
    sync_options = {"mode": mode, "poll_seconds": 0.05}
    with running_sync(database, tmp_path, sync=sync_options, **options) as sync:
        sync.phase(Phase.STREAMING if mode == "stream" else Phase.POLLING)
        write_local(database, moments)
        wait_until(lambda: len(cache_rows(sync.cache, "agent_actions")) == 2 * len(moments), "the rows")
        assert assert_zoned(sync, database, zone) == 2 * len(moments)
        if mode == "stream":
            verifier = Verifier(sync.settings, sync.cache, sync.loop, sync.board, utc_now)
            for scope in (Scope(), Scope(days=2)):
                report = verifier.verify(scope, lambda: False)
                assert report.equal, list(report.lines())
        else:
            assert sync.board.current.copies == 1


def test_rows_written_in_local_time_are_counted_once_their_zone_is_set(database: Database, tmp_path: Path) -> None:
    """As found: clocks 5.5 h ahead put every row of the last hours into the future. A change of the setting copies anew."""
    database.execute("alter table agent_actions disable trigger user")
    local = (utc_now() + timedelta(hours=5, minutes=30) - timedelta(minutes=10)).replace(tzinfo=None)
    write_local(database, [local.isoformat()] * 50)

    def past(sync: RunningSync) -> int:
        with sync.cache.read() as snapshot:
            query = "select count(*) from agent_actions where event_at < $1"
            ((count,),) = snapshot._connection.execute(query, [utc_now().replace(tzinfo=None)]).fetchall()
            return int(count)

    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        assert past(sync) == 0
    with running_sync(database, tmp_path, source={"zones": {"agent_actions": "Asia/Kolkata"}}) as sync:
        sync.streaming()
        wait_until(lambda: sync.board.current.copies == 1, "a new copy")
        assert past(sync) == 50


def test_odd_times_reach_readers_as_dates_that_python_has(database: Database, tmp_path: Path) -> None:
    """A date before the year 1 came back as text, and ended an organization's forecasts."""
    database.execute("alter table agent_actions disable trigger user")
    write_local(database, list(ODD_TIMES))
    database.execute(
        "insert into users (id, organization_id, email, password, last_logout) values (1, 1, 'a', 'x', '0044-03-15 BC')"
    )
    with running_sync(database, tmp_path, cache={"keep_days": 36500}) as sync:
        sync.streaming()
        write_local(database, [*ODD_TIMES, (utc_now() - timedelta(days=2)).replace(tzinfo=None).isoformat()])
        sync.caught_up(database)
        with sync.cache.read() as snapshot:
            times = [row[0] for row in snapshot._connection.execute("select event_at from agent_actions").fetchall()]
            times += [row[0] for row in snapshot._connection.execute("select last_logout from users").fetchall()]
            assert len(times) == 2 * len(ODD_TIMES) + 2
            assert all(isinstance(time, datetime) for time in times)
            now = datetime.now(UTC)
            hours = read_hours(snapshot.of(1), now, False)
            days = read_days(snapshot.of(1), now, False)
        assert hours.organization.actions.sum() == 1
        assert days is not None
        assert days.organization.actions[-2] == 1
        report = Verifier(sync.settings, sync.cache, sync.loop, sync.board, utc_now).verify(Scope(), lambda: False)
        assert report.equal, list(report.lines())


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"source\.zones\.users.*must be a time zone .*India"):
        load_settings(None, {}, {"source.zones.users": "India/Nowhere"})


def test_rows_dated_ahead_are_reported_everywhere(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute("alter table agent_actions disable trigger user")
    local = (utc_now() + timedelta(hours=5, minutes=30)).replace(tzinfo=None)
    write_local(database, [*[local.isoformat()] * 3, "infinity", "2020-01-01"])
    settings = settings_for(database, tmp_path)
    (found,) = [finding for finding in inspect_source(settings) if "ahead" in finding.message]
    assert (found.level, found.subject) == ("warning", "table public.agent_actions")
    assert re.fullmatch(r"3 of the newest 5 rows are dated up to 3(29|30) minutes ahead", found.message)
    assert "UTC+05:30" in found.remedy
    assert "[source.zones] agent_actions" in found.remedy
    zoned = settings_for(database, tmp_path, source={"zones": {"agent_actions": "Asia/Kolkata"}})
    assert not [finding for finding in inspect_source(zoned) if "ahead" in finding.message]
    with running_sync(database, tmp_path, auth={"jwt_enabled": False}) as sync:
        sync.streaming()
        wait_until(lambda: sync.board.current.newest_ahead_seconds > 0, "the board")
        assert 329 * 60 <= sync.board.current.newest_ahead_seconds <= 330 * 60
        assert "3 rows of agent_actions are dated up to 3" in caplog.text
        assert "source.zones.agent_actions" in caplog.text
        with sync.cache.read() as snapshot:
            question = ViewContext(1, utc_now(), sync.board.current, sync.settings)
            (caveat,) = [text for text in executive(snapshot.of(1), question).meta.caveats if "ahead" in text]
            assert re.match(r"The newest rows are 3(29|30) minutes ahead: 3 actions are dated after now", caveat)
            other = ViewContext(2, utc_now(), sync.board.current, sync.settings)
            assert not [text for text in executive(snapshot.of(2), other).meta.caveats if "ahead" in text]


def test_a_wrong_clock_of_a_column_with_a_zone_is_no_matter_of_zones(database: Database, tmp_path: Path) -> None:
    for column in ("created_at", "timestamp"):
        database.execute(f"alter table agent_actions alter column {column} type timestamptz")
    insert = (
        "insert into agent_actions (agent_id, action_type, organization_id, timestamp) values ('a', 'x', 1, now() + {})"
    )
    database.execute(insert.format("interval '1 day'"))
    (found,) = [f for f in inspect_source(settings_for(database, tmp_path)) if "ahead" in f.message]
    assert found.remedy == "correct the clock of whatever writes these rows"


def test_a_zone_with_other_rules_on_the_source_is_an_error(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problems() -> list[str]:
        settings = settings_for(database, tmp_path, source={"zones": {"users": "America/New_York"}})
        return [str(finding) for finding in inspect_source(settings) if finding.level == "error"]

    assert problems() == []
    monkeypatch.setattr(
        "sync.source.zone_check.local_time", lambda zone: LocalTime("America/Lima")
    )  # as if our data were older
    (found,) = problems()
    assert "the rules of the time zone America/New_York on the source differ from those on this machine" in found
