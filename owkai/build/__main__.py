"""`python -m owkai.build [--output dist]`: pack this checkout."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import click

from owkai.build import (
    archive,
    build_record,
    bundle_files,
    debian,
    import_check,
    libraries,
    manpage,
    required_tools,
    sbom,
)
from owkai.build.elf import ElfError
from owkai.build.shipped_packages import OURS, DistributionError, packages_to_ship

ROOT = Path(__file__).resolve().parents[2]
FAILURES = (
    DistributionError, bundle_files.BundleError, libraries.LibraryError, archive.ArchiveError, debian.DebianError, ElfError,
    required_tools.ToolError
)  # fmt: skip

PrintLine = Callable[[str], None]


@click.command()
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path("dist"), show_default=True)
@click.option("--demo/--no-demo", default=True, show_default=True, help="With the Postgres of `owkai demo`.")
@click.option("--debian/--no-debian", "package", default=True, show_default=True, help="With the Debian package.")
@click.option("--level", type=click.IntRange(1, 19), default=12, show_default=True, help="zstd level; 3 is quick.")
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), help="Build the folder here, and keep it.")
def main(output: Path, demo: bool, package: bool, level: int, work: Path | None) -> None:
    """Make the one executable file, the Debian package, the bill of materials and SHA256SUMS."""
    started = time.monotonic()

    def report(text: str) -> None:
        click.echo(f"{time.monotonic() - started:6.1f} s  {text}", err=True)

    try:
        with working_folder(work) as scratch:
            build(output, scratch, report, demo=demo, package=package, level=level)
    except FAILURES as error:
        click.echo(str(error), err=True)
        sys.exit(1)


@contextmanager
def working_folder(kept: Path | None) -> Iterator[Path]:
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="owkai-build-") as name:
            yield Path(name)
        return
    if kept.exists():
        shutil.rmtree(kept)
    kept.mkdir(parents=True)
    yield kept.absolute()


def build(output: Path, scratch: Path, report: PrintLine, *, demo: bool, package: bool, level: int) -> None:
    """Make everything in `output`; `scratch` is an empty folder. Raises one of FAILURES."""
    # Check for missing tools before copying, which takes long.
    required_tools.require(package=package)
    launcher = scratch / "launcher"
    bundle_files.compile_c([bundle_files.NATIVE / "launcher.c"], launcher, "-static", "-lzstd")
    output.mkdir(parents=True, exist_ok=True)
    when = build_record.build_time(ROOT, os.environ)
    distributions, left_out = packages_to_ship(ROOT, demo=demo)
    report(
        f"{len(distributions)} packages are as locked; none of our modules imports {', '.join(sorted(left_out)) or 'none'}"
    )

    folder = scratch / "tree"
    known = build_record.gather(ROOT, distributions, when)
    version = metadata.version(OURS)
    brought = bundle_files.lay(ROOT, folder, distributions)
    known["glibc"] = ".".join(map(str, libraries.glibc_floor(folder)))
    write_json(folder / "app" / "owkai" / "build.json", known)
    bill = sbom.bill(folder, known, distributions, brought)
    (folder / "share" / "sbom.cdx.json").write_text(bill, encoding="utf-8")
    bundle_files.set_modes(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    report(
        f"{size / 1e6:.0f} MB copied; needs glibc {known['glibc']}; from this machine: {', '.join(one.name for one in brought)}"
    )
    report(f"{import_check.run(folder)} modules can be imported")

    manifest, _ = archive.manifest_of(folder)
    name = f"owkai-{version}-linux-x86_64"
    made = [output / name, output / f"{name}.cdx.json"]
    unpacked = archive.write(
        launcher, folder, made[0], version=version, libc=f"GLIBC_{known['glibc']}", time=when, level=level
    )
    made[1].write_text(bill, encoding="utf-8")
    report(f"{made[0]}: {made[0].stat().st_size / 1e6:.1f} MB, unpacks to {unpacked}")
    if package:
        made.append(output / f"{debian.PACKAGE}_{version}_amd64.deb")
        (folder / "MANIFEST").write_text(manifest, encoding="utf-8")
        manual = manpage.page(version, str(known["date"])[:10])
        debian.write(
            ROOT, folder, scratch, made[-1], version=version, glibc=str(known["glibc"]), manual=manual, time=when, level=level
        )  # fmt: skip
        report(f"{made[-1]}: {made[-1].stat().st_size / 1e6:.1f} MB")
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(made))
    (output / "SHA256SUMS").write_text(sums, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
