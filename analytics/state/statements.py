"""The statements of `analytics/sql`: their texts, and the scope that each declares in its header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import resources

SCOPE = re.compile(r"^-- scope: (one organization|across organizations)\b", re.MULTILINE)


class StatementScope(Enum):
    """Whose rows a statement reads; the value is the wording of its header."""

    ORGANIZATION = "one organization"  # rows of $organization_id only
    ACROSS_ORGANIZATIONS = "across organizations"


class StatementScopeError(ValueError):
    """A statement that reads one organization was run across organizations, or the reverse."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One file of `analytics/sql`."""

    name: str
    text: str
    scope: StatementScope

    def require(self, scope: StatementScope) -> str:
        """The text. Raises `StatementScopeError` unless the statement declares this scope."""
        if self.scope is not scope:
            raise StatementScopeError(
                f"analytics/sql/{self.name}.sql reads {self.scope.value}: run it with "
                + (
                    "Snapshot.of(organization_id)"
                    if self.scope is StatementScope.ORGANIZATION
                    else "Snapshot.rows_across_organizations"
                )
            )
        return self.text


@cache
def load_statement(name: str) -> Statement:
    """Read `analytics/sql/<name>.sql`. Raises ValueError for a file whose header declares no scope."""
    text = resources.files("analytics").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    declared = SCOPE.findall(text)
    if len(declared) != 1:
        raise ValueError(f'analytics/sql/{name}.sql needs one line that starts with "-- scope: " and a scope')
    return Statement(name, text, StatementScope(declared[0]))
