"""Run pytest as if it were another moment (UTC), in a time zone of the machine; needs Linux and a C compiler.

The clock is moved by a constant for pytest and everything that it starts, Postgres included, so all of them agree.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

SOURCE = Path(__file__).with_name("shift.c")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("moment", help='UTC, e.g. "2028-02-29 00:05"')
    parser.add_argument("zone", help="e.g. Asia/Kolkata")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of pytest")
    given = parser.parse_args()
    moment = datetime.fromisoformat(given.moment).replace(tzinfo=UTC)
    with tempfile.TemporaryDirectory(prefix="owkai-clock-") as folder:
        Path(folder).chmod(0o755)  # as root, Postgres runs as another account
        library = Path(folder) / "shift.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
        environment = {
            **os.environ,
            "TZ": given.zone,
            "LD_PRELOAD": str(library),
            "PYTHONPYCACHEPREFIX": str(Path(folder) / "bytecode"),
            "SHIFT_SECONDS": str(round(moment.timestamp() - time.time())),
        }
        return subprocess.run(
            [sys.executable, "-m", "pytest", *given.arguments], env=environment, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
