"""Fills one folder with everything that the target runs: interpreter, standard library, packages, our code, libraries, texts.

bin/owkai                   CPython that runs our command line (native/interpreter.c)
lib/*.so                    shared libraries of the build machine that the target may lack
lib/fallback/*.so           the compiler's run-time libraries, for targets without them
lib/python/                 the standard library, byte code only
packages/                   the locked packages
app/                        our own packages
share/                      licence, licences of all parts, bill of materials, sample settings, service unit
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from owkai.build import elf, file_selection
from owkai.build.libraries import Library, add_missing_libraries
from owkai.build.required_tools import shared_library
from owkai.build.shipped_packages import OUR_PACKAGES, OURS, imported_modules, module_files

NATIVE = Path(__file__).with_name("native")
CUT = frozenset({"scipy"})  # packages of which our imports load a small part
BUNDLE_FOLDERS = ("app", "bin", "lib/fallback", "lib/python/lib-dynload", "packages", "share/licences")
STRIP_FROM_BYTES = 64 * 1024


class BundleError(RuntimeError):
    """The folder cannot be made; the text states what is missing on this machine."""


def lay(root: Path, tree: Path, distributions: Iterable[metadata.Distribution]) -> list[Library]:
    """Fill the empty folder `tree` from the project at `root`; returns the machine's libraries that went in."""
    distributions = list(distributions)
    tree.mkdir()
    for folder in BUNDLE_FOLDERS:
        (tree / folder).mkdir(parents=True)
    sources = (
        _add_standard_library(tree) + _add_locked_packages(tree, distributions, root) + _add_our_packages(root, tree)
    )
    _compile(sources)
    _add_interpreter(tree)
    for path in sorted(tree.rglob("*")):
        if _is_program(path):
            _fix_search_paths(path)
            _strip(path)
    brought = add_missing_libraries(tree)
    for library in brought:
        if library.licence is not None:
            shutil.copyfile(library.licence, tree / "share" / "licences" / f"{library.package}.txt")
    _add_texts(root, tree)
    return brought


# -- Python --------------------------------------------------------------------------------------------------------

Source = tuple[Path, str, Path]


def _add_standard_library(tree: Path) -> list[Source]:
    stdlib, target = Path(sysconfig.get_path("stdlib")), tree / "lib" / "python"
    sources: list[Source] = []
    for path in sorted(stdlib.rglob("*")):
        inside = PurePosixPath(path.relative_to(stdlib).as_posix())
        if path.is_file() and file_selection.stdlib_is_kept(inside):
            if path.name.startswith("_sysconfigdata"):
                sources.append(
                    (_neutral_sysconfig(tree, path), f"lib/python/{inside}", (target / inside).with_suffix(".pyc"))
                )
            else:
                sources += _add_file(path, target / inside, f"lib/python/{inside}")
    return sources


def _neutral_sysconfig(tree: Path, path: Path) -> Path:
    """How the interpreter was built, without the folders it was built in, which mean nothing on the target."""
    text = path.read_text(encoding="utf-8").replace(sys.base_prefix, "/usr")
    copy = tree / "lib" / path.name
    copy.write_text(text, encoding="utf-8")
    return copy


def _add_licence_terms(root: Path, tree: Path, distribution: metadata.Distribution) -> None:
    """For a package that brings no text of its licence: the text where it is ours too, else its name."""
    folder = tree / "share" / "licences" / distribution.metadata["Name"]
    if folder.is_dir():
        return
    folder.mkdir()
    described: Any = distribution.metadata
    name = described.get("License-Expression") or described.get("License") or "not stated"
    if name == "Apache-2.0":
        shutil.copyfile(root / "LICENSE", folder / "LICENSE")
    else:
        (folder / "LICENSE").write_text(f"{name}, according to the package's metadata.\n", encoding="utf-8")


def _add_locked_packages(tree: Path, distributions: list[metadata.Distribution], root: Path) -> list[Source]:
    needed = _loaded_parts(root)
    sources: list[Source] = []
    for distribution in distributions:
        name = distribution.metadata["Name"]
        for inside, path in module_files(distribution):
            if inside.parts[0].endswith(".dist-info") and file_selection.is_licence(inside):
                licence = tree / "share" / "licences" / name / inside.name
                licence.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, licence)
            elif file_selection.package_is_kept(inside, CUT, needed):
                sources += _add_file(path, tree / "packages" / inside, f"packages/{inside}")
                if inside.as_posix() in file_selection.READ_AS_SOURCE:
                    shutil.copyfile(path, tree / "packages" / inside)
        _add_licence_terms(root, tree, distribution)
    return sources


def _loaded_parts(root: Path) -> set[str]:
    """Sub-packages of `CUT` that our imports load, found by loading them in a process of its own."""
    wanted = sorted(name for name in imported_modules(root) if name.partition(".")[0] in CUT)
    program = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    try:\n        importlib.import_module(name)\n"
        "    except ModuleNotFoundError:\n        getattr(importlib.import_module(name.rpartition('.')[0]), name.rpartition('.')[2])\n"
        "print(json.dumps(sorted({'.'.join(name.split('.')[:2]) for name in sys.modules})))"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, json.dumps(wanted)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BundleError(f"our imports of {', '.join(sorted(CUT))} cannot be loaded here:\n{done.stderr}")
    return set(json.loads(done.stdout))


def _add_our_packages(root: Path, tree: Path) -> list[Source]:
    sources: list[Source] = []
    for package in OUR_PACKAGES:
        for path in sorted((root / package).rglob("*")):
            inside = path.relative_to(root)
            if path.is_file() and "__pycache__" not in inside.parts and inside.parts[:2] != ("owkai", "build"):
                sources += _add_file(path, tree / "app" / inside, f"app/{inside}")
    described = metadata.distribution(OURS)
    folder = tree / "app" / f"owkai_analytics-{described.version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {OURS}\nVersion: {described.version}\n")
    return sources


def _add_file(path: Path, target: Path, name: str) -> list[Source]:
    """Copy a file; return a module instead, to be compiled later."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".py":
        return [(path, name, target.with_suffix(".pyc"))]
    shutil.copyfile(path, target)
    shutil.copymode(path, target)
    return []


def _compile(sources: list[Source]) -> None:
    lines = "".join(f"{source}\t{name}\t{target}\n" for source, name, target in sorted(sources, key=lambda one: one[1]))
    command = [sys.executable, "-s", "-P", "-S", str(Path(__file__).with_name("bytecode.py"))]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, input=lines, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise BundleError(f"a module does not compile:\n{done.stderr}")
    for source, _, _ in sources:
        if source.name.startswith("_sysconfigdata"):
            source.unlink()


# -- programs ------------------------------------------------------------------------------------------------------


def compile_c(sources: list[Path], target: Path, *options: str) -> None:
    """Build one of our C programs; raises BundleError with the compiler's output."""
    maps = [f"-ffile-prefix-map={NATIVE}=.", "-Wl,--build-id=none"]
    hardening = ["-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-Wl,-z,relro,-z,now"]
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-s", *maps, *hardening, "-o", str(target)]
    try:
        done = subprocess.run([*command, *map(str, sources), *options], capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError as error:
        raise BundleError("no C compiler: install gcc (Debian: gcc libc6-dev libzstd-dev)") from error
    if done.returncode:
        raise BundleError(
            f"{sources[0].name} cannot be compiled; installed must be gcc, libc6-dev, libzstd-dev:\n{done.stderr}"
        )


def _add_interpreter(tree: Path) -> None:
    compile_interpreter(tree, tree / "bin" / "owkai", lay_library=True)


def compile_interpreter(tree: Path, program: Path, *defines: str, lay_library: bool = False) -> None:
    """Build native/interpreter.c as `program`, which must lie in `tree`/bin to find its home."""
    library = shared_library()
    target = tree / "lib" / library.name
    if lay_library:
        shutil.copyfile(library, target)
    # DT_RPATH applies also to what the modules load, and precedes LD_LIBRARY_PATH.
    options = [
        f"-I{sysconfig.get_path('include')}",
        str(target),
        "-Wl,-rpath,$ORIGIN/../lib,--disable-new-dtags",
        "-ldl",
    ]
    compile_c([NATIVE / "interpreter.c"], program, *options, *defines)


def _is_program(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size > 4 and elf.is_elf(path)


def _fix_search_paths(path: Path) -> None:
    """Keep only search paths relative to the file; drop those of the build machine."""
    for tag, text in elf.read(path).paths.items():
        kept = [part for part in text.split(":") if part.startswith("$ORIGIN")]
        if ":".join(kept) != text:
            elf.replace_search_path(path, tag, ":".join(kept))


def _strip(path: Path) -> None:
    # Libraries that a wheel brought beside its modules were edited after linking, and are stripped already.
    if path.stat().st_size < STRIP_FROM_BYTES or any(part.endswith(".libs") for part in path.parts):
        return
    slim = path.with_name(path.name + ".slim")
    done = subprocess.run(["strip", "--strip-unneeded", "-o", str(slim), str(path)], capture_output=True, check=False)  # noqa: S603, S607
    if done.returncode == 0 and slim.stat().st_size < path.stat().st_size:
        slim.chmod(path.stat().st_mode)
        slim.replace(path)
    slim.unlink(missing_ok=True)


# -- texts and modes -----------------------------------------------------------------------------------------------


def _add_texts(root: Path, tree: Path) -> None:
    share = tree / "share"
    shutil.copyfile(root / "LICENSE", share / "LICENSE")
    for name in ("owkai.toml", "owkai.service"):
        shutil.copyfile(root / "config" / name, share / name)
    for name in ("LICENSE.txt", "LICENSE"):
        found = next(
            (
                place
                for place in (Path(sysconfig.get_path("stdlib")) / name, Path(sys.base_prefix) / name)
                if place.is_file()
            ),
            None,
        )
        if found is not None:
            shutil.copyfile(found, share / "licences" / "Python.txt")
            break


def set_modes(tree: Path) -> None:
    """Folders and programs 0755, everything else 0644, whatever the machine that built it used."""
    for path in sorted(tree.rglob("*")):
        if path.is_symlink():
            continue
        runs = path.is_dir() or (_is_program(path) and path.parent.name == "bin")
        path.chmod(0o755 if runs else 0o644)
