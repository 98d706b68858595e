"""JSON Schema (Draft 2020-12) from the types of responses, with the names and references of an OpenAPI document.

Pydantic reads the types: names, order, nullability, and what `Annotated` and `Literal` add (descriptions, bounds, allowed
values). This runs when the documents are generated, never in the server.

Objects stay open: clients must ignore members they do not know, so that a response can gain one. `closed` gives the strict
form that tests check responses of this version against.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

Schema: TypeAlias = dict[str, Any]

REFERENCE = "#/components/schemas/"
TIME = {"type": "string", "format": "date-time", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"}
NULL = {"type": "null"}
# The kinds of values that `analytics.responses.encode` writes, as pydantic names them, and what only connects them.
WRITTEN = frozenset(
    {"dataclass", "tuple", "literal", "str", "int", "float", "bool", "none", "datetime", "date", "nullable", "union"}
)
CONNECTING = frozenset({"dataclass-args", "dataclass-field", "default", "definitions", "definition-ref"})


class ContractJsonSchema(GenerateJsonSchema):
    """Pydantic's generator, with this contract's forms: no titles and defaults, times in UTC, `oneOf` for alternatives.

    In "serialization" mode every member of a response is required, since the server sends all of them. In "validation"
    mode a field with a default is an optional member.
    """

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        if schema["type"] not in WRITTEN | CONNECTING:
            raise TypeError(f"no response has a value of type {schema['type']}")
        return super().generate_inner(schema)

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        found = super().dataclass_schema(schema)
        kept = {name: found[name] for name in ("properties", "required", "additionalProperties") if name in found}
        description = docstring(schema["cls"])
        return {"type": "object"} | ({"description": description} if description else {}) | kept

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        if isinstance(inner.get("type"), str) and not inner.keys() & {"enum", "const"}:
            return {**inner, "type": [inner["type"], "null"]}
        return {"oneOf": [*inner.get("oneOf", [inner]), NULL]}

    def union_schema(self, schema: core_schema.UnionSchema) -> JsonSchemaValue:
        return {"oneOf": [self.generate_inner(choice) for choice in core_schema.iter_union_choices(schema)]}

    def tuple_schema(self, schema: core_schema.TupleSchema) -> JsonSchemaValue:
        found = super().tuple_schema(schema)
        first, *others = found.get("prefixItems", [None])
        if first is not None and all(other == first for other in others):
            # The two bounds close the array. `items: false` would too, but generators of clients reject boolean schemas.
            del found["prefixItems"]
            found["items"] = first
        return found

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        if len(schema["expected"]) == 1 and isinstance(schema["expected"][0], bool):
            return constant(schema["expected"][0])
        return super().literal_schema(schema)

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        return dict(TIME)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_is_required(self, field: Any, total: bool) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value


class Schemas:
    """The schemas that a document refers to, by the name of their type. `of` adds those it meets."""

    def __init__(self) -> None:
        self._found: dict[str, Schema] = {}

    def components(self) -> dict[str, Schema]:
        """Every schema met so far, by name."""
        return dict(sorted(self._found.items()))

    def of(self, kind: Any, mode: Literal["serialization", "validation"] = "serialization") -> Schema:
        """The schema of a type; dataclasses become references. Raises TypeError for a type that `encode` does not write,
        and for different types of one name."""
        schemas, definitions = TypeAdapter.json_schemas(
            [("kind", mode, TypeAdapter(kind))],
            schema_generator=ContractJsonSchema,
            ref_template=REFERENCE + "{model}",
        )
        for name, schema in definitions.get("$defs", {}).items():
            if self._found.setdefault(name, schema) != schema or "__" in name:
                raise TypeError(f"two types of responses are named {name.rpartition('__')[2]}")
        return schemas["kind", mode]


class Responses:
    """The responses that several operations share, by name. Equal responses are kept once."""

    def __init__(self) -> None:
        self._found: dict[str, Schema] = {}

    def components(self) -> dict[str, Schema]:
        return dict(sorted(self._found.items()))

    def shared(self, name: str, response: Schema) -> Schema:
        """A reference to this response, under `name` or, where that name is taken, `name` and a number."""
        number = 1
        while self._found.setdefault(candidate := name if number == 1 else f"{name}{number}", response) != response:
            number += 1
        return {"$ref": f"#/components/responses/{candidate}"}


def constant(value: str | bool) -> Schema:
    """The schema of one value. Generators of clients accept `const` only for text, so `true` is an enum of one value."""
    return {"type": "boolean", "enum": [value]} if isinstance(value, bool) else {"type": "string", "const": value}


def docstring(kind: type) -> str:
    """The docstring of a type in one paragraph, without the marks of code; empty where a dataclass generated it."""
    found = inspect.getdoc(kind) or ""
    if found.startswith(f"{kind.__name__}("):
        return ""
    return re.sub(r"`([^`]*)`", r"\1", " ".join(found.split()))


def closed(value: Any) -> Any:
    """The same schemas with every object closed: an undescribed member is an error."""
    if isinstance(value, Mapping):
        result = {name: closed(inner) for name, inner in value.items()}
        if value.get("type") == "object" and isinstance(value.get("properties"), Mapping):
            result.setdefault("additionalProperties", False)
        return result
    if isinstance(value, list):
        return [closed(item) for item in value]
    return value
