"""Start and size of the one file beside the environment's: `python -m tests.benchmarks.packed dist/owkai-…-linux-x86_64`.

Represents the restart of a service that was installed as one file, beside one from its own environment, on a small cache.

For each program, side by side in every round: seconds from the command to the first 200 of /healthz and of a data route,
with a kept cache of 60,000 actions, and the resident memory of the server ten seconds later. Of the one file also the first start, which
unpacks, and one whose unpacked files are not in memory. Processor seconds up to the first 200 stand beside the others, because they hold on
a busy machine too. `--also PATH` adds another packed program.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.benchmarks import represented
from tests.benchmarks.source import filled_source
from tests.owkai.servers import FROM_THE_ENVIRONMENT, serving, wait_for
from tests.postgres import Database
from tests.sync.running import slot_name

ROWS = 60_000
SETTLE_SECONDS = 10.0


class Start:
    """One start: `health` and `data` are seconds to the first 200 of each, `processor` seconds spent up to the first.

    `resident` is bytes.
    """

    def __init__(
        self, program: Sequence[str], folder: Path, database: Database, *, settle: bool, runtime: Path
    ) -> None:
        started = time.monotonic()
        variables = {"SOURCE_DSN": database.dsn, "SOURCE_SLOT": slot_name(database), "RUNTIME_DIR": str(runtime)}
        self.health = self.data = self.processor = 0.0
        with serving(folder, program=program, **variables) as server:
            wait_for(lambda: server.get("/healthz")[0] == 200, "health")
            self.health = time.monotonic() - started
            spent = psutil.Process(server.process.pid).cpu_times()
            self.processor = spent.user + spent.system
            wait_for(lambda: server.get("/readyz")[0] == 200, "data")
            self.data = time.monotonic() - started
            if settle:
                time.sleep(SETTLE_SECONDS)
            self.resident = psutil.Process(server.process.pid).memory_info().rss
            server.process.terminate()
            server.wait()


def forget(folder: Path) -> None:
    """Put the files of a folder out of memory, as after a boot."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def told(name: str, starts: list[Start]) -> str:
    def span(values: list[float], unit: str) -> str:
        return f"{statistics.median(values):6.2f} ({min(values):.2f}–{max(values):.2f}) {unit}"

    health, data = [one.health for one in starts], [one.data for one in starts]
    processor, resident = [one.processor for one in starts], [one.resident / 1e6 for one in starts]
    parts = {"health": (health, "s"), "data": (data, "s"), "processor": (processor, "s"), "memory": (resident, "MB")}
    return f"{name:42} " + "   ".join(f"{what} {span(values, unit)}" for what, (values, unit) in parts.items())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("binary", type=Path)
    options.add_argument("--also", type=Path, action="append", default=[])
    options.add_argument("--rounds", type=int, default=7)
    given = options.parse_args()
    represented.state(__doc__)
    packed = {str(path.name): (str(path.absolute()),) for path in [given.binary, *given.also]}
    programs: dict[str, Sequence[str]] = {"environment": FROM_THE_ENVIRONMENT, **packed}
    with filled_source(ROWS) as (database, folder):
        runtime = folder / "runtime"
        binary = packed[given.binary.name]
        first = []
        for _ in range(3):
            shutil.rmtree(runtime, ignore_errors=True)
            first.append(Start(binary, folder, database, settle=False, runtime=runtime))
        unread = []
        for _ in range(3):
            forget(runtime)
            unread.append(Start(binary, folder, database, settle=False, runtime=runtime))
        later: dict[str, list[Start]] = {name: [] for name in programs}
        for number in range(given.rounds):
            for name, program in programs.items():
                later[name].append(Start(program, folder, database, settle=number == 0, runtime=runtime))
        unpacked = sum(path.lstat().st_size for path in runtime.rglob("*") if path.is_file())
        site = Path(sys.prefix)
        environment = sum(path.lstat().st_size for path in site.rglob("*") if path.is_file())
        print(
            f"shipped {given.binary.stat().st_size / 1e6:.0f} MB, unpacked {unpacked / 1e6:.0f} MB; environment {environment / 1e6:.0f} MB"
        )
        print(told("first start, which unpacks", first))
        print(told("unpacked, not in memory", unread))
        for name, starts in later.items():
            print(told(f"{name}, later starts", starts))
        ours, theirs = later[given.binary.name], later["environment"]
        for what in ("health", "processor"):
            ratio = statistics.median(getattr(one, what) for one in ours) / statistics.median(
                getattr(one, what) for one in theirs
            )
            print(f"one file / environment, {what}: {ratio:.2f}")


if __name__ == "__main__":
    main()
