"""Which definitions make Postgres reject the platform's writes: what we say is compared with what Postgres does."""

from __future__ import annotations

import psycopg
import pytest

from sync.publication.catalogue import read_publication
from sync.publication.hazards import RejectionCause
from sync.source.schema import Mapping
from tests.postgres import Database

ACTIONS = (
    "insert into agent_actions (agent_id, action_type, organization_id, \"timestamp\") values ('a', 'x', 1, now())"
)
LISTED = "create publication owkai for table agent_actions (id, agent_id, organization_id, status)"
WHOLE = "create publication owkai for table agent_actions"
PARTITIONED = (
    "alter table agent_actions rename to old_actions;"
    " create table agent_actions (like old_actions including defaults, primary key (id, organization_id))"
    " partition by list (organization_id);"
    " create table actions_1 partition of agent_actions for values in (1);"
    " create table actions_rest partition of agent_actions default"
)
THROUGH_ROOT = "with (publish_via_partition_root = true)"


def postgres_rejects(database: Database) -> bool:
    """Whether an UPDATE or a DELETE of one action fails for the publication's sake; neither is kept."""
    rejected = []
    for statement in ("update agent_actions set summary = 'x'", "delete from agent_actions"):
        with psycopg.connect(database.dsn) as connection:
            try:
                connection.execute(statement)
            except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InvalidColumnReference):
                rejected.append(statement)
            finally:
                connection.rollback()
    assert len(rejected) in (0, 2), rejected
    return bool(rejected)


def ours(database: Database) -> list[tuple[str, RejectionCause]]:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        publication = read_publication(connection, "owkai", Mapping(()))
        assert publication is not None
        return [(hazard.identity.name, hazard.cause) for hazard in publication.rejected_writes]


CASES: list[tuple[str, str, list[tuple[str, RejectionCause]]]] = [
    (LISTED, "", []),
    (LISTED, "alter table agent_actions replica identity full", [("agent_actions", RejectionCause.LIST_BESIDE_FULL)]),
    (WHOLE, "alter table agent_actions replica identity full", []),
    (LISTED, "alter table agent_actions replica identity nothing", [("agent_actions", RejectionCause.NO_IDENTITY)]),
    (
        LISTED,
        "alter table agent_actions drop constraint agent_actions_pkey cascade",
        [("agent_actions", RejectionCause.NO_IDENTITY)],
    ),
    (
        LISTED,
        "create unique index other on agent_actions (id, action_type); alter table agent_actions replica identity using index other",
        [("agent_actions", RejectionCause.LIST_WITHOUT_KEY)],
    ),
    (
        LISTED,
        "create unique index other on agent_actions (id, agent_id) include (action_type);"
        " alter table agent_actions replica identity using index other",
        [],
    ),
    (
        WHOLE,
        "create unique index other on agent_actions (id, agent_id);"
        " alter table agent_actions replica identity using index other; drop index other",
        [("agent_actions", RejectionCause.NO_IDENTITY)],
    ),
    (
        LISTED,
        "alter table agent_actions drop constraint agent_actions_pkey cascade;"
        " alter table agent_actions add primary key (id) deferrable",
        [("agent_actions", RejectionCause.NO_IDENTITY)],
    ),
    (
        LISTED,
        "alter table agent_actions drop constraint agent_actions_pkey cascade;"
        " alter table agent_actions add primary key (id, action_type)",
        [("agent_actions", RejectionCause.LIST_WITHOUT_KEY)],
    ),
    (f"{WHOLE} where (status <> 'x')", "", [("agent_actions", RejectionCause.FILTER_BESIDE_KEY)]),
    (f"{WHOLE} where (id > 0)", "", []),
    (f"{WHOLE} where (status <> 'x')", "alter table agent_actions replica identity full", []),
    (
        f"{WHOLE} where (status <> 'x') with (publish = 'insert, truncate')",
        "alter table agent_actions replica identity nothing",
        [],
    ),
    (
        "create publication owkai for all tables",
        "alter table agent_actions replica identity nothing",
        [("agent_actions", RejectionCause.NO_IDENTITY)],
    ),
    (
        "create publication owkai for tables in schema public",
        "alter table agent_actions replica identity nothing",
        [("agent_actions", RejectionCause.NO_IDENTITY)],
    ),
    (
        f"{PARTITIONED}; {LISTED} {THROUGH_ROOT}",
        "alter table actions_1 replica identity full",
        [("actions_1", RejectionCause.LIST_BESIDE_FULL)],
    ),
    # The identity of a partitioned table itself means nothing.
    (f"{PARTITIONED}; {LISTED} {THROUGH_ROOT}", "alter table agent_actions replica identity full", []),
    (
        f"{PARTITIONED}; {LISTED} {THROUGH_ROOT}",
        "alter table actions_1 replica identity nothing",
        [("actions_1", RejectionCause.NO_IDENTITY)],
    ),
    (f"{PARTITIONED}; {WHOLE}", "alter table actions_1 replica identity full", []),
    (
        f"{PARTITIONED}; {LISTED} {THROUGH_ROOT}",
        "create table more (like agent_actions including all); alter table agent_actions detach partition actions_1;"
        " alter table more replica identity full; alter table agent_actions attach partition more for values in (1)",
        [("more", RejectionCause.LIST_BESIDE_FULL)],
    ),
    (
        f"{PARTITIONED}; create publication owkai for table agent_actions (id, organization_id, agent_id),"
        f" actions_1 (id, organization_id) {THROUGH_ROOT}",
        "create unique index other on actions_1 (id, agent_id, organization_id);"
        " alter table actions_1 alter agent_id set not null; alter table actions_1 replica identity using index other",
        [],
    ),
]


@pytest.mark.parametrize(("publication", "change", "expected"), CASES)
def test_what_makes_postgres_reject_writes_is_known(
    database: Database, publication: str, change: str, expected: list[tuple[str, RejectionCause]]
) -> None:
    for statement in (publication, change):
        if statement:
            database.execute(statement)
    database.execute(ACTIONS)
    found = [hazard for hazard in ours(database) if hazard[0] != "old_actions"]
    assert found == expected
    assert postgres_rejects(database) == bool(expected)
