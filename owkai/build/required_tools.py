"""Checks that this machine has the tools of the build, before any long step."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

PROGRAMS = {"cc": "gcc", "strip": "binutils", "zstd": "zstd"}  # with the Debian package each is in
PACKER = {"dpkg-deb": "dpkg"}


class ToolError(RuntimeError):
    """This machine cannot build; the text lists everything that is missing."""


def require(*, package: bool) -> None:
    """Raises ToolError for programs that are missing and for an interpreter that cannot be packed."""
    wanted = {**PROGRAMS, **(PACKER if package else {})}
    absent = [name for name in wanted if shutil.which(name) is None]
    if absent:
        packages = " ".join(dict.fromkeys(wanted[name] for name in absent))
        raise ToolError(f"missing: {', '.join(absent)}; on Debian: apt-get install {packages}")
    shared_library()


def shared_library() -> Path:
    """libpython of the interpreter that runs the build. Raises ToolError where it was built without one."""
    configuration = sysconfig.get_config_vars()
    library = Path(configuration["LIBDIR"]) / configuration["INSTSONAME"]
    if not configuration.get("Py_ENABLE_SHARED") or not library.is_file():
        raise ToolError(
            "this Python has no shared library (libpython); build with one that was configured --enable-shared"
        )
    return Path(library)
