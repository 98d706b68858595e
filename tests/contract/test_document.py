"""The contract document: whole, valid, made from the code, and without a word about the installation."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from analytics.responses import DEPLOYED_CLIENT_FIELDS
from config.settings import Settings
from handlers.application import api_routes
from handlers.auth import signin
from handlers.contract import openapi as generator
from handlers.contract.__main__ import generate
from handlers.contract.examples import documented, merged
from handlers.contract.operations import sample_path
from handlers.contract.page import reference_page
from handlers.contract.reference import ASYNCAPI, OPENAPI, document
from handlers.contract.schemas import Schemas
from handlers.routes import Access, Route
from tests.contract.document import asyncapi, faults, openapi, resolved, schema_of_example, template
from tests.contract.structure import EXAMPLES

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")


def test_the_packaged_documents_are_what_the_code_makes() -> None:
    for name, text in generate().items():
        assert document(name).decode() == text, f"{name} is out of date; run `make docs`"


def test_the_openapi_document_is_valid() -> None:
    validate(openapi())


def test_every_route_and_method_is_in_the_document_and_nothing_else() -> None:
    routes = api_routes(Settings())
    paths = {path: set(item) & set(METHODS) for path, item in openapi()["paths"].items()}
    for route in routes:
        assert re.fullmatch(route.pattern, sample_path(route.name))
        path = template(sample_path(route.name))
        assert paths.pop(path) == {method.lower() for method in (*route.methods, "OPTIONS")}, path
    assert paths == {}


def test_a_route_without_a_description_stops_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = [*api_routes(Settings()), Route("/new", api_routes(Settings())[0].handler, Access.PUBLIC, "/new")]
    monkeypatch.setattr(generator, "api_routes", lambda settings: routes)
    with pytest.raises(ValueError, match="/new"):
        generator.openapi()
    monkeypatch.setattr(generator, "api_routes", lambda settings: routes[1:-1])
    with pytest.raises(ValueError, match="/api/analytics/trends"):
        generator.openapi()


def test_every_operation_of_a_route_with_a_credential_names_the_schemes_and_refusals() -> None:
    schemes = openapi()["components"]["securitySchemes"].keys()
    for route in api_routes(Settings()):
        item = openapi()["paths"][template(sample_path(route.name))]
        if route.name == signin.PATH:
            continue  # each of its methods has a rule of its own
        for method in route.methods:
            operation = item[method.lower()]
            asked = {name for way in operation["security"] for name in way}
            assert asked == (set() if route.access is Access.PUBLIC else set(schemes))
            assert ({} in operation["security"]) == (route.access is Access.LOCAL)
            if asked:
                assert {"400", "401", "403", "429", "500", "503"} <= operation["responses"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_allowed_by_its_schema_and_keeps_the_documented_values(name: str) -> None:
    schema, which = schema_of_example(name)
    (shown,) = [
        example["value"]
        for item in openapi()["paths"].values()
        for media in item.get("get", item.get("put"))["responses"].get("200", {}).get("content", {}).values()
        for key, example in media.get("examples", {}).items()
        if key == name
    ][:1] or [
        message["examples"][0]["payload"]
        for message in asyncapi()["components"]["messages"].values()
        if message["payload"] == schema
    ]
    assert faults(schema, shown, which) == []
    assert_kept(documented(name), shown, name)


def assert_kept(told: Any, shown: Any, where: str) -> None:
    """Everything documented stands in what is shown, value for value."""
    if isinstance(told, dict):
        for key, value in told.items():
            assert_kept(value, shown[key], f"{where}.{key}")
    elif isinstance(told, list):
        assert len(told) == len(shown), where
        for one, other in zip(told, shown, strict=True):
            assert_kept(one, other, where)
    else:
        assert (type(told), told) == (type(shown), shown), where


def test_an_example_is_added_to_and_never_overwritten() -> None:
    assert merged({"a": {"b": 1}}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}
    for other in ({"a": 1}, {"a": {"b": 2}}):
        with pytest.raises(ValueError, match="would replace"):
            merged({"a": {"b": 1}}, other)


def test_fields_of_the_deployed_client_are_described() -> None:
    for name, paths in DEPLOYED_CLIENT_FIELDS.items():
        schema, which = schema_of_example(name)
        whole = openapi() if which == OPENAPI else asyncapi()
        for path in paths:
            *parents, member = path.split(".")
            assert any(member in found["properties"] for found in at(schema, parents, whole)), path


def at(schema: dict[str, Any], names: list[str], whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The object schemas that a path of members may lead to."""
    schema = resolved(schema, whole)
    if "oneOf" in schema:
        return [found for choice in schema["oneOf"] for found in at(choice, names, whole)]
    if "items" in schema:
        return at(schema["items"], names, whole)
    if not names:
        return [schema] if "properties" in schema else []
    inner = schema.get("properties", {}).get(names[0])
    return at(inner, names[1:], whole) if inner else []


def test_null_is_allowed_where_the_type_allows_it_and_nowhere_else() -> None:
    schema, _ = schema_of_example("performance")
    answer = copy.deepcopy(openapi()["paths"]["/api/analytics/performance"]["get"]["responses"]["200"])
    value = answer["content"]["application/json"]["examples"]["performance"]["value"]
    value["system_metrics"]["cpu"]["current"] = None
    assert faults(schema, value) == []
    value["system_metrics"]["cpu"]["status"] = None
    value["meta"]["data_sources"]["undescribed"] = 1
    assert len(faults(schema, value)) == 2


def test_two_types_of_one_name_are_refused() -> None:
    from analytics.predictive.responses import LiveScore

    schemas = Schemas()
    schemas.of(LiveScore)
    with pytest.raises(TypeError, match="named LiveScore"):
        schemas.of(make_dataclass("LiveScore", [("other", int)]))
    with pytest.raises(TypeError, match="named LiveScore"):
        Schemas().of(tuple[LiveScore, make_dataclass("LiveScore", [("other", int)])])  # type: ignore[misc]
    with pytest.raises(TypeError, match="no response"):
        schemas.of(set[int])


def test_the_server_does_not_load_what_generates_the_documents() -> None:
    code = (
        "import sys, owkai.app; print(*(name for name in sys.modules if name.startswith(('handlers.', 'pydantic.'))))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "handlers.contract.reference" in loaded
    assert not {"handlers.contract.schemas", "handlers.contract.openapi", "pydantic.type_adapter"} & set(loaded)


def test_sec_12_the_documents_name_no_host_and_nothing_of_the_installation() -> None:
    assert [server["url"] for server in openapi()["servers"]] == ["/"]
    assert "servers" not in asyncapi()
    page = reference_page(openapi(), asyncapi())
    for text in (document(OPENAPI).decode(), document(ASYNCAPI).decode(), page):
        for word in ("127.0.0.1", "localhost", "8480", "postgres://", "/root", "/tmp", ".internal"):  # noqa: S108
            assert word not in text
        addresses = set(re.findall(r"https?://[^/\s\"<)]+", text))
        assert addresses <= {"https://www.apache.org"}


# -- AsyncAPI --------------------------------------------------------------------------------------------------------


def test_the_asyncapi_document_holds_together() -> None:
    """Structure of AsyncAPI 3.0 by rules of our own: what must be there, and that every reference leads somewhere."""
    whole = asyncapi()
    assert whole["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= whole["info"].keys()
    assert whole.keys() <= {"asyncapi", "info", "defaultContentType", "channels", "operations", "components"}
    for reference in re.findall(r'"\$ref": "([^"]+)"', document(ASYNCAPI).decode()):
        assert resolved({"$ref": reference}, whole)
    for channel in whole["channels"].values():
        names = set(re.findall(r"\{(\w+)\}", channel["address"]))
        assert names == channel["parameters"].keys()
        assert channel["messages"]
    for operation in whole["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = resolved(operation["channel"], whole)
        offered = {reference["$ref"] for reference in operation["messages"]}
        assert offered == {f"#/channels/live/messages/{name}" for name in channel["messages"]}
    for scheme in whole["components"]["securitySchemes"].values():
        assert scheme["type"] in ("httpApiKey", "http")


def test_the_live_route_is_the_channel_of_the_asyncapi_document() -> None:
    (route,) = [route for route in api_routes(Settings()) if "/ws/" in route.pattern]
    address = asyncapi()["channels"]["live"]["address"]
    assert re.fullmatch(route.pattern, address)
    assert address in openapi()["paths"]


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_has_an_anchor_for_everything_it_links_to() -> None:
    page = reference_page(openapi(), asyncapi())
    anchors = re.findall(r' id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(anchors)
    for path in openapi()["paths"]:
        assert path.replace("/", "/<wbr>") in page
    for name in openapi()["components"]["schemas"]:
        assert f"schema-{name}" in anchors


def test_the_page_escapes_what_it_shows() -> None:
    changed = json.loads(json.dumps(openapi()).replace("High-risk actions by day", "<script>alert(1)</script>"))
    page = reference_page(changed, asyncapi())
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_style_sheet_knows_light_dark_and_paper() -> None:
    style = Path(generator.__file__).with_name("page.css").read_text(encoding="utf-8")
    for need in ("prefers-color-scheme: dark", "@media print", "max-width"):
        assert need in style
    assert "url(" not in style
