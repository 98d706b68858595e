"""A text is kept up to its first 65,536 characters, by copy, stream and polling alike, and verification agrees."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.state.clock import utc_now
from analytics.state.sync_status import Phase
from owkai.exits import Exit
from sync.comparison.verify import Scope, Verifier
from sync.values.long_text import LONGEST_TEXT_BYTES, LONGEST_TEXT_CHARACTERS, characters_end
from tests.faults.stories import insert
from tests.owkai.servers import serving, wait_for
from tests.postgres import Database
from tests.sync.running import RunningSync, running_sync, slot_name, wait_until

# Around every bound of bytes and characters, with characters of one to four bytes.
TEXTS = [
    "repeat('a', 65535)",
    "repeat('a', 65536)",
    "repeat('a', 65537)",
    "repeat('é', 65536)",
    "repeat('é', 65537)",
    "'x' || repeat('é', 300000)",
    "repeat('😀', 65536)",
    "'x' || repeat('😀', 65536)",
    "'xy' || repeat('😀', 200000)",
    "repeat('a', 262144)",
    "repeat('a', 262145)",
    "repeat('a', 3000000)",
    "''",
    "null",
]
INSERT = (
    "insert into agent_actions (agent_id, action_type, organization_id, summary, recommendation, extra_data)"
    " values ('a', 'x', 1, {0}, 'short', jsonb_build_object('unread', repeat('z', 1000000)))"
)


def expected(database: Database) -> list[Any]:
    query = f"select id, left(summary, {LONGEST_TEXT_CHARACTERS}), recommendation from agent_actions order by id"
    return database.execute(query).fetchall()


def kept(sync: RunningSync) -> list[Any]:
    with sync.cache.read() as snapshot:
        query = "select id, summary, recommendation from agent_actions order by id"
        return snapshot._connection.execute(query).fetchall()


def fill(database: Database) -> None:
    for text in TEXTS:
        database.execute(INSERT.format(text))


def verified(sync: RunningSync) -> bool:
    verifier = Verifier(sync.settings, sync.cache, sync.loop, sync.board, utc_now)
    return bool(verifier.verify(Scope(), lambda: False).equal)


@pytest.mark.parametrize("identity", ["default", "full"])
def test_copied_and_streamed_texts_are_kept_up_to_the_same_character(
    database: Database, tmp_path: Path, identity: str
) -> None:
    database.execute(f"alter table agent_actions replica identity {identity}")
    whole_table = {"manage_publication": False}  # also columns that nobody reads
    database.execute("create publication owkai for table agent_actions, users, audit_logs, api_keys")
    fill(database)
    with running_sync(database, tmp_path, source=whole_table) as sync:
        sync.streaming()
        assert kept(sync) == expected(database)
        fill(database)
        database.execute("update agent_actions set status = 'failed' where id % 2 = 0")  # leaves long texts out
        database.execute("update agent_actions set summary = 'é' || summary where id % 3 = 0")
        database.execute("delete from agent_actions where id % 7 = 0")
        sync.caught_up(database)
        assert kept(sync) == expected(database)
        assert verified(sync)


def test_polled_texts_are_kept_up_to_the_same_character(database: Database, tmp_path: Path) -> None:
    fill(database)
    with running_sync(database, tmp_path, sync={"mode": "poll", "poll_seconds": 0.1}) as sync:
        sync.phase(Phase.POLLING)
        assert kept(sync) == expected(database)
        fill(database)
        wait_until(lambda: kept(sync) == expected(database), "the new rows")


def test_a_repair_fetches_texts_by_the_same_rule(database: Database, tmp_path: Path) -> None:
    fill(database)
    with running_sync(database, tmp_path) as sync:
        sync.streaming()

        def tamper(store: Any) -> None:
            store.begin()
            store._writer.execute("update agent_actions set summary = 'wrong'")
            store.commit(store.position().lsn)

        sync.loop.at_position(0, tamper).result(20)
        verifier = Verifier(sync.settings, sync.cache, sync.loop, sync.board, utc_now)
        report = verifier.verify(Scope(), lambda: False)
        assert not report.equal
        verifier.repair(report, lambda: False)
        assert verifier.verify(Scope(), lambda: False).equal
        assert kept(sync) == expected(database)


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40), st.integers(1, 4))
def test_the_cut_is_at_a_character_and_leaves_the_first_65536(alphabet: str, times: int) -> None:
    text = alphabet * (LONGEST_TEXT_CHARACTERS * times // len(alphabet))
    raw = text.encode()
    assert raw[: characters_end(raw)].decode() == text[:LONGEST_TEXT_CHARACTERS]
    beginning = raw[:LONGEST_TEXT_BYTES]  # as a streamed value arrives, perhaps cut inside a character
    if len(text) > LONGEST_TEXT_CHARACTERS:
        assert beginning[: characters_end(beginning)].decode() == text[:LONGEST_TEXT_CHARACTERS]


def resident_megabytes(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def test_a_text_of_200_megabytes_costs_a_few_times_its_size_while_it_arrives(
    database: Database, tmp_path: Path
) -> None:
    """Decoded whole it took 3.8 GB."""
    database.execute("alter table agent_actions disable trigger user")
    database.execute("alter table agent_actions alter summary set storage external")
    insert(database, 10)
    with serving(tmp_path, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database)) as server:
        wait_for(lambda: server.get("/readyz")[1]["state"] == "streaming", "the first copy")
        before = resident_megabytes(server.process.pid, "VmHWM:")
        database.execute(INSERT.format("repeat('a', 200000000)"))
        wait_for(lambda: "owkai_sync_values_mapped_total 1" in metrics(server.port), "the row")
        peak = resident_megabytes(server.process.pid, "VmHWM:")
        print(
            f"peak before {before:.0f} MB, after {peak:.0f} MB; now {resident_megabytes(server.process.pid, 'VmRSS:')}"
        )
        assert peak - before < 800
        server.signal(signal.SIGTERM)
        assert server.wait() == Exit.OK


def metrics(port: int) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        return str(response.read().decode())
