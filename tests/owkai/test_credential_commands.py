"""`owkai keys create` and `owkai token` know whom the source knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from owkai.cli import main
from owkai.exits import Exit
from tests.owkai.servers import NOBODY_LISTENS, SECRET
from tests.postgres import Database

PEOPLE = """
insert into users (id, organization_id, email, role, password, is_active) values
    (7, 1, 'boss@one.example', 'admin', 'x', true), (8, 2, 'user@two.example', 'reviewer', 'x', true),
    (9, 1, 'gone@one.example', 'user', 'x', false)"""


def run(directory: Path, dsn: str, *arguments: str) -> Result:
    environment = {
        "OWKAI_SOURCE_DSN": dsn,
        "OWKAI_CACHE_DIRECTORY": str(directory / "cache"),
        "OWKAI_AUTH_JWT_SECRET": SECRET,
    }
    return CliRunner().invoke(main, list(arguments), env=environment)


def create(directory: Path, dsn: str, org: int, role: str, *more: str) -> Result:
    return run(directory, dsn, "keys", "create", "--org", str(org), "--role", role, "--email", "k@example.com", *more)


def token(directory: Path, dsn: str, org: int, user: int, email: str, role: str) -> Result:
    return run(directory, dsn, "token", "--org", str(org), "--user", str(user), "--email", email, "--role", role)


def test_a_key_of_an_unknown_organization_or_role_is_refused(database: Database, tmp_path: Path) -> None:
    database.execute(PEOPLE)
    for org, role in ((1, "admin"), (2, "viewer"), (2, "reviewer")):
        made = create(tmp_path, database.dsn, org, role)
        assert (made.exit_code, made.stderr.startswith("key ")) == (0, True), made.output
    unknown = create(tmp_path, database.dsn, 5, "user")
    assert unknown.exit_code == Exit.SETTINGS
    assert "organization 5 is unknown" in unknown.stderr
    assert "there are 1, 2" in unknown.stderr
    typo = create(tmp_path, database.dsn, 1, "amdin")
    assert typo.exit_code == Exit.SETTINGS
    assert "the role 'amdin' is unknown" in typo.stderr
    assert "admin" in typo.stderr
    assert unknown.stdout == typo.stdout == ""
    assert create(tmp_path, database.dsn, 5, "auditor", "--unchecked").exit_code == 0
    database.execute("insert into agent_actions (agent_id, action_type, organization_id) values ('a', 'x', 5)")
    assert create(tmp_path, database.dsn, 5, "user").exit_code == 0, "an organization may have no users yet"


def test_without_a_source_only_the_role_can_be_refused(tmp_path: Path) -> None:
    made = create(tmp_path, NOBODY_LISTENS, 5, "user")
    assert made.exit_code == 0
    assert "was not checked" in made.stderr
    assert create(tmp_path, NOBODY_LISTENS, 5, "amdin").exit_code == Exit.SETTINGS


@pytest.mark.parametrize(
    ("org", "user", "email", "role", "expected"),
    [
        (1, 7, "boss@one.example", "admin", ""),
        (1, 1, "you@example.com", "admin", "the source has no user 1, so the server refuses this token (401)"),
        (2, 7, "boss@one.example", "admin", "user 7 belongs to organization 1, not 2"),
        (1, 9, "gone@one.example", "user", "user 9 is not active"),
        (2, 8, "user@two.example", "admin", "user 8 has the role 'reviewer', so this token is no admin's"),
        (1, 7, "other@one.example", "admin", "user 7 has another e-mail than --email"),
    ],
)
def test_a_token_that_the_server_would_not_take_as_it_is_comes_with_the_reason(
    database: Database, tmp_path: Path, org: int, user: int, email: str, role: str, expected: str
) -> None:
    database.execute(PEOPLE)
    made = token(tmp_path, database.dsn, org, user, email, role)
    assert made.exit_code == 0
    assert made.stdout.count(".") == 2
    assert (made.stderr == "") if not expected else (expected in made.stderr)


def test_a_token_needs_no_source(database: Database, tmp_path: Path) -> None:
    for dsn in (NOBODY_LISTENS, database.dsn):  # the second source has no users: the server takes the token's word
        made = token(tmp_path, dsn, 1, 1, "you@example.com", "admin")
        assert (made.exit_code, made.stderr) == (0, "")
