"""Secrets of a running server: in its memory, its environment, its cache, its package. Cases SEC-05, -08, -09, -11, CFG-04, -08."""

from __future__ import annotations

import configparser
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from owkai.demo.postgres import EmbeddedPostgres
from tests.contract.platform_rows import make_key
from tests.faults.proxy import Proxy
from tests.owkai.servers import SECRET, environment, serving, wait_for
from tests.postgres import Database
from tests.sync.running import running_sync

ROOT = Path(__file__).parents[2]
HARDENED = "import ctypes, os; from owkai.lifecycle import harden; harden(); "


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment() | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
    )  # fmt: skip


def test_sec_05_memory_reaches_neither_a_core_file_nor_another_process(tmp_path: Path) -> None:
    shown = python(HARDENED + "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))", tmp_path)
    assert shown.stdout.strip() == "0", shown.stderr
    ended = python(HARDENED + "os.abort()", tmp_path)
    assert ended.returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []
    assert "LimitCORE=0" in (ROOT / "config" / "owkai.service").read_text()


def test_sec_08_no_other_process_is_given_the_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path) as server:
        wait_for(lambda: server.get("/healthz")[0] == 200, "the server")
        process = psutil.Process(server.process.pid)
        assert process.children(recursive=True) == [], "there are no worker processes"
        assert SECRET not in " ".join(process.cmdline())
    monkeypatch.setenv("OWKAI_AUTH_JWT_SECRET", SECRET)
    given = EmbeddedPostgres(tmp_path / "postgres", tmp_path, "a password", {})._identity()["env"]
    assert SECRET not in given.values()
    assert not [name for name in given if name.startswith("OWKAI_")]


def test_sec_09_credential_columns_never_reach_cache_spill_or_log(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_key(database, 1, "user", "visible-mark@org1.example.com")
    database.execute("update users set password = 'CANARY-PASSWORD-9f2c'")
    for column in ("cognito_user_id", "mfa_secret", "totp_secret"):
        database.execute(f"alter table users add column if not exists {column} text")
        database.execute(f"update users set {column} = 'CANARY-{column}-9f2c'")
    database.execute("update api_keys set name = 'CANARY-NAME-9f2c'")
    database.execute(
        "insert into agent_actions (agent_id, action_type, organization_id, extra_data)"
        " values ('visible-agent', 'x', 1, '{\"secret\": \"CANARY-EXTRA-9f2c\"}')"
    )
    with running_sync(database, tmp_path) as sync:
        sync.streaming()
        database.execute("update users set password = 'CANARY-PASSWORD-again-9f2c'")
        sync.caught_up(database)
        for table in ("agent_actions", "users", "audit_logs", "api_keys"):
            with sync.cache.read() as snapshot:
                text = str(snapshot._connection.execute(f"select * from {table}").fetchall())
            assert "9f2c" not in text
    data = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert b"visible-agent" in data, "texts can be found in the file"
    assert b"9f2c" not in data
    assert "9f2c" not in caplog.text


SECRETS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\\?n?\s*[A-Za-z0-9+/=]{40}"),
    "an AWS key": re.compile(r"\bAKIA(?!TEST|IOSFODNN7EXAMPLE)[0-9A-Z]{16}\b"),
    "a session token": re.compile(r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{20,}"),
    "a token of a forge": re.compile(
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|glpat-[A-Za-z0-9_-]{20}|xox[bp]-[0-9A-Za-z-]{20,})"
    ),
    "a key of ours": re.compile(r"\bowkai_(?:user|admin)_[A-Za-z0-9_-]{43}\b"),
    "a password of another machine": re.compile(
        r"postgres(?:ql)?://[\w-]+:[^@\s*\"'{}<…]{8,}@(?!127\.|localhost|\[)[\w.-]+\.(?:com|net|org|io)\b"
    ),
}
FOLDERS = ("owkai", "handlers", "sync", "analytics", "config", "docs", "tests", ".ci")


def texts() -> Iterator[tuple[str, str]]:
    for path in (
        *ROOT.glob("*.*"),
        ROOT / "Makefile",
        *(file for name in FOLDERS for file in (ROOT / name).rglob("*")),
    ):
        if path.is_file() and "__pycache__" not in path.parts and path.stat().st_size < 2_000_000:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8", errors="replace")


def test_sec_11_the_tree_holds_no_secret() -> None:
    seen = dict(texts())
    assert "handlers/auth/tokens.py" in seen
    found = [f"{name}: {kind}" for name, text in seen.items() for kind, form in SECRETS.items() if form.search(text)]
    assert found == []


def test_sec_11_the_history_holds_no_secret() -> None:
    told = subprocess.run(
        ["git", "log", "-p", "--all", "--no-color", "--unified=0"],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    text = told.stdout.decode("utf-8", "replace")
    assert told.returncode or "def " in text
    assert [kind for kind, form in SECRETS.items() if form.search(text)] == []


def test_sec_11_the_scan_finds_what_it_looks_for() -> None:
    samples = (
        "-----BEGIN PRIVATE KEY-----\n" + "A" * 64, "AKIA" + "B7" * 8, "eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + "." + "c" * 30,
        "ghp_" + "d" * 36, "owkai_" + "admin_" + "e" * 43, "postgresql://me:" + "f" * 12 + "@db.corp.com/x",
    )  # fmt: skip
    for sample, form in zip(samples, SECRETS.values(), strict=True):
        assert form.search(sample), sample


# -- how it is run ---------------------------------------------------------------------------------------------------


def test_cfg_04_the_number_of_warnings_is_in_readiness_and_metrics(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0", AUDIT_ENABLED="false") as server:
        body = server.get("/readyz")[1]
        assert body["settings_warnings"] == 3
        assert body["audit"]["state"] == "off"


def test_cfg_08_root_is_warned_and_the_unit_file_gives_the_server_nothing_it_does_not_need(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        wait_for(lambda: server.port != 0, "the server")
        assert ("the server runs as root" in server.messages()) is (os.geteuid() == 0)
    unit = configparser.RawConfigParser(strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "config" / "owkai.service")
    service = dict(unit["Service"])
    wanted = {
        "User": "owkai", "CapabilityBoundingSet": "", "AmbientCapabilities": "", "NoNewPrivileges": "yes",
        "ProtectSystem": "strict", "PrivateTmp": "yes", "ProtectHome": "yes", "PrivateDevices": "yes",
        "RestrictNamespaces": "yes", "LimitCORE": "0", "UMask": "0077", "StateDirectoryMode": "0700",
        "RestartPreventExitStatus": "2 4", "ExecReload": "/bin/kill -HUP $MAINPID",
    }  # fmt: skip
    assert {name: service.get(name) for name in wanted} == wanted


def test_upg_06_sigterm_in_the_first_copy_ends_in_order(database: Database, tmp_path: Path) -> None:
    database.execute(
        "insert into agent_actions (agent_id, action_type, organization_id, description)"
        " select 'a' || n % 50, 'x', 1, repeat('text ', 40) from generate_series(1, 20000) n"
    )
    with Proxy(database.server.port) as proxy:
        proxy.delay(0.02)
        with serving(
            tmp_path, SOURCE_DSN=proxy.dsn(database.dsn), SOURCE_SLOT=f"owkai_{database.name}"[:63].lower()
        ) as server:
            wait_for(lambda: (server.get("/readyz")[1]["copy"] or {}).get("rows", 0) > 0, "the copy to be under way")
            assert server.get("/readyz")[0] == 503
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            assert [record for record in server.log if "trace" in record] == []
            assert "stopped, exit code 0" in server.messages()


def test_az_09_the_databases_sessions_are_counted_and_never_named(database: Database, tmp_path: Path) -> None:
    keys = {role: make_key(database, 1, role, f"{role}@org1.example.com") for role in ("user", "admin")}
    canary = database.connect(application_name="CANARY-APPLICATION")
    canary.execute("select 'CANARY-QUERY-TEXT', pg_sleep(0)")
    with serving(
        tmp_path, SOURCE_DSN=database.dsn, SOURCE_SLOT=f"owkai_{database.name}"[:63].lower(), SYNC_SAMPLE_SECONDS="0.2"
    ) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")

        def connections(role: str) -> dict[str, object]:
            found: dict[str, object] = server.get("/api/analytics/performance", {"X-API-Key": keys[role]})[1][
                "database_metrics"
            ]["connections"]
            return found

        for role in keys:
            wait_for(lambda: connections(role).get("total") is not None, "a sample")  # noqa: B023
            status, body = server.get("/api/analytics/performance", {"X-API-Key": keys[role]})
            assert status == 200
            assert "CANARY" not in str(body)
            assert database.name not in str(body)
            assert "owkai-analytics" not in str(body)
            assert all(isinstance(value, int | float | str) for value in connections(role).values())
        assert "CANARY" not in server.log_path.read_text()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert b"CANARY-QUERY-TEXT" not in b"".join(
        path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()
    )
