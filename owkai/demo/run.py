"""`owkai demo`: the real server on an invented platform; it leaves nothing behind.

The demo is only a source: Postgres with the platform's tables, their history and a thread that keeps writing. Sync,
cache and server are the ones of `owkai serve`, with a settings file like an operator's.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import FrameType

import psycopg

import owkai.app
from analytics.state.clock import utc_now
from config.load import load_settings
from config.private_files import write_private
from config.problems import SettingsError
from owkai.demo.activity import Activity
from owkai.demo.catalog import ORGANIZATIONS
from owkai.demo.credentials import DemoKey, issue_keys
from owkai.demo.history import DEFAULT_SEED, History, generate, load
from owkai.demo.platform import create_publication, create_sync_role, load_platform
from owkai.demo.postgres import EmbeddedPostgres, free_port
from owkai.demo.postgres_programs import PostgresError
from owkai.demo.state_directory import (
    CACHE,
    INDEX,
    POSTGRES,
    REMEDY,
    SETTINGS,
    DemoError,
    StateDirectory,
)
from owkai.exits import Exit
from sync.source.connections import server_text

HOST = "127.0.0.1"
DATABASE = "platform"
SYNC_ROLE = "owkai_sync"
PUBLICATION = "owkai"
POSTGRES_OPTIONS = {"max_slot_wal_keep_size": "2GB"}
READY_POLL_SECONDS = 0.4

PrintLine = Callable[[str], None]


class DemoStopped(Exception):
    """A signal arrived before the server installed its own handlers."""


class Interrupts:
    """Records SIGINT, SIGTERM and SIGHUP instead of ending the process, so that cleanup runs."""

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._remember)

    def check(self) -> None:
        """Raise DemoStopped after a signal."""
        if self.requested:
            raise DemoStopped

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def run_demo(
    port: int,
    state: Path | None,
    *,
    rate: float | None = None,
    seed: int = DEFAULT_SEED,
    print_line: PrintLine = lambda line: print(line, flush=True),
) -> int:
    """Run the demo until SIGINT or SIGTERM; returns the exit code (`owkai.exits.Exit`).

    `port` 0 takes a free one. `state` is the directory of everything the demo makes, a temporary one when None. `rate` is
    the number of changes a second, None as many as at the end of the history; `seed` decides the history. `print_line` receives the
    lines for the terminal.
    """
    interrupts = Interrupts()
    interrupts.listen()
    try:
        with StateDirectory.claim(state) as directory:
            return _run(directory.path, port, rate, seed, print_line, interrupts)
    except DemoStopped:
        return Exit.OK
    except DemoError as error:
        return _refuse(error.code, str(error))
    except PostgresError as error:
        return _refuse(Exit.SOURCE, str(error))
    except psycopg.Error as error:
        return _refuse(Exit.SOURCE, f"the demo's Postgres failed: {server_text(str(error))}")
    except OSError as error:
        return _refuse(Exit.FAILED, f"{error.filename or state or tempfile.gettempdir()}: {error.strerror}; {REMEDY}")
    except SettingsError as error:
        return _refuse(Exit.SETTINGS, str(error))


def _run(home: Path, port: int, rate: float | None, seed: int, print_line: PrintLine, interrupts: Interrupts) -> int:
    bound = _choose_port(port)
    print_line("Starting Postgres for the demo")
    with EmbeddedPostgres.start(home / POSTGRES, options=POSTGRES_OPTIONS) as postgres:
        interrupts.check()
        history, keys = _fill(postgres, seed, utc_now(), interrupts)
        print_line(
            f"Loaded 90 days of invented activity: {len(history.actions)} actions of {len(ORGANIZATIONS)} organizations"
        )
        password = secrets.token_hex(16)
        with psycopg.connect(postgres.dsn(DATABASE), autocommit=True) as owner:
            create_publication(owner, PUBLICATION)
            create_sync_role(owner, SYNC_ROLE, password)
        settings = home / SETTINGS
        write_private(settings, settings_text(postgres.dsn(DATABASE, SYNC_ROLE, password), bound))
        # No environment: a variable meant for another server must not lead the demo to a real source.
        loaded = load_settings(settings, {}, {}, serving=True)
        interrupts.check()
        activity = Activity(postgres.dsn(DATABASE), history.people, rate=rate, seed=seed, clock=utc_now)
        base_url = f"http://{HOST}:{bound}"
        index = {
            "base_url": base_url,
            "dsn": postgres.dsn(DATABASE),
            "config": str(settings),
            "organizations": {one.id: one.name for one in ORGANIZATIONS},
            "keys": [asdict(key) for key in keys],
        }

        def announce() -> None:
            write_private(home / INDEX, json.dumps(index, indent=2) + "\n")
            for line in welcome(base_url, home, keys):
                print_line(line)

        with _announce_when_ready(bound, announce) as watch:

            def listening(_: int) -> None:
                if interrupts.requested:
                    os.kill(os.getpid(), signal.SIGTERM)
                watch()

            activity.start()
            try:
                return owkai.app.run(loaded, on_ready=listening)
            finally:
                # The server has restored the handlers; the cleanup is short and must not be interrupted.
                interrupts.listen()
                activity.stop()


def _fill(
    postgres: EmbeddedPostgres, seed: int, now: datetime, interrupts: Interrupts
) -> tuple[History, list[DemoKey]]:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {DATABASE}".encode())
    history = generate(seed, now)
    interrupts.check()
    with psycopg.connect(postgres.dsn(DATABASE), autocommit=True) as owner:
        load_platform(owner)
        load(owner, history)
        keys = issue_keys(owner, history.people, now)
        owner.execute("analyze")
    interrupts.check()
    return history, keys


def _choose_port(port: int) -> int:
    """The port to use, known before the server binds it: the settings file names it as an allowed origin."""
    if port == 0:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise DemoError(
                f"{HOST}:{port}: {error.strerror}; choose another port with --port, 0 takes a free one", Exit.BUSY
            ) from error
    return port


def settings_text(dsn: str, port: int) -> str:
    """The settings file of a demo on `port` that reads `dsn`; the signing secret is fresh on every call."""
    origins = [f"http://{name}:{port}" for name in (HOST, "localhost")]
    return "\n".join(
        (
            "# Written by `owkai demo` for one run; the secret and the password end with it.",
            "mock_data = true",
            "",
            "[source]",
            f"dsn = {json.dumps(dsn)}",
            f"publication = {json.dumps(PUBLICATION)}",
            "manage_publication = false",
            "",
            "[cache]",
            f"directory = {json.dumps(CACHE)}",
            "",
            "[server]",
            f"host = {json.dumps(HOST)}",
            f"port = {port}",
            "",
            "[auth]",
            f"jwt_secret = {json.dumps(secrets.token_urlsafe(48))}",
            "",
            "[telemetry]",
            'source = "host"',
            "period_seconds = 5",
            "",
            "[websocket]",
            f"allowed_origins = {json.dumps(origins)}",
            "",
        )
    )


def welcome(base_url: str, home: Path, keys: Sequence[DemoKey]) -> list[str]:
    """What the terminal shows when the demo is ready."""
    api = f"{base_url}/api/analytics"
    admin = next(key for key in keys if key.role == "admin")
    names = {organization.id: organization.name for organization in ORGANIZATIONS}
    lines = [
        "",
        f"The demo is ready at {base_url}",
        "All data is invented; every response has mock_data: true.",
        "",
        "Keys:",
    ]
    for key in keys:
        name = names.get(key.organization_id, "")
        lines.append(f"  {key.organization_id} {name:<22}  {key.role:<5}  {key.email:<44}  {key.key}")
    lines += [
        "",
        f"Dashboard: {base_url}/",
        f"  sign in with a key from above; an admin's shows the executive view, e.g. {admin.key}",
        "",
        "Try:",
    ]
    for path in ("trends", "realtime/metrics", "performance"):
        lines.append(f"  curl -H 'X-API-Key: {admin.key}' {api}/{path}")
    lines += [
        f"  curl {base_url}/readyz",
        "",
        f"Live updates: ws://{base_url.removeprefix('http://')}/api/analytics/ws/realtime/{admin.email}",
        f"Settings, for other commands: --config {home / SETTINGS}",
        f"For scripts: {home / INDEX}",
        "Ctrl-C stops the demo and removes all of it.",
    ]
    return lines


@contextlib.contextmanager
def _announce_when_ready(port: int, announce: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Gives a function that starts watching /readyz in a thread; `announce` is called when the first copy is served."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if is_ready(port):
                announce()
                return
            over.wait(READY_POLL_SECONDS)

    thread = threading.Thread(target=watch, name="demo-ready", daemon=True)
    try:
        yield thread.start
    finally:
        over.set()
        if thread.is_alive():
            thread.join(5)


def is_ready(port: int) -> bool:
    """Whether the server on `port` of this machine serves data that is not behind."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _refuse(code: Exit, reason: str) -> int:
    print(f"owkai demo: {reason}", file=sys.stderr)
    return code
