"""House rules of analytics/sql: one lowercase statement a file, its result and scope stated, organizations kept apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

import pytest

from analytics.state.snapshot import Snapshot
from analytics.state.statements import StatementScope, StatementScopeError, load_statement
from config.settings import Settings
from tests.analytics.rows import action, filled_cache

FOLDER = resources.files("analytics").joinpath("sql")
NAMES = sorted(entry.name for entry in FOLDER.iterdir() if entry.name.endswith(".sql"))
TENANT_TABLES = re.compile(r"\b(?:from|join) (agent_actions|audit_logs|users|api_keys)\b")
UNSCOPED = {
    # Who is asking is settled across organizations.
    *("user_by_id.sql", "users_by_ids.sql", "keys_by_prefixes.sql"),
    "activity_by_organization.sql",  # what has changed is compared, never shown
    "acting_organizations.sql",  # whose forecasts are due
    "origin.sql",  # of the cache itself
}


def test_there_are_statements() -> None:
    assert len(NAMES) >= 10


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_states_its_result_and_scope(name: str) -> None:
    text = FOLDER.joinpath(name).read_text(encoding="utf-8")
    header = [line for line in text.splitlines() if line.startswith("--")]
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    assert text.startswith("-- ")
    assert any(line.startswith("-- result: ") for line in header)
    assert sum(line.startswith("-- scope: ") for line in header) == 1
    assert code == code.lower()
    assert ";" not in code
    assert "{" not in code


@pytest.mark.parametrize("name", sorted(set(NAMES) - UNSCOPED))
def test_every_table_of_a_statement_is_scoped_by_organization(name: str) -> None:
    text = FOLDER.joinpath(name).read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    tables = TENANT_TABLES.findall(code)
    assert tables
    assert len(tables) == len(re.findall(r"organization_id = \$organization_id\b", code))


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_binds_an_organization_exactly_where_its_header_declares_one(name: str) -> None:
    statement = load_statement(name.removesuffix(".sql"))
    scoped = statement.scope is StatementScope.ORGANIZATION
    assert scoped is (name not in UNSCOPED)
    assert scoped is ("$organization_id" in statement.text)


@pytest.fixture
def snapshot(given: Settings) -> Iterator[Snapshot]:
    with (
        filled_cache(given, agent_actions=[action(1), action(2, org=2), action(3, org=2)]) as cache,
        cache.read() as opened,
    ):
        yield opened


@pytest.mark.parametrize("name", sorted(set(NAMES) - UNSCOPED))
def test_a_statement_of_one_organization_cannot_be_run_across_organizations(snapshot: Snapshot, name: str) -> None:
    with pytest.raises(StatementScopeError, match=rf"{name} reads one organization: run it with Snapshot\.of"):
        snapshot.rows_across_organizations(name.removesuffix(".sql"), organization_id=2)


@pytest.mark.parametrize("name", sorted(UNSCOPED))
def test_a_statement_across_organizations_cannot_be_run_by_a_view(snapshot: Snapshot, name: str) -> None:
    with pytest.raises(StatementScopeError, match=rf"{name} reads across organizations: run it with .*rows_across"):
        snapshot.of(1).rows(name.removesuffix(".sql"))


def test_a_view_can_neither_omit_nor_choose_its_organization(snapshot: Snapshot) -> None:
    assert snapshot.of(1).rows("pending_actions", statuses=["completed"]) == [(1,)]
    assert snapshot.of(2).rows("pending_actions", statuses=["completed"]) == [(2,)]
    with pytest.raises(ValueError, match=r"organization_id is bound by Snapshot\.of"):
        snapshot.of(1).rows("pending_actions", statuses=["completed"], organization_id=2)
