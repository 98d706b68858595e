"""The facts that a build records about itself (`owkai version`), all derived from the commit and the build machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from config.utc_text import utc_text
from owkai.build.shipped_packages import OURS, canonical
from owkai.commands.build_facts import KEY_PACKAGES


def build_time(root: Path, environment: Mapping[str, str]) -> int:
    """Seconds since 1970: SOURCE_DATE_EPOCH where it is given, else the time of the commit."""
    given = environment.get("SOURCE_DATE_EPOCH") or _git(root, "log", "-1", "--format=%ct")
    return int(given or 0)


def commit(root: Path) -> str:
    """The commit, with -dirty where tracked files differ from it; empty outside a repository."""
    found = _git(root, "rev-parse", "HEAD")
    return found + "-dirty" if found and _git(root, "status", "--porcelain", "--untracked-files=no") else found


def gather(root: Path, distributions: Iterable[metadata.Distribution], time: int) -> dict[str, object]:
    """For app/owkai/build.json; `glibc` is added when the folder is complete."""
    versions = {canonical(one.metadata["Name"]): one.version for one in distributions}
    return {
        "version": metadata.version(OURS),
        "commit": commit(root),
        "date": utc_text(datetime.fromtimestamp(time, UTC)),
        "python": ".".join(map(str, sys.version_info[:3])),
        "packages": {name: versions[name] for name in KEY_PACKAGES if name in versions},
    }


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def environment() -> Mapping[str, str]:
    return os.environ
