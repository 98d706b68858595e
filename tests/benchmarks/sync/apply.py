"""Applying changes beside pg_recvlogical to a null sink: `python -m tests.benchmarks.sync.apply [--changes 200000]`.

Represents catching up with a platform that has run for long: a table of a million actions, of which updates and deletes
touch rows of every age (late reviews, marks as false positive, clean-ups), not only the newest. Inserts are new actions.

For each load the same WAL is read twice from two slots made before it: by pg_recvlogical writing to /dev/null with our publication and
options, and by our loop until the cache has committed the end. Decoding alone is timed on the same messages in CPU seconds.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import time
from pathlib import Path

from analytics.state.lsn import format_lsn
from analytics.state.sync_status import Phase
from sync.source.connections import wal_position
from sync.source.preflight import survey
from sync.stream.batch import Batch, BatchLimits
from sync.stream.change_stream import ChangeStream
from sync.stream.pgoutput import decode_changes
from sync.values import wire
from tests.benchmarks import represented
from tests.benchmarks.source import filled_source
from tests.postgres import Database
from tests.sync.running import RunningSync, settings_for, wait_until

INSERT = """
insert into agent_actions (agent_id, action_type, description, risk_level, status, "timestamp", created_at, organization_id,
    tool_name, summary, nist_control, mitre_tactic, recommendation)
select 'agent-' || i %% 50, 'email_send', 'description ' || i, 'high', 'completed', now(), now(), 1 + i %% 3,
    'email_service', 'Summary of ' || i, 'AC-3', 'TA0002', 'Verify recipient' from generate_series(1, %s) i"""
ANY_AGE = "(select 1 + floor(random() * (select max(id) from agent_actions))::bigint from generate_series(1, %s))"
LOADS = {
    "insert-heavy": ((INSERT, 0.9), (f"update agent_actions set status = 'failed' where id in {ANY_AGE}", 0.1)),
    "update-heavy": ((INSERT, 0.1), (f"update agent_actions set status = 'approved' where id in {ANY_AGE}", 0.9)),
    "delete-heavy": ((INSERT, 0.5), (f"delete from agent_actions where id in {ANY_AGE}", 0.5)),
}
ROWS_PER_TRANSACTION = 500


def write(database: Database, load: str, changes: int) -> None:
    """The load in transactions of a few hundred rows."""
    for statement, share in LOADS[load]:
        for _ in range(round(changes * share) // ROWS_PER_TRANSACTION):
            database.execute(statement, [ROWS_PER_TRANSACTION])


def copy(database: Database, folder: Path) -> None:
    sync = RunningSync(settings_for(database, folder))
    wait_until(lambda: sync.board.current.phase is Phase.STREAMING, "the copy", 900)
    sync.close()


def recvlogical_seconds(database: Database, slot: str, end: str) -> float:
    command = [
        database.server.tool("pg_recvlogical"), "-d", database.dsn, "-S", slot, "--start", "-f", "/dev/null", "--endpos", end, "--no-loop",
        "-o", "proto_version=1", "-o", "publication_names=owkai", "-o", "binary=true",
    ]  # fmt: skip
    started = time.monotonic()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def our_seconds(database: Database, folder: Path, end: int) -> tuple[float, int]:
    """From the start of sync on an existing cache to the commit of `end`; and the changes applied."""
    sync = RunningSync(settings_for(database, folder))
    started = time.monotonic()
    wait_until(lambda: (sync.board.current.applied_lsn or 0) >= end - 24, "the changes", 600)
    seconds = time.monotonic() - started
    sync.close()
    return seconds, sync.board.current.rows_applied


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--changes", type=int, default=200_000)
    options.add_argument("--rows", type=int, default=1_000_000, help="actions in the table before")
    given = options.parse_args()
    changes = given.changes
    represented.state(__doc__)
    for load in LOADS:
        with filled_source(given.rows) as (database, folder):
            copy(database, folder)
            for slot in ("peer", "decode"):
                database.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
            write(database, load, changes)
            with database.connect() as connection:
                end = wal_position(connection)
            theirs = recvlogical_seconds(database, "peer", format_lsn(end) or "")
            ours, applied = our_seconds(database, folder, end)
            rate = decode_rate(database, folder, end)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{load:13} {applied} changes, thousand/s: pg_recvlogical {applied / theirs / 1000:.1f},"
            f" ours end to end {applied / ours / 1000:.1f} ({theirs / ours:.2f} of it),"
            f" decode alone {rate / 1000:.0f} per CPU second; peak memory {peak} MB"
        )


def decode_rate(database: Database, folder: Path, end: int) -> float:
    """Row messages decoded per CPU second, receiving left out."""
    settings = settings_for(database, folder, source={"slot": "decode"})
    found = survey(settings)
    assert found.identity is not None
    stream = ChangeStream(settings, 0, found.identity.version, lambda: False, found.mapping.long_values)
    batch = Batch()
    spent = 0.0
    rows = 0
    while stream.processed < end - 24:
        stream.gather(batch, BatchLimits(20_000), 1.0)
        if stream.position_wanted:
            stream.acknowledge(0)
        if not batch.in_transaction:
            batch.committed()
        for oid, messages in batch.take_rows().items():
            relation = stream.relations[oid]
            table = found.mapping.find(relation.schema, relation.name)
            assert table is not None
            target = table.target(relation)
            before = time.process_time()
            decode_changes(target, messages, lambda columns, keys: {}, wire.Mapped())
            spent += time.process_time() - before
            rows += len(messages)
    stream.close()
    return rows / spent


if __name__ == "__main__":
    main()
