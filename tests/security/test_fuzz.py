"""Requests made up from the contract document, sent to a real server over a real Postgres, with each kind of credential.

No answer is a 5xx, none takes long, none is other than the document says. The seed is fixed, so that a run can be told
again; `-m slow` sends many more.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.specs.openapi import checks as rules

from owkai.wiring import zone_names
from tests.contract.document import assert_described, openapi
from tests.contract.platform_rows import fill, make_key
from tests.owkai.servers import Server, serving, wait_for
from tests.postgres import Database
from tests.sync.running import slot_name

SEED = 8
SLOWEST_SECONDS = 5.0  # a machine that does other things as well may stall; the long run tells the slowest
LIVE = "/api/analytics/ws/realtime/{user_email}"
# Ours is stricter: `assert_described` closes every object and knows every header.
NOT_HERE = [rules.unsupported_method, rules.ignored_auth]
PAUSES = {"SERVER_COMPUTATIONS_PER_SECOND": "0", "SERVER_REQUESTS_PER_SECOND": "0", "AUTH_FAILED_LIMIT": "1000000"}
OWN_CREDENTIALS = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})


class Target(NamedTuple):
    server: Server
    credentials: dict[str, dict[str, str]]


@pytest.fixture
def target(database: Database, tmp_path: Path) -> Iterator[Target]:
    fill(database)
    credentials = {
        "nobody": {},
        "unknown key": {"X-API-Key": "owkai_user_" + "x" * 43},
        "user": {"X-API-Key": make_key(database, 1, "user", "user@org1.example.com")},
        "admin": {"Authorization": f"Bearer {make_key(database, 1, 'admin', 'admin@org1.example.com')}"},
        "staff": {"X-API-Key": make_key(database, None, "admin", "staff@platform.example.com")},
    }
    with serving(tmp_path, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database), **PAUSES) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, f"readiness: {server.messages()}")
        # The first forecast is waited for; after it every answer is quick.
        server.get("/api/analytics/predictive/trends", credentials["user"])
        yield Target(server, credentials)


def fuzz(target: Target, examples: int) -> Counter[str]:
    """Send `examples` requests for each operation and each mode of making them up, from callers drawn with them.

    Returns the statuses that came back, counted.
    """
    schemathesis.openapi.format("iana-time-zone", st.sampled_from(sorted(zone_names())))
    schema = schemathesis.openapi.from_dict(openapi(), config=OWN_CREDENTIALS)
    outcomes: Counter[str] = Counter()
    with requests.Session() as session:
        for result in schema.get_all_operations():
            operation = result.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                if mode is GenerationMode.NEGATIVE and "query" not in {
                    one.location for one in operation.iter_parameters()
                }:
                    continue  # any text is a path or a header: nothing could be wrong
                send(target, session, operation.as_strategy(generation_mode=mode), examples, outcomes)
    return outcomes


def send(target: Target, session: requests.Session, cases: Any, examples: int, outcomes: Counter[str]) -> None:
    @seed(SEED)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=cases, who=st.sampled_from(sorted(target.credentials)))
    def one(case: Case, who: str) -> None:
        headers = target.credentials[who]
        began = time.perf_counter()
        response = case.call(base_url=f"http://127.0.0.1:{target.server.port}", session=session, headers=dict(headers))
        seconds = time.perf_counter() - began
        outcomes[str(response.status_code)] += 1
        assert response.status_code < 500, case.as_curl_command()
        assert seconds < SLOWEST_SECONDS, case.as_curl_command()
        path = response.request.path_url
        fields = [(key, ", ".join(values)) for key, values in response.headers.items()]
        assert_described(case.method, path, response.status_code, fields, response.content)
        skipped = [*NOT_HERE, *([rules.positive_data_acceptance] if case.path == LIVE else [])]
        case.validate_response(response, checks=CHECKS.get_all(), excluded_checks=skipped, headers=dict(headers))

    one()


def test_in_09_made_up_requests_get_described_answers_and_no_5xx(target: Target) -> None:
    outcomes = fuzz(target, 12)
    print(f"{outcomes.total()} requests: {dict(sorted(outcomes.items()))}")
    assert outcomes["200"] > 50
    assert outcomes["400"] > 20
    assert outcomes["401"] > 50
    assert outcomes["403"] > 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_in_09_a_long_run_of_made_up_requests(target: Target) -> None:
    outcomes = fuzz(target, 200)
    print(f"{outcomes.total()} requests: {dict(sorted(outcomes.items()))}")
