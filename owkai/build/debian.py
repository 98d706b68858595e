"""The Debian package: the unpacked bundle owned by root, unit, settings, manual page. Made without root by dpkg-deb.

It holds the unpacked bundle, not the single file, so that the first start is as fast as the others, the service cannot change its
own code, and dpkg knows every file.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

PACKAGE = "owkai-analytics"
SCRIPTS = Path(__file__).with_name("debian")
HOME = "usr/lib/owkai"
SETTINGS = "etc/owkai/owkai.toml"


class DebianError(RuntimeError):
    """The package cannot be made; the text states why."""


def control(version: str, glibc: str, installed_kilobytes: int) -> str:
    return (
        f"Package: {PACKAGE}\nVersion: {version}\nArchitecture: amd64\nMaintainer: The OW-kai Analytics developers\n"
        f"Installed-Size: {installed_kilobytes}\nSection: database\nPriority: optional\n"
        f"Depends: libc6 (>= {glibc}), passwd\nRecommends: libstdc++6, libgcc-s1, tzdata\n"
        "Description: analytics server for the governance of AI agents\n"
        " Copies the platform's tables out of Postgres, follows every change by logical\n"
        " replication, and serves dashboards over REST and WebSocket from its own cache.\n"
    )


def write(
    root: Path, tree: Path, scratch: Path, target: Path, *, version: str, glibc: str, manual: str, time: int, level: int
) -> None:
    """Write the package file `target` from the bundle in `tree`, which is moved into the package's folder."""
    if shutil.which("dpkg-deb") is None:
        raise DebianError("the program dpkg-deb is missing; install dpkg, or leave the package out with --no-debian")
    stage = scratch / "debian"
    home = stage / HOME
    home.parent.mkdir(parents=True)
    shutil.copytree(tree, home, symlinks=True)
    for folder in (
        "DEBIAN",
        "usr/bin",
        "usr/lib/systemd/system",
        "usr/share/man/man1",
        f"usr/share/doc/{PACKAGE}",
        "etc/owkai",
    ):
        (stage / folder).mkdir(parents=True)
    (stage / "usr/bin/owkai").symlink_to("../lib/owkai/bin/owkai")
    shutil.copyfile(root / "config" / "owkai.service", stage / "usr/lib/systemd/system/owkai.service")
    # Short, so that a release seldom changes it: dpkg asks about a changed file that the operator edited.
    shutil.copyfile(SCRIPTS / "owkai.toml", stage / SETTINGS)
    documents = stage / "usr/share/doc" / PACKAGE
    _compressed(manual.encode(), stage / "usr/share/man/man1/owkai.1.gz")
    _compressed((root / "CHANGELOG.md").read_bytes(), documents / "changelog.gz")
    shutil.copyfile(SCRIPTS / "copyright", documents / "copyright")
    shutil.copyfile(root / "config" / "owkai.toml", documents / "owkai.toml.sample")
    _write_records(stage, version, glibc)
    _set_times(stage, time)
    _pack(stage, target, time, level)


def _write_records(stage: Path, version: str, glibc: str) -> None:
    records = stage / "DEBIAN"
    files = [
        path
        for path in sorted(stage.rglob("*"))
        if path.is_file() and not path.is_symlink() and records not in path.parents
    ]
    kilobytes = sum((path.stat().st_size + 1023) // 1024 for path in files)
    (records / "control").write_text(control(version, glibc, kilobytes), encoding="utf-8")
    (records / "conffiles").write_text(f"/{SETTINGS}\n", encoding="utf-8")
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(stage)}\n" for path in files]  # noqa: S324
    (records / "md5sums").write_text("".join(sums), encoding="utf-8")
    for name in ("postinst", "prerm", "postrm"):
        shutil.copyfile(SCRIPTS / name, records / name)
        (records / name).chmod(0o755)
    for path in (records / name for name in ("control", "conffiles", "md5sums")):
        path.chmod(0o644)


def _compressed(data: bytes, target: Path) -> None:
    target.write_bytes(gzip.compress(data, 9, mtime=0))


def _set_times(stage: Path, time: int) -> None:
    stage.chmod(0o755)
    for path in [stage, *stage.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    for path in stage.rglob("*"):
        os.utime(path, (time, time), follow_symlinks=False)


def _pack(stage: Path, target: Path, time: int, level: int) -> None:
    command = [
        "dpkg-deb",
        "--root-owner-group",
        "-Zzstd",
        f"-z{level}",
        "--threads-max=1",
        "--build",
        str(stage),
        str(target),
    ]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(time)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise DebianError(f"dpkg-deb failed: {done.stderr.strip()}")
