"""House rules of analytics/sql: one lowercase statement a file, its result and scope stated, organizations kept apart."""

from __future__ import annotations

import re
from importlib import resources

import pytest

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
    assert any(line.startswith("-- scope: ") for line in header)
    assert code == code.lower()
    assert ";" not in code
    assert "{" not in code


@pytest.mark.parametrize("name", sorted(set(NAMES) - UNSCOPED))
def test_every_table_of_a_statement_is_scoped_by_organization(name: str) -> None:
    text = FOLDER.joinpath(name).read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    tables = TENANT_TABLES.findall(code)
    assert tables
    assert len(tables) == len(re.findall(r"organization_id = \$org\b", code))
