"""The pgoutput protocol (version 1): its messages one by one, and the rows of one table in bulk. Pure: bytes in, values out.

`decode_changes` turns the row messages of one relation, in stream order, into the *final* row set: which ids to remove from
the cache and which rows to append, whatever happened to a key in between (inserted, deleted, inserted again; key changed).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analytics.state.tables import ColumnKind
from sync.values.wire import (
    Buffer,
    Field,
    Mapped,
    Mask,
    Positions,
    Rows,
    WireError,
    arrow_column,
    arrow_nulls,
    integers,
    walk_tuples,
)

# A row message as collected: 25 bytes of XLogData header, tag, relation, then the tuple's own tag.
HEADER = 25
TAG, RELATION, TUPLE_TAG, TUPLE = HEADER, HEADER + 1, HEADER + 5, HEADER + 6
INSERT, UPDATE, DELETE = ord("I"), ord("U"), ord("D")
NEW, KEY, OLD = ord("N"), ord("K"), ord("O")


class UnidentifiedRowError(WireError):
    """An old row without the key: the table had a replica identity that lacks it."""


@dataclass(frozen=True)
class RelationColumn:
    name: str
    type_oid: int
    key: bool


@dataclass(frozen=True)
class Relation:
    """A table as the stream announces it before its first change and after each change of its shape."""

    oid: int
    schema: str
    name: str
    replica_identity: str  # d(efault), n(othing), f(ull), i(ndex)
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True)
class Truncate:
    relations: tuple[int, ...]


def parse_relation(payload: bytes) -> Relation:
    """A Relation message ('R')."""
    try:
        oid = int.from_bytes(payload[1:5], "big")
        schema, rest = _text(payload, 5)
        name, rest = _text(payload, rest)
        identity = chr(payload[rest])
        count = int.from_bytes(payload[rest + 1 : rest + 3], "big")
        at = rest + 3
        columns = []
        for _ in range(count):
            flags = payload[at]
            column, at = _text(payload, at + 1)
            columns.append(RelationColumn(column, int.from_bytes(payload[at : at + 4], "big"), bool(flags & 1)))
            at += 8
    except (IndexError, ValueError) as error:
        raise WireError("a relation message ends early") from error
    if at != len(payload):
        raise WireError("a relation message is longer than its columns")
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns))


def parse_begin(payload: bytes) -> int:
    """The final LSN of the transaction that begins ('B')."""
    if len(payload) != 21:
        raise WireError("a begin message of the wrong length")
    return int.from_bytes(payload[1:9], "big")


def parse_commit(payload: bytes) -> tuple[int, int]:
    """Commit ('C'): the commit's own LSN and the end LSN of the transaction."""
    if len(payload) != 26:
        raise WireError("a commit message of the wrong length")
    return int.from_bytes(payload[2:10], "big"), int.from_bytes(payload[10:18], "big")


def parse_truncate(payload: bytes) -> Truncate:
    """Truncate ('T')."""
    count = int.from_bytes(payload[1:5], "big")
    if len(payload) != 6 + 4 * count:
        raise WireError("a truncate message of the wrong length")
    return Truncate(tuple(int.from_bytes(payload[6 + 4 * i : 10 + 4 * i], "big") for i in range(count)))


@dataclass(frozen=True)
class Target:
    """Where a relation's columns go: for each column of the cache the index of the relation's column, or None."""

    relation: Relation
    names: tuple[str, ...]
    kinds: tuple[ColumnKind, ...]
    sources: tuple[int | None, ...]
    types: tuple[int, ...]  # base type OIDs, one per name; domains resolved
    key_source: int
    key_type: int
    zones: tuple[str | None, ...]  # zone of times without one; None: UTC


@dataclass(frozen=True)
class Changes:
    """The final row set of some messages. `removed` are ids to delete before `rows` are appended."""

    removed: npt.NDArray[np.int64]
    rows: Rows | None
    messages: int


Lookup = Callable[[tuple[str, ...], list[int]], dict[int, tuple[object, ...]]]


def decode_changes(target: Target, messages: Sequence[bytes], lookup: Lookup, mapped: Mapped) -> Changes:
    """The final row set of `messages` (each with its XLogData header), all of `target.relation`, in stream order.

    `lookup(columns, ids)` returns rows of the cache; it is called only for values that updates left out. Raises
    `WireError` for malformed bytes.
    """
    try:
        return _decode(target, messages, lookup, mapped)
    except (IndexError, OverflowError) as error:
        raise WireError("a row message ends early") from error


def _decode(target: Target, messages: Sequence[bytes], lookup: Lookup, mapped: Mapped) -> Changes:
    buffer = Buffer(messages)
    width = len(target.relation.columns)
    count = len(messages)
    tag = buffer.bytes[buffer.starts + TAG]
    tuple_tag = buffer.bytes[buffer.starts + TUPLE_TAG]
    first_tuple = buffer.starts + TUPLE
    has_old = tuple_tag != NEW

    # Old tuples: where deletes and key-changing updates say which row they mean.
    old_rows = np.flatnonzero(has_old)
    old_keys = np.zeros(0, np.int64)
    new_tuple = first_tuple.copy()
    if len(old_rows):
        fields, after = _tuples(buffer, first_tuple[old_rows], width)
        key = fields[target.key_source]
        if not bool(key.present.all()):
            raise UnidentifiedRowError("an update or delete does not identify its row")
        old_keys = integers(buffer, key, target.key_type)
        updates = tag[old_rows] == UPDATE
        if bool((buffer.bytes[after[updates]] != NEW).any()):
            raise WireError("an update without its new row")
        new_tuple[old_rows] = after + 1

    put = tag != DELETE
    put_rows = np.flatnonzero(put)
    fields, after = _tuples(buffer, new_tuple[put_rows], width) if len(put_rows) else ([], new_tuple[:0])
    if len(put_rows) and bool((after != buffer.ends[put_rows]).any()):
        raise WireError("a row message is longer than its row")
    new_keys = integers(buffer, fields[target.key_source], target.key_type) if len(put_rows) else np.zeros(0, np.int64)

    history = _History(tag, put_rows, new_keys, old_rows, old_keys, count)
    if not len(history.final_puts):
        return Changes(history.removed, None, count)
    if any(field.unchanged is not None for field in fields):
        fields = _fill_unchanged(target, buffer, fields, history, lookup)
    columns = {}
    for name, kind, source, type_oid, zone in zip(
        target.names, target.kinds, target.sources, target.types, target.zones, strict=True
    ):
        columns[name] = (
            arrow_nulls(kind, len(history.final_puts))
            if source is None
            else arrow_column(buffer, fields[source].take(history.final_puts), kind, type_oid, mapped, zone)
        )
    return Changes(history.removed, Rows(columns, len(history.final_puts)), count)


def _tuples(buffer: Buffer, at: Positions, width: int) -> tuple[list[Field], Positions]:
    if bool((buffer.int16[at] != width).any()):
        raise WireError(
            f"a row of {int(buffer.int16[at][buffer.int16[at] != width][0])} columns where {width} were expected"
        )
    return walk_tuples(buffer, at + 2, width)


class _History:
    """What happened to each key, in order: reduces puts and removals to the final one."""

    def __init__(
        self,
        tag: npt.NDArray[np.uint8],
        put_rows: Positions,
        new_keys: Positions,
        old_rows: Positions,
        old_keys: Positions,
        count: int,
    ) -> None:
        self.put_rows = put_rows
        key_of_put = np.zeros(count, np.int64)
        key_of_put[put_rows] = new_keys
        # A removal comes before the put of the same message. An update that names its old row with an unchanged key
        # (replica identity full) removes and puts the same key: also right.
        keys = np.concatenate((new_keys, old_keys))
        order = np.concatenate((2 * put_rows + 1, 2 * old_rows))
        index = np.concatenate((np.arange(len(put_rows), dtype=np.int64), np.full(len(old_rows), -1, np.int64)))
        sort = np.lexsort((order, keys))
        self.keys, self.order, self.index = keys[sort], order[sort], index[sort]
        size = len(self.keys)
        first = np.ones(size, np.bool_)
        first[1:] = self.keys[1:] != self.keys[:-1]
        last = np.ones(size, np.bool_)
        last[:-1] = first[1:]
        self.first = first
        born = first & (self.index >= 0)
        born[born] = tag[put_rows[self.index[born]]] == INSERT
        # A key whose first event is an insert did not exist before: nothing to remove.
        self.removed: npt.NDArray[np.int64] = self.keys[first & ~born]
        final = last & (self.index >= 0)
        self.final_puts: Positions = np.sort(self.index[final])
        self._old_key = dict(zip(old_rows.tolist(), old_keys.tolist(), strict=True))
        self._position: dict[int, int] | None = None

    def predecessor(self, put: int) -> int | None:
        """The put that this put (an update) builds on within the batch; None: it builds on the cache's row."""
        message = int(self.put_rows[put])
        base = self.base_key(put)
        begin = int(np.searchsorted(self.keys, base, "left"))
        end = int(np.searchsorted(self.keys, base, "right"))
        at = begin + int(np.searchsorted(self.order[begin:end], 2 * message, "left")) - 1
        return int(self.index[at]) if at >= begin and self.index[at] >= 0 else None

    def base_key(self, put: int) -> int:
        """The key of the row before this put."""
        message = int(self.put_rows[put])
        if message in self._old_key:
            return int(self._old_key[message])
        if self._position is None:
            self._position = {int(row): int(key) for key, row in zip(self.keys, self.index, strict=True) if row >= 0}
        return self._position[put]


def _fill_unchanged(
    target: Target, buffer: Buffer, fields: list[Field], history: _History, lookup: Lookup
) -> list[Field]:
    """Fill in the values that updates left out, from an earlier put of the batch, else from the cache."""
    filled = list(fields)
    for name, source in zip(target.names, target.sources, strict=True):
        if source is None or fields[source].unchanged is None:
            continue
        field = fields[source]
        unchanged: Mask = field.unchanged if field.unchanged is not None else np.zeros(0, np.bool_)
        wanted = history.final_puts[unchanged[history.final_puts]]
        from_cache: dict[int, list[int]] = {}
        origin: dict[int, int] = {}
        for put in wanted.tolist():
            base: int = put
            while unchanged[base]:
                before = history.predecessor(base)
                if before is None:
                    from_cache.setdefault(history.base_key(base), []).append(put)
                    break
                base = before
            else:
                origin[put] = base
        at, length, present = field.at.copy(), field.length.copy(), field.present.copy()
        for put, base in origin.items():
            at[put], length[put], present[put] = field.at[base], field.length[base], field.present[base]
        if from_cache:
            known = lookup((name,), sorted(from_cache))
            pairs = [(put, known[key][0]) for key, puts in from_cache.items() if key in known for put in puts]
            values = [("" if value is None else str(value)).encode() for _, value in pairs]
            for (put, value), where, raw in zip(pairs, buffer.extend(values).tolist(), values, strict=True):
                at[put], length[put], present[put] = where, len(raw), value is not None
        filled[source] = replace(field, at=at, length=length, present=present, unchanged=None)
    return filled


def _text(payload: bytes, at: int) -> tuple[str, int]:
    end = payload.index(0, at)
    return payload[at:end].decode(), end + 1
