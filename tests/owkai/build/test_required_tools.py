"""What this machine lacks for a build is said at once, all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from owkai.build.required_tools import ToolError, require

ROOT = Path(__file__).resolve().parents[3]


def test_all_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"missing: cc, strip, zstd; on Debian: apt-get install gcc binutils zstd$"):
        require(package=False)
    with pytest.raises(ToolError, match=r"zstd, dpkg-deb; .* gcc binutils zstd dpkg$"):
        require(package=True)


def test_a_build_that_cannot_end_does_not_begin(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "owkai.build", "--output", str(tmp_path / "dist")], cwd=ROOT, env={"PATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("missing: cc, "), "the first line: no step was taken before"
    assert not (tmp_path / "dist").exists()
