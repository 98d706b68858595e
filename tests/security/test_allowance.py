"""How much one caller may ask: requests and computations, each caller on their own, in bounded memory."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import views
from analytics.state.snapshot import Snapshot
from analytics.view_context import ViewContext
from config.settings import ServerSettings
from handlers.allowance import DOCUMENT_COST, Allowances, Exceeded
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Served, still_alive, until
from tests.handlers.world import ADMIN_1, ADMIN_2, DEMOTED, SHARED_1, SHARED_2, USER_1, USER_2

SLOW = {"requests_per_second": 0.01, "requests_burst": 5}
REPORT = "/executive/dashboard?format="


@pytest.mark.gen_test(timeout=60)
async def test_rl_06_too_many_documents_are_refused_and_cheap_answers_go_on(served: Served) -> None:
    async def report(days: int) -> int:
        kind = "csv" if days % 5 else "pdf"
        answer = await served.get(f"{REPORT}{kind}&days={days}", key=ADMIN_1.key)
        if answer.status == 429:
            assert answer.detail.startswith("Too many answers to compute")
            assert int(answer.header("Retry-After") or 0) >= 1
            assert (answer.header("RateLimit") or "").startswith('"computations";r=0;t=')
        return answer.status

    cheap = "/trends?days=3"
    assert (await served.get(cheap, key=ADMIN_1.key)).status == 200
    statuses = await asyncio.gather(*(report(days) for days in range(7, 107)))
    assert 24 <= statuses.count(200) <= 60, "25 at once, and what the seconds of this test add"
    assert statuses.count(200) + statuses.count(429) == 100
    assert (await served.get(cheap, key=ADMIN_1.key)).status == 200, "what is published costs nothing"
    assert (await served.get(f"{REPORT}csv&days=200", key=served.local.admin_1)).status == 200, "another account"
    await still_alive(served, USER_1)


@pytest.mark.gen_test
async def test_rl_06_in_05_a_caller_who_asks_for_ever_new_answers_is_refused(serve: Serve) -> None:
    served = serve(server={"computations_per_second": 0.01, "computations_burst": 20})
    statuses = [(await served.get(f"/trends?days={days}", key=USER_1.key)).status for days in range(1, 41)]
    assert statuses == [200] * 20 + [429] * 20
    assert (await served.get("/trends?days=5", key=USER_1.key)).status == 200
    assert (await served.get("/trends?days=39", key=USER_2.key)).status == 200


@pytest.mark.gen_test
async def test_rl_06_requests_are_limited_per_user_whatever_the_credential(serve: Serve) -> None:
    served = serve(server=SLOW)
    statuses = []
    for lines in (
        ("X-API-Key", USER_1.key), ("Authorization", f"Bearer {USER_1.token()}"), ("Cookie", f"owai_session={USER_1.token()}"),
    ) * 3:  # fmt: skip
        statuses.append((await served.get("/trends", lines)).status)
    assert statuses == [200] * 5 + [429] * 4
    assert (await served.get("/trends", key=USER_2.key)).status == 200
    for target in ("/healthz", "/readyz", "/metrics", "/reference"):
        assert (await served.ask(target)).status == 200, "public paths are not counted"


@pytest.mark.gen_test
async def test_rl_06_every_answer_says_what_is_left(serve: Serve) -> None:
    served = serve(server=SLOW)
    for left in (4, 3):
        answer = await served.get("/trends", key=USER_1.key)
        assert answer.header("RateLimit") == f'"requests";r={left};t={(5 - left) * 100}'
        assert answer.header("RateLimit-Policy") == '"requests";q=5;w=500, "computations";q=500;w=5'
    refused = await served.get("/executive/dashboard", key=USER_1.key)
    assert (refused.status, (refused.header("RateLimit") or "")[:14]) == (403, '"requests";r=2')
    tag = (await served.get("/trends", key=USER_1.key)).header("ETag") or ""
    assert (await served.get("/trends", ("If-None-Match", tag), key=USER_1.key)).status == 304
    limited = await served.get("/trends", key=USER_1.key)
    assert limited.status == 429
    assert limited.header("Retry-After") == "100"
    assert limited.detail == "Too many requests; try again in 100 s"
    assert served.records()[-1]["reason"] == "requests_limited"


@pytest.mark.gen_test
async def test_rl_06_limits_can_be_switched_off(serve: Serve) -> None:
    served = serve(server={"requests_per_second": 0, "requests_burst": 1, "computations_per_second": 0})
    for days in range(1, 6):
        answer = await served.get(f"/trends?days={days}", key=USER_1.key)
        assert answer.status == 200
        assert answer.header("RateLimit") is None
        assert answer.header("RateLimit-Policy") is None


@pytest.mark.gen_test
async def test_rl_06_a_failed_credential_uses_up_nobodys_allowance(serve: Serve) -> None:
    served = serve(server=SLOW)
    for _ in range(8):
        assert (await served.get("/trends", key=USER_1.key[:-1] + "#")).status == 401
    assert (await served.get("/trends", key=USER_1.key)).status == 200


def test_rl_06_the_table_of_callers_is_bounded_and_forgets_the_most_silent() -> None:
    allowances = Allowances(ServerSettings(requests_per_second=1, requests_burst=1), max_callers=3)
    for who in ("a", "b", "c"):
        allowances.request(who, 0.0)
    with pytest.raises(Exceeded):
        allowances.request("a", 0.1)
    allowances.request("d", 0.1)
    assert len(allowances) == 3
    with pytest.raises(Exceeded):
        allowances.request("a", 0.2)
    allowances.request("b", 0.2)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, DOCUMENT_COST)), max_size=60),
    st.floats(0.5, 100),
    st.integers(1, 100),
)
def test_rl_06_no_window_ever_gets_more_than_burst_and_rate(
    calls: list[tuple[float, int]], rate: float, burst: int
) -> None:
    allowances = Allowances(ServerSettings(computations_per_second=rate, computations_burst=burst))
    now, served, told = 0.0, [], 0
    for pause, cost in calls:
        now += pause
        try:
            allowances.computation("who", cost, now)
        except Exceeded as exceeded:
            told += 1
            # Who waits as long as told is served.
            later = Allowances(ServerSettings(computations_per_second=rate, computations_burst=burst))
            for moment, paid in served:
                later.computation("who", paid, moment)
            later.computation("who", cost, now + exceeded.wait_seconds)
        else:
            served.append((now, cost))
    for first, (begin, _) in enumerate(served):
        for moment, _ in served[first:]:
            paid = [cost for at, cost in served if begin <= at <= moment]
            # The last one may be dearer than the whole bucket; it is then served from an empty one.
            assert sum(paid[:-1]) + min(paid[-1], burst) <= burst + rate * (moment - begin) + max(paid) + 1e-6


class SlowOrganization:
    """Computations of organization 1 wait until they are let go on; those of others run as ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.under_way = 0
        self._compute = views.compute_response
        self._gate = threading.Event()
        monkeypatch.setattr(views, "compute_response", self._respond)

    def _respond(self, key: views.ViewKey, snapshot: Snapshot, context: ViewContext) -> Any:
        if key.organization_id == 1:
            self.under_way += 1
            assert self._gate.wait(30)
        return self._compute(key, snapshot, context)

    def let_go(self) -> None:
        self._gate.set()


@pytest.mark.gen_test(timeout=60)
async def test_dos_a_noisy_neighbor_delays_neither_other_organizations_nor_authentication(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(server={"query_timeout_seconds": 30, "workers": 2})
    slow = SlowOrganization(monkeypatch)
    noise = [asyncio.create_task(served.get(f"/trends?days={days}", key=USER_1.key)) for days in range(200, 230)]
    await until(lambda: slow.under_way > 0)
    for days in (1, 2, 3):
        assert (await served.get(f"/trends?days={days}", key=USER_2.key)).status == 200
    for person in (ADMIN_2, SHARED_1, SHARED_2, DEMOTED):
        refused = await served.get("/trends?days=0", key=person.key)
        assert refused.status == 400, "a key that was not known before is looked up and let in, its parameters refused"
    assert slow.under_way == 1, "one of thirty computations of this caller is under way"
    slow.let_go()
    assert {answer.status for answer in await asyncio.gather(*noise)} == {200}


@pytest.mark.gen_test(timeout=60)
async def test_dos_a_colleague_comes_before_the_rest_of_a_noisy_callers_requests(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(server={"query_timeout_seconds": 30, "workers": 2})
    slow = SlowOrganization(monkeypatch)
    done: list[str] = []

    async def ask(key: str, days: int) -> int:
        status = (await served.get(f"/trends?days={days}", key=key)).status
        done.append(key)
        return status

    noise = [asyncio.create_task(ask(USER_1.key, days)) for days in range(200, 230)]
    await until(lambda: slow.under_way > 0)
    colleague = asyncio.create_task(ask(ADMIN_1.key, 365))
    await until(lambda: served.services.metrics.open_requests == 31)
    slow.let_go()
    assert await colleague == 200
    assert await asyncio.gather(*noise) == [200] * 30
    assert done.index(ADMIN_1.key) < 15


@pytest.mark.gen_test(timeout=60)
async def test_rl_06_a_backlog_that_cannot_be_computed_in_time_is_refused_at_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(server={"query_timeout_seconds": 0.2, "workers": 1})
    slow = SlowOrganization(monkeypatch)
    first = asyncio.create_task(served.get("/trends?days=100", key=USER_1.key))
    await until(lambda: slow.under_way > 0)
    await asyncio.sleep(0.25)  # so long does one computation take now, longer than what a caller may have waiting
    slow.let_go()
    await first
    monkeypatch.undo()
    again = SlowOrganization(monkeypatch)
    noise = [asyncio.create_task(served.get(f"/trends?days={days}", key=USER_1.key)) for days in range(200, 230)]
    answers = await asyncio.gather(*noise)
    again.let_go()
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) >= 20
    for answer in refused:
        assert answer.detail.startswith("Too many answers to compute")
        assert int(answer.header("Retry-After") or 0) >= 1
    assert (await served.get("/trends", key=USER_2.key)).status == 200


def test_rl_06_refusals_are_paced_for_each_caller_and_never_for_long() -> None:
    allowances = Allowances(ServerSettings())
    pauses = [allowances.refusal_pause("who", 100.0) for _ in range(200)]
    assert pauses[0] == 0
    assert pauses[:100] == pytest.approx([number / 20 for number in range(100)])
    assert set(pauses[105:]) == {5.0}
    assert allowances.refusal_pause("somebody else", 100.0) == 0
    assert allowances.refusal_pause("who", 200.0) == 0
