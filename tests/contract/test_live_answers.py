"""The whole road: a real Postgres, `owkai serve` as a process, real HTTP. Shapes against the documented examples, numbers
against the same question asked of Postgres by SQL written here."""

from __future__ import annotations

import gzip
import http.client
import json
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from websockets.sync.client import connect

from tests.contract.platform_rows import fill, make_key
from tests.contract.structure import assert_documented
from tests.owkai.servers import Server, serving, wait_for
from tests.postgres import Database
from tests.sync.running import slot_name

API = "/api/analytics"
EVENT = "coalesce(\"timestamp\", created_at at time zone 'UTC')"
HIGH = "lower(trim(risk_level)) in ('high', 'critical') and is_false_positive is not true"


class Road(NamedTuple):
    server: Server
    database: Database
    keys: dict[tuple[int, str], str]

    def ask(self, path: str, organization: int = 1, role: str = "user") -> Any:
        status, body = self.server.get(API + path, {"X-API-Key": self.keys[organization, role]})
        assert status == 200, body
        return body

    def one(self, query: str, *parameters: Any) -> Any:
        row = self.database.execute(query, list(parameters)).fetchone()
        assert row is not None
        return row[0]

    def settled(self, organization: int = 1) -> None:
        """Wait until the server has what the source has: a mark of its own that is undone again."""
        pending = self.one(
            "select count(*) from agent_actions where organization_id = %s and status = 'pending_approval'",
            organization,
        )
        wait_for(lambda: self.ask("/trends", organization)["pending_actions_count"] == pending, "the change to arrive")


@pytest.fixture
def road(database: Database, tmp_path: Path) -> Iterator[Road]:
    fill(database)
    keys = {
        (organization, role): make_key(database, organization, role, f"{role}@org{organization}.example.com")
        for organization in (1, 2, 3)
        for role in ("user", "admin")
    }
    with serving(
        tmp_path, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database), WEBSOCKET_INTERVAL_SECONDS="0.2"
    ) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, f"readiness: {server.messages()}")
        yield Road(server, database, keys)


def test_every_answer_has_its_documented_structure(road: Road) -> None:
    assert_documented("trends", road.ask("/trends"))
    assert_documented("debug", road.ask("/debug"))
    assert_documented("performance", road.ask("/performance"))
    assert_documented("performance", road.ask("/performance/system"))
    realtime = road.ask("/realtime/metrics")
    assert_documented("realtime_metrics_without_cloudwatch", realtime)
    assert_documented("realtime_metrics_cloudwatch", realtime, without=("system_health", "performance_metrics"))
    assert_documented("predictive_trends_active", road.ask("/predictive/trends"))
    assert road.server.get(f"{API}/executive/dashboard", {"X-API-Key": road.keys[1, "user"]})[0] == 403
    assert_documented("executive_dashboard", road.ask("/executive/dashboard", role="admin"))


def on_one_day(zone: str, ask: Callable[[], Any]) -> tuple[Any, date]:
    """An answer and the day in `zone` on which it was asked and given."""
    while True:
        today = datetime.now(ZoneInfo(zone)).date()
        answer = ask()
        if datetime.now(ZoneInfo(zone)).date() == today:
            return answer, today


@pytest.mark.parametrize(
    ("days", "zone"), [(7, "UTC"), (1, "UTC"), (30, "Europe/Berlin"), (14, "Asia/Kathmandu"), (90, "America/St_Johns")]
)
@pytest.mark.parametrize("organization", [1, 3])
def test_trends_equal_the_same_question_in_sql(road: Road, days: int, zone: str, organization: int) -> None:
    answer, today = on_one_day(zone, lambda: road.ask(f"/trends?days={days}&tz={zone}", organization))
    dates = [(today - timedelta(days=back)).isoformat() for back in reversed(range(days))]
    counts = dict(
        road.database.execute(
            f"select (({EVENT}) at time zone %s)::date::text, count(*) from agent_actions"
            f" where organization_id = %s and {HIGH} and {EVENT} < now() group by 1",
            [zone, organization],
        ).fetchall()
    )
    assert answer["high_risk_actions_by_day"] == [{"date": day, "count": counts.get(day, 0)} for day in dates]
    start = datetime.combine(today - timedelta(days=days - 1), datetime.min.time(), ZoneInfo(zone))
    for field, label, column in (("top_agents", "agent", "agent_id"), ("top_tools", "tool", "tool_name")):
        top = road.database.execute(
            f"select {column}, count(*) from agent_actions where organization_id = %s and {EVENT} >= %s and {EVENT} < now()"
            f' and {column} is not null group by 1 order by 2 desc, {column} collate "C" limit 10',
            [organization, start],
        ).fetchall()
        assert answer[field] == [{label: name, "count": count} for name, count in top]
    latest = road.database.execute(
        "select agent_id, action_type, case when lower(risk_level) in ('low', 'medium', 'high', 'critical') then lower(risk_level)"
        " else 'unknown' end, coalesce(mitre_tactic, 'N/A'), coalesce(nist_control, 'N/A'),"
        " coalesce(recommendation, 'No recommendation'), coalesce(tool_name, 'Unknown'),"
        f" to_char({EVENT} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        f" from agent_actions where organization_id = %s order by {EVENT} desc, id desc limit 20",
        [organization],
    ).fetchall()
    assert [tuple(action.values()) for action in answer["enriched_actions"]] == latest
    assert answer["pending_actions_count"] == road.one(
        "select count(*) from agent_actions where organization_id = %s and status = 'pending_approval'", organization
    )


@pytest.mark.parametrize("organization", [1, 2, 3])
def test_realtime_and_performance_equal_the_same_question_in_sql(road: Road, organization: int) -> None:
    hour, day = (
        f"{EVENT} >= now() - interval '1 hour' and {EVENT} < now()",
        f"{EVENT} >= now() - interval '24 hours' and {EVENT} < now()",
    )
    mine = f"from agent_actions where organization_id = {organization}"
    answer = road.ask("/realtime/metrics", organization)
    overview = answer["real_time_overview"]
    assert overview["total_actions_last_hour"] == road.one(f"select count(*) {mine} and {hour}")
    assert overview["total_actions_last_hour"] > 0
    assert overview["actions_last_24h"] == road.one(f"select count(*) {mine} and {day}")
    assert overview["recent_high_risk_actions"] == road.one(f"select count(*) {mine} and {hour} and {HIGH}")
    assert overview["active_agents"] == road.one(f"select count(distinct agent_id) {mine} and {hour}")
    naive = "now() at time zone 'UTC'"
    assert overview["active_sessions"] == road.one(
        "select count(*) from (select user_id from audit_logs where organization_id = %s and user_id is not null"
        f" and created_at >= {naive} - interval '1 hour' and created_at < {naive} union select id from users where organization_id = %s"
        f" and last_login >= {naive} - interval '1 hour' and last_login < {naive}) people",
        organization,
        organization,
    )
    assert overview["status"]["has_data"] is True
    assert answer["data_quality"]["data_status"] == "live"
    assert answer["meta"]["mock_data"] is False
    performance = road.ask("/performance", organization)["database_metrics"]
    assert performance["query_performance"]["recent_queries"] == overview["total_actions_last_hour"]
    assert performance["connections"]["max"] == int(road.one("show max_connections"))
    assert 0 < performance["connections"]["total"] <= performance["connections"]["max"]


def test_debug_shows_the_five_latest_of_the_own_organization_with_their_nulls(road: Road) -> None:
    expected = road.database.execute(
        "select id, agent_id, case when risk_level is null then null when lower(risk_level) in ('low', 'medium', 'high', 'critical')"
        " then lower(risk_level) else 'unknown' end, mitre_tactic, nist_control, recommendation, summary"
        f" from agent_actions where organization_id = 2 order by {EVENT} desc, id desc limit 5"
    ).fetchall()
    assert [tuple(action.values()) for action in road.ask("/debug", 2)] == expected


def test_insert_update_and_delete_are_visible_in_trends_at_once(road: Road) -> None:
    def count() -> int:
        """Of a year, so that a midnight in between changes nothing."""
        return sum(int(day["count"]) for day in road.ask("/trends?days=365")["high_risk_actions_by_day"])

    seconds = []
    for _ in range(10):
        before = count()
        for statement, expected in (
            ("insert into agent_actions (id, agent_id, action_type, organization_id, risk_level, \"timestamp\")"
             " values (777777, 'a', 'x', 1, 'CRITICAL', now())", before + 1),
            ("update agent_actions set risk_level = 'low' where id = 777777", before),
            ("update agent_actions set risk_level = 'high' where id = 777777", before + 1),
            ("delete from agent_actions where id = 777777", before),
        ):  # fmt: skip
            started = time.monotonic()
            road.database.execute(statement)
            wait_for(lambda expected=expected: count() == expected, statement)
            seconds.append(time.monotonic() - started)
    assert statistics.median(seconds) < 5, "nothing waits for a poll or a retry"


def test_organization_2_never_sees_a_number_that_organization_1_moved(road: Road) -> None:
    paths = ("/trends", "/trends?days=365", "/debug", "/predictive/trends")
    before = [road.ask(path, 2) for path in paths]
    overview = road.ask("/realtime/metrics", 2)["real_time_overview"]
    road.database.execute(
        'insert into agent_actions (agent_id, action_type, organization_id, risk_level, status, tool_name, "timestamp", summary)'
        " select 'CANARY-ORG1', 'CANARY-ORG1', 1, 'critical', 'pending_approval', 'CANARY-ORG1', now(), 'CANARY-ORG1'"
        " from generate_series(1, 500)"
    )
    road.settled(1)
    assert road.ask("/trends", 1)["top_agents"][0]["agent"] == "CANARY-ORG1"
    for path, answer in zip(paths, before, strict=True):
        now = road.ask(path, 2)
        assert "CANARY-ORG1" not in json.dumps(now)
        if path != "/predictive/trends":
            assert now == answer
    after = road.ask("/realtime/metrics", 2)["real_time_overview"]
    assert after["actions_last_24h"] <= overview["actions_last_24h"]
    # An action that changes hands leaves no trace with its former owner.
    road.database.execute(
        "update agent_actions set organization_id = 2 where agent_id = 'CANARY-ORG1' and organization_id = 1"
    )
    road.settled(2)
    assert "CANARY-ORG1" not in json.dumps(road.ask("/trends", 1))
    assert road.ask("/trends", 2)["top_agents"][0]["agent"] == "CANARY-ORG1"


def test_conditional_compressed_and_head_requests(road: Road) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", road.server.port, timeout=10)

    def request(method: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        sent = {"X-API-Key": road.keys[3, "user"], **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, f"{API}/trends", headers=sent)
        response = connection.getresponse()
        return response, response.read()

    plain, body = request("GET")
    zipped, packed = request("GET", Accept_Encoding="gzip")
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == body
    assert len(packed) < len(body) / 2
    assert plain.headers["ETag"] != zipped.headers["ETag"]
    assert plain.headers["Cache-Control"].startswith("private")
    same, nothing = request("GET", If_None_Match=plain.headers["ETag"])
    assert (same.status, nothing) == (304, b"")
    head, nothing = request("HEAD")
    assert (head.status, nothing, head.headers["Content-Length"]) == (200, b"", str(len(body)))
    road.database.execute(
        "update agent_actions set status = 'pending_approval' where organization_id = 3 and id % 5 = 0"
    )
    road.settled(3)
    changed, _ = request("GET", If_None_Match=plain.headers["ETag"])
    assert changed.status == 200
    connection.close()


def test_the_websocket_confirms_and_updates_with_numbers_of_its_organization(road: Road) -> None:
    url = f"ws://127.0.0.1:{road.server.port}{API}/ws/realtime/user@org2.example.com"
    with connect(url, additional_headers={"X-API-Key": road.keys[2, "user"]}) as socket:
        confirmation = json.loads(socket.recv(5))
        assert_documented("ws_connection", confirmation)
        assert confirmation["message"] == "Real-time analytics connected for user@org2.example.com"
        first = json.loads(socket.recv(5))
        assert_documented("ws_metrics_update", first)
        road.database.execute(
            'insert into agent_actions (agent_id, action_type, organization_id, risk_level, "timestamp")'
            " select 'a', 'x', 2, 'critical', now() from generate_series(1, 7)"
        )
        deadline = time.monotonic() + 5
        while (update := json.loads(socket.recv(5)))["metrics"]["high_risk_actions_last_hour"] < first["metrics"][
            "high_risk_actions_last_hour"
        ] + 7:
            assert time.monotonic() < deadline, update
        assert update["metrics"]["active_websocket_connections"] == 1


def test_data_endpoints_answer_503_with_progress_before_the_first_copy(database: Database, tmp_path: Path) -> None:
    fill(database, 100)
    key = make_key(database, 1, "user", "user@example.com")
    with database.connect(autocommit=False) as old:
        # An open transaction holds the slot's snapshot back: the copy cannot begin.
        old.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 1)")
        with serving(tmp_path, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database)) as server:
            wait_for(lambda: server.get("/readyz")[1].get("state") == "copying", "the copy to begin")
            assert server.get("/healthz")[0] == 200
            assert server.get("/readyz")[0] == 503
            status, problem = server.get(f"{API}/trends", {"X-API-Key": key})
            assert status == 503, problem
            old.commit()
            wait_for(lambda: server.get("/readyz")[0] == 200, "readiness")
            assert server.get(f"{API}/trends", {"X-API-Key": key})[0] == 200


def test_timestamps_are_utc_whole_seconds(road: Road) -> None:
    stamp = road.ask("/realtime/metrics")["timestamp"]
    assert abs(datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(
        seconds=5
    )


def test_az_09_what_others_do_on_the_source_is_counted_and_never_shown(road: Road) -> None:
    marks = {"application_name": "CANARY-APPLICATION"}
    other = road.database.connect(**marks)
    other.execute("select 'CANARY-QUERY' where pg_sleep(0) is not null")
    other.execute("listen canary_query")
    before = road.ask("/performance")["database_metrics"]["connections"]["total"]
    wait_for(lambda: road.ask("/performance")["database_metrics"]["connections"]["total"] is not None, "a sample")
    more = [road.database.connect(**marks) for _ in range(3)]
    wait_for(
        lambda: road.ask("/performance")["database_metrics"]["connections"]["total"] >= (before or 0) + len(more),
        "the new connections to be counted",
    )
    user = str(road.one("select current_user"))
    paths = [
        (API + "/performance", "user"),
        (API + "/performance/system", "user"),
        (API + "/performance", "admin"),
        ("/readyz", "user"),
    ]
    for path, role in paths:
        text = json.dumps(road.server.get(path, {"X-API-Key": road.keys[1, role]})[1])
        for word in ("CANARY", "canary", "pg_sleep", f'"{user}"', road.database.name):
            assert word not in text, (path, word)


def test_dos_06_a_huge_or_deep_extra_column_never_leaves_the_source(road: Road) -> None:
    for number, extra in ((800001, "repeat('x', 20 * 1024 * 1024)"), (800002, None)):
        value = f"jsonb_build_object('k', {extra})" if extra else f"'{'[' * 3000}{']' * 3000}'::jsonb"
        road.database.execute(
            'insert into agent_actions (id, agent_id, action_type, organization_id, risk_level, "timestamp", extra_data)'
            f" values ({number}, 'heavy', 'x', 1, 'low', now(), {value})"
        )
    wait_for(lambda: {800001, 800002} <= {row["id"] for row in road.ask("/debug")}, "both rows")
    folder = road.server.log_path.parent / "cache"
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 16 * 1024 * 1024


def test_dos_07_one_large_transaction_changes_of_every_row_and_a_truncate_leave_the_server_answering(
    road: Road,
) -> None:
    def resident() -> int:
        status = Path(f"/proc/{road.server.process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def last_day() -> int:
        return int(road.ask("/realtime/metrics", 2)["real_time_overview"]["actions_last_24h"])

    def newest() -> str:
        found = road.ask("/debug?limit=1", 2)
        return str(found[0]["summary"])[:1] if found else ""

    began, seconds = resident(), []
    rows = 60_000
    for statement, arrived in (
        ("insert into agent_actions (agent_id, action_type, organization_id, risk_level, \"timestamp\", summary) select"
         f" 'agent-' || i % 50, 'x', 2, 'low', now() - interval '1 s', repeat('s', 100) from generate_series(1, {rows}) i",
         lambda: last_day() >= rows and newest() == "s"),
        ("update agent_actions set summary = repeat('t', 100) where organization_id = 2", lambda: newest() == "t"),
        ("delete from agent_actions where organization_id = 2", lambda: last_day() == 0),
        ("truncate agent_actions cascade", lambda: road.ask("/debug", 1) == []),
    ):  # fmt: skip
        road.database.execute(statement)
        deadline = time.monotonic() + 60
        while True:
            started = time.monotonic()
            done = arrived()
            seconds.append(time.monotonic() - started)
            if done:
                break
            assert time.monotonic() < deadline, statement
    assert statistics.median(seconds) < 5, "answers go on while the change is applied"
    assert resident() - began < 700 * 1024 * 1024
    assert road.server.process.poll() is None
