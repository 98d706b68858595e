"""One data set in Postgres for which the whole documented dashboard comes out, number for number and word for word."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pypdf import PdfReader

from analytics.executive.dashboard import executive
from analytics.executive.formats import executive_report
from analytics.executive.rendered_document import RenderedDocument
from analytics.responses import encode
from analytics.view_context import ViewContext
from tests.contract.structure import example
from tests.postgres import Database
from tests.sync.running import RunningSync, running_sync

NOW = datetime(2025, 1, 15, 14, 30, tzinfo=UTC)
ACTION = """
insert into agent_actions
    (agent_id, action_type, organization_id, status, risk_level, "timestamp", approved, reviewed_by, reviewed_at)
select 'agent', 'query', 1, %(status)s, %(risk)s, %(day)s::timestamptz + i * interval '7 seconds',
    %(approved)s, %(by)s, %(at)s::timestamptz
from generate_series(1, %(rows)s) i"""


def act(database: Database, rows: int, day: str, status: str, risk: str = "low", **more: Any) -> None:
    values = {
        "rows": rows,
        "day": f"{day}T08:00:00Z",
        "status": status,
        "risk": risk,
        "approved": None,
        "by": None,
        "at": None,
        **more,
    }
    database.execute(ACTION, values)


def golden(database: Database) -> None:
    """4520 actions: 4450 successes, 68 failures, 2 of elevated risk pending past the bound; 250 decided, 45 by a person."""
    act(database, 205, "2025-01-07", "completed", approved=True)
    act(database, 45, "2025-01-07", "completed", approved=True, by="reviewer@example.com", at="2025-01-07T20:00:00Z")
    # Elevated risk: 12 high and 45 medium; two of them still pending, 55 decided by policy (among the 205 automatic ones).
    decided_by_policy = "select id from agent_actions where reviewed_by is null and risk_level = 'low' order by id"
    for level, rows in (("HIGH", 11), ("Medium", 44)):
        database.execute(
            f"update agent_actions set risk_level = %s where id in ({decided_by_policy} limit {rows})", [level]
        )
    act(database, 1, "2025-01-07", "pending_approval", "high")
    act(database, 1, "2025-01-07", "pending_approval", "medium")
    # The busiest day has 312 actions in all; the rest lie over the other days.
    act(database, 60, "2025-01-07", "completed")
    rest = 4450 - 250 - 60
    days = [f"2024-12-{day}" for day in range(17, 32)] + [
        f"2025-01-{day:02}" for day in (1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14)
    ]
    for place, day in enumerate(days):
        act(database, rest // len(days) + (place < rest % len(days)), day, "completed")
    for day in ("2024-12-20", "2025-01-10"):
        act(database, 34, day, "failed")
    # Before the period: as reliable, but with a clearly higher share of elevated risk; five still wait.
    act(database, 2955, "2024-12-01", "completed", approved=True)
    act(database, 45, "2024-12-02", "failed")
    act(database, 300, "2024-12-03", "completed", "high", approved=True)
    act(database, 5, "2024-12-03", "pending_approval")
    database.execute(
        "insert into users (email, password, role, is_active, organization_id, created_at, last_login)"
        " select 'user' || i || '@example.com', 'x', 'user', true, 1,"
        " case when i <= 109 then timestamp '2024-06-01' when i <= 117 then timestamp '2024-12-28' else timestamp '2025-01-12' end,"
        " case when i <= 90 then timestamp '2025-01-10' when i <= 110 then timestamp '2024-11-01' end from generate_series(1, 125) i"
    )
    database.execute(
        "insert into audit_logs (organization_id, user_id, action, created_at)"
        " select 1, (select min(id) from users) + 90 + i % 8, (array['APPROVE', 'deny', 'REVIEW'])[1 + i % 3], timestamp '2025-01-05'"
        " from generate_series(1, 234) i"
    )
    # Another organization moves no number of this one.
    database.execute(
        'insert into agent_actions (agent_id, action_type, organization_id, status, risk_level, "timestamp")'
        " select 'other', 'x', 2, 'failed', 'critical', '2025-01-14T10:00:00Z' from generate_series(1, 1000)"
    )


def dashboard(sync: RunningSync, **options: Any) -> Any:
    with sync.cache.read() as snapshot:
        question = ViewContext(1, NOW, sync.board.current, sync.settings)
        return json.loads(encode(executive(snapshot.of(1), question, **options)))


def documented_part(example: Any, answer: Any) -> Any:
    """The answer without the fields of our own."""
    if isinstance(example, dict):
        return {key: documented_part(value, answer[key]) for key, value in example.items()}
    return answer


def test_the_documented_dashboard_follows_from_one_data_set(database: Database, tmp_path: Path) -> None:
    database.execute("alter table agent_actions disable trigger user")
    golden(database)
    with running_sync(database, tmp_path, cache={"keep_days": 36500}) as sync:
        sync.streaming()
        answer = dashboard(sync)
        documented = example("executive_dashboard")
        assert documented_part(documented, answer) == documented
        assert answer["meta"]["caveats"] == []
        with sync.cache.read() as snapshot:
            page = executive_report(
                snapshot.of(1), ViewContext(1, NOW, sync.board.current, sync.settings), format="pdf"
            )
        assert isinstance(page, RenderedDocument)
        (only,) = PdfReader(io.BytesIO(page.body)).pages  # a page to print, the formulas included
        text = " ".join(only.extract_text().split())
        for shown in ("98.5", "94.2", "82.0", "96.5", "4,520", "150.7", "312", "+15 %", "stable", "improving", "Excellent",
                      "12 high", "2 of 57 ran without a decision", "234 review events", "16 x critical"):  # fmt: skip
            assert shown in text, shown
