"""The noisy neighbor, a process of its own: `python -m tests.benchmarks.noise PORT API_KEY --connections 100`.

Sends `days=365&tz=…&limit=…` requests that are all different, each connection as fast as it gets its responses, until its
standard input closes. Then prints the number of responses by status, as JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import selectors
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote
from zoneinfo import available_timezones

from tests.benchmarks.rawhttp import Response, request_bytes

MOST_LISTED = 100


def distinct_requests(headers: dict[str, str]) -> Iterator[bytes]:
    """No two alike within a minute; none is ever published already."""
    zones = sorted(available_timezones() - {"localtime", "Factory"})
    for limit, zone in itertools.cycle(itertools.product(range(1, MOST_LISTED + 1), zones)):
        yield request_bytes(f"/api/analytics/trends?days=365&tz={quote(zone)}&limit={limit}", headers)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("port", type=int)
    options.add_argument("key")
    options.add_argument("--connections", type=int, default=100)
    chosen = options.parse_args()
    requests = distinct_requests({"X-API-Key": chosen.key})
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    open_responses: dict[socket.socket, Response] = {}
    statuses: Counter[int] = Counter()

    def connect() -> None:
        connection = socket.create_connection(("127.0.0.1", chosen.port))
        open_responses[connection] = Response()
        selector.register(connection, selectors.EVENT_READ, connection)
        connection.sendall(next(requests))

    for _ in range(chosen.connections):
        connect()
    while True:
        for key, _ in selector.select():
            if key.data is None:
                print(json.dumps(statuses))
                return
            connection = key.data
            data = connection.recv(262_144)
            if not data:
                selector.unregister(connection)
                connection.close()
                del open_responses[connection]
                statuses[0] += 1
                connect()
                continue
            response = open_responses[connection]
            response.feed(data)
            if response.complete:
                statuses[response.status] += 1
                open_responses[connection] = Response()
                connection.sendall(next(requests))


if __name__ == "__main__":
    main()
