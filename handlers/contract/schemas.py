"""From the types of answers to JSON Schema (Draft 2020-12): names, order, nullability; docstrings and comments as descriptions.

A field's comment describes it; one that lists words, `low | high`, also lists what the text may be. Comments are read from
the source, so this runs where the source is, when the document is made, never in the server.

Objects are left open: clients are to ignore members they do not know, so that an answer may gain one. `closed` gives the
strict reading that tests hold answers of this very version against.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Schema = dict[str, Any]

REFERENCE = "#/components/schemas/"
TIME = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$",
}
DATE = {"type": "string", "format": "date"}
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
FIELD_LINE = re.compile(r"\s+(\w+)\s*:[^#]*#\s*(.+?)\s*")
WORDS = re.compile(r"\w+(?: \| \w+)+")


class Schemas:
    """The schemas that a document refers to, by the name of their type. `of` adds what it meets."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[type, Schema]] = {}

    def components(self) -> dict[str, Schema]:
        """Every schema met so far, by name."""
        return {name: schema for name, (_, schema) in sorted(self._found.items())}

    def of(self, kind: Any) -> Schema:
        """The schema of a type. Raises TypeError for a type that no answer has, or two types of one name."""
        if kind is datetime:
            return dict(TIME)
        if kind is date:
            return dict(DATE)
        if kind in PLAIN:
            return {"type": PLAIN[kind]}
        if is_dataclass(kind) and isinstance(kind, type):
            return self._reference(kind)
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Literal:
            return constant(arguments[0]) if len(arguments) == 1 else {"enum": list(arguments)}
        if origin is tuple:
            return self._array(arguments)
        if origin in (Union, types.UnionType):
            return self._either(arguments)
        raise TypeError(f"no answer has a value of type {kind}")

    def _array(self, arguments: tuple[Any, ...]) -> Schema:
        if len(arguments) == 2 and arguments[1] is ...:
            return {"type": "array", "items": self.of(arguments[0])}
        # The two bounds close the array. `items: false` would too, but generators of clients take no schema that is a boolean.
        first, *others = items = [self.of(argument) for argument in arguments]
        kinds = {"prefixItems": items} if any(other != first for other in others) else {"items": first}
        return {"type": "array", **kinds, "minItems": len(items), "maxItems": len(items)}

    def _either(self, arguments: tuple[Any, ...]) -> Schema:
        choices = [self.of(argument) for argument in arguments if argument is not type(None)]
        if type(None) not in arguments:
            return {"oneOf": choices}
        if len(choices) == 1 and isinstance(choices[0].get("type"), str):
            return {**choices[0], "type": [choices[0]["type"], "null"]}
        return {"oneOf": [*choices, {"type": "null"}]}

    def _reference(self, kind: type) -> Schema:
        name = kind.__name__
        if name in self._found:
            if self._found[name][0] is not kind:
                raise TypeError(f"two types of answers are called {name}")
        else:
            self._found[name] = (kind, {})
            self._found[name] = (kind, self._object(kind))
        return {"$ref": REFERENCE + name}

    def _object(self, kind: type) -> Schema:
        hints, comments = get_type_hints(kind), field_comments(kind)
        properties: dict[str, Schema] = {}
        for field in fields(kind):
            schema = self.of(hints[field.name])
            comment = comments.get(field.name)
            if comment is not None:
                schema = described(schema, comment)
            properties[field.name] = schema
        result: Schema = {"type": "object"}
        documentation = inspect.getdoc(kind) or ""
        if documentation and not documentation.startswith(f"{kind.__name__}("):
            result["description"] = in_one_paragraph(documentation)
        return {**result, "properties": properties, "required": list(properties)}


class Responses:
    """The responses that several operations share, by name. The same response is kept once."""

    def __init__(self) -> None:
        self._found: dict[str, Schema] = {}

    def components(self) -> dict[str, Schema]:
        return dict(sorted(self._found.items()))

    def shared(self, name: str, response: Schema) -> Schema:
        """A reference to this response, under `name` or, where another one has it, `name` and a number."""
        number = 1
        while self._found.setdefault(candidate := name if number == 1 else f"{name}{number}", response) != response:
            number += 1
        return {"$ref": f"#/components/responses/{candidate}"}


def constant(value: str | bool) -> Schema:
    """The schema of one value. Generators of clients take a `const` for text only, so `true` is a list of one value."""
    return {"type": "boolean", "enum": [value]} if isinstance(value, bool) else {"type": "string", "const": value}


def described(schema: Schema, comment: str) -> Schema:
    """A field's schema with its comment; a list of words is a list of the values it may have."""
    if WORDS.fullmatch(comment) and schema.get("type") == "string":
        return {**schema, "enum": comment.split(" | ")}
    return {**schema, "description": comment[0].upper() + comment[1:]}


def field_comments(kind: type) -> dict[str, str]:
    """The comments behind the fields of a dataclass."""
    matches = (FIELD_LINE.fullmatch(line) for line in inspect.getsource(kind).splitlines())
    return {match[1]: match[2] for match in matches if match is not None}


def in_one_paragraph(text: str) -> str:
    """A docstring without line breaks and without the marks of code."""
    return re.sub(r"`([^`]*)`", r"\1", " ".join(text.split()))


def closed(value: Any) -> Any:
    """The same schemas with every object closed: a member that is not described is a fault."""
    if isinstance(value, Mapping):
        result = {name: closed(inner) for name, inner in value.items()}
        if value.get("type") == "object" and isinstance(value.get("properties"), Mapping):
            result.setdefault("additionalProperties", False)
        return result
    if isinstance(value, list):
        return [closed(item) for item in value]
    return value
