"""The contract and the metrics as the tools of others read them: a generator of clients, and Prometheus' own check."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers.contract.reference import OPENAPI, document
from handlers.live import frames
from tests.contract.document import asyncapi, openapi
from tests.contract.structure import EXAMPLES
from tests.handlers.fixtures import Serve
from tests.handlers.world import ADMIN_1

PACKAGE = "owkai_generated_client"

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A client made from the packaged document by openapi-python-client, importable. Any warning fails."""
    folder = tmp_path_factory.mktemp("generated")
    described, settings = folder / "openapi.json", folder / "settings.json"
    described.write_bytes(document(OPENAPI))
    settings.write_text(json.dumps({"package_name_override": PACKAGE, "post_hooks": []}))
    made = subprocess.run(
        [
            sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning",
            "--path", described, "--config", settings, "--output-path", folder / PACKAGE,
        ],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield folder / PACKAGE
    sys.path.remove(str(folder))


def test_a_generated_client_has_every_operation_and_reads_every_documented_answer(client: Path) -> None:
    operations = {
        snake(operation["operationId"])
        for item in openapi()["paths"].values()
        for method, operation in item.items()
        if isinstance(operation, dict) and "operationId" in operation
    }
    made = {path.stem for path in (client / "api").rglob("*.py")} - {"__init__"}
    assert operations == made
    for name, kind in (
        ("trends", "Trends"),
        ("performance", "Performance"),
        ("predictive_trends_active", "Predictions"),
        ("predictive_trends_collecting", "CollectingData"),
        ("realtime_metrics_cloudwatch", "RealTimeMetrics"),
        ("executive_dashboard", "ExecutiveDashboard"),
    ):
        example = completed_example(name)
        assert written_back(kind, example) == example, name


@pytest.mark.gen_test
async def test_a_generated_client_reads_what_the_server_answers(client: Path, serve: Serve) -> None:
    served = serve()
    for path, kind in (
        ("/trends", "Trends"),
        ("/performance", "Performance"),
        ("/predictive/trends", "CollectingData"),
        ("/executive/dashboard", "ExecutiveDashboard"),
    ):
        answer = (await served.get(path, key=ADMIN_1.key)).json()
        assert written_back(kind, answer) == answer, path
    problem = (await served.get("/trends")).json()
    assert written_back("Problem", problem) == problem
    account = (await served.ask("/session", key=ADMIN_1.key)).json()
    assert written_back("Account", account) == account


def test_no_schema_is_a_bare_boolean_and_no_constant_lacks_its_type() -> None:
    """Generators of clients, in several languages, stop at either."""
    for described in (openapi(), asyncapi()):
        for schema in schemas_in(described):
            assert not isinstance(schema.get("items"), bool)
            assert "const" not in schema or isinstance(schema["const"], str)
            assert "const" not in schema or schema.get("type") == "string"


def test_every_close_code_is_documented() -> None:
    codes = {
        value for name, value in vars(frames).items() if name.isupper() and isinstance(value, int) and is_code(value)
    }
    assert {frames.NOT_TEXT, frames.TRY_AGAIN_LATER, frames.CREDENTIAL_ENDED} <= codes
    text = asyncapi()["info"]["description"]
    page = Path("docs/live.md").read_text(encoding="utf-8")
    for code in codes:
        assert f"{code}: " in text
        assert str(code) in page


@promtool
@pytest.mark.gen_test
async def test_promtool_finds_nothing_wrong_with_the_metrics(serve: Serve) -> None:
    served = serve(telemetry={"source": "host"})
    await served.get("/trends", key=ADMIN_1.key)
    metrics = (await served.ask("/metrics")).body
    assert b"owkai_cache_version" in metrics
    found = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics, capture_output=True, timeout=60, check=False
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, b"")


def written_back(kind: str, value: Any) -> Any:
    """A JSON value as the client's class of that name reads and writes it; the class writes UTC as +00:00."""
    found = getattr(importlib.import_module(f"{PACKAGE}.models"), kind).from_dict(value).to_dict()
    return json.loads(re.sub(r'T(\d\d:\d\d:\d\d)\+00:00"', r'T\1Z"', json.dumps(found)))


def completed_example(name: str) -> Any:
    """A documented answer as the contract document shows it, with every field of this version."""
    for item in openapi()["paths"].values():
        for content in item.get("get", {}).get("responses", {}).get("200", {}).get("content", {}).values():
            if name in content.get("examples", {}):
                return content["examples"][name]["value"]
    raise AssertionError(f"the document shows no example {name} of {EXAMPLES}")


def schemas_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "type" in value or "const" in value or "items" in value:
            yield value
        for inner in value.values():
            yield from schemas_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from schemas_in(inner)


def is_code(value: int) -> bool:
    return 1001 <= value <= 1015 or 4000 <= value <= 4999


def snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
