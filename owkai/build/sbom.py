"""Bill of materials in CycloneDX 1.6: every package, the interpreter, and every C library in the bundle, with its digest.

A library inside a wheel has no package record; its version is read from the text it contains, where it contains one.
"""

from __future__ import annotations

import hashlib
import re
import sys
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from owkai.build.libraries import Library, programs
from owkai.build.shipped_packages import DEMO, OURS, canonical

# How a library states its version, by the beginning of its name.
VERSION_TEXTS = {
    "libcrypto": rb"OpenSSL (\d+\.\d+\.\d+[a-z]?) ",
    "libssl": rb"OpenSSL (\d+\.\d+\.\d+[a-z]?) ",
    "libscipy_openblas": rb"OpenBLAS (\d+\.\d+\.\d+)",
    "postgres": rb"\(PostgreSQL\) (\d+\.\d+)",
}
LICENSES = LicenseFactory()

# Linked into a module of a wheel, so no file name shows it: module, name, how the module states the version.
LINKED = (
    ("packages/cryptography/hazmat/bindings/_rust.abi3.so", "OpenSSL", VERSION_TEXTS["libcrypto"]),
    ("packages/_duckdb", "DuckDB", None),
)


def bill(
    tree: Path, facts: dict[str, object], distributions: Iterable[metadata.Distribution], brought: Iterable[Library]
) -> str:
    """The document as JSON text; equal contents give equal text."""
    distributions = list(distributions)
    versions = {canonical(one.metadata["Name"]): one.version for one in distributions}
    components = [_interpreter(), *map(_package, distributions), *(_machine_library(tree, one) for one in brought)]
    seen: set[str] = set()  # a wheel has no links: one library may lie in it under several names
    for path in programs(tree):
        inside = path.relative_to(tree).as_posix()
        found = _linked(path, inside, versions)
        if inside.startswith("packages/") and (".libs/" in inside or "/pginstall/" in inside):
            found.append(_inner_library(path, inside, versions))
        components += [one for one in found if _digest(one) not in seen]
        seen |= {_digest(one) for one in found}
    product = Component(
        name=OURS,
        type=ComponentType.APPLICATION,
        bom_ref=OURS,
        version=str(facts["version"]),
        licenses=[LICENSES.make_with_id("Apache-2.0")],
        purl=PackageURL("generic", name=OURS, version=str(facts["version"])),
        properties=[Property(name="owkai:commit", value=str(facts["commit"]))],
    )
    tool = Component(name="owkai.build", type=ComponentType.APPLICATION)
    described = BomMetaData(
        timestamp=datetime.fromisoformat(str(facts["date"])), component=product, tools=ToolRepository(components=[tool])
    )
    contents = "\n".join(sorted(f"{one.bom_ref} {one.version} {_digest(one)}" for one in (product, *components)))
    document = Bom(
        metadata=described,
        components=components,
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{facts['date']} {facts['commit']}\n{contents}"),
    )
    document.register_dependency(product, components)
    return JsonV1Dot6(document).output_as_string(indent=1) + "\n"


def _digest(component: Component) -> str:
    return next((found.content for found in component.hashes), "")


def _interpreter() -> Component:
    purl = PackageURL("generic", name="cpython", version=".".join(map(str, sys.version_info[:3])))
    licence = LICENSES.make_with_id("Python-2.0")
    return Component(bom_ref=str(purl), name="CPython", version=purl.version, licenses=[licence], purl=purl)


def _package(distribution: metadata.Distribution) -> Component:
    name, version = canonical(distribution.metadata["Name"]), distribution.version
    purl = PackageURL("pypi", name=name, version=version)
    return Component(
        bom_ref=str(purl), name=name, version=version, licenses=_licences(distribution.metadata), purl=purl
    )


def _licences(described: Any) -> list[License]:
    expression = described.get("License-Expression")
    if expression:
        return [LICENSES.make_with_expression(expression)]
    classifiers = [
        text.rpartition(" :: ")[2] for text in described.get_all("Classifier") or () if text.startswith("License")
    ]
    named = classifiers or [text for text in [described.get("License") or ""] if text and "\n" not in text]
    return [LICENSES.make_with_name(name) for name in sorted(set(named))]


def _machine_library(tree: Path, library: Library) -> Component:
    path = next((tree / "lib").rglob(library.name))
    inside = path.relative_to(tree).as_posix()
    purl = PackageURL("deb", "debian", library.package, library.version, {"arch": "amd64"}) if library.package else None
    return Component(
        bom_ref=inside, name=library.package or library.name, version=library.version or None, purl=purl,
        **_file(path, inside),
    )  # fmt: skip


def _inner_library(path: Path, inside: str, versions: Mapping[str, str]) -> Component:
    name = re.sub(r"-[0-9a-f]{8}(-[0-9a-f]{8})*(?=\.so)", "", path.name)
    stem = name.partition(".so")[0]
    pattern = next((text for start, text in VERSION_TEXTS.items() if stem.startswith(start)), None)
    version = _stated_version(path, pattern) if pattern else _numbers(name)
    if stem == "libpq":
        version = versions[DEMO] if "/pginstall/" in inside else _libpq_version()
    return Component(bom_ref=inside, name=stem, version=version or None, **_file(path, inside))


def _libpq_version() -> str:
    """Of psycopg's wheel, as the library reports it: 180001 is 18.1."""
    from psycopg import pq

    number = pq.version()
    return f"{number // 10000}.{number % 10000}"


def _linked(path: Path, inside: str, versions: Mapping[str, str]) -> list[Component]:
    return [
        Component(
            bom_ref=f"{inside}#{name}",
            name=name,
            version=(_stated_version(path, text) if text else versions[name.lower()]) or None,
            **_file(path, inside),
        )
        for module, name, text in LINKED
        if inside.startswith(module)
    ]


def _file(path: Path, inside: str) -> dict[str, Any]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "hashes": [HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        "properties": [Property(name="owkai:path", value=inside)],
    }


def _numbers(name: str) -> str:
    """3.1.2 of libwebp.so.3.1.2; a single number is a version of the interface, not of the library."""
    numbers = name.partition(".so.")[2]
    return numbers if numbers.count(".") == 2 else ""


def _stated_version(path: Path, pattern: bytes) -> str:
    match = re.search(pattern, path.read_bytes())
    return next(group for group in match.groups() if group).decode() if match else ""
