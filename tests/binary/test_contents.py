"""What is shipped: small enough, complete in its records, without traces of the machine that built it, made the same twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from owkai.build import elf, libraries
from owkai.build.shipped_packages import canonical
from tests.binary.bundles import Bundle

ROOT = Path(__file__).resolve().parents[2]
MAXIMUM_BYTES = 160_000_000


@pytest.fixture(scope="module")
def tree(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.unpack(tmp_path_factory.mktemp("contents") / "runtime")


@pytest.fixture(scope="module")
def bill(tree: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tree / "share" / "sbom.cdx.json").read_text(encoding="utf-8"))
    return found


def test_what_is_shipped_is_small_and_has_its_sums(dist: Path, bundle: Bundle, package: Path) -> None:
    assert bundle.path.stat().st_size < MAXIMUM_BYTES
    assert package.stat().st_size < MAXIMUM_BYTES
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dist, capture_output=True, text=True, check=True
    )
    assert checked.stdout.count(": OK\n") == 3


def test_version_tells_commit_date_python_libraries_and_the_libc_it_needs(bundle: Bundle, tree: Path) -> None:
    environment = {"OWKAI_RUNTIME_DIR": str(tree.parent)}
    told = subprocess.run(
        [bundle.path, "version", "--json"], env=environment, capture_output=True, text=True, check=True
    )
    facts = json.loads(told.stdout)
    assert facts["version"] == bundle.version
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", facts["commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", facts["date"])
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert f"GLIBC_{facts['glibc']}" == bundle.libc
    assert {"tornado", "duckdb", "polars", "psycopg-binary"} <= facts["packages"].keys()


def test_the_stated_libc_is_the_newest_that_binutils_finds(bundle: Bundle, tree: Path) -> None:
    wanted = {(0, 0)}
    for path in libraries.programs(tree):
        if path.parent.name == libraries.FALLBACK:
            continue
        symbols = subprocess.run(["objdump", "-T", path], capture_output=True, text=True, check=False).stdout
        wanted |= {tuple(map(int, found.split("."))) for found in re.findall(r"\(GLIBC_(2\.[\d.]+)\)", symbols)}
    assert max(wanted) == elf.version_number(bundle.libc)


def test_sup_05_no_program_looks_for_libraries_outside(tree: Path) -> None:
    found = libraries.programs(tree)
    assert len(found) > 150
    paths = {part for path in found for text in elf.read(path).paths.values() for part in text.split(":")}
    assert [part for part in paths if not part.startswith("$ORIGIN")] == []


def test_no_path_of_the_building_machine_is_inside(tree: Path) -> None:
    here = [text.encode() for text in {str(ROOT), sys.prefix, sys.base_prefix}]
    traces = []
    for path in [*(tree / "app").rglob("*"), *(tree / "packages").rglob("*"), *(tree / "lib" / "python").rglob("*")]:
        if path.is_file() and path.suffix != ".so":
            data = path.read_bytes()
            traces += [str(path.relative_to(tree)) for text in here if text in data]
    assert traces == []


def test_nothing_is_shipped_that_no_request_needs(tree: Path) -> None:
    packages = {path.name for path in (tree / "packages").iterdir()}
    assert packages & {"sklearn", "joblib", "setuptools", "pip", "pytest", "moto", "_pytest", "mypy"} == set()
    assert [path for path in tree.rglob("*") if path.suffix in (".py", ".pyi", ".pyx", ".h", ".a")] == [
        tree / "packages" / "nanoarrow" / "_static_version.py"
    ]
    services = {path.name for path in (tree / "packages" / "botocore" / "data").iterdir() if path.is_dir()}
    assert {"cloudwatch", "logs", "sts"} <= services
    assert len(services) < 10


def test_sup_03_the_bill_names_every_package_and_every_library(tree: Path, bill: dict[str, Any]) -> None:
    named = {component["name"] for component in bill["components"]}
    shipped = {
        canonical(path.name.removesuffix(".dist-info").rpartition("-")[0])
        for path in (tree / "packages").glob("*.dist-info")
    }
    assert len(shipped) > 25
    assert shipped - named == set()
    assert {"CPython", "DuckDB", "OpenSSL", "libpq", "libssl", "libscipy_openblas64_"} <= named
    digests = {one["content"] for component in bill["components"] for one in component.get("hashes", ())}
    outside = [
        path
        for path in libraries.programs(tree)
        if ".libs" in path.parent.suffix or path.parent.name in ("lib", "fallback")
    ]
    unnamed = [path.name for path in outside if hashlib.sha256(path.read_bytes()).hexdigest() not in digests]
    assert [name for name in unnamed if not name.startswith("libpython")] == []


def test_sup_03_the_bill_has_the_form_of_cyclonedx(bill: dict[str, Any]) -> None:
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    references = [component["bom-ref"] for component in bill["components"]]
    assert len(references) == len(set(references))
    needed = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    assert set(needed["owkai-analytics"]) == set(references)
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", bill["serialNumber"])
    versioned = {component["name"]: component.get("version") for component in bill["components"]}
    assert all(versioned[name] for name in ("DuckDB", "OpenSSL", "libpq", "libcrypto", "CPython"))


def test_every_part_brings_its_licence(tree: Path, bill: dict[str, Any]) -> None:
    present = {
        canonical(path.stem if path.is_file() else path.name) for path in (tree / "share" / "licences").iterdir()
    }
    packages = {one["name"] for one in bill["components"] if one.get("purl", "").startswith(("pkg:pypi/", "pkg:deb/"))}
    assert "python" in present
    assert packages - present == set()


def test_sup_01_two_builds_are_the_same_to_the_byte(tmp_path: Path) -> None:
    sums = []
    for number in range(2):
        # In another folder and at another time, as on another machine.
        output, work = tmp_path / str(number), tmp_path / f"work{number}"
        command = [sys.executable, "-m", "owkai.build", "--level", "1", "--output", str(output), "--work", str(work)]
        environment = {**os.environ, "PYTHONHASHSEED": str(number)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        sums.append((output / "SHA256SUMS").read_text())
    assert sums[0] == sums[1]
