"""Before the application: bounds on what a connection may cost, and a body that nobody reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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

from handlers.base import FIXED_HEADERS
from handlers.problem import PROBLEM_TYPE, phrase, problem_body

MAX_BODY_BYTES = 64 * 1024


class BoundedServer(HTTPServer):
    """Accepts no more than `bound` connections at once; further ones are closed unheard."""

    bound = 20_000

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        if len(self._connections) >= self.bound:
            stream.close()
            return
        super().handle_stream(stream, address)


class Gate(HTTPServerConnectionDelegate):
    """Stands before the application: announced bodies that are too large get 413, small ones are read and dropped."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._ending: WeakSet[object] = WeakSet()  # connections whose last request has been read

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        if server_conn in self._ending:
            return _Unheard(request_conn)
        inner = self._application.start_request(server_conn, request_conn)
        return _GatedRequest(inner, request_conn, partial(self._ending.add, server_conn))

    def on_close(self, server_conn: object) -> None:
        self._application.on_close(server_conn)


class _Unheard(HTTPMessageDelegate):
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
    def __init__(self, inner: HTTPMessageDelegate, connection: HTTPConnection, is_last: Callable[[], None]) -> None:
        self._inner: HTTPMessageDelegate | None = inner
        self._connection = connection
        self._is_last = is_last

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
        headers.pop("Content-Type", None)  # no route takes a body: nothing is to be parsed
        assert self._inner is not None  # noqa: S101 - only a refusal clears it
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> None:
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
                "Content-Type": PROBLEM_TYPE,
                "Content-Length": str(len(body)),
                "Connection": "close",
            }
        )
        sent = b"" if method == "HEAD" else body
        self._connection.write_headers(ResponseStartLine("HTTP/1.1", status, phrase(status)), headers, sent)
        self._connection.finish()
