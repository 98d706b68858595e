"""A process full of clients: `python -m tests.benchmarks.websocket.crowd PORT FIRST COUNT KIND`.

Connects COUNT clients one after another, one in a hundred of which never reads. Then obeys lines on its standard input:
`settle` reads what is on its way until nothing comes for a while; `await` reads until every reading client has one complete
frame more and answers with the moment of the last receipt (monotonic, ns). It reads nothing in between, so that it
disturbs no other crowd's turn.
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import sys
import time

from owkai.lifecycle import raise_descriptor_limit
from tests.benchmarks.websocket.servers import USERS, person

DEAF_ONE_IN = 100
DEAF_RECEIVE_BYTES = 2304  # the least the kernel gives
PATIENCE_SECONDS = 60.0
QUIET_SECONDS = 0.3
SOURCES = {"ours": "127.0.0.2", "bare": "127.0.0.3", "websockets": "127.0.0.4"}  # one address has too few ports for all


class Crowd:
    def __init__(self, port: int, first: int, count: int, kind: str) -> None:
        self.poll = select.epoll()
        self.readers: dict[int, socket.socket] = {}
        self.deaf: list[socket.socket] = []
        tokens: dict[int, str] = {}
        now = int(time.time())
        for number in range(first, first + count):
            user = number % USERS
            if kind == "ours" and user not in tokens:
                tokens[user] = person(user).token(iat=now, exp=now + 80_000)
            deaf = number % DEAF_ONE_IN == DEAF_ONE_IN - 1
            client = connect(port, SOURCES[kind], user, tokens.get(user, ""), deaf)
            if deaf:
                self.deaf.append(client)
            else:
                client.setblocking(False)
                self.readers[client.fileno()] = client
                self.poll.register(client, select.EPOLLIN)

    def settle(self) -> None:
        while events := self.poll.poll(QUIET_SECONDS):
            for descriptor, _ in events:
                self.readers[descriptor].recv(1 << 20)

    def receive(self) -> int:
        """Until everyone has one complete frame more."""
        left = len(self.readers)
        halves: dict[int, bytes] = {}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left:
            for descriptor, _ in self.poll.poll(PATIENCE_SECONDS):
                data = self.readers[descriptor].recv(65536)
                if halves:
                    data = halves.pop(descriptor, b"") + data
                if complete(data):
                    left -= 1
                else:
                    halves[descriptor] = data
            assert time.monotonic() < deadline, f"{left} clients heard nothing"
        return time.monotonic_ns()


def complete(data: bytes) -> bool:
    """Whether this is one whole text frame of 126 to 65535 bytes."""
    assert len(data) < 2 or (data[0], data[1]) == (0x81, 126), data[:40]
    return len(data) >= 4 and len(data) == 4 + int.from_bytes(data[2:4], "big")


def connect(port: int, source: str, user: int, token: str, deaf: bool) -> socket.socket:
    client = socket.socket()
    if deaf:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DEAF_RECEIVE_BYTES)
    client.bind((source, 0))
    client.connect(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    credential = f"Authorization: Bearer {token}\r\n" if token else ""
    client.sendall(
        f"GET /api/analytics/ws/realtime/{person(user).email} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{credential}\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        piece = client.recv(1)
        assert piece, answer
        answer += piece
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    return client


def main() -> None:
    raise_descriptor_limit(10_000)
    port, first, count, kind = sys.argv[1:5]
    crowd = Crowd(int(port), int(first), int(count), kind)
    print(json.dumps({"connected": int(count)}), flush=True)
    for line in sys.stdin:
        if line == "settle\n":
            crowd.settle()
            print("{}", flush=True)
        else:
            print(json.dumps({"last": crowd.receive()}), flush=True)


if __name__ == "__main__":
    main()
