"""Bounds time and size of a whole AWS response: botocore's timeout applies between two reads, and it has no limit on size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import HTTPClientError, ReadTimeoutError
from urllib3.exceptions import HTTPError
from urllib3.exceptions import ReadTimeoutError as SilentError

from sync.telemetry.aws_failures import CollectionError

LARGEST_BYTES = 8 * 1024 * 1024  # an hour of nine metrics is some 100 kB
READ_BYTES = 65536


class ReadBody:
    """A body that has been read, as an `AWSResponse` takes it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


def bound_responses(client: Any, seconds: float, largest_bytes: int = LARGEST_BYTES) -> None:
    """Make `client` abandon a response that takes longer than `seconds` in total, or is larger than `largest_bytes`."""
    client.meta.events.register("before-send", _sender(client._endpoint.http_session, seconds, largest_bytes))


def _sender(session: Any, seconds: float, largest_bytes: int) -> Callable[..., AWSResponse]:
    def send(request: Any, **_: Any) -> AWSResponse:
        deadline = time.monotonic() + seconds
        request.stream_output = True
        response = session.send(request)
        try:
            body = _read(response.raw, deadline, largest_bytes)
        except BaseException:
            response.raw.close()
            raise
        return AWSResponse(response.url, response.status_code, response.headers, ReadBody(body))

    return send


def _read(raw: Any, deadline: float, largest_bytes: int) -> bytes:
    body = bytearray()
    try:
        while piece := raw.read1(READ_BYTES):
            body += piece
            if len(body) > largest_bytes:
                raise CollectionError(f"CloudWatch sent a response of more than {largest_bytes // 1024} kB")
            if time.monotonic() > deadline:
                raise ReadTimeoutError(endpoint_url="CloudWatch")
    except (ReadTimeoutError, SilentError) as error:
        raise ReadTimeoutError(endpoint_url="CloudWatch") from error
    except (HTTPError, OSError) as error:
        raise HTTPClientError(error=type(error).__name__) from error
    return bytes(body)
