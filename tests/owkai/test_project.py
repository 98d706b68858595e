"""The project's own promises: import rules, locks, documents that match the code."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import click
import pytest

from config.load import load_settings
from owkai.cli import main
from owkai.exits import Exit

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("owkai", "config", "sync", "analytics", "handlers")
MAXIMUM_MODULES = 16
MAXIMUM_LINES = 500  # most have at most 400; a longer one must still be one subject
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--config", "pyproject.toml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)


# -- import rules --------------------------------------------------------------------------------------------------


def test_the_packages_import_each_other_only_as_the_contracts_allow() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("handlers/auth/failure_limits.py", "import sync.wire", "layers:"),
        ("sync/values/wire.py", "import handlers.auth.failure_limits", "layers:"),
        ("analytics/calendar.py", "import handlers.auth.failure_limits", "layers:"),
        ("config/settings.py", "import analytics.state.tables", "layers:"),
        ("sync/values/wire.py", "import analytics.views", "sync may import only"),
        ("analytics/calendar.py", "import tornado.web", "analytics is pure"),
        ("analytics/calendar.py", "import psycopg", "analytics is pure"),
        ("handlers/auth/failure_limits.py", "import psycopg", "handlers ask views"),
    ],
)
def test_the_contracts_bind(tmp_path: Path, module: str, statement: str, contract: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{statement}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout
    assert re.search(rf"{re.escape(contract)}.*BROKEN", result.stdout), result.stdout


# -- dependencies --------------------------------------------------------------------------------------------------


def test_sup_04_no_dependency_ships_a_module_with_a_name_of_ours() -> None:
    taken = []
    for distribution in distributions():
        if distribution.metadata["Name"] == "owkai-analytics":
            continue
        tops = {file.parts[0].removesuffix(".py") for file in distribution.files or ()}
        taken += [(distribution.metadata["Name"], name) for name in {*PACKAGES, "tests"} & tops]
    assert taken == []


def pins(name: str) -> dict[str, set[str]]:
    """Requirement line without hashes, to its hashes."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=[a-z0-9])", read(name)):
        head, *hashes = re.split(r"\s*\\\n\s*--hash=", re.sub(r"(?m)^\s*#.*\n?", "", entry).strip())
        if "==" in head:
            found[head] = set(hashes)
    return found


def test_sup_01_every_pin_of_a_lock_has_hashes() -> None:
    for name in ("requirements.lock", "requirements-test.lock"):
        found = pins(name)
        assert len(found) > 30
        assert [head for head, hashes in found.items() if not all(h.startswith("sha256:") for h in hashes)] == []
        assert [head for head, hashes in found.items() if not hashes] == []


def test_sup_01_the_locks_name_no_source_but_the_packages() -> None:
    for name in ("requirements.lock", "requirements-test.lock"):
        lines = read(name).splitlines()
        assert [
            line for line in lines if "://" in line or "file:" in line or re.match(r"\s*-[a-z-]*[if]\b", line)
        ] == []


def test_sup_06_a_package_other_than_the_locked_one_stops_the_installation(tmp_path: Path) -> None:
    metadata = "Metadata-Version: 2.1\nName: tampered\nVersion: 1.0\n"
    wheel = tmp_path / "tampered-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tampered/__init__.py", "")
        archive.writestr("tampered-1.0.dist-info/METADATA", metadata)
        archive.writestr(
            "tampered-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tampered-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock = tmp_path / "requirements.lock"
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
        "--find-links", str(tmp_path), "--require-hashes", "-d", str(tmp_path / "out"), "-r", str(lock),
    ]  # fmt: skip
    for hashed, code in ((digest, 0), ("0" * 64, 1)):
        lock.write_text(f"tampered==1.0 --hash=sha256:{hashed}\n", encoding="ascii")
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert result.returncode == code, result.stderr
    assert "do not match the hashes" in result.stderr.lower()
    assert "--require-hashes" in read("Makefile")


def test_sup_07_ci_runs_nothing_from_elsewhere_and_knows_no_secret() -> None:
    steps = [line for line in read(".ci/run").splitlines() if line.strip() and not line.startswith("#")]
    assert steps
    assert not [line for line in steps if re.search(r"curl|wget|https?://|secret|token", line, re.IGNORECASE)]
    workflows = [path.read_text(encoding="utf-8") for path in (ROOT / ".github").glob("workflows/*")]
    for action in re.findall(r"uses:\s*(\S+)", "\n".join(workflows)):
        assert re.search(r"@[0-9a-f]{40}$", action), f"{action} is not pinned by its digest"


def test_the_test_lock_holds_every_pin_of_the_demo_lock() -> None:
    assert pins("requirements.lock").items() <= pins("requirements-test.lock").items()


def test_every_direct_dependency_is_locked() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *extras["demo"], *PROJECT["build-system"]["requires"]]

    def names(entries: Any) -> set[str]:
        return {re.split(r"[\[<>=;, ]", entry)[0].lower() for entry in entries}

    assert names(wanted) <= names(pins("requirements.lock"))
    assert names(extras["test"]) - {"owkai-analytics"} <= names(pins("requirements-test.lock"))


def test_sup_02_known_bad_releases_are_below_the_pins() -> None:
    locked = {head.split("==")[0]: head.split("==")[1].split()[0] for head in pins("requirements.lock")}
    for name, least in {"tornado": (6, 6), "pyjwt": (2, 15)}.items():
        assert tuple(map(int, locked[name].split(".")[:2])) >= least


# -- documents -----------------------------------------------------------------------------------------------------


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in documents():
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def anchors(document: Path) -> set[str]:
    """The fragments of a document's headings, as Git hosts derive them."""
    headings = re.findall(r"(?m)^#+ (.+)$", document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_link_to_a_heading_leads_to_one() -> None:
    for document in documents():
        for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text(encoding="utf-8")):
            other = (document.parent / target).resolve() if target else document
            assert heading in anchors(other), f"{document.name}: {target}#{heading}"


def test_every_file_a_document_names_exists() -> None:
    generated = {"config/owkai.toml"}
    for document in documents():
        text = document.read_text(encoding="utf-8")
        for name in set(re.findall(r"`((?:owkai|config|sync|analytics|handlers|tests|docs)/[\w./*-]+)`", text)):
            found = list(ROOT.glob(name.rstrip("/"))) or name in generated
            assert found, f"{document.name} names {name}"


def commands(group: click.Group = main, prefix: str = "owkai") -> set[str]:
    found = set()
    for name, command in group.commands.items():
        path = f"{prefix} {name}"
        found |= commands(command, path) if isinstance(command, click.Group) else {path}
    return found


def test_every_command_a_document_names_exists_and_the_reference_names_all() -> None:
    known = commands()
    groups = {" ".join(path.split()[:2]) for path in known}
    for document in documents():
        for named in re.findall(r"`(owkai [a-z]+(?: [a-z]+)?)", document.read_text(encoding="utf-8")):
            words = named.split()
            assert named in known or " ".join(words[:2]) in (known | groups), f"{document.name} names `{named}`"
    reference = read("docs/reference/commands.md")
    assert [path for path in sorted(known) if f"`{path}" not in reference] == []


def test_the_reference_has_every_exit_code() -> None:
    text = read("docs/reference/commands.md")
    assert [code for code in Exit if f"| {code.value} | {code.meaning} |" not in text] == []


def test_every_setting_a_document_names_exists() -> None:
    from config.setting_keys import branches, leaves

    known = {leaf.key for leaf in leaves()} | {".".join(branch.path) for branch in branches()}
    sections = {key.partition(".")[0] for key in known} - {""}
    files = ("json", "jsonl", "lock", "toml")
    for document in documents():
        text = document.read_text(encoding="utf-8")
        if document.name == "numbers.md":  # its first column names response fields
            text = re.sub(r"(?m)^\| `[^`]+`", "|", text)
        for named in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?: = [^`]*)?`", text):
            section, _, _ = named.partition(".")
            if section in sections and not named.endswith(files):
                assert named in known, f"{document.name} names {named}"


def test_every_documented_route_is_served() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "handlers").rglob("*.py"))
    named = re.findall(r"(?m)^\| `(?:GET|WS) (/[^`?]+)", read("docs/reference/api.md"))
    assert len(named) >= 8
    for path in named:
        tail = re.sub(r"\{[^}]*\}", "", path.removeprefix("/api/analytics"))
        assert f'"{tail}' in source or f"}}{tail}" in source, path


@pytest.mark.parametrize(
    ("document", "begin", "end"), [("README.md", "```toml\n", "```"), ("docs/tasks/install.md", "<<END\n", "END\n")]
)
def test_the_settings_file_of_a_document_is_complete(tmp_path: Path, document: str, begin: str, end: str) -> None:
    text = read(document).split(begin)[1].split(end)[0]
    for name in re.findall(r'_file = "([^"]+)"', text):
        (tmp_path / name).write_text("3f9a1c77d0b24e6f8a5b90c1d2e3f40516273849\n")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "owkai.toml").write_text(text)
    loaded = load_settings(tmp_path / "owkai.toml", {}, {}, serving=True)
    assert loaded.warnings == []
    assert loaded.settings.cache.directory == tmp_path / "data"


def test_makefile_targets_of_the_documents_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", read("Makefile")))
    for document in documents():
        for named in re.findall(r"(?:`|^)make ([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE):
            assert named in targets, f"{document.name} names `make {named}`"


def test_the_changelog_opens_with_the_version_of_the_project() -> None:
    assert f"## {PROJECT['project']['version']}" in read("CHANGELOG.md")


def test_the_licence_is_the_apache_licence_in_full() -> None:
    text = read("LICENSE")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_ci_runs_the_readmes_test_command() -> None:
    script = read(".ci/run")
    assert (ROOT / ".ci/run").stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in script
    assert re.search(r"(?m)^make test( |$)", script)
    assert "make test" in read("README.md")


# -- the code base -------------------------------------------------------------------------------------------------


def sources() -> list[Path]:
    return [path for folder in (*PACKAGES, "tests") for path in (ROOT / folder).rglob("*.py")]


def test_no_module_is_a_bucket() -> None:
    buckets = {"utils", "helpers", "common", "misc", "util"}
    assert [path for path in sources() if path.stem in buckets or path.stem.endswith("manager")] == []


def test_nothing_is_left_undone_or_silenced_without_a_reason() -> None:
    # Written in pieces so that this file does not match itself.
    patterns = ["TO" + "DO", "FIX" + "ME", "Not" + "ImplementedError", r"pytest\.(?:sk" + "ip|x" + "fail)",
                r"# type: ig" + r"nore(?!\[)", r"# no" + r"qa(?!: [A-Z])"]  # fmt: skip
    for path in sources():
        text = path.read_text(encoding="utf-8")
        for pattern in patterns:
            assert not re.search(pattern, text), f"{path.relative_to(ROOT)} has {pattern}"


def module_trees() -> dict[str, ast.Module]:
    """The modules of the five packages by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def test_no_public_class_name_appears_twice() -> None:
    homes: dict[str, list[str]] = {}
    for module, tree in module_trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert len(homes) > 300
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_every_name_is_imported_from_the_module_that_defines_it() -> None:
    trees = module_trees()
    defined = {
        module: {
            node.id if isinstance(node, ast.Name) else node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
        }
        for module, tree in trees.items()
    }
    second_paths = [
        f"{module}: from {node.module} import {alias.name}"
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in trees
        for alias in node.names
        if alias.name not in defined[node.module] and f"{node.module}.{alias.name}" not in trees
    ]
    assert second_paths == []


def test_a_folder_has_at_most_sixteen_modules() -> None:
    counts: dict[str, int] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.name not in ("__init__.py", "__main__.py"):
                folder = str(path.parent.relative_to(ROOT))
                counts[folder] = counts.get(folder, 0) + 1
    assert {folder: count for folder, count in counts.items() if count > MAXIMUM_MODULES} == {}


def test_no_module_outgrows_one_reading() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert {module: lines for module, lines in lengths.items() if lines > MAXIMUM_LINES} == {}


def test_every_package_describes_itself() -> None:
    for package in PACKAGES:
        assert (importlib.import_module(package).__doc__ or "").strip(), package


def test_package_data_is_declared_for_every_file_that_is_not_python() -> None:
    declared = PROJECT["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        allowed = {path for pattern in declared.get(package, []) for path in (ROOT / package).glob(pattern)}
        others = {
            path for path in (ROOT / package).rglob("*")
            if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
        }  # fmt: skip
        assert others <= allowed, json.dumps(sorted(map(str, others - allowed)))
