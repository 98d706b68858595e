"""The reference page: both documents as one HTML page to read, link to and print, without scripts."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
QUIET = ("head", "options")  # described once in the introduction
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="stylesheet" href="/reference/style.css">
</head>
<body>
<a class="skip" href="#content">Skip to content</a>
"""


def reference_page(openapi: Document, asyncapi: Document) -> str:
    """The whole page. All text from the documents is escaped."""
    return "\n".join(_page(openapi, asyncapi)) + "\n"


def _page(openapi: Document, asyncapi: Document) -> Iterator[str]:
    title = text(openapi["info"]["title"])
    yield HEAD.format(title=title)
    yield from _contents(openapi, asyncapi)
    yield '<main id="content">'
    yield f"<h1>{title} <small>{text(openapi['info']['version'])}</small></h1>"
    yield paragraphs(openapi["info"]["description"])
    yield (
        "<p>Machine-readable documents: <code>/api/analytics/openapi.json</code> and "
        "<code>/api/analytics/asyncapi.json</code> (with a credential), or <code>owkai openapi</code> on the server.</p>"
    )
    for tag in openapi["tags"]:
        yield f'<h2 id="{anchor("tag", tag["name"])}">{text(tag["name"])}</h2><p>{text(tag["description"])}</p>'
        for path, item in openapi["paths"].items():
            if main_operation(item)["tags"] == [tag["name"]]:
                yield from _operation(openapi, path, item)
        if tag["name"] == "Live":
            yield from _live(asyncapi)
    yield from _headers(openapi)
    yield '<h2 id="schemas">Objects</h2>'
    for name, schema in {**asyncapi["components"]["schemas"], **openapi["components"]["schemas"]}.items():
        yield from _object(name, schema)
    yield "</main>\n</body>\n</html>"


def main_operation(item: Document) -> Document:
    """The main operation of a path: GET, or PUT if there is no GET."""
    found: Document = item.get("get") or item["put"]
    return found


def _contents(openapi: Document, asyncapi: Document) -> Iterator[str]:
    yield '<nav aria-label="Contents"><ul>'
    for tag in openapi["tags"]:
        yield f'<li><a href="#{anchor("tag", tag["name"])}">{text(tag["name"])}</a><ul>'
        for path, item in openapi["paths"].items():
            if main_operation(item)["tags"] == [tag["name"]]:
                yield f'<li><a href="#{main_operation(item)["operationId"]}"><code>{breakable(short(path))}</code></a></li>'
        if tag["name"] == "Live":
            for name in asyncapi["components"]["messages"]:
                yield f'<li><a href="#{anchor("message", name)}">{text(name)}</a></li>'
        yield "</ul></li>"
    yield '<li><a href="#headers">Headers</a></li><li><a href="#schemas">Objects</a></li></ul></nav>'


def _operation(openapi: Document, path: str, item: Document) -> Iterator[str]:
    get = main_operation(item)
    methods = ", ".join(method.upper() for method in METHODS if method in item)
    yield f'<section class="operation" id="{get["operationId"]}">'
    yield f'<h3><a class="anchor" href="#{get["operationId"]}">{text(item["summary"])}</a></h3>'
    yield f'<p class="path"><b>{methods}</b> <code>{breakable(path)}</code></p>'
    for method in METHODS:
        if method in item and method not in QUIET:
            if method != "get":
                yield f"<h4>{method.upper()}: {text(item[method]['summary'])}</h4>"
            yield from _method(openapi, item, item[method])
    yield "</section>"


def _method(openapi: Document, item: Document, operation: Document) -> Iterator[str]:
    yield f"<p>{text(operation['description'])}</p>"
    for media_type, media in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: {code(media_type)} {kind(media['schema'])}</p>"
    parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
    if parameters:
        yield "<h4>Parameters</h4>"
        yield table(
            ("Name", "In", "Value", "Meaning"),
            ((code(one["name"]), text(one["in"]), kind(one["schema"]), text(one["description"])) for one in parameters),
        )
    yield "<h4>Responses</h4>"
    responses = {status: resolved(openapi, response) for status, response in operation["responses"].items()}
    yield table(
        ("Status", "When", "Body"),
        ((code(status), text(one["description"]), bodies(one)) for status, one in responses.items()),
    )
    for media in responses.get("200", {}).get("content", {}).values():
        for example in media.get("examples", {}).values():
            yield _example(example["summary"], example["value"])


def _live(asyncapi: Document) -> Iterator[str]:
    yield paragraphs(asyncapi["info"]["description"])
    for name, message in asyncapi["components"]["messages"].items():
        identifier = anchor("message", name)
        yield f'<section class="operation" id="{identifier}">'
        yield f'<h3><a class="anchor" href="#{identifier}">{text(message["summary"])}</a></h3>'
        yield f"<p>Message <code>{text(name)}</code>: {kind(message['payload'])}</p>"
        for example in message.get("examples", ()):
            yield _example(name, example["payload"])
        yield "</section>"


def _headers(openapi: Document) -> Iterator[str]:
    carried: dict[str, set[str]] = {}
    for item in openapi["paths"].values():
        for method in METHODS:
            for status, response in item.get(method, {}).get("responses", {}).items():
                for name in resolved(openapi, response).get("headers", {}):
                    carried.setdefault(name, set()).add(status)
    everywhere = set().union(*carried.values()) - {"413"}
    yield '<h2 id="headers">Response headers</h2>'
    yield table(
        ("Header", "Meaning", "With status"),
        (
            (
                code(name),
                text(header["description"]),
                "all" if carried.get(name, set()) >= everywhere else text(", ".join(sorted(carried.get(name, ())))),
            )
            for name, header in openapi["components"]["headers"].items()
        ),
    )


def _object(name: str, schema: Document) -> Iterator[str]:
    identifier = anchor("schema", name)
    yield f'<section class="object" id="{identifier}"><h3><a class="anchor" href="#{identifier}">{text(name)}</a></h3>'
    if "description" in schema:
        yield f"<p>{text(schema['description'])}</p>"
    required = set(schema.get("required", ()))
    yield table(
        ("Member", "Value", "Meaning"),
        (
            (
                code(member) + ("" if member in required else " <i>optional</i>"),
                kind(inner),
                text(inner.get("description", "")),
            )
            for member, inner in schema.get("properties", {}).items()
        ),
    )
    yield "</section>"


def _example(summary: str, value: Any) -> str:
    body = text(json.dumps(value, indent=2, ensure_ascii=False))
    return f"<details open><summary>Example: {text(summary)}</summary><pre><code>{body}</code></pre></details>"


def kind(schema: Document) -> str:
    """A short description of a schema, as HTML."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{anchor("schema", name)}">{text(name)}</a>'
    if "oneOf" in schema:
        return " or ".join(kind(choice) for choice in schema["oneOf"])
    if "enum" in schema:
        words = " | ".join(code(json.dumps(word).strip('"')) for word in schema["enum"])
        return words + (" or null" if "null" in types_of(schema) else "") + default(schema)
    if "const" in schema:
        return code(json.dumps(schema["const"]).strip('"'))
    if schema.get("type") == "array":
        inner = schema.get("items") or schema.get("prefixItems", [{}])[0]
        return f"array of {kind(inner)}"
    names = [*types_of(schema)] or ["anything"]
    if "format" in schema:
        names[0] = schema["format"]
    bounds = f" {schema['minimum']} to {schema['maximum']}" if "minimum" in schema and "maximum" in schema else ""
    return text(" or ".join(names)) + bounds + default(schema)


def types_of(schema: Document) -> tuple[str, ...]:
    found = schema.get("type", ())
    return (found,) if isinstance(found, str) else tuple(found)


def default(schema: Document) -> str:
    return f", default {code(str(schema['default']))}" if "default" in schema else ""


def bodies(response: Document) -> str:
    """The bodies of a response: media type and object."""
    return "<br>".join(
        f"{code(media_type)} {kind(media['schema']) if media['schema'] else ''}".strip()
        for media_type, media in response.get("content", {}).items()
    )


def resolved(openapi: Document, response: Document) -> Document:
    if "$ref" in response:
        found: Document = openapi["components"]["responses"][response["$ref"].rpartition("/")[2]]
        return found
    return response


def table(heads: tuple[str, ...], rows: Any) -> str:
    """A table; The cells of `rows` are HTML."""
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def paragraphs(content: str) -> str:
    return "".join(f"<p>{text(part)}</p>" for part in content.split("\n\n"))


def anchor(prefix: str, name: str) -> str:
    return f"{prefix}-{re.sub(r'[^A-Za-z0-9]+', '-', name)}"


def short(path: str) -> str:
    return path.removeprefix("/api/analytics")


def breakable(path: str) -> str:
    """A path as HTML that can wrap at its slashes."""
    return text(path).replace("/", "/<wbr>")


def code(content: str) -> str:
    return f"<code>{text(content)}</code>"


def text(content: str) -> str:
    return html.escape(content)
