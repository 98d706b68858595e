"""A lean HTTP/1.1 client on a raw socket, so that a benchmark measures the server and not its own client.

A request costs two system calls and a search for the end of the headers: 26 µs of processor time beside a bare server on a
busy machine, where http.client needs 600 µs.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping

LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.IGNORECASE)
END_OF_HEADERS = b"\r\n\r\n"


def request_bytes(path: str, headers: Mapping[str, str]) -> bytes:
    """A GET request on a connection that stays open."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Response:
    """A response as its bytes arrive; `complete` when the body is there."""

    def __init__(self) -> None:
        self._data = b""
        self._head_bytes = 0
        self._total_bytes = 0

    def feed(self, data: bytes) -> None:
        self._data += data
        if not self._head_bytes and (end := self._data.find(END_OF_HEADERS)) >= 0:
            self._head_bytes = end + len(END_OF_HEADERS)
            found = LENGTH.search(self._data, 0, end)
            self._total_bytes = self._head_bytes + (int(found.group(1)) if found else 0)

    @property
    def complete(self) -> bool:
        return 0 < self._total_bytes <= len(self._data)

    @property
    def status(self) -> int:
        return int(self._data[9:12])

    @property
    def body(self) -> bytes:
        return self._data[self._head_bytes : self._total_bytes]


def timed(connection: RawConnection, request: bytes, expected: int = 200) -> float:
    """Milliseconds until the whole response is there; its status is the expected one."""
    started = time.perf_counter()
    response = connection.ask(request)
    waited = (time.perf_counter() - started) * 1000
    assert response.status == expected, (response.status, response.body)
    return waited


def wait_until_settled(port: int, patience_seconds: float = 120.0) -> None:
    """Until the first round of forecasts is over: it runs once after a start, and is no part of what is measured."""
    connection, request = RawConnection(port), request_bytes("/metrics", {})
    deadline = time.monotonic() + patience_seconds
    while b"\nowkai_forecast_round_seconds " not in connection.ask(request).body:
        assert time.monotonic() < deadline, "the first round of forecasts did not end"
        time.sleep(0.2)
    connection.close()


class RawConnection:
    """A keep-alive connection on which one request is open at a time."""

    def __init__(self, port: int, timeout_seconds: float = 60.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> Response:
        """Raises ConnectionError when the server closes before the response is complete."""
        self._socket.sendall(request)
        response = Response()
        while not response.complete:
            data = self._socket.recv(262_144)
            if not data:
                raise ConnectionError("the server closed the connection")
            response.feed(data)
        return response

    def close(self) -> None:
        self._socket.close()
