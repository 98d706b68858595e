"""Private files: mode 0600 under any umask, no links, the old content or the new one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.private_files import create_private, ensure_private, open_private, write_private


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct, autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_written_file_is_private_and_leaves_no_other_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, "new: größer")
    assert (file.read_text(encoding="utf-8"), mode(file)) == ("new: größer", 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_a_planted_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    file = tmp_path / "CURRENT"
    for planted in (file, tmp_path / "CURRENT.new"):
        planted.symlink_to(victim)
    write_private(file, "cache-000002.duckdb")
    assert not file.is_symlink()
    assert file.read_text() == "cache-000002.duckdb"
    assert victim.read_text() == "untouched"
    victim.chmod(0o644)
    link = tmp_path / "link"
    link.symlink_to(victim)
    for attempt in (lambda: ensure_private(link), lambda: os.close(open_private(link, os.O_RDWR))):
        with pytest.raises(OSError, match="link"):
            attempt()
    assert mode(victim) == 0o644


def test_a_failed_write_keeps_the_old_content_and_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "folder"
    (file / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="folder") as raised:
        write_private(file, "text")
    assert raised.value.filename == str(file)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_private_file_is_created_once(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl.torn-1"
    create_private(file, b"torn")
    assert (file.read_bytes(), mode(file)) == (b"torn", 0o600)
    with pytest.raises(FileExistsError):
        create_private(file, b"another")
    assert file.read_bytes() == b"torn"


def test_an_existing_file_keeps_its_content_and_becomes_private(tmp_path: Path) -> None:
    file = tmp_path / "sessions.sqlite"
    file.write_text("rows")
    file.chmod(0o644)
    ensure_private(file)
    assert (file.read_text(), mode(file)) == ("rows", 0o600)
