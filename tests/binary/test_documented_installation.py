"""The commands that docs/tasks/install.md and docs/tasks/back-up-and-upgrade.md give for a target machine, run in a bare Debian.

Two stand-ins: apt-get, which has no repositories there, installs the named file by dpkg as it would itself; systemctl, as nothing there
is the first process of a system, says yes (test_debian_package.py starts the unit's command by hand).
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.binary.chroot import ENVIRONMENT, HOME, Chroot
from tests.contract.platform_rows import fill
from tests.documents import Block, shell
from tests.postgres import Database

INSTALL_PAGE = "docs/tasks/install.md"  # its commands come first: an upgrade needs an installation
AS_ROOT = {**ENVIRONMENT, "HOME": "/root"}
STAND_INS = {
    "apt-get": '#!/bin/sh\nset -e\n[ "$1" = install ]\nexec dpkg --install "$2"\n',
    "systemctl": "#!/bin/sh\nexit 0\n",
}
# Packages and targets that a builder needs; what they make is what this folder tests.
BUILDERS = {
    "apt-get install gcc libc6-dev libzstd-dev zstd dpkg-dev": ("/usr/bin/gcc", "/usr/bin/zstd", "/usr/bin/dpkg-deb"),
    "make binary": ("dist",),
    "make test-binary": ("tests/binary",),
}


@pytest.fixture
def target(chroot: Chroot, dist: Path) -> Chroot:
    """With what was built in /root, and the stand-ins."""
    for path in dist.iterdir():
        if path.is_file():
            shutil.copy(path, chroot.inside("/root"))
    for name, text in STAND_INS.items():
        place = chroot.inside(f"/usr/local/bin/{name}")
        place.write_text(text)
        place.chmod(0o755)
    return chroot


def run(chroot: Chroot, block: Block, replacements: dict[str, str]) -> None:
    text = block.text
    for old, new in replacements.items():
        text = text.replace(old, new)
    version = next(chroot.inside("/root").glob("owkai-*-linux-x86_64")).name.split("-")[1]
    text = "cd /root\n" + re.sub(r"(owkai-|analytics_)0\.1\.0", rf"\g<1>{version}", text)
    done = chroot.run("sh", "-eu", "-c", text, user="root", env=AS_ROOT)
    assert done.returncode == 0, f"{block.name}\n{text}\n{done.stdout}{done.stderr}"


def test_the_documented_commands_lead_to_a_service_that_can_run(target: Chroot, database: Database) -> None:
    fill(database)
    dsn, password = re.sub(r"(//[^:]+):[^@]+@", r"\1@", database.dsn), re.findall(r"//[^:]+:([^@]+)@", database.dsn)[0]
    replacements = {"postgresql://owkai@db.internal/platform": dsn, "password of the role": password}
    blocks = sorted(
        [*shell("target"), *shell("systemd")],
        key=lambda block: (block.document != INSTALL_PAGE, block.document, block.line),
    )
    assert len(blocks) >= 6
    for block in blocks:
        run(target, block, replacements)
    # The package's: the one file that the last of the blocks installed comes before it on the search path.
    checked = "runuser -u owkai -- /usr/bin/owkai check --config /etc/owkai/owkai.toml"
    told = target.run("sh", "-c", checked, user="root", env=AS_ROOT)
    assert "The server can run" in told.stdout
    assert target.inside("/opt/owkai").is_dir()
    assert not target.inside(f"{HOME}/.cache").exists()


def test_what_a_builder_is_told_to_install_and_run_is_there() -> None:
    (block,) = shell("builder")
    lines = block.text.splitlines()
    assert set(lines) == set(BUILDERS)
    root = Path(__file__).resolve().parents[2]
    assert [
        place for line in lines for place in BUILDERS[line] if not (root / place).exists() and place != "dist"
    ] == []
    assert Path("/usr/include/zstd.h").exists()
