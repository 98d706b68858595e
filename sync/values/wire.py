"""Decodes Postgres' values in bulk: walks many rows one column at a time and builds Arrow arrays without a Python object per value.

Two layouts share the walk: the tuples of pgoutput (a kind byte, then a length) and the rows of binary COPY (a length, -1 for
NULL). A walk returns `Field`s, which hold only the place of each row's bytes; `arrow_column` turns the chosen rows into Arrow.

Times are UTC. A time without a zone is read in its column's zone. Times before the year 1 become '-infinity' and times from the
year 10000 on 'infinity', because neither Python nor the contract supports such dates (`sync.values.times` is the same rule in SQL).
NaN is kept. A text keeps its first 65,536 characters (`sync.values.long_text`). Infinite times, such dates and shortened texts
are counted (`Mapped`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import nanoarrow as na
import numpy as np
import numpy.typing as npt

from analytics.state.tables import ColumnKind
from sync.values.local_time import local_time
from sync.values.long_text import LONGEST_TEXT_CHARACTERS, characters_end

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NULL, UNCHANGED, TEXT, BINARY = ord("n"), ord("u"), ord("t"), ord("b")
EPOCH_2000_MICROSECONDS = 946_684_800_000_000
INT64_MAX = np.iinfo(np.int64).max
INT64_MIN = np.iinfo(np.int64).min
# The range of finite times, in µs since 2000: the years 1 to 9999.
FIRST_TIME = -63_082_281_600_000_000
LAST_TIME = 252_455_615_999_999_999
MICROSECONDS_PER_DAY = 86_400_000_000
GATHERED_BYTES_PER_ROW = 512  # texts that are longer on average are copied one by one
PADDING = bytes(16)  # so that eight bytes can be read at any position

# Types whose binary form we read; by OID, which Postgres keeps stable for built-in types.
BOOL, BYTEA, INT8, INT2, INT4, TEXT_TYPE, JSON, FLOAT4, FLOAT8 = 16, 17, 20, 21, 23, 25, 114, 700, 701
BPCHAR, VARCHAR, DATE, TIMESTAMP, TIMESTAMPTZ, NUMERIC, UUID, NAME, CHAR = (
    1042,
    1043,
    1082,
    1114,
    1184,
    1700,
    2950,
    19,
    18,
)
LIKE_TEXT = -1  # stands for any type whose binary form is its text: enum, citext


class WireError(ValueError):
    """Bytes that violate the protocol. The connection is dropped; the cache is unchanged."""


@dataclass
class Mapped:
    """Counts values that a rule changed on the way into the cache."""

    values: int = 0


@dataclass(frozen=True)
class Field:
    """Where one column's values lie, one entry a row. `unchanged`: the update left the value out (TOAST)."""

    at: Positions
    length: npt.NDArray[np.int64]
    present: Mask
    unchanged: Mask | None
    binary: bool

    def take(self, rows: Positions) -> Field:
        return Field(
            self.at[rows],
            self.length[rows],
            self.present[rows],
            None if self.unchanged is None else self.unchanged[rows],
            self.binary,
        )


class Buffer:
    """Bytes of many messages end to end, readable as integers at any position."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        lengths = np.fromiter(map(len, chunks), dtype=np.int64, count=len(chunks))
        self.size = int(lengths.sum())
        self.starts = np.cumsum(lengths) - lengths
        self.ends = self.starts + lengths
        self._raw = b"".join((*chunks, PADDING))
        self._view()

    def _view(self) -> None:
        size = len(self._raw)
        self.bytes: Bytes = np.frombuffer(self._raw, dtype=np.uint8)
        self.int16 = np.ndarray((size - 1,), ">i2", self._raw, strides=(1,))
        self.int32 = np.ndarray((size - 3,), ">i4", self._raw, strides=(1,))
        self.int64 = np.ndarray((size - 7,), ">i8", self._raw, strides=(1,))
        self.float32 = np.ndarray((size - 3,), ">f4", self._raw, strides=(1,))
        self.float64 = np.ndarray((size - 7,), ">f8", self._raw, strides=(1,))

    def extend(self, values: Sequence[bytes]) -> Positions:
        """Append values behind the messages; returns where each begins."""
        first = len(self._raw) - len(PADDING)
        lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
        self._raw = b"".join((self._raw[:first], *values, PADDING))
        self._view()
        return np.asarray(first + np.cumsum(lengths) - lengths, dtype=np.int64)

    def slice(self, at: int, length: int) -> bytes:
        return self._raw[at : at + length]


def walk_tuples(buffer: Buffer, starts: Positions, columns: int) -> tuple[list[Field], Positions]:
    """Walk pgoutput tuples that begin (after their column count) at `starts`; returns fields and the positions after."""
    fields = []
    at = starts
    limit = buffer.size
    for _ in range(columns):
        if len(at) and int(at.max()) >= limit:
            raise WireError("a row ends inside a column")
        kind = buffer.bytes[at]
        text, binary = kind == TEXT, kind == BINARY
        present = text | binary
        unchanged = kind == UNCHANGED
        if not bool((present | unchanged | (kind == NULL)).all()):
            raise WireError(f"unknown column kind {chr(int(kind[~(present | unchanged | (kind == NULL))][0]))!r}")
        if bool(text.any()) and bool(binary.any()):
            raise WireError("one column in text and binary form")
        length = np.where(present, buffer.int32[np.minimum(at + 1, limit)].astype(np.int64), 0)
        if len(length) and int(length.min()) < 0:
            raise WireError("negative column length")
        fields.append(
            Field(at + 5, length, present, unchanged if bool(unchanged.any()) else None, not bool(text.any()))
        )
        at = at + np.where(present, 5 + length, 1)
    if len(at) and int(at.max()) > limit:
        raise WireError("a row ends inside a column")
    return fields, at


def walk_copy(buffer: Buffer, starts: Positions, columns: int) -> list[Field]:
    """Walk rows of binary COPY that begin (after their column count) at `starts`."""
    fields = []
    at = starts
    for _ in range(columns):
        length = buffer.int32[at].astype(np.int64)
        present = length >= 0
        fields.append(Field(at + 4, length, present, None, binary=True))
        at = at + 4 + np.where(present, length, 0)
    if len(at) and not bool((at == buffer.ends).all()):
        raise WireError("a copied row is longer or shorter than its columns")
    return fields


def arrow_column(
    buffer: Buffer, field: Field, kind: ColumnKind, type_oid: int, mapped: Mapped, zone: str | None = None
) -> Any:
    """The field's values as a nanoarrow array of the kind's Arrow type. `zone`: of times that carry none; None: UTC."""
    rows = len(field.at)
    nulls = rows - int(field.present.sum())
    validity = None if nulls == 0 else np.packbits(field.present, bitorder="little")
    if kind is ColumnKind.TEXT:
        offsets, data = _text(buffer, field, type_oid, mapped)
        return na.c_array_from_buffers(na.string(), rows, [validity, offsets, data], null_count=nulls)
    if kind is ColumnKind.BOOLEAN:
        values = np.packbits(_booleans(buffer, field, type_oid), bitorder="little")
        return na.c_array_from_buffers(na.bool_(), rows, [validity, values], null_count=nulls)
    if kind is ColumnKind.TIME:
        times = _times(buffer, field, type_oid, mapped, zone)
        return na.c_array_from_buffers(na.timestamp("us"), rows, [validity, times], null_count=nulls)
    if kind is ColumnKind.FLOAT:
        return na.c_array_from_buffers(
            na.float64(), rows, [validity, _floats(buffer, field, type_oid)], null_count=nulls
        )
    return na.c_array_from_buffers(na.int64(), rows, [validity, integers(buffer, field, type_oid)], null_count=nulls)


def arrow_nulls(kind: ColumnKind, rows: int) -> Any:
    """A column the source does not have."""
    absent = Field(np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.zeros(rows, np.bool_), None, binary=True)
    return arrow_column(_EMPTY, absent, kind, _ABSENT_TYPE[kind], Mapped())


class Rows:
    """Named Arrow columns of equal length as a stream that DuckDB reads."""

    def __init__(self, columns: dict[str, Any], rows: int) -> None:
        self.rows = rows
        schema = na.struct({name: na.Schema(array.schema) for name, array in columns.items()})
        self._array = na.c_array_from_buffers(schema, rows, [None], children=list(columns.values()))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return na.ArrayStream(self._array).__arrow_c_stream__(requested_schema)


def key_rows(keys: Positions) -> Rows:
    """One column `id`."""
    return Rows({"id": na.c_array_from_buffers(na.int64(), len(keys), [None, np.ascontiguousarray(keys)])}, len(keys))


# -- values by kind ------------------------------------------------------------------------------------------------


def integers(buffer: Buffer, field: Field, type_oid: int) -> npt.NDArray[np.int64]:
    """int64 values, 0 where NULL."""
    views = {INT2: (buffer.int16, 2), INT4: (buffer.int32, 4), INT8: (buffer.int64, 8)}
    if field.binary and type_oid in views:
        view, width = views[type_oid]
        return _fixed_width(field, view, width).astype(np.int64)
    spell: Callable[[bytes], str] = numeric_text if field.binary else bytes.decode
    # From its digits, not through a double: a numeric id may have more than 53 bits.
    return _parse_each(buffer, field, lambda raw: int(spell(raw).partition(".")[0]), np.int64, "whole number")


def _floats(buffer: Buffer, field: Field, type_oid: int) -> npt.NDArray[np.float64]:
    views = {
        FLOAT8: (buffer.float64, 8),
        FLOAT4: (buffer.float32, 4),
        INT2: (buffer.int16, 2),
        INT4: (buffer.int32, 4),
        INT8: (buffer.int64, 8),
    }
    if field.binary and type_oid in views:
        view, width = views[type_oid]
        return _fixed_width(field, view, width).astype(np.float64)
    return _parse_each(buffer, field, _numeric if field.binary else float, np.float64, "number")


def _booleans(buffer: Buffer, field: Field, type_oid: int) -> Mask:
    if field.binary:
        if type_oid != BOOL:
            return np.asarray(integers(buffer, field, type_oid) != 0)
        return np.asarray(_fixed_width(field, buffer.bytes, 1) != 0)
    truths = (b"t", b"true", b"1")
    return _parse_each(buffer, field, lambda raw: raw in truths, np.bool_, "boolean")


def _times(buffer: Buffer, field: Field, type_oid: int, mapped: Mapped, zone: str | None) -> npt.NDArray[np.int64]:
    """µs since 1970; DuckDB keeps ±infinity as the ends of the range."""
    if not field.binary:
        source = _parse_each(buffer, field, _time_from_text, np.int64, "time")
    elif type_oid == DATE:
        days = _fixed_width(field, buffer.int32, 4).astype(np.int64)
        highest, lowest = days == np.iinfo(np.int32).max, days == np.iinfo(np.int32).min
        fits = (np.abs(days) < INT64_MAX // MICROSECONDS_PER_DAY) & ~highest & ~lowest
        source = np.where(
            fits, np.where(fits, days, 0) * MICROSECONDS_PER_DAY, np.where(days > 0, INT64_MAX, INT64_MIN)
        )
    else:
        source = _fixed_width(field, buffer.int64, 8).astype(np.int64)
    if zone is not None:
        near = (source >= FIRST_TIME - 2 * MICROSECONDS_PER_DAY) & (source <= LAST_TIME + 2 * MICROSECONDS_PER_DAY)
        source = np.where(near, local_time(zone).to_utc(np.where(near, source, 0)), source)
    late, early = source > LAST_TIME, source < FIRST_TIME  # ±infinity among them
    odd = (late | early) & field.present
    mapped.values += int(odd.sum())
    times = np.where(late | early, 0, source) + EPOCH_2000_MICROSECONDS
    times = np.where(late, INT64_MAX, np.where(early, -INT64_MAX, times))
    return np.ascontiguousarray(times)


def _text(buffer: Buffer, field: Field, type_oid: int, mapped: Mapped) -> tuple[npt.NDArray[np.int32], Bytes]:
    """Arrow offsets and data, each text up to its first 65,536 characters."""
    if field.binary and type_oid in (UUID, NUMERIC, BOOL, INT2, INT4, INT8):
        return _text_from_objects(buffer, field, type_oid, mapped)
    length = np.where(field.present, field.length, 0)
    for row in np.flatnonzero(length > LONGEST_TEXT_CHARACTERS).tolist():
        kept = characters_end(buffer.slice(int(field.at[row]), int(length[row])))
        mapped.values += int(kept < length[row])
        length[row] = kept
    offsets = np.zeros(len(length) + 1, np.int64)
    np.cumsum(length, out=offsets[1:])
    total = int(offsets[-1])
    if total > np.iinfo(np.int32).max:
        raise WireError("more than 2 GiB of text in one column of a batch")
    if total > GATHERED_BYTES_PER_ROW * max(1, len(length)):
        # Few long texts: a gather would take sixteen bytes of memory per byte.
        spans = zip(field.at.tolist(), length.tolist(), strict=True)
        joined = b"".join([buffer.slice(at, size) for at, size in spans if size])
        return offsets.astype(np.int32), np.frombuffer(joined, dtype=np.uint8)
    gather = np.repeat(field.at - offsets[:-1], length)
    gather += np.arange(total, dtype=np.int64)
    return offsets.astype(np.int32), buffer.bytes[gather]


def _text_from_objects(
    buffer: Buffer, field: Field, type_oid: int, mapped: Mapped
) -> tuple[npt.NDArray[np.int32], Bytes]:
    def spell(at: int, length: int) -> bytes:
        raw = buffer.slice(at, length)
        if type_oid == UUID:
            digits = raw.hex()
            return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])).encode()
        if type_oid == BOOL:
            return b"true" if raw[0] else b"false"
        if type_oid == NUMERIC:
            return numeric_text(raw).encode()
        return str(int.from_bytes(raw, "big", signed=True)).encode()

    spelled = [
        spell(at, length) if there else b""
        for at, length, there in zip(field.at.tolist(), field.length.tolist(), field.present.tolist(), strict=True)
    ]
    mapped.values += sum(len(text) > LONGEST_TEXT_CHARACTERS for text in spelled)
    spelled = [text[:LONGEST_TEXT_CHARACTERS] for text in spelled]
    offsets = np.zeros(len(spelled) + 1, np.int32)
    np.cumsum([len(text) for text in spelled], out=offsets[1:])
    return offsets, np.frombuffer(b"".join(spelled) or b"\0", dtype=np.uint8)


def _fixed_width(field: Field, view: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """Values of one width; zeros where there is none."""
    if bool(field.present.all()):
        if bool((field.length != width).any()):
            raise WireError(f"a value of {int(field.length[field.length != width][0])} bytes instead of {width}")
        return view[field.at]
    wrong = field.present & (field.length != width)
    if bool(wrong.any()):
        raise WireError(f"a value of {int(field.length[wrong][0])} bytes instead of {width}")
    return np.where(field.present, view[np.where(field.present, field.at, 0)], 0)


def _parse_each(buffer: Buffer, field: Field, parse: Callable[[bytes], Any], dtype: Any, what: str) -> npt.NDArray[Any]:
    """One Python call a value: only for types that have no fixed binary form (numeric) and for text form (Postgres < 14)."""
    values = np.zeros(len(field.at), dtype)
    for row in np.flatnonzero(field.present).tolist():
        raw = buffer.slice(int(field.at[row]), int(field.length[row]))
        try:
            values[row] = parse(raw)
        except (ValueError, OverflowError) as error:
            raise WireError(f"a value of {len(raw)} bytes is not a {what}") from error
    return values


def _numeric_parts(raw: bytes) -> tuple[int, int, int, int, list[int]]:
    """The binary form of numeric: digit count, weight, sign, scale, base-10000 digits."""
    count, weight, sign, scale = (
        int.from_bytes(raw[0:2], "big"),
        int.from_bytes(raw[2:4], "big", signed=True),
        int.from_bytes(raw[4:6], "big"),
        int.from_bytes(raw[6:8], "big"),
    )
    return count, weight, sign, scale, [int.from_bytes(raw[8 + 2 * i : 10 + 2 * i], "big") for i in range(count)]


def _numeric(raw: bytes) -> float:
    """A numeric as the double nearest to it."""
    return float(numeric_text(raw))


def numeric_text(raw: bytes) -> str:
    """A numeric as Postgres prints it."""
    _, weight, sign, scale, digits = _numeric_parts(raw)
    special = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}.get(sign)
    if special:
        return special
    whole = "".join(f"{digits[i] if i < len(digits) else 0:04d}" for i in range(weight + 1)).lstrip("0") or "0"
    needed = -(-scale // 4)
    behind = "".join(f"{digits[i] if 0 <= i < len(digits) else 0:04d}" for i in range(weight + 1, weight + 1 + needed))[
        :scale
    ]
    return ("-" if sign == 0x4000 else "") + whole + ("." + behind if scale else "")


def _time_from_text(raw: bytes) -> int:
    """µs since 2000 of a timestamp in ISO form (DateStyle ISO, zone UTC), as Postgres < 14 sends it."""
    text = raw.decode()
    if text in ("infinity", "-infinity"):
        return int(INT64_MAX if text == "infinity" else INT64_MIN)
    before_christ = text.endswith(" BC")
    text = text.removesuffix(" BC").removesuffix("+00")
    day, _, clock = text.partition(" ")
    year_text, month, dom = day.split("-")
    year = 1 - int(year_text) if before_christ else int(year_text)
    cycles = math.floor((year - 2000) / 400)  # the calendar repeats every 400 years of 146097 days
    days = (datetime(year - 400 * cycles, int(month), int(dom), tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)).days
    hours, minutes, seconds = (clock or "00:00:00").split(":")
    whole, _, fraction = seconds.partition(".")
    in_day = (int(hours) * 60 + int(minutes)) * 60 + int(whole)
    return ((days + 146_097 * cycles) * 86_400 + in_day) * 1_000_000 + int(fraction.ljust(6, "0") or 0)


_EMPTY = Buffer(())
_ABSENT_TYPE = {
    ColumnKind.INTEGER: INT8,
    ColumnKind.FLOAT: FLOAT8,
    ColumnKind.TEXT: TEXT_TYPE,
    ColumnKind.BOOLEAN: BOOL,
    ColumnKind.TIME: TIMESTAMP,
}
