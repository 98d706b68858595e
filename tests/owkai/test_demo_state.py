"""The demo's directory: never somebody else's, never two demos', and gone afterwards."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from config.load import load_settings
from config.private_files import write_private
from owkai.demo.run import run_demo, settings_text
from owkai.demo.state_directory import LOCK, OURS, POSTGRES, DemoError, StateDirectory
from owkai.exits import Exit


def test_directory_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(DemoError, match=r"is not empty \(thesis\.txt\)") as refused:
        StateDirectory.claim(tmp_path)
    assert refused.value.code == Exit.SETTINGS
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_second_demo_in_a_directory_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    with StateDirectory.claim(tmp_path / "demo"):
        with pytest.raises(DemoError, match="another demo runs in") as refused:
            StateDirectory.claim(tmp_path / "demo")
        assert refused.value.code == Exit.BUSY
    assert not (tmp_path / "demo").exists()


def test_release_removes_the_folders_that_were_made_and_no_others(tmp_path: Path) -> None:
    with StateDirectory.claim(tmp_path / "one" / "two") as directory:
        assert directory.path == tmp_path / "one" / "two"
        (directory.path / "cache").mkdir()
        write_private(directory.path / "owkai.toml", "mock_data = true\n")
    assert list(tmp_path.iterdir()) == []
    with StateDirectory.claim(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def test_release_keeps_what_others_put_beside_the_demo(tmp_path: Path) -> None:
    directory = StateDirectory.claim(tmp_path / "demo")
    (directory.path / "notes.txt").write_text("seen at noon")
    assert directory.release() == ["notes.txt"]
    assert directory.release() == []
    assert [entry.name for entry in (tmp_path / "demo").iterdir()] == ["notes.txt"]


def test_what_a_killed_demo_left_is_cleared_and_its_folder_goes_with_the_next(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    (home / POSTGRES / "data").mkdir(parents=True)
    (home / "cache").mkdir()
    for name in OURS - {POSTGRES, "cache", LOCK}:
        (home / name).write_text("left behind")
    (home / LOCK).write_text(json.dumps({"created": [str(home)]}))
    with StateDirectory.claim(home):
        assert [entry.name for entry in home.iterdir()] == [LOCK]
    assert not home.exists()


def test_broken_marker_of_a_killed_demo_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text('{"created": ')
    with StateDirectory.claim(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo").write_text("")
    assert run_demo(0, tmp_path / "demo") == Exit.SETTINGS
    assert "is a file; name a directory" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["/proc/demo", "/dev/full/demo"])
def test_a_directory_that_cannot_be_made_is_refused(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(0, Path(place)) == Exit.SETTINGS
    assert "name with --state a directory that this account may write" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_forbidden_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mode in (0o500, 0o300, 0o000):
        (tmp_path / "demo").mkdir(mode=mode)
        assert run_demo(0, tmp_path / "demo") == Exit.SETTINGS
        assert "name with --state a directory that this account may write" in capsys.readouterr().err
        (tmp_path / "demo").rmdir()


def test_private_file_is_never_seen_half_written_or_by_others(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        write_private(tmp_path / "demo.json", "{}")
    finally:
        os.umask(previous)
    assert (tmp_path / "demo.json").stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["demo.json"]


def test_jwt_07_every_demo_signs_with_a_secret_of_its_own(tmp_path: Path) -> None:
    secrets = set()
    for number in range(2):
        file = tmp_path / f"{number}.toml"
        write_private(file, settings_text("postgresql://owkai_sync:pw@127.0.0.1:5432/platform", 8480))
        settings = load_settings(file, {}, {}, serving=True).settings
        assert settings.mock_data
        assert settings.websocket.allowed_origins == ("http://127.0.0.1:8480", "http://localhost:8480")
        secrets.add(settings.auth.jwt_secret.get_secret_value())
    assert len(secrets) == 2
    assert min(map(len, secrets)) >= 32
