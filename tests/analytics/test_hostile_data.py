"""Rows made to hurt: names that are no names, many organizations, answers that need more memory than there is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from analytics.state.cache import Cache
from analytics.views import Publisher, ViewKey, ViewTimeoutError
from tests.analytics.asking import asking
from tests.analytics.rows import NOW, action, filled_cache, fresh_board, settings

NAMES = (
    "\u202etxt.exe", "\u2066isolated\u2069", "zero\u200bwidth\u200d\u2060", "z\u0334\u0321\u035b" * 40 + "algo", "раypal", "paypal",
    "\ufffe", "\U0001f469\u200d\U0001f4bb\U0001f3fd", "\ufeffbom", "é", "e\u0301", "\u0000nul", "\u2028line\u2029paragraph", "a\tb\r\nc",
    "\U0010ffff", " ", "</script>", "\ud7ff",
)  # fmt: skip


def test_dos_03_odd_names_are_valid_json_and_ties_stand_in_code_point_order(tmp_path: Path) -> None:
    rows = [action(n, agent_id=name, tool_name=name, summary=name) for n, name in enumerate(NAMES, 1)]
    with asking(settings(tmp_path), agent_actions=rows) as ask:
        body = ask.body("trends", limit=100)
        answer = json.loads(body.decode("utf-8"))
        assert [entry["agent"] for entry in answer["top_agents"]] == sorted(NAMES)
        assert [entry["tool"] for entry in answer["top_tools"]] == sorted(NAMES)
        assert {entry["summary"] for entry in ask("debug", limit=100)} == set(NAMES)
        assert b"\x00" not in body


@pytest.fixture
def clock() -> Callable[[], datetime]:
    return lambda: NOW


def test_dos_08_ten_thousand_organizations_stay_within_the_bound_of_kept_answers(
    tmp_path: Path, clock: Callable[[], datetime]
) -> None:
    organizations, asking_ones = 10_000, 500
    rows = [action(n, org=n, agent_id=f"agent of {n}", recommendation="r" * 2000) for n in range(1, organizations + 1)]
    given = settings(tmp_path, cache={"views_megabytes": 1, "in_memory": True})

    async def ask_all(publisher: Publisher) -> None:
        for org in range(1, asking_ones + 1):
            (only,) = json.loads((await publisher.get(ViewKey("debug", org))).body)
            assert only["agent_id"] == f"agent of {org}"
            assert publisher.held_bytes <= 1024 * 1024

    with filled_cache(given, agent_actions=rows) as cache:
        publisher = Publisher(cache, fresh_board(), given, clock)
        asyncio.run(ask_all(publisher))
        assert len(publisher) < asking_ones
        publisher.close()


def test_dos_11_an_answer_that_needs_more_memory_than_there_is_is_refused_and_others_go_on(
    tmp_path: Path, clock: Callable[[], datetime]
) -> None:
    rows = [action(n, agent_id=f"agent {n:09}" + "x" * 80, ago=timedelta(minutes=n % 600)) for n in range(1, 100_001)]
    with filled_cache(settings(tmp_path), agent_actions=rows):
        pass
    given = settings(tmp_path, cache={"memory_limit": "16MiB", "temp_limit": "1MiB"})
    with closing(Cache(given.cache)) as cache:
        assert cache.ready
        publisher = Publisher(cache, fresh_board(), given, clock)

        async def ask() -> None:
            with pytest.raises(ViewTimeoutError, match="more memory"):
                await publisher.get(ViewKey("trends", 1))
            assert len(json.loads((await publisher.get(ViewKey("debug", 1))).body)) == 5

        asyncio.run(ask())
        publisher.close()
