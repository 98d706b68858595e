"""Does an answer agree with the contract document? Status, headers and body, with nothing that is not described.

The published schemas leave objects open, for clients. Here they are closed: an undescribed member, header, status or media
type is a fault of this version.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable
from functools import cache as cached
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from handlers.contract.reference import ASYNCAPI, OPENAPI, document
from handlers.contract.schemas import closed

Headers = Iterable[tuple[str, str]]
NAME = "urn:contract"
# Of HTTP itself: OpenAPI leaves the type to `content`, and says nothing of framing.
FRAMING = {"connection", "content-length", "content-type", "date", "server", "transfer-encoding"}


@cached
def openapi() -> dict[str, Any]:
    """The packaged OpenAPI document, as it is. Not to be changed."""
    found: dict[str, Any] = json.loads(document(OPENAPI))
    return found


@cached
def asyncapi() -> dict[str, Any]:
    """The packaged AsyncAPI document, as it is. Not to be changed."""
    found: dict[str, Any] = json.loads(document(ASYNCAPI))
    return found


@cached
def strict(which: str) -> dict[str, Any]:
    found: dict[str, Any] = closed(openapi() if which == OPENAPI else asyncapi())
    return found


@cached
def registry(which: str) -> Any:
    return Registry().with_resource(NAME, Resource.from_contents(strict(which), DRAFT202012))


def faults(schema: dict[str, Any], value: Any, which: str = OPENAPI) -> list[str]:
    """What of `value` the closed schema does not allow."""
    text = json.dumps(closed(schema)).replace('"#/components', f'"{NAME}#/components')
    found = Draft202012Validator(json.loads(text), registry=registry(which), format_checker=FormatChecker())
    return [f"{error.json_path}: {error.message[:300]}" for error in found.iter_errors(value)]


def resolved(response: dict[str, Any], where: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in response:
        found: Any = where
        for part in response["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        response = found
    return response


def template(path: str) -> str:
    """The path of the document that a request's path belongs to."""
    for known in openapi()["paths"]:
        pattern = "[^/]+".join(re.escape(part) for part in re.split(r"\{\w+\}", known))
        if re.fullmatch(pattern, path):
            return str(known)
    raise AssertionError(f"{path} is in no path of the document")


def assert_described(method: str, target: str, status: int, headers: Headers, body: bytes) -> None:
    """Fail unless the document allows this answer to this request. 405 it can only describe in words."""
    fields = list(headers)
    item = openapi()["paths"][template(target.partition("?")[0])]
    where = f"{method} {target} → {status}"
    if status == 405:
        assert method.lower() not in item, where
        allow = dict(fields)["Allow"]
        assert {name.lower() for name in allow.split(", ")} == {
            name for name in item if name in ("get", "head", "post", "put", "delete", "patch", "options")
        }, where
        if method != "HEAD":
            assert faults({"$ref": "#/components/schemas/Problem"}, json.loads(body)) == []
        return
    responses = item[method.lower()]["responses"]
    assert str(status) in responses, f"{where} is not in the document"
    response = resolved(responses[str(status)], openapi())
    _check_headers(where, response.get("headers", {}), fields)
    _check_body(where, response.get("content", {}), fields, body)


def _check_headers(where: str, described: dict[str, Any], fields: list[tuple[str, str]]) -> None:
    known = {name.lower(): resolved(header, openapi()) for name, header in described.items()}
    sent = {name.lower(): value for name, value in fields}
    assert sent.keys() - known.keys() - FRAMING == set(), f"{where} has undescribed headers"
    for name, header in known.items():
        if name in sent:
            assert faults(header["schema"], sent[name]) == [], f"{where}: {name}"
        else:
            assert not header["required"], f"{where} lacks {name}"


def _check_body(where: str, content: dict[str, Any], fields: list[tuple[str, str]], body: bytes) -> None:
    if not content or not body:
        assert body == b"", f"{where} has an undescribed body"
        return
    media_type = {name.lower(): value for name, value in fields}["content-type"].partition(";")[0]
    assert media_type in content, f"{where} is {media_type}"
    if body.startswith(b"\x1f\x8b"):
        body = gzip.decompress(body)
    if "json" in media_type:
        assert faults(content[media_type]["schema"], json.loads(body)) == [], where


def schema_of_example(name: str) -> tuple[dict[str, Any], str]:
    """The schema that a documented example belongs to, and the document it is in."""
    for item in openapi()["paths"].values():
        for media in item.get("get", item.get("put"))["responses"].get("200", {}).get("content", {}).values():
            if name in media.get("examples", {}):
                return media["schema"], OPENAPI
    messages = {"ws_connection": "connection", "ws_metrics_update": "metricsUpdate"}
    return asyncapi()["components"]["messages"][messages[name]]["payload"], ASYNCAPI
