"""Operator commands to the running server: a Unix socket in the cache directory, only for the account of the server.

DuckDB lets no second process open the cache while the server has it, so commands that need it ask the server. One connection
carries one request, a line of JSON; the answer is lines of JSON, `{"progress": text}` as often as there is something to say,
then `{"answer": …}`. A client that goes away stops what it asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from config.accounts import out_of_reach

log = logging.getLogger(__name__)

SOCKET = "control.sock"
LONGEST_ADDRESS = 103  # bytes of a Unix socket's path that every system takes
DESCRIPTORS = Path("/proc/self/fd")
REQUEST_SECONDS = 10.0
STOP_SECONDS = 5.0

Say = Callable[[str], None]
Stopping = Callable[[], bool]
Handler = Callable[[Mapping[str, Any], Say, Stopping], Mapping[str, Any]]


class NoServerError(RuntimeError):
    """No server listens on the socket."""


class ControlError(RuntimeError):
    """The server is there, and cannot be asked or ended before it answered."""


class ControlServer:
    """Listens on `path` and runs each command in a thread. `handlers` are called as (request, say, stopping)."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path, self._handlers = path, handlers
        self._server: asyncio.Server | None = None
        self._stopping = threading.Event()
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. The caller holds the lock of the cache directory, so a socket that is there is a dead server's.

        Raises `ControlError` when the path is too long for this system, `OSError` when it cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            with reachable(self._path) as address:
                listener.bind(address)
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._connected, sock=listener)
        except BaseException:
            listener.close()
            raise

    async def stop(self) -> None:
        """Stop listening and give up what runs. Idempotent."""
        self._stopping.set()
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
        if self._open:
            await asyncio.wait(tuple(self._open), timeout=STOP_SECONDS)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this as a task
        self._open.add(task)
        try:
            with contextlib.suppress(ConnectionError):
                await self._serve(reader, writer)
                await writer.drain()
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await asyncio.wait_for(reader.readline(), REQUEST_SECONDS))
            handler = self._handlers[request["command"]]
        except (ValueError, KeyError, TypeError, TimeoutError):
            known = ", ".join(self._handlers)
            writer.write(
                _line({"error": f"this server knows the commands {known}; client and server may differ in version"})
            )
            return
        gone = threading.Event()
        loop = asyncio.get_running_loop()

        def say(text: str) -> None:
            loop.call_soon_threadsafe(writer.write, _line({"progress": text}))

        work = asyncio.create_task(
            asyncio.to_thread(handler, request, say, lambda: gone.is_set() or self._stopping.is_set())
        )
        hang_up = asyncio.create_task(reader.read())
        try:
            await asyncio.wait((work, hang_up), return_when=asyncio.FIRST_COMPLETED)
            gone.set()  # a finished command does not look, an abandoned one must
            writer.write(_line({"answer": dict(await work)}))
        except Exception:
            log.exception("operator command %s failed", request["command"])
            writer.write(_line({"error": "the command failed in the server; its log has the details"}))
        finally:
            hang_up.cancel()


def ask(path: Path, request: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Send one command and wait for its answer. Raises `NoServerError`, `ControlError`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        try:
            with reachable(path) as address:
                line.connect(address)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            raise NoServerError(f"no server listens on {path}") from error
        except PermissionError as error:
            raise ControlError(out_of_reach(path)) from error
        try:
            line.sendall(_line(request))
            with line.makefile("rb") as answers:
                for answer in map(json.loads, answers):
                    if "progress" in answer:
                        say(answer["progress"])
                    elif "error" in answer:
                        raise ControlError(answer["error"])
                    else:
                        return dict(answer["answer"])
        except (OSError, ValueError) as error:
            raise ControlError("the connection to the server broke; it may have stopped") from error
    raise ControlError("the server ended before it answered")


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """An address for `path` that fits into a socket's name: a long one goes through a descriptor of its directory."""
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        yield str(path)
        return
    if not DESCRIPTORS.is_dir():
        raise ControlError(
            f"{path} is longer than the {LONGEST_ADDRESS} bytes a Unix socket may have; give cache.directory a shorter path"
        )
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(DESCRIPTORS / str(directory) / path.name)
    finally:
        os.close(directory)


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
