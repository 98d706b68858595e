"""A real server on a real socket over a real cache, and a client that sends exactly the bytes a test writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handlers.application import ApiServer
from handlers.services import Services
from tests.handlers.world import Clock, LocalKeys, Person

API = "/api/analytics"
Lines = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """One response as it came over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    rest: bytes = b""

    def header(self, name: str) -> str | None:
        values = self.all_headers(name)
        return values[0] if values else None

    def all_headers(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known.lower() == name.lower()]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        assert self.header("Content-Type") == "application/problem+json", (self.status, self.headers)
        document = self.json()
        assert document["status"] == self.status
        assert {"type", "title", "detail", "request_id"} <= document.keys()
        return str(document["detail"])


@dataclass
class Served:
    """A started server and what it works with."""

    port: int
    server: ApiServer
    services: Services
    clock: Clock
    local: LocalKeys
    audit_file: Path
    seen: list[Answer] = field(default_factory=list)

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def ask(
        self,
        target: str,
        *lines: tuple[str, str],
        method: str = "GET",
        body: bytes = b"",
        token: str | None = None,
        key: str | None = None,
    ) -> Answer:
        """One request on a connection of its own."""
        head = [f"{method} {target} HTTP/1.1", f"Host: {self.authority}", "Connection: close"]
        head += [f"{name}: {value}" for name, value in lines]
        if token is not None:
            head.append(f"Authorization: Bearer {token}")
        if key is not None:
            head.append(f"X-API-Key: {key}")
        answers = await self.send("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)
        assert len(answers) == 1, answers
        return answers[0]

    async def get(self, path: str, *lines: tuple[str, str], **how: Any) -> Answer:
        return await self.ask(API + path, *lines, **how)

    async def send(self, data: bytes, *, seconds: float = 20.0) -> list[Answer]:
        """Exactly these bytes, then everything that comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            received = await asyncio.wait_for(_read_all(reader), seconds)
        finally:
            writer.close()
        answers = parse_answers(received, head=data.startswith(b"HEAD "))
        self.seen.extend(answers)
        return answers

    def records(self) -> list[dict[str, Any]]:
        """The audit records so far; every line is valid JSON."""
        assert self.services.audit.flush()
        return [json.loads(line) for line in self.audit_file.read_text(encoding="ascii").splitlines()]


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    received = b""
    while True:
        try:
            piece = await reader.read(65536)
        except ConnectionResetError:
            return received
        if not piece:
            return received
        received += piece


def parse_answers(data: bytes, *, head: bool = False) -> list[Answer]:
    """The responses in a byte stream; bodies by Content-Length."""
    answers = []
    while data:
        block, separator, data = data.partition(b"\r\n\r\n")
        assert separator, block
        start, *lines = block.decode("latin-1").split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        status = int(start.split(" ")[1])
        length = 0
        if not head and status not in (101, 204, 304):
            length = int(next((value for name, value in headers if name.lower() == "content-length"), 0))
        assert len(data) >= length, "the body is cut off"
        answers.append(Answer(status, headers, data[:length]))
        data = data[length:]
        if status == 101:
            return [*answers[:-1], Answer(status, headers, b"", data)]
    return answers


async def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait for a condition; fails when it does not come true."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come true"
        await asyncio.sleep(0.005)


async def still_alive(served: Served, person: Person) -> None:
    """ALIVE: a second, valid client gets its answer."""
    answer = await asyncio.wait_for(served.get("/trends", token=person.token()), 30)
    assert answer.status == 200


def run(loop: Any, work: Callable[[], Awaitable[Any]]) -> Any:
    return loop.run_sync(work, timeout=60)
