"""A real `owkai serve` process for the tests of this room."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FROM_THE_ENVIRONMENT = (sys.executable, "-m", "owkai")
SECRET = "3f9a1c77d0b24e6f8a5b90c1d2e3f40516273849"
NOBODY_LISTENS = "postgresql://owkai@127.0.0.1:1/platform"
PATIENCE_SECONDS = 60.0  # only a test that fails waits this long


def environment(**variables: str) -> dict[str, str]:
    """A small environment: what a service unit gives, this run's time zone, and OWKAI_ variables."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
    return {**kept, **{f"OWKAI_{name}": value for name, value in variables.items()}}


def owkai(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "owkai", *arguments],
        cwd=cwd, env=env if env is not None else environment(), capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def wait_for(condition: Callable[[], bool], what: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + patience_seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_seconds:g} s for {what}"
        time.sleep(0.02)


class Server:
    """A running server; `log` are its records so far."""

    def __init__(
        self, process: subprocess.Popen[bytes], log_path: Path, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.process = process
        self.log_path = log_path
        wait_for(
            lambda: self.process.poll() is not None or self.port != 0, "the server to listen", patience_seconds
        )  # fmt: skip

    @property
    def log(self) -> list[dict[str, Any]]:
        lines = self.log_path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n") and line.startswith("{")]

    @property
    def port(self) -> int:
        return next((record["port"] for record in self.log if "port" in record), 0)

    def messages(self) -> str:
        return "\n".join(record["message"] for record in self.log)

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(timeout=PATIENCE_SECONDS)


@contextmanager
def serving(
    folder: Path, *arguments: str, program: Sequence[str] = FROM_THE_ENVIRONMENT, **variables: str | None
) -> Iterator[Server]:
    """`owkai serve` on a free port with its working folder and cache in `folder`; killed at the end if it still runs.

    `program` is what stands for `owkai`. A variable of None is not set, for what a settings file says.
    """
    given = {
        "SOURCE_DSN": NOBODY_LISTENS,
        "AUTH_JWT_SECRET": SECRET,
        "SERVER_PORT": "0",
        "CACHE_DIRECTORY": str(folder / "cache"),
        "SERVER_DRAIN_SECONDS": "5",
        "SYNC_BACKOFF_MAX_SECONDS": "0.5",
        **variables,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    log_path = folder / f"server-{time.monotonic_ns()}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*program, "serve", *arguments],
            cwd=folder, env=environment(**settings), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield Server(process, log_path)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
