"""Why a publication would make Postgres reject UPDATE and DELETE on a published table. Pure.

Postgres rejects them where the table's replica identity does not suit the publication: see `CheckCmdReplicaIdentity` in its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sync.publication.replica_identity import ReplicaIdentity


class RejectionCause(Enum):
    """Why Postgres rejects UPDATE and DELETE on a relation; the value completes the sentence "… of public.actions"."""

    NO_IDENTITY = "no usable replica identity"
    LIST_BESIDE_FULL = "the publication's column list beside REPLICA IDENTITY FULL"
    LIST_WITHOUT_KEY = "a column list that lacks columns of the replica identity"
    FILTER_BESIDE_KEY = "a row filter on columns outside the replica identity"
    GENERATED_KEY = "generated columns of the replica identity that are not published"


@dataclass(frozen=True)
class Hazard:
    """A relation on which the publication makes, or would make, Postgres reject UPDATE and DELETE."""

    cause: RejectionCause
    identity: ReplicaIdentity
    member_oid: int
    member: str  # quoted, as a statement names it
    explicit: bool
    listed: frozenset[str] | None  # the member's column list
    virtual: bool = False  # the generated columns are virtual: no publication carries those

    @property
    def message(self) -> str:
        return f"makes Postgres reject UPDATE and DELETE on {self.identity.qualified}: {self.cause.value}"


def rejection(
    identity: ReplicaIdentity,
    listed: frozenset[str] | None,
    filtered: frozenset[str],
    unpublished: frozenset[str],
    virtual: frozenset[str],
) -> tuple[RejectionCause | None, bool]:
    """Why Postgres would reject UPDATE and DELETE, and whether a virtual generated column is the reason.

    `listed` are the columns of the list that applies, `filtered` those its row filter reads, `unpublished` the stored generated
    columns that the publication leaves out, `virtual` the virtual ones. Before Postgres 18 neither of the last two matters.
    """
    if identity.full:
        if listed is not None:
            return RejectionCause.LIST_BESIDE_FULL, False
        return (RejectionCause.GENERATED_KEY, bool(virtual)) if unpublished or virtual else (None, False)
    if identity.key is None:
        return RejectionCause.NO_IDENTITY, False
    key = frozenset(identity.key)
    if filtered - key:
        return RejectionCause.FILTER_BESIDE_KEY, False
    if listed is not None:
        return (RejectionCause.LIST_WITHOUT_KEY, False) if key - listed else (None, False)
    return (RejectionCause.GENERATED_KEY, bool(key & virtual)) if key & (unpublished | virtual) else (None, False)
