"""One update to many live clients: `python -m tests.benchmarks.websocket [--clients 1000 5000 10000] [--ticks 9]`.

Represents a control room: thousands of open pages of one organization that all get the same update at once, on one machine
with their clients, over loopback.

Our server, a bare loop over sockets that writes the same bytes (the limit) and the `websockets` library's broadcast(), each a
process with clients in further processes, ticked in turn in one run, so that the ratios hold when the machine's speed drifts.
No pings on either side. Prints medians: from the tick to the last client's receipt, processor time per 1,000 clients and
tick, memory per client (resident, of the server; the kernel's buffers are not in it), and what a request of ours waits while
updates go out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.benchmarks import represented
from tests.benchmarks.rawhttp import RawConnection, request_bytes, timed

KINDS = ("ours", "bare", "websockets")
CLIENTS_PER_PROCESS = 5000


class Worker:
    """A process that answers a line with a line of JSON."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def order(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"process {self.process.pid} ended"
        return dict(json.loads(line))

    def ask(self, line: str) -> dict[str, Any]:
        self.order(line)
        return self.answer()


@contextmanager
def worker(*arguments: str) -> Iterator[Worker]:
    started = Worker(*arguments)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


class Contender:
    """A server and its clients."""

    def __init__(self, kind: str, clients: int, stack: ExitStack) -> None:
        self.kind = kind
        self.clients = clients
        self.server = stack.enter_context(worker("tests.benchmarks.websocket.servers", kind))
        self.port = int(self.server.answer()["port"])
        before = self.server.ask("count")["resident"]
        self.crowds: list[Worker] = []
        for first in range(0, clients, CLIENTS_PER_PROCESS):
            count = min(CLIENTS_PER_PROCESS, clients - first)
            crowd = worker("tests.benchmarks.websocket.crowd", str(self.port), str(first), str(count), kind)
            self.crowds.append(stack.enter_context(crowd))
            self.crowds[-1].answer()
        for crowd_worker in self.crowds:
            crowd_worker.ask("settle")
        state = self.server.ask("count")
        assert state["clients"] == clients, state
        self.bytes_per_client = (state["resident"] - before) / clients
        self.milliseconds: list[float] = []
        self.cpu: list[float] = []

    def tick(self) -> None:
        for crowd in self.crowds:
            crowd.order("await")
        told = self.server.ask("tick")
        last = max(crowd.answer()["last"] for crowd in self.crowds)
        self.milliseconds.append((last - told["began"]) / 1e6)
        self.cpu.append(told["cpu"] * 1000 * 1000 / self.clients)


class Asker(threading.Thread):
    """Asks /healthz of a server without pause and notes how long each answer took."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.connection = RawConnection(port)
        self.times: list[float] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            self.times.append(timed(self.connection, request_bytes("/healthz", {})))
            self.stopped.wait(0.002)

    def finish(self) -> list[float]:
        self.stopped.set()
        self.join()
        return sorted(self.times)


def waiting(ours: Contender, ticks: int) -> tuple[list[float], list[float], list[float]]:
    """What /healthz takes in ms, sorted: at rest, and while updates go out one after another; how late the loop came then."""
    quiet = Asker(ours.port)
    quiet.start()
    time.sleep(1.0)
    at_rest = quiet.finish()
    ours.server.ask("lateness")
    busy = Asker(ours.port)
    busy.start()
    for _ in range(ticks):
        for crowd in ours.crowds:
            crowd.order("await")
        ours.server.ask("tick")
        for crowd in ours.crowds:
            crowd.answer()
    return at_rest, busy.finish(), sorted(ours.server.ask("lateness")["milliseconds"])


def measure(clients: int, ticks: int) -> None:
    with ExitStack() as stack:
        contenders = [Contender(kind, clients, stack) for kind in KINDS]
        for _ in range(ticks + 1):
            for contender in contenders:
                contender.tick()
        at_rest, busy, late = waiting(contenders[0], ticks)
    last = {}
    print(f"{clients} clients, one in a hundred not reading; medians of {ticks} ticks")
    for contender in contenders:
        times, cpu = contender.milliseconds[1:], contender.cpu[1:]  # the first finds nothing warm
        last[contender.kind] = statistics.median(times)
        print(
            f"  {contender.kind:10} last receipt {last[contender.kind]:7.1f} ms ({min(times):.1f} to {max(times):.1f})"
            f"   cpu per 1,000 clients {statistics.median(cpu):6.2f} ms   memory per client "
            f"{contender.bytes_per_client / 1024:5.1f} KiB"
        )
    print(
        f"  ours beside the bare loop {last['ours'] / last['bare']:.2f}, "
        f"beside websockets {last['ours'] / last['websockets']:.2f}"
    )
    for name, times in (("/healthz at rest", at_rest), ("/healthz in updates", busy), ("loop late in updates", late)):
        print(
            f"  {name:20} median {statistics.median(times):6.2f} ms, "
            f"p99 {times[int(len(times) * 0.99)]:6.2f} ms, most {times[-1]:6.2f} ms ({len(times)} times)"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--clients", type=int, nargs="+", default=[1000, 5000, 10_000])
    options.add_argument("--ticks", type=int, default=9)
    chosen = options.parse_args()
    represented.state(__doc__)
    for clients in chosen.clients:
        measure(clients, chosen.ticks)


if __name__ == "__main__":
    main()
