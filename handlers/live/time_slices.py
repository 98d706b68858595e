"""Visits many clients in time slices, so that the event loop is never blocked for a whole round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

SLICE_SECONDS = 0.001
CLIENTS_BETWEEN_CLOCK_READS = 8

Client = TypeVar("Client")


class TimeSlices:
    """Rounds take turns slice by slice, so that a small organization's frame is not behind a large one's, and all of them
    together take no more of the loop at a time than one would. Belongs to the event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def each(self, clients: Sequence[Client], visit: Callable[[Client], None]) -> None:
        """Call `visit` for every client."""
        size, position = len(clients), 0
        while position < size:
            async with self._turn:
                ends = time.monotonic() + SLICE_SECONDS
                while position < size and time.monotonic() < ends:
                    for client in clients[position : position + CLIENTS_BETWEEN_CLOCK_READS]:
                        visit(client)
                    position += CLIENTS_BETWEEN_CLOCK_READS
                if position < size:
                    await asyncio.sleep(0)
