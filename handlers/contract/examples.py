"""The documented examples, completed: what this server adds to an answer stands beside the documented values, never over them.

`examples/documented/` holds the examples of the API reference as they are; `examples/further/` holds, for the same name,
only the members that the reference does not have.
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
    """An example of the API reference, e.g. `documented("trends")`. Not to be changed by callers."""
    return json.loads(FOLDER.joinpath("documented", f"{name}.json").read_text(encoding="utf-8"))


def completed(name: str, schema: Schema, components: dict[str, Schema]) -> Any:
    """The example with the members that this server adds, in the order in which the server sends them."""
    further = FOLDER.joinpath("further", f"{name}.json")
    whole = documented(name)
    if further.is_file():
        whole = merged(whole, json.loads(further.read_text(encoding="utf-8")))
    return ordered(whole, schema, components)


def merged(example: Any, further: Any) -> Any:
    """`example` with what `further` adds. Raises ValueError where it would replace a value."""
    if isinstance(example, dict) and isinstance(further, dict):
        result = dict(example)
        for name, value in further.items():
            result[name] = merged(example[name], value) if name in example else value
        return result
    if isinstance(example, list) and isinstance(further, list):
        return [merged(one, more) for one, more in zip(example, further, strict=True)]
    raise ValueError(f"{further!r} would stand over the documented {example!r}")


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
    """The object schemas that a schema may stand for."""
    if "$ref" in schema:
        return objects(components[schema["$ref"].removeprefix(REFERENCE)], components)
    if "oneOf" in schema:
        return [found for choice in schema["oneOf"] for found in objects(choice, components)]
    return [schema] if "properties" in schema else []
