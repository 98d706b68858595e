"""What a verification found: buckets and keys that differ between source and cache, as text for people and as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, Literal

from analytics.state.lsn import format_lsn
from config.utc_text import utc_text
from sync.comparison.checksums import IDS_PER_BUCKET, Bucket
from sync.retention import TIMED_TABLES

KEYS_SHOWN = 100
REPAIR_LIMIT = 100_000  # with more differing rows, a new copy is better

Kind = Literal["missing", "extra", "different"]
KINDS: tuple[Kind, ...] = ("missing", "extra", "different")


@dataclass(frozen=True)
class BucketDifference:
    """A bucket whose rows are not the same on both sides."""

    key: str
    source_rows: int
    cache_rows: int


@dataclass
class KeyDifferences:
    """Rows that differ, by key: `missing` in the cache, `extra` in the cache, or `different` in a column.

    `total` counts all of them, `keys` holds them up to the limit of a repair.
    """

    total: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    keys: dict[Kind, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, kind: Kind, key: int) -> None:
        self.total[kind] += 1
        if self.count <= REPAIR_LIMIT:
            self.keys[kind].append(key)

    @property
    def count(self) -> int:
        return sum(self.total.values())

    @property
    def repairable(self) -> list[int]:
        """Every differing key, ascending."""
        return sorted(key for keys in self.keys.values() for key in keys)


@dataclass(frozen=True)
class TableComparison:
    """One table, compared. `name` is ours, `source` the source's qualified name."""

    name: str
    source: str
    source_rows: int
    cache_rows: int
    buckets: int
    differing: tuple[BucketDifference, ...] = ()
    keys: KeyDifferences = field(default_factory=KeyDifferences)


@dataclass(frozen=True)
class ComparisonReport:
    """Source and cache at one WAL position."""

    lsn: int
    at: datetime
    seconds: float
    days: int | None  # None: everything that is kept
    tables: tuple[TableComparison, ...]

    @property
    def equal(self) -> bool:
        return not any(table.differing for table in self.tables)

    @property
    def rows(self) -> int:
        return sum(table.source_rows for table in self.tables)

    @property
    def buckets(self) -> int:
        return sum(table.buckets for table in self.tables)

    @property
    def differing_buckets(self) -> int:
        return sum(len(table.differing) for table in self.tables)

    @property
    def differing_rows(self) -> int:
        return sum(table.keys.count for table in self.tables)

    def lines(self) -> Iterator[str]:
        """The report for a terminal."""
        place = format_lsn(self.lsn)
        within = "" if self.days is None else f", the last {self.days} days"
        extent = f"{self.rows} rows in {self.buckets} buckets, {len(self.tables)} tables{within}"
        if self.equal:
            yield f"equal at LSN {place}: {extent}"
            return
        yield f"DIFFERENT at LSN {place}: {self.differing_buckets} of {self.buckets} buckets; compared {extent}"
        for table in self.tables:
            for bucket in table.differing:
                yield (
                    f"  {table.name}, {bucket_title(table.name, bucket.key)}: "
                    f"{bucket.source_rows} rows in the source, {bucket.cache_rows} in the cache"
                )
            yield from key_lines(table)

    def data(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {
            "equal": self.equal,
            "lsn": format_lsn(self.lsn),
            "at": utc_text(self.at),
            "seconds": round(self.seconds, 3),
            "days": self.days,
            "rows": self.rows,
            "buckets": self.buckets,
            "differing_buckets": self.differing_buckets,
            "differing_rows": self.differing_rows,
            "tables": [
                {
                    "table": table.name,
                    "source": table.source,
                    "source_rows": table.source_rows,
                    "cache_rows": table.cache_rows,
                    "buckets": table.buckets,
                    "differing": [asdict(bucket) for bucket in table.differing],
                    "differing_rows": dict(table.keys.total),
                    "keys": {kind: keys[:KEYS_SHOWN] for kind, keys in table.keys.keys.items()},
                }
                for table in self.tables
            ],
        }


def key_lines(table: TableComparison) -> Iterator[str]:
    """The differing keys of a table, at most `KEYS_SHOWN` of them, with their number."""
    words = {"missing": "missing in the cache", "extra": "only in the cache", "different": "different"}
    remaining = KEYS_SHOWN
    for kind in KINDS:
        total, keys = table.keys.total[kind], table.keys.keys[kind]
        if not total:
            continue
        shown = keys[: max(remaining, 0)]
        remaining -= len(shown)
        more = f" and {total - len(shown)} more" if total > len(shown) else ""
        yield f"  {table.name}, {total} {words[kind]}: id {', '.join(map(str, shown))}{more}"


def bucket_title(table: str, key: str) -> str:
    """The title of a bucket: its day, or its range of ids."""
    if table in TIMED_TABLES:
        return key
    first = int(key) * IDS_PER_BUCKET
    return f"ids {first} to {first + IDS_PER_BUCKET - 1}"


def differing_buckets(source: Iterable[Bucket], cache: Iterable[Bucket]) -> tuple[BucketDifference, ...]:
    """Buckets that are not in both with the same count and checksum, by key."""
    ours, theirs = {bucket.key: bucket for bucket in cache}, {bucket.key: bucket for bucket in source}
    return tuple(
        BucketDifference(key, theirs[key].rows if key in theirs else 0, ours[key].rows if key in ours else 0)
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    )


def differing_keys(source: Iterable[tuple[int, int]], cache: Iterable[tuple[int, int]]) -> KeyDifferences:
    """Merge (id, checksum) pairs of both sides, each in ascending order of id. An id that occurs twice is `different`."""
    found = KeyDifferences()
    left, right = groups(source), groups(cache)
    mine, other = next(left, None), next(right, None)
    while mine is not None or other is not None:
        if other is None or (mine is not None and mine[0] < other[0]):
            assert mine is not None  # noqa: S101 - one of them is not None
            found.add("missing", mine[0])
            mine = next(left, None)
        elif mine is None or other[0] < mine[0]:
            found.add("extra", other[0])
            other = next(right, None)
        else:
            if mine[1] != other[1]:
                found.add("different", mine[0])
            mine, other = next(left, None), next(right, None)
    return found


def groups(pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, list[int]]]:
    """The checksums of each id, sorted."""
    for key, group in groupby(pairs, key=lambda pair: pair[0]):
        yield key, sorted(checksum for _, checksum in group)
