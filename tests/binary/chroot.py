"""A bare Debian in a folder: nothing but what debootstrap's smallest variant has, and /proc."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
ACCOUNT = "ada"
HOME = f"/home/{ACCOUNT}"
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": HOME, "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Chroot:
    """Commands run inside as `user`; paths that begin with / are inside too."""

    path: Path

    def inside(self, path: str) -> Path:
        """Where a path of the inside lies."""
        return self.path / path.lstrip("/")

    def command(self, *command: str, user: str = ACCOUNT, env: Mapping[str, str] = ENVIRONMENT) -> list[str]:
        """What runs `command` inside, as words for a process of the outside; it keeps its process id."""
        assignments = [f"{name}={value}" for name, value in env.items()]
        return ["chroot", f"--userspec={user}:{user}", str(self.path), "env", "-i", *assignments, *command]

    def run(
        self, *command: str, user: str = ACCOUNT, env: Mapping[str, str] = ENVIRONMENT
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*command, user=user, env=env), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=100, cwd="/",
        )  # fmt: skip

    @contextmanager
    def mounted(self, path: str, *options: str, kind: str = "tmpfs") -> Iterator[None]:
        """A file system at `path` for a while."""
        self.inside(path).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", kind, *options, kind, str(self.inside(path))], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(self.inside(path))], check=True)


def prepare(base: Path) -> None:
    """Fill `base` from Debian's packages, unless it was filled before."""
    if (base / "complete").exists():
        return
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    call(["debootstrap", "--variant=minbase", SUITE, str(base / "root")])
    call(["chroot", str(base / "root"), "useradd", "--create-home", ACCOUNT])
    (base / "complete").touch()


@contextmanager
def copied(base: Path, target: Path) -> Iterator[Chroot]:
    """A copy of its own, with /proc."""
    call(["cp", "-a", "--reflink=auto", str(base / "root"), str(target)])
    # What it says belongs to this machine; the copy gets names and addresses from here.
    for name in ("hosts", "resolv.conf"):
        shutil.copyfile(Path("/etc") / name, target / "etc" / name)
    chroot = Chroot(target)
    with chroot.mounted("/proc", kind="proc"):
        yield chroot


def call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
