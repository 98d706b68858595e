"""When files are read again: after any change of content, permission or owner, and after a failure."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from config.watched_files import LONGEST_RETRY_SECONDS, WatchedFiles

Change = Callable[[Path], object]


class Steps:
    """A clock that is set forward by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Watch:
    """A watched file that has been read and is settled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Steps()
        self.files = WatchedFiles(lambda: (path,), clock=self.clock)
        self.read()
        assert self.due(), "a new state is read a second time"
        self.read()
        assert not self.due()

    def due(self, seconds: float = 1.0) -> bool:
        self.clock.now += seconds
        return self.files.due

    def read(self) -> None:
        with self.files.reading():
            self.path.read_bytes()

    def fail(self, text: str = "unusable") -> bool:
        """Whether the failure is news."""
        with pytest.raises(ValueError, match=text), self.files.reading():
            raise ValueError(text)
        return self.files.is_new_failure(ValueError(text))


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    path = tmp_path / "secret"
    path.write_text("before")
    return Watch(path)


def rewritten_with_the_same_size_and_time(path: Path) -> None:
    found = path.stat()
    path.write_text("beyond")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("before")
    other.replace(path)


def linked_elsewhere(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("before")
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("after it all"), lambda path: path.chmod(0o640), lambda path: path.unlink(),
        rewritten_with_the_same_size_and_time, replaced, linked_elsewhere,
    ],
    ids=["content", "mode", "gone", "same size and time", "replaced", "linked elsewhere"],
)  # fmt: skip
def test_any_change_makes_a_file_due(watch: Watch, change: Change) -> None:
    change(watch.path)
    assert watch.due()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_new_owner_makes_a_file_due(watch: Watch) -> None:
    os.chown(watch.path, 65534, -1)
    assert watch.due()


def test_it_looks_at_most_once_a_second(watch: Watch) -> None:
    watch.path.write_text("other content")
    assert watch.due()
    assert not watch.due(0.5)
    assert watch.due(0.5), "nobody has read it yet"
    watch.read()
    assert not watch.due(0.5)
    watch.files.look_at_once()
    watch.path.write_text("yet other content")
    assert watch.due(0)


def test_a_failure_is_tried_again_although_nothing_changes_and_is_news_once(watch: Watch) -> None:
    watch.path.write_text("broken")
    assert watch.due()
    assert watch.fail()
    assert watch.due(2)
    assert not watch.fail()
    assert watch.due(LONGEST_RETRY_SECONDS)
    assert watch.fail("unusable in another way")
    assert watch.due(LONGEST_RETRY_SECONDS)
    watch.read()
    watch.due()
    watch.read()
    assert not watch.due(LONGEST_RETRY_SECONDS)
    watch.path.write_text("broken")
    assert watch.due()
    assert watch.fail("unusable in another way"), "after a success the same failure is news again"


def test_a_failure_that_lasts_is_tried_less_and_less_often_until_the_file_changes(watch: Watch) -> None:
    watch.path.write_text("broken")
    attempts = 0
    for _ in range(300):
        if watch.due():
            watch.fail()
            attempts += 1
    assert 300 / LONGEST_RETRY_SECONDS <= attempts <= 40
    watch.path.chmod(0o600)
    assert watch.due()


def test_what_is_written_while_it_is_read_is_due_again(watch: Watch) -> None:
    with watch.files.reading():
        watch.path.read_bytes()
        watch.path.write_text("written meanwhile")
    assert watch.due()
    watch.read()


def test_the_paths_are_those_in_force_now(tmp_path: Path) -> None:
    paths = [tmp_path / "first"]
    clock = Steps()
    files = WatchedFiles(lambda: tuple(paths), clock=clock)
    for _ in range(2):
        with files.reading():
            pass
    clock.now += 1
    assert not files.due
    (tmp_path / "second").write_text("x")
    paths.append(tmp_path / "second")
    clock.now += 1
    assert files.due
