"""Long rounds over many clients, in slices: other work of the event loop waits for a slice, never for the whole round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

SLICE_SECONDS = 0.001
CLIENTS_BETWEEN_LOOKS = 8  # at the clock

Client = TypeVar("Client")


class TimeSlices:
    """Rounds take turns slice by slice, so that a small organization's frame is not behind a large one's, and all of them
    together take no more of the loop at a time than one would. Belongs to the event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def each(self, clients: Sequence[Client], visit: Callable[[Client], None]) -> None:
        """Call `visit` for every client."""
        size, place = len(clients), 0
        while place < size:
            async with self._turn:
                ends = time.monotonic() + SLICE_SECONDS
                while place < size and time.monotonic() < ends:
                    for client in clients[place : place + CLIENTS_BETWEEN_LOOKS]:
                        visit(client)
                    place += CLIENTS_BETWEEN_LOOKS
                if place < size:
                    await asyncio.sleep(0)
