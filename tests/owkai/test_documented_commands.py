"""The commands of the documents do what the documents describe: those for a running server and for its database, here; those
for a target machine in tests/binary/test_documented_installation.py."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import psycopg
import pytest

from tests.contract.platform_rows import fill
from tests.documents import LANGUAGES, PLACES, ROOT, Block, blocks, shell
from tests.owkai.servers import SECRET, environment, owkai, serving, wait_for
from tests.postgres import Database
from tests.sync.running import slot_name

EXECUTABLES = Path(sys.executable).parent
# A server must not run while these do.
OFFLINE = ("owkai sync drop",)
SOURCE_PAGE = "docs/tasks/connect-postgres.md"  # its statements create the role and the publication
# Two targets of the Makefile that are whole runs; CI is one of them, test_demo.py the other.
WHOLE_RUNS = {"make demo", "make test"}


def run(block: Block, folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    """A block as a script in `folder`; its server is the one on `port`."""
    variables = environment(CONFIG=str(folder / "owkai.toml"))
    variables["KEY"] = (folder / "key").read_text()
    variables["PATH"] = f"{EXECUTABLES}{os.pathsep}{os.environ['PATH']}"
    text = block.text.replace("127.0.0.1:8480", f"127.0.0.1:{port}")
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip


def without_password(database: Database) -> tuple[str, str]:
    """The DSN as the documents write it, and the password they keep elsewhere."""
    return re.sub(r"(//[^:]+):[^@]+@", r"\1@", database.dsn), re.findall(r"//[^:]+:([^@]+)@", database.dsn)[0]


@pytest.fixture
def folder(tmp_path: Path, database: Database) -> Path:
    """A folder as the documents assume it: settings, secrets in files, a key ($KEY), the cache in `data`."""
    fill(database)
    dsn, password = without_password(database)
    settings = f"""
[source]
dsn = "{dsn}"
password_file = "db.password"
slot = "{slot_name(database)}"
[auth]
jwt_secret_file = "jwt.secret"
"""
    secrets = {"owkai.toml": settings, "db.password": password, "jwt.secret": SECRET}
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    made = owkai("keys", "create", "--org", "1", "--role", "admin", "--email", "k@example.com", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    (tmp_path / "key").write_text(made.stdout.strip())
    return tmp_path


def test_every_block_of_commands_states_what_it_is_for() -> None:
    assert len(blocks()) > 10
    assert [block.name for block in blocks() if block.language not in LANGUAGES or block.place not in PLACES] == []


def test_commands_that_change_the_machine_are_not_for_beside_a_server() -> None:
    assert [block.name for block in shell() if re.search(r"\b(pip|apt-get|dpkg|sudo|systemctl)\b", block.text)] == []


def test_only_the_look_up_of_advisories_needs_the_network() -> None:
    lines = [line for block in shell("network") for line in block.text.splitlines()]
    assert [line for line in lines if not line.startswith(("python -m pip install pip-audit", "pip-audit "))] == []


def test_commands_beside_a_running_server_succeed(folder: Path) -> None:
    here = [block for block in shell() if not set(block.text.splitlines()) <= WHOLE_RUNS]
    assert len(here) > 4
    offline = [block for block in here if block.text.startswith(OFFLINE)]
    with serving(
        folder, "--config", "owkai.toml", SOURCE_DSN=None, AUTH_JWT_SECRET=None, CACHE_DIRECTORY=None
    ) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")
        for block in here:
            if block not in offline:
                done = run(block, folder, server.port)
                assert done.returncode == 0, f"{block.name}\n{done.stdout}{done.stderr}"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    for block in offline:
        done = run(block, folder, 0)
        assert done.returncode == 0, f"{block.name}\n{done.stdout}{done.stderr}"
    assert (folder / "backup" / "keys.json").is_file()


def test_the_documented_python_environment_leads_to_a_server(tmp_path: Path, database: Database) -> None:
    """The installation itself is left to `make`, whose commands these are; everything after it is run."""
    (block,) = shell("environment")
    lines = block.text.splitlines()
    installation = [line for line in lines if "venv/bin/pip" in line or line.startswith("python3 -m venv")]
    makefile = (ROOT / "Makefile").read_text()
    for options in (re.findall(r"install (.*)", line)[0] for line in installation if "pip install" in line):
        assert re.sub(r" \.$", " -e .", options) in makefile
    (tmp_path / "owkai").mkdir()
    (tmp_path / "owkai" / "venv").symlink_to(EXECUTABLES.parent)
    rest = [line for line in lines if line not in installation and line != "venv/bin/owkai serve"]
    assert len(lines) - len(rest) == len(installation) + 1
    dsn, password = re.sub(r"(//[^:]+):[^@]+@", r"\1@", database.dsn), re.findall(r":([^:@]+)@", database.dsn)[0]
    text = (
        "\n".join(rest)
        .replace("postgresql://owkai@db.internal/platform", dsn)
        .replace("password of the role", password)
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], env={**environment(SERVER_PORT="0"), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    home = tmp_path / "owkai"
    filed = {"SOURCE_DSN": None, "AUTH_JWT_SECRET": None, "CACHE_DIRECTORY": None}
    with serving(home, "--config", "owkai.toml", SOURCE_SLOT=slot_name(database), **filed) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")


def test_statements_of_the_documents_are_accepted_by_the_source(database: Database) -> None:
    statements = [block for block in blocks() if block.language == "sql"]
    assert {block.document for block in statements} >= {
        "docs/tasks/connect-postgres.md",
        "docs/tasks/monitor.md",
    }
    role, version = f"role_{database.name}", int(database.execute("show server_version_num").fetchall()[0][0])
    assert version >= 150_000
    # One server for all tests: what belongs to it and not to this database gets a name of its own, or is undone.
    try:
        for block in sorted(statements, key=lambda one: one.document != SOURCE_PAGE):
            text = re.sub(r"(ROLE|TO) owkai\b", rf"\1 {role}", block.text).replace("agent_actions (…)", "agent_actions")
            for statement in re.sub(r"--.*", "", text).split(";"):
                if statement.strip():
                    database.execute(statement.encode().decode())
    finally:
        with psycopg.connect(database.dsn, autocommit=True) as owner:
            owner.execute("alter system reset max_slot_wal_keep_size")
            owner.execute(f"drop owned by {role}".encode())
            owner.execute(f"drop role {role}".encode())


def test_the_packages_settings_file_is_the_documented_one() -> None:
    """docs/tasks/install.md uncomments lines of it by their beginning."""
    text = (ROOT / "owkai" / "build" / "debian" / "owkai.toml").read_text()
    (block,) = [one for one in shell("target") if "db.password" in one.text]
    dsn = re.findall(r"dsn = .*?(\"postgresql[^\"]+\")", block.text)[0]
    filled = re.sub(r"(?m)^# dsn = .*", f"dsn = {dsn}", text)
    filled = re.sub(r"(?m)^# (.*_file = )", r"\1", filled)
    assert tomllib.loads(filled) == {
        "source": {"dsn": dsn.strip('"'), "password_file": "db.password"},
        "auth": {"jwt_secret_file": "jwt.secret"},
        "cache": {"directory": "/var/lib/owkai"},
    }
