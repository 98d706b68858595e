"""Whose live numbers changed, told apart from time that passed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from analytics.activity_counts import ActivityCounts, changed, count_activity
from tests.analytics.rows import NOW, action, filled_cache, settings

HOUR_AGO = NOW - timedelta(hours=1)


def test_counts_begin_at_a_moment_and_have_no_end(tmp_path: Path) -> None:
    minutes = timedelta(minutes=1)
    actions = [
        action(1, org=1, now=NOW, ago=61 * minutes),
        action(2, org=1, now=NOW, ago=60 * minutes, risk_level="critical"),
        action(3, org=1, now=NOW, ago=-5 * minutes, risk_level="low"),
        action(4, org=2, now=NOW, ago=2 * minutes, risk_level="high", is_false_positive=True),
    ]
    audits = [
        {"id": 1, "organization_id": 1, "user_id": 5, "action": "READ", "created_at": NOW - minutes},
        {"id": 2, "organization_id": 1, "user_id": 5, "action": "READ", "created_at": NOW},
        {"id": 3, "organization_id": None, "user_id": 6, "action": "READ", "created_at": NOW},
    ]
    users = [{"id": 9, "organization_id": 1, "is_active": True, "last_login": NOW - 3 * minutes}]
    with (
        filled_cache(settings(tmp_path), agent_actions=actions, audit_logs=audits, users=users) as cache,
        cache.read() as snapshot,
    ):
        found = count_activity(snapshot, HOUR_AGO, count_false_positives=False)
        with_false = count_activity(snapshot, HOUR_AGO, count_false_positives=True)
    assert found == {1: ActivityCounts(2, 1, 1, 2), 2: ActivityCounts(1, 0, 1, 0)}
    assert with_false[2] == ActivityCounts(1, 1, 1, 0)


def test_an_organization_has_changed_when_any_count_has_or_it_came_or_went() -> None:
    before = {1: ActivityCounts(1, 0, 1, 0), 2: ActivityCounts(5, 1, 2, 3), 3: ActivityCounts(1, 1, 1, 1)}
    after = {
        1: ActivityCounts(1, 0, 1, 0),
        2: ActivityCounts(5, 2, 2, 3),
        4: ActivityCounts(1, 0, 1, 0),
        5: ActivityCounts(0, 0, 0, 0),
    }
    assert changed(before, after) == {2, 3, 4}
