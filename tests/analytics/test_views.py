"""Published views: validity, single flight, bounds, tenancy of the byte cache."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import secrets
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from analytics.state.cache import Cache
from analytics.state.snapshot import Snapshot
from analytics.state.store import CacheNotReadyError
from analytics.views import Publisher, ViewKey, ViewTimeoutError, publish
from config.settings import Settings
from tests.analytics.rows import NOW, ORIGIN, action, arrow, fill, fresh_board, settings

TRENDS = ViewKey("trends", 1)


class Clock:
    """A clock that stands until told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class GatedCache(Cache):
    """A cache that counts its reads and can hold them at a gate, or fail them."""

    def __init__(self, given: Settings) -> None:
        super().__init__(given.cache)
        self.reads = 0
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.outstay = False

    @contextlib.contextmanager
    def read(self, timeout_seconds: float | None = None) -> Iterator[Snapshot]:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        with super().read(timeout_seconds) as snapshot:
            self.entered.release()
            assert self.gate.wait(30)
            if self.outstay:
                assert snapshot._expired.wait(30)
            yield snapshot


class Setting:
    """A publisher over a gated cache with a standing clock."""

    def __init__(self, given: Settings, rows: list[Any]) -> None:
        self.cache = GatedCache(given)
        store = self.cache.build(ORIGIN)
        fill(store, {"agent_actions": rows})
        self.cache.publish(store)
        self.clock = Clock()
        self.publisher = Publisher(self.cache, fresh_board(), given, self.clock)

    def insert(self, *rows: Any) -> None:
        store = self.cache.live
        assert store is not None
        fill(store, {"agent_actions": list(rows)})
        self.cache.touched("agent_actions")

    async def entered(self) -> None:
        """Until a worker is inside a read."""
        assert await asyncio.to_thread(self.cache.entered.acquire, timeout=30)

    def close(self) -> None:
        self.cache.gate.set()
        self.publisher.close()
        self.cache.close()


@pytest.fixture
def opened(given: Settings) -> Iterator[Setting]:
    opened = Setting(given, [action(1, agent_id="of one"), action(2, org=2, agent_id="of two")])
    yield opened
    opened.close()


def agents(body: bytes) -> list[str]:
    return [entry["agent"] for entry in json.loads(body)["top_agents"]]


def test_an_answer_stays_while_version_and_second_stand(opened: Setting) -> None:
    publisher, clock = opened.publisher, opened.clock

    async def scenario() -> None:
        assert publisher.cached(TRENDS) is None
        first = await publisher.get(TRENDS)
        assert publisher.cached(TRENDS) is first
        assert await publisher.get(TRENDS) is first
        assert opened.cache.reads == 1
        clock.now = NOW.replace(microsecond=999_999)
        assert publisher.cached(TRENDS) is first
        clock.now = NOW.replace(microsecond=0) + timedelta(seconds=1)
        assert publisher.cached(TRENDS) is None
        second = await publisher.get(TRENDS)
        assert second.computed_at == clock.now
        assert second.body is first.body  # nothing changed, so the bytes are the old ones
        assert second.etag == first.etag
        opened.insert(action(3, agent_id="newcomer"))
        assert publisher.cached(TRENDS) is None
        third = await publisher.get(TRENDS)
        assert "newcomer" in agents(third.body)
        assert third.etag != first.etag
        assert third.version == opened.cache.version

    asyncio.run(scenario())


def test_the_windows_end_when_the_computation_begins_and_not_before(opened: Setting) -> None:
    async def scenario() -> None:
        opened.clock.now = NOW + timedelta(seconds=5)
        opened.insert(action(3, agent_id="a blink ago", timestamp=NOW + timedelta(seconds=4, milliseconds=999)))
        assert "a blink ago" in agents((await opened.publisher.get(TRENDS)).body)

    asyncio.run(scenario())


def test_concurrent_misses_share_one_computation(opened: Setting) -> None:
    async def scenario() -> None:
        opened.cache.gate.clear()
        waiting = [asyncio.create_task(opened.publisher.get(TRENDS)) for _ in range(100)]
        await opened.entered()
        late = [asyncio.create_task(opened.publisher.get(TRENDS)) for _ in range(100)]
        await asyncio.sleep(0)
        opened.cache.gate.set()
        answers = await asyncio.gather(*waiting, *late)
        assert all(answer is answers[0] for answer in answers)
        assert opened.cache.reads == 1

    asyncio.run(scenario())


def test_a_caller_after_a_commit_does_not_get_the_computation_from_before_it(opened: Setting) -> None:
    async def scenario() -> None:
        opened.cache.gate.clear()
        early = asyncio.create_task(opened.publisher.get(TRENDS))
        await opened.entered()
        opened.insert(action(3, agent_id="newcomer"))
        late = [asyncio.create_task(opened.publisher.get(TRENDS)) for _ in range(50)]
        await asyncio.sleep(0)
        opened.cache.gate.set()
        assert "newcomer" not in agents((await early).body)
        assert all("newcomer" in agents(answer.body) for answer in await asyncio.gather(*late))
        assert opened.cache.reads == 2

    asyncio.run(scenario())


def test_one_cancelled_caller_does_not_take_the_answer_from_the_others(opened: Setting) -> None:
    async def scenario() -> None:
        opened.cache.gate.clear()
        first = asyncio.create_task(opened.publisher.get(TRENDS))
        second = asyncio.create_task(opened.publisher.get(TRENDS))
        await opened.entered()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        opened.cache.gate.set()
        assert agents((await second).body) == ["of one"]
        assert opened.cache.reads == 1

    asyncio.run(scenario())


def test_an_exception_reaches_every_caller_and_is_not_kept(opened: Setting) -> None:
    async def scenario() -> None:
        opened.cache.failure = ArithmeticError("broken for once")
        answers = await asyncio.gather(*(opened.publisher.get(TRENDS) for _ in range(20)), return_exceptions=True)
        assert {str(answer) for answer in answers} == {"broken for once"}
        assert opened.cache.reads == 1
        opened.cache.failure = None
        assert agents((await opened.publisher.get(TRENDS)).body) == ["of one"]

    asyncio.run(scenario())


def test_az_08_interleaved_organizations_never_get_each_others_bytes(opened: Setting) -> None:
    async def scenario() -> None:
        opened.cache.gate.clear()
        views = ("trends", "debug", "realtime", "metrics_update")
        keys = [ViewKey(views[number // 2 % 4], 1 + number % 2) for number in range(200)]
        waiting = [asyncio.create_task(opened.publisher.get(key)) for key in keys]
        await opened.entered()
        opened.cache.gate.set()
        answers = await asyncio.gather(*waiting)
        for key, answer in zip(keys, answers, strict=True):
            own, other = (b"of one", b"of two") if key.organization_id == 1 else (b"of two", b"of one")
            assert other not in answer.body
            if key.name in {"trends", "debug"}:
                assert own in answer.body
        assert opened.cache.reads == 8

    asyncio.run(scenario())


def test_in_05_many_different_keys_stay_within_the_bound_and_the_oldest_go(given: Settings) -> None:
    small = settings(given.cache.directory, cache={"views_megabytes": 1})
    opened = Setting(small, [])

    async def scenario() -> None:
        publisher = opened.publisher
        for number in range(1500):
            await publisher.get(ViewKey("metrics_update", 1, (("connections", number),)))
            if number % 100 == 0:
                assert publisher.cached(ViewKey("metrics_update", 1, (("connections", 0),))) is not None
        assert publisher.held_bytes <= 1024 * 1024
        assert 500 < len(publisher) < 1400
        assert publisher.cached(ViewKey("metrics_update", 1, (("connections", 1),))) is None
        assert publisher.cached(ViewKey("metrics_update", 1, (("connections", 1499),))) is not None

    try:
        asyncio.run(scenario())
    finally:
        opened.close()


def test_sql_10_a_runaway_query_ends_with_a_time_out_and_the_next_one_works(given: Settings) -> None:
    hasty = settings(given.cache.directory, server={"query_timeout_seconds": 0.3})
    opened = Setting(hasty, [action(1)])

    async def scenario() -> None:
        opened.cache.outstay = True
        waiting = [asyncio.create_task(opened.publisher.get(TRENDS)) for _ in range(3)]
        for answer in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(answer, ViewTimeoutError)
            assert "server.query_timeout_seconds" in str(answer)
        assert opened.publisher.cached(TRENDS) is None
        assert opened.cache.reads == 1
        opened.cache.outstay = False
        assert agents((await opened.publisher.get(TRENDS)).body) == ["agent-1"]

    try:
        asyncio.run(scenario())
    finally:
        opened.close()


def test_a_caller_waits_for_a_worker_no_longer_than_stated(given: Settings) -> None:
    opened = Setting(settings(given.cache.directory, server={"query_timeout_seconds": 0.05, "workers": 1}), [])

    async def scenario() -> None:
        opened.cache.gate.clear()
        stuck = asyncio.create_task(opened.publisher.get(TRENDS))
        await opened.entered()
        with pytest.raises(ViewTimeoutError, match=r"within 0\.1 s: every worker is busy; raise server\.workers"):
            await opened.publisher.get(ViewKey("debug", 1))
        with pytest.raises(ViewTimeoutError):
            await stuck
        opened.cache.gate.set()

    try:
        asyncio.run(scenario())
    finally:
        opened.close()


def test_a_computation_that_nobody_waits_for_any_more_is_not_begun(given: Settings) -> None:
    opened = Setting(settings(given.cache.directory, server={"workers": 1}), [action(1)])

    async def scenario() -> None:
        opened.cache.gate.clear()
        running = asyncio.create_task(opened.publisher.get(ViewKey("trends", 1, account="first")))
        await opened.entered()
        gone = asyncio.create_task(opened.publisher.get(ViewKey("debug", 1, account="second")))
        kept = asyncio.create_task(opened.publisher.get(ViewKey("realtime", 1, account="second")))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        late = asyncio.create_task(opened.publisher.get(ViewKey("debug", 1, account="third")))
        await asyncio.sleep(0)
        opened.cache.gate.set()
        await asyncio.gather(running, kept)
        assert b"agent-1" in (await late).body
        assert opened.cache.reads == 3

    try:
        asyncio.run(scenario())
    finally:
        opened.close()


def test_before_the_first_copy_and_after_close_it_says_not_ready(given: Settings) -> None:
    cache = Cache(given.cache)
    publisher = Publisher(cache, fresh_board(), given, Clock())

    async def scenario() -> None:
        with pytest.raises(CacheNotReadyError, match="first copy"):
            await publisher.get(TRENDS)
        publisher.close()
        publisher.close()
        with pytest.raises(CacheNotReadyError, match="stopping"):
            await publisher.get(TRENDS)

    asyncio.run(scenario())
    cache.close()


def test_who_waits_for_a_worker_when_the_server_stops_hears_it(given: Settings) -> None:
    opened = Setting(settings(given.cache.directory, server={"workers": 1}), [action(1)])

    async def scenario() -> None:
        opened.cache.gate.clear()
        running = asyncio.create_task(opened.publisher.get(TRENDS))
        await opened.entered()
        queued = asyncio.create_task(opened.publisher.get(ViewKey("debug", 1)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        opened.publisher.close()
        with pytest.raises(CacheNotReadyError, match="stopping"):
            await queued
        opened.cache.gate.set()
        assert agents((await running).body) == ["agent-1"]

    try:
        asyncio.run(scenario())
    finally:
        opened.close()


def test_a_forgotten_cache_is_not_served_from_kept_bytes(opened: Setting) -> None:
    async def scenario() -> None:
        await opened.publisher.get(TRENDS)
        opened.cache.forget()
        assert opened.publisher.cached(TRENDS) is None
        with pytest.raises(CacheNotReadyError):
            await opened.publisher.get(TRENDS)

    asyncio.run(scenario())


def test_a_new_generation_is_seen_at_once(opened: Setting) -> None:
    async def scenario() -> None:
        await opened.publisher.get(TRENDS)
        store = opened.cache.build(ORIGIN)
        fill(store, {"agent_actions": [action(9, agent_id="of the new copy")]})
        opened.cache.publish(store)
        assert agents((await opened.publisher.get(TRENDS)).body) == ["of the new copy"]

    asyncio.run(scenario())


def test_an_unknown_view_is_named(opened: Setting) -> None:
    with pytest.raises(ValueError, match="no view 'trend'; views are trends"):
        asyncio.run(opened.publisher.get(ViewKey("trend", 1)))


def test_answers_stay_whole_while_another_thread_commits(opened: Setting) -> None:
    stop = threading.Event()
    inserted = 2

    def commit() -> None:
        nonlocal inserted
        store = opened.cache.live
        assert store is not None
        while not stop.is_set() and inserted < 20_000:
            store.begin()
            pair = [action(inserted + 1, agent_id="left"), action(inserted + 2, agent_id="right")]
            store.append("agent_actions", arrow("agent_actions", pair))
            store.commit(inserted)
            opened.cache.touched("agent_actions")
            inserted += 2

    async def scenario() -> None:
        for _ in range(60):
            counts = {
                entry["agent"]: entry["count"]
                for entry in json.loads((await opened.publisher.get(TRENDS)).body)["top_agents"]
            }
            assert counts.get("left", 0) == counts.get("right", 0)

    writer = threading.Thread(target=commit)
    writer.start()
    try:
        asyncio.run(scenario())
    finally:
        stop.set()
        writer.join()
    final = asyncio.run(opened.publisher.get(TRENDS))
    counts = {entry["agent"]: entry["count"] for entry in json.loads(final.body)["top_agents"]}
    assert counts.get("left", 0) == (inserted - 2) // 2


def test_compression_only_where_it_pays() -> None:
    paying = publish(b"[" + b"1," * 2000 + b"1]", 1, NOW)
    assert paying.gzipped is not None
    assert gzip.decompress(paying.gzipped) == paying.body
    assert publish(b"1" * 1023, 1, NOW).gzipped is None
    assert publish(b"1" * 1024, 1, NOW).gzipped is not None
    assert publish(secrets.token_bytes(4096), 1, NOW).gzipped is None


def test_etags_of_equal_answers_differ_by_organization() -> None:
    tags = [publish(b"{}", 1, NOW, organization_id=number).etag for number in (1, 2, 1, 12)]
    assert tags[0] == tags[2]
    assert len(set(tags)) == 3


def test_etags_are_strong_and_of_the_content() -> None:
    one, same, other = publish(b"a", 1, NOW), publish(b"a", 2, NOW + timedelta(days=1)), publish(b"b", 1, NOW)
    assert one.etag == same.etag != other.etag
    assert one.etag.startswith('"')
    assert one.etag.endswith('"')
    assert one.content_type.startswith("application/json")
