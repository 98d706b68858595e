"""The one file taken apart, and put together again as another version."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from owkai.build import archive


@dataclass(frozen=True)
class Bundle:
    """One packed program. `folder_name` is what it unpacks to, `launcher_bytes` where its compressed part begins."""

    path: Path

    @cached_property
    def trailer(self) -> tuple[int, int, int, int, int, bytes, bytes, bytes, bytes]:
        with self.path.open("rb") as file:
            file.seek(-archive.TRAILER.size, 2)
            found: tuple[int, int, int, int, int, bytes, bytes, bytes, bytes] = archive.TRAILER.unpack(file.read())
            return found

    @property
    def launcher_bytes(self) -> int:
        return self.trailer[0]

    @property
    def payload_bytes(self) -> int:
        return self.trailer[1]

    @property
    def folder_name(self) -> str:
        return self.trailer[6].rstrip(b"\0").decode()

    @property
    def libc(self) -> str:
        return self.trailer[7].rstrip(b"\0").decode()

    @property
    def version(self) -> str:
        return self.folder_name.rpartition("-")[0]

    def unpack(self, runtime: Path) -> Path:
        """Unpacked below `runtime`, by itself."""
        environment = {"OWKAI_RUNTIME_DIR": str(runtime)}
        subprocess.run([self.path, "version"], env=environment, check=True, capture_output=True)
        return runtime / self.folder_name

    def as_version(self, version: str, tree: Path, target: Path) -> Bundle:
        """The same program under another version, from its unpacked `tree`, which is changed."""
        rename_version(tree, version)
        launcher = target.with_suffix(".launcher")
        with self.path.open("rb") as file:
            launcher.write_bytes(file.read(self.launcher_bytes))
        archive.write(launcher, tree, target, version=version, libc=self.libc, time=self.trailer[4], level=1)
        launcher.unlink()
        return Bundle(target)


def rename_version(tree: Path, version: str) -> None:
    (tree / "MANIFEST").unlink(missing_ok=True)
    record = tree / "app" / "owkai" / "build.json"
    facts = json.loads(record.read_text(encoding="utf-8"))
    (old,) = (tree / "app").glob("owkai_analytics-*.dist-info")
    described = (old / "METADATA").read_text(encoding="utf-8").replace(facts["version"], version)
    shutil.rmtree(old)
    new = old.with_name(f"owkai_analytics-{version}.dist-info")
    new.mkdir()
    (new / "METADATA").write_text(described, encoding="utf-8")
    record.write_text(json.dumps({**facts, "version": version}), encoding="utf-8")
