"""Before the application: bounds on what a connection may cost, and a body that only the sign-in reads."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any
from weakref import WeakSet

from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream
from tornado.web import Application

from handlers.connections.accepting import Acceptor
from handlers.connections.fixed_headers import FIXED_HEADERS
from handlers.connections.overlong_headers import OverlongGuard
from handlers.metrics.server_metrics import ServerMetrics
from handlers.problem import PROBLEM_TYPE, phrase, problem_body

MAX_BODY_BYTES = 64 * 1024
SIGN_IN = ("POST", "/session")  # the one request with a body
JSON = "application/json"


class BoundedServer(HTTPServer):
    """Holds no more than `bound` connections at once; additional ones are closed without an answer.

    `live` is the number of those that have become live connections. `metrics` counts those that speak HTTP.
    """

    bound = 20_000
    metrics: ServerMetrics | None = None
    overlong = b""  # the answer to a request whose head is too long
    live: Callable[[], int] = staticmethod(lambda: 0)

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        for listening in sockets:
            self._sockets[listening.fileno()] = listening
            self._handlers[listening.fileno()] = Acceptor(listening, self._handle_connection).stop

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        if len(self._connections) + self.live() >= self.bound:
            stream.close()
            return
        OverlongGuard(stream, self.overlong)
        super().handle_stream(stream, address)
        self._count_connections()

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        self._count_connections()

    def _count_connections(self) -> None:
        if self.metrics is not None:
            self.metrics.open_connections = len(self._connections)


class RequestGuard(HTTPServerConnectionDelegate):
    """Stands before the application: announced bodies that are too large get 413, small ones are read and dropped, but for
    the JSON of a sign-in.

    `headers` are added to the responses written here.
    """

    def __init__(self, application: Application, headers: Mapping[str, str]) -> None:
        self._application = application
        self._headers = headers
        self._ending: WeakSet[object] = WeakSet()  # connections whose last request has been read

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        if server_conn in self._ending:
            return _AfterLastRequest(request_conn)
        inner = self._application.start_request(server_conn, request_conn)
        return _GatedRequest(inner, request_conn, self._headers, partial(self._ending.add, server_conn))

    def on_close(self, server_conn: object) -> None:
        self._application.on_close(server_conn)


class _AfterLastRequest(HTTPMessageDelegate):
    """What follows a request that closes its connection (RFC 9112 §9.6). The framework would still run it, unanswered."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        if isinstance(self._connection, HTTP1Connection):
            self._connection.close()


def closes(start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> bool:
    """Whether no further request follows on the connection."""
    options = {option.strip().lower() for option in headers.get("Connection", "").split(",")}
    return "close" in options or (start_line.version == "HTTP/1.0" and "keep-alive" not in options)


class _GatedRequest(HTTPMessageDelegate):
    def __init__(
        self,
        inner: HTTPMessageDelegate,
        connection: HTTPConnection,
        headers: Mapping[str, str],
        is_last: Callable[[], None],
    ) -> None:
        self._headers = headers
        self._inner: HTTPMessageDelegate | None = inner
        self._connection = connection
        self._is_last = is_last
        self._passes_body = False

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        if closes(start_line, headers):
            self._is_last()
        announced = headers.get("Content-Length", "")
        if announced.isdecimal() and announced.isascii() and int(announced[:20]) > MAX_BODY_BYTES:
            self._inner = None
            self._refuse(413, "Request bodies are not read here", getattr(start_line, "method", ""))
            return None
        if isinstance(start_line, RequestStartLine) and (start_line.method, start_line.path) == SIGN_IN:
            self._passes_body = headers.get("Content-Type") == JSON
        if not self._passes_body:
            headers.pop("Content-Type", None)  # a body that no handler reads is not parsed either
        assert self._inner is not None  # noqa: S101 - only a refusal clears it
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._passes_body and self._inner is not None:
            return self._inner.data_received(chunk)
        return None

    def finish(self) -> None:
        if self._inner is not None:
            self._inner.finish()

    def on_connection_close(self) -> None:
        if self._inner is not None:
            self._inner.on_connection_close()

    def _refuse(self, status: int, detail: str, method: str) -> None:
        body = problem_body(status, detail, "none")
        headers = HTTPHeaders(
            {
                **FIXED_HEADERS,
                **self._headers,
                "Content-Type": PROBLEM_TYPE,
                "Content-Length": str(len(body)),
                "Connection": "close",
            }
        )
        sent = b"" if method == "HEAD" else body
        self._connection.write_headers(ResponseStartLine("HTTP/1.1", status, phrase(status)), headers, sent)
        self._connection.finish()
