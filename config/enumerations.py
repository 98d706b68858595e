"""The normal form of enumerated values: statuses, decisions, risk levels, roles and audit actions.

Sources write `Completed`, `COMPLETED` and ` completed ` for the same thing. Values are compared in lower case and without
surrounding white space, in settings, in the source, in the cache and in tokens.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

WHITE_SPACE = " \t\n\v\f\r\u00a0"


def normal(value: str) -> str:
    return value.strip(WHITE_SPACE).lower()


def normal_duckdb(expression: str) -> str:
    """The same of a text expression in DuckDB."""
    return f"lower(trim({expression}, '{WHITE_SPACE}'))"


Enumerated = Annotated[str, AfterValidator(normal)]
