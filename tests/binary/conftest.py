"""What `make binary` made, a bare Debian to run it in, and a Postgres outside of that."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.binary import chroot as bare
from tests.binary.bundles import Bundle
from tests.binary.chroot import Chroot

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.binary)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def dist() -> Path:
    """The folder with what was built."""
    folder = Path(os.environ.get("OWKAI_TEST_DIST", ROOT / "dist"))
    assert (folder / "SHA256SUMS").is_file(), f"nothing was built in {folder}: run `make binary` first"
    return folder


@pytest.fixture(scope="session")
def bundle(dist: Path) -> Bundle:
    (found,) = dist.glob("owkai-*-linux-x86_64")
    return Bundle(found)


@pytest.fixture(scope="session")
def package(dist: Path) -> Path:
    (found,) = dist.glob("owkai-analytics_*_amd64.deb")
    return found


@pytest.fixture(scope="session")
def debian() -> Path:
    """A bare Debian, kept for the next run, as making it takes minutes."""
    assert os.geteuid() == 0, "a chroot can only be entered by root: run `make test-binary` as root"
    base = Path(os.environ.get("OWKAI_TEST_CHROOT", ROOT / "build" / "bookworm"))
    bare.prepare(base)
    return base


@pytest.fixture
def chroot(debian: Path) -> Iterator[Chroot]:
    """A fresh copy of it."""
    # Not below pytest's own folder, which other accounts may not enter.
    folder = Path(tempfile.mkdtemp(prefix="owkai-chroot-"))
    folder.chmod(0o755)
    try:
        with bare.copied(debian, folder / "root") as made:
            yield made
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def installed(chroot: Chroot, bundle: Bundle) -> Chroot:
    """With the one file as /usr/local/bin/owkai."""
    shutil.copy(bundle.path, chroot.inside("/usr/local/bin/owkai"))
    return chroot
