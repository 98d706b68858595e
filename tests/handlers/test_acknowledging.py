"""Acknowledging an anomaly over HTTP: who may, what it changes for all of the organization, and that it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics.predictive.forecast_record import ForecastRecord
from analytics.predictive.schedule import Forecasting
from analytics.state.background import Jobs
from analytics.state.cache import Cache
from handlers.auth.key_store import KeyStore
from tests.analytics.predictive.counts import rows
from tests.analytics.rows import ORIGIN, action, fill
from tests.handlers.fixtures import Serve, make_settings
from tests.handlers.serving import API, Served
from tests.handlers.world import ADMIN_1, ADMIN_2, NOW, USER_1, Clock, LocalKeys, make_local_keys, tables

ORIGIN_OF_PAGE = ("Origin", "https://good.example")


@pytest.fixture
def stormy(tmp_path: Path) -> Iterator[tuple[Cache, LocalKeys]]:
    """The world, and a burst of one agent of organization 1 after five calm weeks."""
    settings = make_settings(tmp_path / "cache")
    cache = Cache(settings.cache)
    store = cache.build(ORIGIN)
    calm = rows([40] * 35, first_id=10_000, agent="steady-agent", now=NOW)
    burst = [
        action(50_000 + n, ago=timedelta(hours=30, seconds=n * 8), agent_id="steady-agent", risk_level="low")
        for n in range(300)
    ]
    world = tables()
    fill(store, {**world, "agent_actions": [*world["agent_actions"], *calm, *burst]})
    cache.publish(store)
    yield cache, make_local_keys(KeyStore(settings.keys_file, lambda: NOW))
    cache.close()


async def outlook(served: Served, clock: Clock, key: str = ADMIN_1.key) -> Any:
    clock.advance(1)
    return (await served.get("/predictive/trends", key=key)).json()


def path_of(anomaly: Any) -> str:
    return f"{API}/predictive/anomalies/{anomaly['id']}/acknowledgement"


@pytest.mark.gen_test(timeout=60)
async def test_an_acknowledged_anomaly_is_told_as_known_and_leads_to_no_advice(
    serve: Serve, stormy: tuple[Cache, LocalKeys]
) -> None:
    clock = Clock()
    served = serve(cache=stormy, clock=clock)
    before = await outlook(served, clock)
    spike = next(one for one in before["anomalies"] if one["type"] == "spike")
    advice = " ".join(before["risk_predictions"]["recommended_actions"])
    assert spike["description"] in advice
    assert spike["acknowledged_at"] is None
    path = path_of(spike)

    assert (await served.ask(path, method="PUT")).status == 401
    assert (await served.ask(path, method="PUT", key=USER_1.key)).detail == "Analyst or admin access required"
    assert (await served.ask(path, method="PUT", key=ADMIN_2.key)).status == 404
    assert (await served.ask(f"{path}?x=1", method="PUT", key=ADMIN_1.key)).status == 400
    cookie = ("Cookie", f"access_token={ADMIN_1.token()}")
    assert (await served.ask(path, cookie, method="PUT")).status == 403
    assert (await served.ask(path, cookie, ("Origin", "https://evil.example"), method="PUT")).status == 403

    kept = await served.ask(path, cookie, ORIGIN_OF_PAGE, method="PUT")
    assert kept.status == 200
    assert kept.json()["acknowledged_by"] == ADMIN_1.email
    after = await outlook(served, clock, USER_1.key)
    (known,) = [one for one in after["anomalies"] if one["id"] == spike["id"]]
    assert known["acknowledged_by"] == ADMIN_1.email
    assert known["acknowledged_at"] is not None
    assert spike["description"] not in " ".join(after["risk_predictions"]["recommended_actions"])

    assert (await served.ask(path, method="DELETE", key=ADMIN_1.key)).status == 204
    again = await outlook(served, clock)
    assert next(one for one in again["anomalies"] if one["id"] == spike["id"])["acknowledged_at"] is None

    served.services.audit.flush()
    recorded = [json.loads(line) for line in served.audit_file.read_text().splitlines()]
    changes = [(one["event"], one["status"], one.get("principal")) for one in recorded if one.get("path") == path]
    assert ("acknowledge", 200, ADMIN_1.email) in changes
    assert ("acknowledge", 403, USER_1.email) in changes
    assert ("withdraw_acknowledgement", 204, ADMIN_1.email) in changes


@pytest.mark.gen_test(timeout=60)
async def test_an_acknowledgement_survives_a_restart_and_ends_the_telling_after_seven_days(
    stormy: tuple[Cache, LocalKeys], tmp_path: Path
) -> None:
    cache, _ = stormy
    settings = make_settings(tmp_path / "other")
    clock = Clock()
    directory = tmp_path / "kept"
    directory.mkdir()

    async def started() -> tuple[ForecastRecord, Forecasting]:
        ledger = ForecastRecord(directory)
        forecasting = Forecasting(cache, settings, clock, ledger, Jobs())
        await forecasting.ready(1)
        return ledger, forecasting

    ledger, forecasting = await started()
    found = forecasting.outlook(1)
    assert found is not None
    spike = next(one for one in found.anomalies if one.type == "spike")
    assert await forecasting.acknowledge(1, spike.id, "someone@one.example") is not None
    assert await forecasting.acknowledge(1, "0" * 16, "someone@one.example") is None
    forecasting.close()
    ledger.close()

    ledger, forecasting = await started()
    again = forecasting.outlook(1)
    assert again is not None
    word = again.acknowledgement(spike)
    assert word is not None
    assert word.acknowledged_by == "someone@one.example"
    assert await forecasting.withdraw(1, spike.id)
    forecasting.close()
    assert ledger.acknowledged(again.source, 1) == ()
    ledger.close()
