"""Decoding in bulk gives what Postgres means, value by value; malformed bytes are refused, never guessed at."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.state.tables import ColumnKind
from sync.stream.batch import Batch
from sync.stream.pgoutput import (
    Relation,
    RelationColumn,
    Target,
    decode_changes,
    parse_commit,
    parse_relation,
    parse_truncate,
)
from sync.stream.stream_protocol import StreamProtocol
from sync.values import wire
from tests.postgres import Database
from tests.sync.running import assert_equal, running_sync

HEADER = b"w" + bytes(24)
RELATION = Relation(
    7, "public", "t", "d", (RelationColumn("id", wire.INT4, True), RelationColumn("name", wire.TEXT_TYPE, False))
)
TARGET = Target(
    RELATION,
    ("id", "name"),
    (ColumnKind.INTEGER, ColumnKind.TEXT),
    (0, 1),
    (wire.INT4, wire.TEXT_TYPE),
    0,
    wire.INT4,
    (None, None),
)


def row(*values: bytes | type[Ellipsis] | None) -> bytes:
    """A tuple in binary form; `...` stands for an unchanged value."""
    parts = [struct.pack(">h", len(values))]
    for value in values:
        parts.append(b"n" if value is None else b"u" if value is ... else b"b" + struct.pack(">i", len(value)) + value)
    return b"".join(parts)


def key(number: int) -> bytes:
    return struct.pack(">i", number)


def insert(number: int, name: bytes | None) -> bytes:
    return HEADER + b"I" + struct.pack(">I", 7) + b"N" + row(key(number), name)


def update(number: int, name: Any, old: int | None = None) -> bytes:
    before = b"" if old is None else b"K" + row(key(old), None)
    return HEADER + b"U" + struct.pack(">I", 7) + before + b"N" + row(key(number), name)


def delete(number: int) -> bytes:
    return HEADER + b"D" + struct.pack(">I", 7) + b"K" + row(key(number), None)


def decoded(*messages: bytes, cache: dict[int, str | None] | None = None) -> tuple[set[int], dict[int, str | None]]:
    known = cache or {}
    changes = decode_changes(
        TARGET, messages, lambda columns, keys: {k: (known[k],) for k in keys if k in known}, wire.Mapped()
    )
    rows: dict[int, str | None] = {}
    if changes.rows is not None:
        connection = duckdb.connect()
        connection.register("rows", changes.rows)
        found = connection.execute("select id, name from rows").fetchall()
        rows = dict(found)
        assert len(rows) == len(found)
        connection.close()
    return set(changes.removed.tolist()), rows


def test_a_key_new_in_the_batch_is_not_looked_for_in_the_cache() -> None:
    assert decoded(insert(1, b"a"), update(1, b"b")) == (set(), {1: "b"})
    assert decoded(insert(1, b"a"), delete(1)) == (set(), {})
    assert decoded(update(1, b"a")) == ({1}, {1: "a"})
    assert decoded(delete(1), insert(1, b"again")) == ({1}, {1: "again"})
    assert decoded(insert(1, b"a"), delete(1), insert(1, None)) == (set(), {1: None})


def test_a_changed_key_removes_the_old_and_keeps_left_out_values() -> None:
    assert decoded(update(2, b"moved", old=1)) == ({1, 2}, {2: "moved"})
    assert decoded(update(2, ..., old=1), cache={1: "kept"}) == ({1, 2}, {2: "kept"})
    assert decoded(insert(1, b"new"), update(1, ...), update(5, ..., old=1)) == ({5}, {5: "new"})
    assert decoded(update(1, ...), cache={1: None}) == ({1}, {1: None})


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "leave", "move", "delete"]),
        st.integers(1, 6),
        st.integers(1, 6),
        st.text(max_size=5).filter(lambda t: "\0" not in t),
    ),
    max_size=30,
)


@given(st.dictionaries(st.integers(1, 6), st.text(max_size=5).filter(lambda t: "\0" not in t)), STEPS)
@settings(max_examples=150, deadline=None, database=None)
def test_any_sequence_collapses_to_what_one_by_one_gives(
    start: dict[int, str], steps: list[tuple[str, int, int, str]]
) -> None:
    table: dict[int, str | None] = dict(start)
    messages = []
    for what, number, other, text in steps:
        if what == "put":
            messages.append(update(number, text.encode()) if number in table else insert(number, text.encode()))
            table[number] = text
        elif what == "leave" and number in table:
            messages.append(update(number, ...))
        elif what == "move" and number in table and other not in table:
            messages.append(update(other, ..., old=number))
            table[other] = table.pop(number)
        elif what == "delete" and number in table:
            messages.append(delete(number))
            del table[number]
    if not messages:
        return
    removed, rows = decoded(*messages, cache=dict(start))
    result = {k: v for k, v in start.items() if k not in removed}
    assert not result.keys() & rows.keys(), "a row would be there twice"
    assert result | rows == table


@pytest.mark.parametrize(
    "message",
    [
        insert(1, b"a")[:-1],
        insert(1, b"a") + b"x",
        HEADER + b"I" + struct.pack(">I", 7) + b"N" + row(key(1)),
        HEADER + b"I" + struct.pack(">I", 7) + b"N" + row(key(1), b"a", b"b"),
        HEADER + b"I" + struct.pack(">I", 7) + b"N" + row(b"\0\0\1", b"a"),
        HEADER + b"I" + struct.pack(">I", 7) + b"N" + struct.pack(">h", 2) + b"b" + struct.pack(">i", -5) + key(1),
        HEADER + b"I" + struct.pack(">I", 7) + b"N" + struct.pack(">h", 2) + b"b" + struct.pack(">i", 1 << 30) + key(1),
        HEADER + b"I" + struct.pack(">I", 7) + b"N" + struct.pack(">h", 2) + b"?" + key(1),
        HEADER + b"D" + struct.pack(">I", 7) + b"K" + row(None, None),
        HEADER + b"U" + struct.pack(">I", 7) + b"K" + row(key(1), None) + b"X" + row(key(1), None),
    ],
)
def test_rep_02_malformed_rows_are_refused(message: bytes) -> None:
    with pytest.raises(wire.WireError):
        decoded(insert(2, b"good"), message)


@pytest.mark.parametrize("parse", [parse_relation, parse_commit, parse_truncate])
@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None, database=None)
def test_rep_02_random_bytes_never_raise_anything_but_a_wire_error(parse: Any, payload: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        parse(b"R" + payload)


def test_rep_03_changes_out_of_order_are_refused() -> None:
    def stream() -> StreamProtocol:
        fresh = StreamProtocol(100, lambda relation: ())
        fresh.relations[7] = RELATION
        return fresh

    begin = HEADER + b"B" + struct.pack(">QQI", 500, 0, 1)
    commit = HEADER + b"C\0" + struct.pack(">QQQ", 500, 600, 0)
    old_begin = HEADER + b"B" + struct.pack(">QQI", 50, 0, 1)
    old_commit = HEADER + b"C\0" + struct.pack(">QQQ", 50, 60, 0)
    for history in (
        [insert(1, b"a")],
        [commit],
        [begin, begin],
        [
            begin,
            commit,
            old_begin[:26] + struct.pack(">QQI", 300, 0, 2),
            HEADER + b"C\0" + struct.pack(">QQQ", 300, 400, 0),
        ],
    ):
        target, batch = stream(), Batch()
        for message in history[:-1]:
            target.take(message, batch)
        with pytest.raises(wire.WireError):
            target.take(history[-1], batch)
    unknown, batch = stream(), Batch()
    unknown.relations.clear()
    unknown.take(begin, batch)
    with pytest.raises(wire.WireError, match="did not announce"):
        unknown.take(insert(1, b"a"), batch)
    again, batch = stream(), Batch()
    for message in (old_begin, insert(1, b"twice"), old_commit):
        again.take(message, batch)
    assert (batch.rows, batch.end_lsn) == (0, None), "a transaction the cache holds is passed over"


TYPES = {
    "risk_score": ("numeric(12,3)", ["1.5", "-0.001", "123456789.125", "0", "10000", "'NaN'"]),
    "processing_time_ms": ("bigint", ["9223372036854775807", "-1", "0"]),
    "user_id": ("smallint", ["1", "32767"]),
    "tool_name": ("uuid", ["'7d444840-9dc0-11d1-b245-5ffdce74fad2'"]),
    "approved": ("integer", ["0", "1", "7"]),
    "reviewed_at": ("date", ["'2024-02-29'", "'infinity'", "'0001-01-01 BC'"]),
    "updated_at": ("timestamp", ["'2024-02-29 23:59:59.999999'"]),
    "decision": ("decision_kind", ["'ALLOW'", "'DENY'"]),
    "summary": ("short_text", ["'dömain'"]),
}


def test_unusual_but_readable_types_arrive_as_postgres_means_them(database: Database, tmp_path: Path) -> None:
    """Numeric, bigint, smallint, uuid, date, an enum and a domain in place of the platform's types; copy and stream."""
    database.execute(
        "create type decision_kind as enum ('ALLOW', 'DENY'); create domain short_text as varchar(20) check (length(value) > 0)"
    )
    database.execute(
        "alter table agent_actions disable trigger user; alter table agent_actions drop constraint if exists agent_actions_user_id_fkey"
    )
    for column, (type_name, _) in TYPES.items():
        database.execute(
            f"alter table agent_actions drop column {column} cascade; alter table agent_actions add column {column} {type_name}"
        )

    def write() -> None:
        for column, (_, values) in TYPES.items():
            for value in values:
                database.execute(
                    f"insert into agent_actions (agent_id, action_type, organization_id, status, {column})"
                    f" values ('a', 'x', 1, 'pending_approval', {value})"
                )

    write()
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        write()
        sync.caught_up(database)
        with sync.cache.read() as snapshot:
            for column in TYPES:
                text = (
                    f"case when isfinite({column}) then strftime({column}, '%Y-%m-%d %H:%M:%S.%f') else {column}::varchar end"
                    if column in ("reviewed_at", "updated_at")
                    else column
                )
                cached = snapshot._connection.execute(
                    f"select {text} from agent_actions where {column} is not null order by id"
                ).fetchall()
                assert len(cached) == 2 * len(TYPES[column][1]), column
                half = len(cached) // 2
                assert repr(cached[:half]) == repr(cached[half:]), f"copy and stream read {column} differently"
        scores = snapshot_values(sync, "risk_score")
        assert [repr(float(s)) for s in scores[:6]] == ["1.5", "-0.001", "123456789.125", "0.0", "10000.0", "nan"]
        assert snapshot_values(sync, "tool_name")[0] == "7d444840-9dc0-11d1-b245-5ffdce74fad2"
        assert snapshot_values(sync, "approved")[:3] == [False, True, True]
        assert_equal(sync, database, "users")


def snapshot_values(sync: Any, column: str) -> list[Any]:
    with sync.cache.read() as snapshot:
        return [
            r[0]
            for r in snapshot._connection.execute(
                f"select {column} from agent_actions where {column} is not null order by id"
            ).fetchall()
        ]


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        (b"2000-01-01 00:00:00+00", 0),
        (b"1999-12-31 23:59:59.999999", -1),
        (
            b"0001-01-01 00:00:00 BC",
            -(730_119 + 366) * 86_400_000_000,
        ),  # 1 AD begins 730,119 days before 2000; 1 BC is a leap year
        (b"2024-02-29", 8825 * 86_400_000_000),
        (b"infinity", wire.INT64_MAX),
    ],
)
def test_text_times_of_older_servers_are_read(text: bytes, microseconds: int) -> None:
    assert wire._time_from_text(text) == microseconds
