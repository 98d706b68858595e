"""Every key figure of /executive/dashboard against SQL written here and asked of Postgres, through a real server process."""

from __future__ import annotations

import csv
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pypdf import PdfReader

from tests.contract.platform_rows import make_key
from tests.contract.structure import assert_documented
from tests.owkai.servers import Server, serving, wait_for
from tests.postgres import Database
from tests.sync.running import slot_name

PATH = "/api/analytics/executive/dashboard"
ORGANIZATIONS = (1, 2, 3)

# Of every kind: statuses in all spellings, decisions by people and by policy, false positives, NULLs, rows without `timestamp`.
ACTIONS = """
insert into agent_actions (agent_id, action_type, risk_level, status, "timestamp", created_at, organization_id,
    approved, reviewed_by, approved_by, reviewed_at, is_false_positive)
select 'agent-' || i %% 9, 'query',
    (array['low', 'low', 'low', 'MEDIUM', 'High', ' critical ', 'medium', 'weird', null])[1 + (random() * 8)::int],
    (array['completed', 'executed', 'success', 'failed', 'error', 'pending', 'pending_approval', 'approved', 'auto_approved',
        'denied', 'rejected', 'blocked', 'false_positive', null, ' Completed ', 'EXECUTED', 'Execution_Failed', E'\\tDENIED\\n',
        'Pending_Approval', 'False_Positive', 'Timed_Out', 'cancelled'])[1 + (random() * 21)::int],
    case when i %% 11 > 0 then at end, at at time zone 'UTC', 1 + (random() * random() * 2.9)::int,
    (array[true, false, null, null])[1 + (random() * 3)::int],
    (array['a@example.com', '', ' ', null, null, null])[1 + (random() * 5)::int],
    (array['b@example.com', '', null, null, null])[1 + (random() * 4)::int],
    case when random() < 0.15 then at + interval '3 hours' end, (array[true, false, null])[1 + (random() * 2)::int]
from (select i, now() - interval '1 day' * 190 * random() as at from generate_series(1, %s) i) rows"""
USERS = """
insert into users (email, password, role, is_active, organization_id, created_at, last_login)
select 'user' || i || '@example.com', 'x', 'user', (array[true, true, false, null])[1 + (random() * 3)::int],
    case when i % 10 > 0 then 1 + i % 3 end, now() at time zone 'UTC' - interval '1 day' * 150 * random(),
    case when random() < 0.6 then now() at time zone 'UTC' - interval '1 day' * 120 * random() end
from generate_series(1, 240) i"""
EVENTS = """
insert into audit_logs (organization_id, user_id, action, created_at)
select case when i % 12 > 0 then 1 + i % 3 end, (array[i % 240, null])[1 + (random())::int],
    (array['APPROVE', 'deny', 'Review', 'READ', 'LOGIN'])[1 + (random() * 4)::int],
    now() at time zone 'UTC' - interval '1 day' * 120 * random()
from generate_series(1, 500) i"""

EVENT = "coalesce(\"timestamp\", created_at at time zone 'UTC')"
UTC_CREATED, UTC_LOGIN = "(created_at at time zone 'UTC')", "(last_login at time zone 'UTC')"
RISK = "coalesce(lower(trim(risk_level)), '')"
STATUS = r"coalesce(lower(btrim(status, E' \t\n')), '')"
REAL = f"(is_false_positive is not true and {STATUS} <> 'false_positive')"
PENDING = f"{STATUS} = 'pending_approval'"
BY_HUMAN = (
    "coalesce(trim(reviewed_by) > '' or trim(approved_by) > '' or reviewed_at is not null, reviewed_at is not null)"
)
DECIDED = f"""({BY_HUMAN} or approved is not null or {STATUS} in ('approved',
    'auto_approved', 'conditional_approved', 'emergency_approved', 'denied', 'rejected', 'blocked', 'false_positive'))"""
DUE = f"({RISK} in ('medium', 'high', 'critical') and {REAL} and {EVENT} < %(now)s - interval '24 hours')"


class Road(NamedTuple):
    server: Server
    database: Database
    keys: dict[tuple[int, str], str]

    def ask(
        self, organization: int, query: str = "", role: str = "admin", method: str = "GET"
    ) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request(method, PATH + query, headers={"X-API-Key": self.keys[organization, role]})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def dashboard(self, organization: int, query: str = "") -> Any:
        status, _, body = self.ask(organization, query)
        assert status == 200, body
        return json.loads(body)

    def one(self, query: str, **values: Any) -> Any:
        row = self.database.execute(query, values).fetchone()
        assert row is not None
        return row[0] if len(row) == 1 else row


@pytest.fixture
def road(database: Database, tmp_path: Path) -> Iterator[Road]:
    database.execute("alter table agent_actions disable trigger user")
    database.execute("select setseed(0.25)")
    database.execute(ACTIONS, [12_000])
    database.execute(USERS)
    database.execute(EVENTS)
    keys = {
        (organization, role): make_key(database, organization, role, f"{role}@org{organization}.example.com")
        for organization in ORGANIZATIONS
        for role in ("user", "admin")
    }
    with serving(tmp_path, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database)) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, f"readiness: {server.messages()}")
        yield Road(server, database, keys)


def settled_answer(road: Road, organization: int, days: int, zone: str) -> tuple[Any, datetime]:
    """An answer and its moment. The moment has a fraction of a second that the answer does not show, so no row may lie there."""
    while True:
        answer = road.dashboard(organization, f"?days={days}&tz={zone}")
        now = datetime.strptime(answer["report_date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        edges = [now, now - timedelta(hours=24), now - timedelta(days=days), now - timedelta(days=2 * days)]
        within = "exists (select from unnest(%(edges)s::timestamptz[]) edge where {0} >= edge and {0} < edge + interval '1 second')"
        rows = road.one(
            f"select (select count(*) from agent_actions where {within.format(EVENT)})"
            f" + (select count(*) from audit_logs where {within.format(UTC_CREATED)})"
            f" + (select count(*) from users where {within.format(UTC_CREATED)} or {within.format(UTC_LOGIN)})",
            edges=edges,
        )
        if rows == 0:
            return answer, now


def expected_trend(before: tuple[int, int], now: tuple[int, int], *, fewer_is_better: bool = False) -> str:
    """Pearson's chi-squared test of the fourfold table: the z-test's square, written another way. All counts are large here."""
    a, b, c, d = now[0], now[1] - now[0], before[0], before[1] - before[0]
    n = a + b + c + d
    difference = now[0] / now[1] - before[0] / before[1]
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0 or n * (a * d - b * c) ** 2 / margins < 3.841459 or abs(difference) < 0.001:
        return "stable"
    return "improving" if (difference > 0) != fewer_is_better else "declining"


def shown(part: int, whole: int, neutral: float) -> float:
    if not whole:
        return neutral
    found = round(100 * part / whole, 1)
    return min(max(found, 0.1), 99.9) if 0 < part < whole else found


@pytest.mark.parametrize(("days", "zone"), [(7, "America/St_Johns"), (30, "Europe/Berlin"), (90, "UTC")])
def test_every_key_figure_equals_the_same_question_in_sql(road: Road, days: int, zone: str) -> None:
    for organization in ORGANIZATIONS:
        answer, now = settled_answer(road, organization, days, zone)
        assert_documented("executive_dashboard", answer)
        start, week = now - timedelta(days=days), now - timedelta(days=7)
        assert answer["data_period"]["start_date"] == f"{start:%Y-%m-%dT%H:%M:%SZ}"
        values = {"org": organization, "now": now, "start": start, "before": start - timedelta(days=days), "zone": zone,
                  "naive_now": now.replace(tzinfo=None), "naive_start": start.replace(tzinfo=None),
                  "naive_week": week.replace(tzinfo=None)}  # fmt: skip

        def counts(since: str, until: str, values: dict[str, Any] = values) -> Any:
            return road.one(
                f"select count(*), count(*) filter (where {STATUS} in ('completed', 'executed', 'success', 'approved', 'auto_approved')),"
                f" count(*) filter (where {STATUS} in ('failed', 'error', 'execution_failed')),"
                f" count(*) filter (where {RISK} = 'critical' and {REAL}), count(*) filter (where {RISK} = 'high' and {REAL}),"
                f" count(*) filter (where {RISK} = 'medium' and {REAL}), count(*) filter (where {DECIDED}),"
                f" count(*) filter (where {BY_HUMAN}), count(*) filter (where {DUE}), count(*) filter (where {DUE} and not {DECIDED}),"
                f" count(*) filter (where {RISK} not in ('low', 'medium', 'high', 'critical'))"
                f" from agent_actions where organization_id = %(org)s and {EVENT} >= %({since})s and {EVENT} < %({until})s",
                **values,
            )

        total, good, bad, critical, high, medium, decided, by_human, due, violations, unknown = counts("start", "now")
        earlier = counts("before", "start")
        assert min(total, good, bad, decided, by_human, due, violations) > 0
        pending = road.one(
            f"select count(*) from agent_actions where organization_id = %(org)s and {PENDING}", **values
        )
        events = road.one(
            "select count(*) from audit_logs where organization_id = %(org)s and created_at >= %(naive_start)s"
            " and created_at < %(naive_now)s and lower(action) in ('approve', 'deny', 'review')",
            **values,
        )
        kpis, business = answer["executive_kpis"], answer["business_metrics"]
        health = kpis["platform_health"]
        assert health["success_rate"] == health["score"] == shown(good, good + bad, 0.0)
        assert health["total_actions"] == total
        assert health["trend"] == expected_trend((earlier[1], earlier[1] + earlier[2]), (good, good + bad))
        security = kpis["security_posture"]
        assert security["score"] == round(100 * total / (total + 4 * medium + 8 * high + 16 * critical), 1)
        assert (security["critical_issues"], security["high_risk_actions"], security["medium_risk_actions"]) == (
            critical, high, medium,
        )  # fmt: skip
        assert security["trend"] == expected_trend(
            (sum(earlier[3:6]), earlier[0]), (critical + high + medium, total), fewer_is_better=True
        )
        efficiency = kpis["operational_efficiency"]
        assert efficiency == {
            "score": shown(decided - by_human, decided, 0.0),
            "automation_rate": round((decided - by_human) / decided, 2),
            "manual_interventions": by_human,
            "pending_actions": pending,
        }
        assert kpis["compliance_status"] == {
            "score": shown(due - violations, due, 100.0),
            "violations": violations,
            "pending_reviews": pending,
            "compliance_actions": events,
        }
        peak = road.one(
            f"select max(n) from (select count(*) n from agent_actions where organization_id = %(org)s and {EVENT} >= %(start)s"
            f" and {EVENT} < %(now)s group by ({EVENT} at time zone %(zone)s)::date) days",
            **values,
        )
        assert business["system_utilization"] == {
            "avg_actions_per_day": round(total / days, 1),
            "peak_day_actions": peak,
            "efficiency_score": efficiency["automation_rate"],
            "total_actions_month": total,
        }
        people = "from users where organization_id = %(org)s"
        current = road.one(f"select count(*) {people} and is_active is not false", **values)
        were = road.one(
            f"select count(*) {people} and coalesce(created_at < %(naive_start)s, true)"
            " and (is_active is not false or last_login >= %(naive_start)s)",
            **values,
        )
        active = road.one(
            f"select count(*) {people} and is_active is not false and (last_login >= %(naive_start)s and last_login < %(naive_now)s"
            " or exists (select from audit_logs a where a.user_id = users.id and a.organization_id = %(org)s"
            " and a.created_at >= %(naive_start)s and a.created_at < %(naive_now)s))",
            **values,
        )
        new = road.one(
            f"select count(*) {people} and is_active is not false and created_at >= %(naive_week)s", **values
        )
        rate = round((current - were) / were, 2)
        assert business["user_growth"] == {
            "current_users": current,
            "active_users": active,
            "growth_rate": rate,
            "trend": "positive" if rate > 0 else "negative" if rate < 0 else "stable",
            "new_users_this_week": new,
        }
        unruled = road.one(
            f"select count(*) filter (where {STATUS} = 'timed_out'), count(*) filter (where {STATUS} = 'cancelled'),"
            f" count(*) filter (where {STATUS} = '') from agent_actions"
            f" where organization_id = %(org)s and {EVENT} >= %(start)s and {EVENT} < %(now)s",
            **values,
        )
        statuses, levels = answer["meta"]["caveats"]
        assert statuses.startswith(f"{sum(unruled)} actions have no known status (neither success nor failure")
        for name, rows in zip(('"timed_out"', '"cancelled"', "none"), unruled, strict=True):
            assert f"{name} ({rows})" in statuses
        assert levels.startswith(f"{unknown} actions have no known risk level (no weight in security_posture): ")


def test_table_and_page_hold_the_numbers_of_the_answer(road: Road) -> None:
    for organization in ORGANIZATIONS:
        answer = road.dashboard(organization, "?days=30")
        status, headers, body = road.ask(organization, "?days=30&format=csv")
        assert (status, headers["Content-Disposition"][:32]) == (200, 'attachment; filename="owkai-exec')
        (row,) = csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline=""))
        for section, figures in (*answer["executive_kpis"].items(), *answer["business_metrics"].items()):
            for name, value in figures.items():
                assert row[f"{section}.{name}"] == str(value)
        assert row["organization_id"] == str(organization)
        assert row["organization_name"] == answer["meta"]["organization_name"]
        assert row["organization_name"] == road.one(
            "select name from organizations where id = %(org)s", org=organization
        )
        status, headers, body = road.ask(organization, "?days=30&format=pdf")
        assert (status, headers["Content-Type"]) == (200, "application/pdf")
        text = " ".join(" ".join(page.extract_text() for page in PdfReader(io.BytesIO(body)).pages).split())
        for kpi in answer["executive_kpis"].values():
            assert str(kpi["score"]) in text
        assert f"{row['organization_name']} (organization {organization})" in text


def test_az_02_a_user_never_gets_the_report(road: Road) -> None:
    for query in ("", "?format=csv", "?format=pdf"):
        for method in ("GET", "HEAD"):
            status, headers, body = road.ask(1, query, role="user", method=method)
            assert status == 403
            assert headers["Content-Type"] == "application/problem+json"
            assert headers["Content-Disposition"] is None
            assert b"%PDF" not in body


def test_twenty_pages_at_once_do_not_keep_other_clients_waiting(road: Road) -> None:
    def page(days: int) -> tuple[int, bytes]:
        status, _, body = road.ask(1, f"?days={days}&format=pdf")
        return status, body[:5]

    def seconds_of_trends() -> float:
        started = time.monotonic()
        status, _ = road.server.get("/api/analytics/trends", {"X-API-Key": road.keys[2, "user"]})
        assert status == 200
        return time.monotonic() - started

    done, waits = threading.Event(), []

    def watch() -> None:
        while not done.is_set():
            waits.append(seconds_of_trends())

    watcher = threading.Thread(target=watch)
    with ThreadPoolExecutor(20) as clients:
        watcher.start()
        started = time.monotonic()
        # Half of them ask for the same page: it is drawn once. The others are pages of their own.
        answers = list(clients.map(page, [30] * 10 + list(range(31, 41))))
        took = time.monotonic() - started
    done.set()
    watcher.join()
    assert answers == [(200, b"%PDF-")] * 20
    assert len(waits) >= 3
    assert sorted(waits)[len(waits) // 2] < 0.1 * took, (waits, took)
    assert max(waits) < 0.6 * took, (waits, took)
    assert road.server.get("/healthz")[0] == 200
