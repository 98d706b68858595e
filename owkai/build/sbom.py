"""Bill of materials in CycloneDX 1.6: every package, the interpreter, and every C library inside, with its digest.

A library inside a wheel has no record of its own; its version is read from the text it carries where it carries one.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from owkai.build.distributions import DEMO, OURS, canonical
from owkai.build.libraries import Library, programs

# What a library says of its own version, by the beginning of its name.
VERSION_TEXTS = {
    "libcrypto": rb"OpenSSL (\d+\.\d+\.\d+[a-z]?) ",
    "libssl": rb"OpenSSL (\d+\.\d+\.\d+[a-z]?) ",
    "libscipy_openblas": rb"OpenBLAS (\d+\.\d+\.\d+)",
    "postgres": rb"\(PostgreSQL\) (\d+\.\d+)",
}
Component = dict[str, Any]

# Linked into a module of a wheel, so that no file name tells of it: module, name, what the module says of its version.
LINKED = (
    ("packages/cryptography/hazmat/bindings/_rust.abi3.so", "OpenSSL", VERSION_TEXTS["libcrypto"]),
    ("packages/_duckdb", "DuckDB", None),
)


def bill(
    tree: Path, facts: dict[str, object], distributions: Iterable[metadata.Distribution], brought: Iterable[Library]
) -> str:
    """The document as JSON text; the same for the same contents."""
    distributions = list(distributions)
    versions = {canonical(one.metadata["Name"]): one.version for one in distributions}
    components = [_interpreter(), *map(_package, distributions), *(_machine_library(tree, one) for one in brought)]
    seen: set[str] = set()  # a wheel has no links: one library may lie in it under several names
    for path in programs(tree):
        inside = path.relative_to(tree).as_posix()
        found = _linked(path, inside, versions)
        if inside.startswith("packages/") and (".libs/" in inside or "/pginstall/" in inside):
            found.append(_inner_library(path, inside, versions))
        components += [one for one in found if one["hashes"][0]["content"] not in seen]
        seen |= {one["hashes"][0]["content"] for one in found}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": facts["date"],
            "tools": {"components": [{"type": "application", "name": "owkai.build"}]},
            "component": {
                "type": "application", "bom-ref": OURS, "name": OURS, "version": facts["version"],
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "purl": f"pkg:generic/{OURS}@{facts['version']}",
                "properties": [{"name": "owkai:commit", "value": str(facts["commit"])}],
            },
        },
        "components": components,
        "dependencies": [{"ref": OURS, "dependsOn": sorted({one["bom-ref"] for one in components})}],
    }  # fmt: skip
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
    return (
        json.dumps(
            {
                "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
                "serialNumber": f"urn:uuid:{serial}",
                **document,
            },
            indent=1,
        )
        + "\n"
    )


def _component(reference: str, name: str, version: str, **more: Any) -> Component:
    found = {"type": "library", "bom-ref": reference, "name": name, **({"version": version} if version else {}), **more}
    return {key: value for key, value in found.items() if value not in ("", None, [])}


def _interpreter() -> Component:
    version = ".".join(map(str, sys.version_info[:3]))
    licence = [{"license": {"id": "Python-2.0"}}]
    return _component(
        f"pkg:generic/cpython@{version}", "CPython", version, licenses=licence, purl=f"pkg:generic/cpython@{version}"
    )


def _package(distribution: metadata.Distribution) -> Component:
    name, version = canonical(distribution.metadata["Name"]), distribution.version
    purl = f"pkg:pypi/{name}@{version}"
    return _component(purl, name, version, licenses=_licences(distribution.metadata), purl=purl)


def _licences(described: Any) -> list[Component]:
    expression = described.get("License-Expression")
    if expression:
        return [{"expression": expression}]
    classifiers = [
        text.rpartition(" :: ")[2] for text in described.get_all("Classifier") or () if text.startswith("License")
    ]
    named = classifiers or [text for text in [described.get("License") or ""] if text and "\n" not in text]
    return [{"license": {"name": name}} for name in sorted(set(named))]


def _machine_library(tree: Path, library: Library) -> Component:
    path = next((tree / "lib").rglob(library.name))
    purl = f"pkg:deb/debian/{library.package}@{library.version}?arch=amd64" if library.package else ""
    inside = path.relative_to(tree).as_posix()
    return _component(inside, library.package or library.name, library.version, purl=purl, **_file(path, inside))


def _inner_library(path: Path, inside: str, versions: Mapping[str, str]) -> Component:
    name = re.sub(r"-[0-9a-f]{8}(-[0-9a-f]{8})*(?=\.so)", "", path.name)
    stem = name.partition(".so")[0]
    pattern = next((text for start, text in VERSION_TEXTS.items() if stem.startswith(start)), None)
    version = _said(path, pattern) if pattern else _numbers(name)
    if stem == "libpq":
        version = versions[DEMO] if "/pginstall/" in inside else _libpq_version()
    return _component(inside, stem, version, **_file(path, inside))


def _libpq_version() -> str:
    """Of psycopg's wheel, as the library itself tells: 180001 is 18.1."""
    from psycopg import pq

    number = pq.version()
    return f"{number // 10000}.{number % 10000}"


def _linked(path: Path, inside: str, versions: Mapping[str, str]) -> list[Component]:
    return [
        _component(
            f"{inside}#{name}", name, _said(path, text) if text else versions[name.lower()], **_file(path, inside)
        )
        for module, name, text in LINKED
        if inside.startswith(module)
    ]


def _file(path: Path, inside: str) -> Component:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"hashes": [{"alg": "SHA-256", "content": digest}], "properties": [{"name": "owkai:path", "value": inside}]}


def _numbers(name: str) -> str:
    """3.1.2 of libwebp.so.3.1.2; a single number is a version of the interface, not of the library."""
    numbers = name.partition(".so.")[2]
    return numbers if numbers.count(".") == 2 else ""


def _said(path: Path, pattern: bytes) -> str:
    match = re.search(pattern, path.read_bytes())
    return next(group for group in match.groups() if group).decode() if match else ""
