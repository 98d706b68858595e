"""The Debian package's scripts, run on a root of their own: what a removal and a purge delete, keep and tell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from owkai.build.debian import SCRIPTS

REBUILT = (
    "cache-000007.duckdb", "cache-000007.duckdb.wal", "unusable.duckdb", "CURRENT", "lock", "keys.json.lock", "spill/part",
)  # fmt: skip
KEPT = ("keys.json", "audit.jsonl", "audit.jsonl.1", "forecasts.sqlite")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("etc/owkai", "var/lib/owkai/spill", "var/cache/owkai/runtime"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def postrm(root: Path, action: str) -> str:
    done = subprocess.run(
        ["sh", str(SCRIPTS / "postrm"), action], env={"PATH": os.environ["PATH"], "DPKG_ROOT": str(root)}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / "var/lib/owkai" / name).write_text(name)


def test_a_purge_keeps_and_names_what_cannot_be_made_again(root: Path) -> None:
    fill(root, *REBUILT, *KEPT)
    (root / "etc/owkai/db.password").write_text("secret")
    told = postrm(root, "purge")
    assert sorted(path.name for path in (root / "var/lib/owkai").iterdir()) == sorted(KEPT)
    assert not (root / "var/cache/owkai").exists()
    for name in (*KEPT, "db.password"):
        assert f"/{name}\n" in told
    assert f"rm -r {root}/var/lib/owkai {root}/etc/owkai" in told
    assert "secret" not in told


def test_a_purge_of_what_can_be_copied_again_leaves_no_folder(root: Path) -> None:
    fill(root, *REBUILT)
    told = postrm(root, "purge")
    assert list(root.rglob("*owkai*")) == []
    assert "kept" not in told
    assert "userdel owkai" in told
    assert postrm(root, "purge") == told, "a second purge finds nothing and fails on nothing"


@pytest.mark.parametrize(
    ("settings", "slot"),
    [
        ('[source]\ndsn = "postgresql://db.internal/platform"\n', "owkai"),
        ('[source]\n  dsn="postgresql://db.internal/platform"\n slot = "owkai_two" # ours\n', "owkai_two"),
        ((SCRIPTS / "owkai.toml").read_text(encoding="utf-8"), None),
        (None, None),
    ],
)
def test_a_removal_names_the_slot_that_retains_wal_where_there_can_be_one(
    root: Path, settings: str | None, slot: str | None
) -> None:
    if settings is not None:
        (root / "etc/owkai/owkai.toml").write_text(settings)
    fill(root, *REBUILT, *KEPT)
    told = postrm(root, "remove")
    if slot is None:
        assert told == ""
    else:
        assert f"SELECT pg_drop_replication_slot('{slot}');" in told
        assert "`owkai sync drop`" in told
    assert sorted(path.name for path in (root / "var/lib/owkai").iterdir()) == sorted(
        {*KEPT, *(name.partition("/")[0] for name in REBUILT)}
    )
    assert postrm(root, "upgrade") == ""
