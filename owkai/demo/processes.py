"""Child processes that must not outlive this one, read from /proc where it exists."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def die_with_parent(order: signal.Signals) -> Callable[[], None] | None:
    """For `preexec_fn`: the kernel sends `order` to the child when the thread that made it ends. Only on Linux."""
    if sys.platform != "linux":
        return None
    # Looked up before the fork: the child of a process with threads must do as little as possible.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    number, parent = int(order), os.getpid()

    def arrange() -> None:
        prctl(SET_DEATH_SIGNAL, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def children(pid: int) -> list[int]:
    """Ids of the processes that `pid` started and that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether `pid` runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def send(pid: int, order: signal.Signals) -> None:
    """Signal a process that may be gone."""
    try:
        os.kill(pid, order)
    except ProcessLookupError:
        return


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether `condition` came true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
