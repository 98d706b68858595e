"""The documented examples, completed with the members that this server adds. Documented values are never replaced.

`examples/documented/` holds the unchanged examples of the API reference; `examples/further/` holds, under the same name, only
the members that the reference lacks.
"""

from __future__ import annotations

import json
from functools import cache as cached
from importlib.resources import files
from typing import Any

from handlers.contract.schemas import REFERENCE, Schema

FOLDER = files("handlers.contract").joinpath("examples")


@cached
def documented(name: str) -> Any:
    """An example of the API reference, e.g. `documented("trends")`. Callers must not change it."""
    return json.loads(FOLDER.joinpath("documented", f"{name}.json").read_text(encoding="utf-8"))


def completed(name: str, schema: Schema, components: dict[str, Schema]) -> Any:
    """The example with the members that this server adds, in the order the server sends them."""
    further = FOLDER.joinpath("further", f"{name}.json")
    example = documented(name)
    if further.is_file():
        example = merged(example, json.loads(further.read_text(encoding="utf-8")))
    return ordered(example, schema, components)


def merged(example: Any, further: Any) -> Any:
    """`example` with the members of `further`. Raises ValueError if one of them would replace a value."""
    if isinstance(example, dict) and isinstance(further, dict):
        result = dict(example)
        for name, value in further.items():
            result[name] = merged(example[name], value) if name in example else value
        return result
    if isinstance(example, list) and isinstance(further, list):
        return [merged(one, more) for one, more in zip(example, further, strict=True)]
    raise ValueError(f"{further!r} would replace the documented {example!r}")


def ordered(value: Any, schema: Schema, components: dict[str, Schema]) -> Any:
    """The same value with the members of its objects in the order of their schema."""
    if isinstance(value, list):
        inner = schema.get("items")
        return [ordered(item, inner, components) for item in value] if isinstance(inner, dict) else value
    if not isinstance(value, dict):
        return value
    properties: Schema = next(
        (found["properties"] for found in objects(schema, components) if found["properties"].keys() >= value.keys()),
        {},
    )
    names = [name for name in properties if name in value] or list(value)
    return {name: ordered(value[name], properties.get(name, {}), components) for name in names}


def objects(schema: Schema, components: dict[str, Schema]) -> list[Schema]:
    """The object schemas that a schema allows."""
    if "$ref" in schema:
        return objects(components[schema["$ref"].removeprefix(REFERENCE)], components)
    if "oneOf" in schema:
        return [found for choice in schema["oneOf"] for found in objects(choice, components)]
    return [schema] if "properties" in schema else []
