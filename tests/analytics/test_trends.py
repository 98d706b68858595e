"""GET /trends: windows, ties, normal forms, cuts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from analytics.state.tables import AGENT_ACTIONS
from config.settings import Settings
from tests.analytics import recomputation
from tests.analytics.asking import asking
from tests.analytics.rows import DTYPES, NOW, ArrowFrame, action, settings
from tests.contract.structure import assert_documented

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def test_structure_is_the_documented_one(given: Settings) -> None:
    with asking(given, agent_actions=[action(1, risk_level="HIGH", tool_name="mail")]) as ask:
        answer = ask("trends")
    assert_documented("trends", answer)
    assert answer["top_agents"]
    assert answer["top_tools"]
    assert answer["enriched_actions"]


def test_no_data_gives_every_day_with_zero_and_empty_lists(given: Settings) -> None:
    with asking(given) as ask:
        answer = ask("trends", days=7)
    assert [entry["date"] for entry in answer["high_risk_actions_by_day"]] == [
        f"2025-01-{day:02}" for day in range(9, 16)
    ]
    assert {entry["count"] for entry in answer["high_risk_actions_by_day"]} == {0}
    assert (answer["top_agents"], answer["top_tools"], answer["enriched_actions"]) == ([], [], [])
    assert answer["pending_actions_count"] == 0
    assert answer["meta"]["data_status"] == "no_recent_activity"


@pytest.mark.parametrize("days", [1, 2, 7, 30, 365])
def test_days_entries_exactly_and_the_first_day_from_its_midnight(given: Settings, days: int) -> None:
    midnight = datetime(2025, 1, 15, tzinfo=UTC) - timedelta(days=days - 1)
    rows = [
        action(1, risk_level="high", timestamp=midnight),
        action(2, risk_level="high", timestamp=midnight - timedelta(microseconds=1)),
    ]
    with asking(given, agent_actions=rows) as ask:
        answer = ask("trends", days=days)
    by_day = answer["high_risk_actions_by_day"]
    assert len(by_day) == days == answer["meta"]["days"]
    assert by_day[0] == {"date": midnight.date().isoformat(), "count": 1}
    assert sum(entry["count"] for entry in by_day) == 1
    assert answer["top_agents"] == [{"agent": "agent-1", "count": 1}]


def test_the_window_ends_at_now_and_not_at_the_whole_second_before(given: Settings) -> None:
    rows = [
        action(1, agent_id="a moment ago", risk_level="critical", timestamp=NOW - timedelta(microseconds=1)),
        action(2, agent_id="now itself", risk_level="critical", timestamp=NOW),
    ]
    with asking(given, agent_actions=rows) as ask:
        answer = ask("trends")
    assert answer["top_agents"] == [{"agent": "a moment ago", "count": 1}]
    assert answer["high_risk_actions_by_day"][-1]["count"] == 1


def test_high_risk_is_high_or_critical_in_any_case_and_no_false_positive(given: Settings) -> None:
    levels = ["high", "HIGH", " Critical ", "medium", "severe", None]
    rows = [action(number, risk_level=level) for number, level in enumerate(levels)]
    rows.append(action(10, risk_level="high", is_false_positive=True))
    rows.append(action(11, risk_level="high", is_false_positive=False))
    with asking(given, agent_actions=rows) as ask:
        assert ask("trends")["high_risk_actions_by_day"][-1]["count"] == 4


def test_false_positives_count_where_the_setting_says_so(given: Settings) -> None:
    counting = settings(given.cache.directory, meaning={"count_false_positives": True})
    with asking(counting, agent_actions=[action(1, risk_level="high", is_false_positive=True)]) as ask:
        assert ask("trends")["high_risk_actions_by_day"][-1]["count"] == 1
        assert ask("realtime")["real_time_overview"]["recent_high_risk_actions"] == 1


def test_top_lists_hold_ten_with_ties_by_code_point_and_no_missing_tools(given: Settings) -> None:
    tools = ["b", "a", "Z", "é", "\U0001f600", "\uffee", "tool-10", "tool-9", "c", "d", "e", "f", None, None, None]
    rows = [action(number, tool_name=tool, agent_id=f"agent {tool}") for number, tool in enumerate(tools)]
    rows += [action(100, tool_name="f", agent_id="busy"), action(101, tool_name=None, agent_id="busy")]
    with asking(given, agent_actions=rows) as ask:
        answer = ask("trends")
    shown = [entry["tool"] for entry in answer["top_tools"]]
    assert shown == ["f", "Z", "a", "b", "c", "d", "e", "tool-10", "tool-9", "é"]
    assert [entry["count"] for entry in answer["top_tools"]] == [2] + [1] * 9
    assert [entry["agent"] for entry in answer["top_agents"]][:2] == ["agent None", "busy"]
    assert len(answer["top_agents"]) == 10


def test_names_beyond_the_basic_plane_sort_by_code_point_and_not_by_utf16(given: Settings) -> None:
    rows = [action(1, agent_id="\U0001f600"), action(2, agent_id="\uffee")]
    with asking(given, agent_actions=rows) as ask:
        assert [entry["agent"] for entry in ask("trends")["top_agents"]] == ["\uffee", "\U0001f600"]


def test_latest_twenty_by_time_then_id_with_the_documented_words_for_gaps(given: Settings) -> None:
    rows = [action(number, ago=HOUR, agent_id=f"agent-{number}") for number in range(1, 31)]
    rows.append(action(40, ago=timedelta(days=400), agent_id="long ago"))
    with asking(given, agent_actions=rows) as ask:
        latest = ask("trends", days=1)["enriched_actions"]
    assert [entry["agent_id"] for entry in latest] == [f"agent-{number}" for number in range(30, 10, -1)]
    assert latest[0] == {
        "agent_id": "agent-30",
        "action_type": "email_send",
        "risk_level": "low",
        "mitre_tactic": "N/A",
        "nist_control": "N/A",
        "recommendation": "No recommendation",
        "tool_name": "Unknown",
        "timestamp": "2025-01-15T13:30:00Z",
    }


def test_a_row_without_timestamp_happened_when_it_was_created(given: Settings) -> None:
    created = (NOW - 2 * SECOND).replace(tzinfo=None)
    rows = [
        action(1, timestamp=None, created_at=created, risk_level="high", agent_id="raw writer"),
        action(2, timestamp=None, created_at=None, agent_id="timeless"),
    ]
    with asking(given, agent_actions=rows) as ask:
        answer = ask("trends")
    assert answer["high_risk_actions_by_day"][-1]["count"] == 1
    assert [entry["agent_id"] for entry in answer["enriched_actions"]] == ["raw writer"]
    assert answer["enriched_actions"][0]["timestamp"] == "2025-01-15T14:29:58Z"


def test_dos_04_rows_of_the_far_future_or_past_do_not_occupy_the_latest_list(given: Settings) -> None:
    rows = [
        action(1, agent_id="present"),
        action(2, agent_id="slightly ahead", timestamp=NOW + 299 * SECOND),
        action(3, agent_id="far ahead", timestamp=NOW + 301 * SECOND),
        action(4, agent_id="year 9999", timestamp=datetime(9999, 12, 31, tzinfo=UTC)),
    ]
    with asking(given, agent_actions=rows) as ask:
        answer = ask("trends")
    assert [entry["agent_id"] for entry in answer["enriched_actions"]] == ["slightly ahead", "present"]
    assert [entry["agent"] for entry in answer["top_agents"]] == ["present"]


def test_dos_04_infinite_and_prehistoric_times_are_no_trouble(given: Settings) -> None:
    with asking(given, agent_actions=[action(1)]) as ask:
        store = ask.cache.live
        assert store is not None
        for number, moment in enumerate(["infinity", "-infinity", "4713-01-01 (BC) 00:00:00", "294246-01-01 00:00:00"]):
            store._writer.execute(
                "insert into agent_actions (id, organization_id, agent_id, risk, event_at)"
                " values (?, 1, 'odd clock', 'high', ?::timestamp)",
                [100 + number, moment],
            )
        answer = ask("trends")
        assert [entry["agent_id"] for entry in answer["enriched_actions"]] == ["agent-1"]
        assert ask("realtime")["real_time_overview"]["status"]["data_age_minutes"] == 10
        assert len(ask("debug")) == 3  # the past ones are listed, after the present one
        assert ask("predictive")["data_collection"]["total_actions"] == 1


def test_pending_counts_all_time_by_the_statuses_of_the_setting(given: Settings) -> None:
    rows = [
        action(1, status="pending_approval", ago=timedelta(days=300)),
        action(2, status="pending"),
        action(3, status="PENDING_APPROVAL"),
        action(4, status=None),
        action(5, status="escalated"),
    ]
    with asking(given, agent_actions=rows) as ask:
        assert ask("trends", days=1)["pending_actions_count"] == 2
    both = settings(given.cache.directory, meaning={"pending_statuses": ["\tPending_Approval ", "Escalated"]})
    with asking(both, agent_actions=rows) as ask:
        assert ask("trends", days=1)["pending_actions_count"] == 3
    none = settings(given.cache.directory, meaning={"pending_statuses": []})
    with asking(none, agent_actions=rows) as ask:
        assert ask("trends", days=1)["pending_actions_count"] == 0


def test_dos_01_names_of_a_megabyte_are_cut_with_a_mark(given: Settings) -> None:
    names = ["x" * 1_000_000, "y" * 256, "z" * 257]
    rows = [action(number, agent_id=name, tool_name=name, recommendation=name) for number, name in enumerate(names)]
    with asking(given, agent_actions=rows) as ask:
        body = ask.body("trends")
        answer = ask("trends")
    assert len(body) < 20_000
    shown = [entry["agent"] for entry in answer["top_agents"]]
    assert shown == ["x" * 255 + "…", "y" * 256, "z" * 255 + "…"]
    assert max(len(entry["recommendation"]) for entry in answer["enriched_actions"]) == 2048


def test_dos_02_the_ten_busiest_are_found_among_a_hundred_thousand_agents(given: Settings) -> None:
    many = 100_000
    quiet = pl.DataFrame(
        {
            "id": pl.int_range(many, eager=True),
            "agent_id": pl.select(pl.format("quiet {}", pl.int_range(many))).to_series(),
            "timestamp": pl.Series([NOW - HOUR] * many).dt.replace_time_zone(None).cast(pl.Datetime("us")),
        }
    ).with_columns(organization_id=pl.lit(1, pl.Int64))
    missing = [column for column in AGENT_ACTIONS.columns if column.name not in quiet.columns]
    whole = quiet.with_columns(pl.lit(None, DTYPES[column.kind]).alias(column.name) for column in missing)
    busy = [action(many + number, agent_id=f"busy {number % 9}") for number in range(30)]
    with asking(given, agent_actions=busy) as ask:
        store = ask.cache.live
        assert store is not None
        store.begin()
        store.append("agent_actions", ArrowFrame(whole))
        store.commit(200)
        shown = [(entry["agent"], entry["count"]) for entry in ask("trends")["top_agents"]]
    assert shown == [*((f"busy {n}", 4) for n in range(3)), *((f"busy {n}", 3) for n in range(3, 9)), ("quiet 0", 1)]


@pytest.mark.parametrize(
    ("zone", "now"),
    [
        ("Europe/Berlin", datetime(2025, 3, 31, 10, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2025, 10, 27, 10, tzinfo=UTC)),
        ("America/New_York", datetime(2025, 3, 10, 1, 30, tzinfo=UTC)),
        ("Asia/Kathmandu", datetime(2025, 1, 15, 18, 20, tzinfo=UTC)),
        ("Pacific/Chatham", datetime(2025, 4, 7, 10, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2025, 4, 7, 10, tzinfo=UTC)),
        ("Pacific/Apia", datetime(2012, 1, 1, 12, tzinfo=UTC)),
    ],
)
def test_in_04_days_of_a_zone_hold_what_happened_in_them(given: Settings, zone: str, now: datetime) -> None:
    rows = [
        action(number, now=now, ago=timedelta(minutes=7 * number), risk_level="high", agent_id=f"a{number % 3}")
        for number in range(1, 1200)
    ]
    with asking(given, now=now, agent_actions=rows) as ask:
        answer = ask("trends", days=5, tz=zone)
    expected = recomputation.trends(rows, now, 5, zone)
    assert answer["meta"]["time_zone"] == zone
    assert {key: answer[key] for key in expected} == expected


def test_apia_lists_the_date_it_skipped_with_zero(given: Settings) -> None:
    now = datetime(2012, 1, 1, 12, tzinfo=UTC)
    rows = [action(number, now=now, ago=timedelta(hours=number), risk_level="high") for number in range(1, 100)]
    with asking(given, now=now, agent_actions=rows) as ask:
        by_day = ask("trends", days=5, tz="Pacific/Apia")["high_risk_actions_by_day"]
    counts = {entry["date"]: entry["count"] for entry in by_day}
    assert counts == {"2011-12-29": 24, "2011-12-30": 0, "2011-12-31": 24, "2012-01-01": 24, "2012-01-02": 2}


def test_sql_02_hostile_names_are_text(given: Settings) -> None:
    names = ["'); DROP TABLE agent_actions;--", "{{7*7}}", "${jndi:x}", "%s%n", "\u202e\u0000\u2028</script>"]
    rows = [action(number, agent_id=name) for number, name in enumerate(names)]
    with asking(given, agent_actions=rows) as ask:
        assert {entry["agent"] for entry in ask("trends")["top_agents"]} == set(names)
