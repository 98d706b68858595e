"""The bar of a copy: drawn on a terminal, filled when the copy is published, silent elsewhere."""

from __future__ import annotations

import asyncio
import io
import os

from analytics.state.clock import utc_now
from analytics.state.sync_status import InitialCopyProgress, StatusBoard
from owkai.progress import show_copies


def copy(rows: int) -> InitialCopyProgress:
    return InitialCopyProgress("agent_actions", rows, 1000, utc_now())


async def shown_on_a_terminal(*rows: int) -> str:
    """What a pseudo terminal shows of a copy that passes through `rows` and is then published."""
    leader, follower = os.openpty()
    board = StatusBoard()
    with os.fdopen(follower, "w") as stream:
        task = asyncio.create_task(show_copies(board, stream))
        for count in rows:
            board.update(progress=copy(count))
            await asyncio.sleep(0.25)
        board.update(progress=None)
        await asyncio.sleep(0.25)
        task.cancel()
        os.set_blocking(leader, False)
        text = os.read(leader, 65536).decode()
    os.close(leader)
    return text


def test_a_terminal_shows_the_copy_and_its_end() -> None:
    text = asyncio.run(shown_on_a_terminal(100, 500, 5000))
    assert "copying agent_actions" in text
    assert " 50%" in text
    assert "100%" in text
    assert text.index(" 50%") < text.index("100%")


def test_without_a_terminal_nothing_is_written() -> None:
    stream = io.StringIO()
    board = StatusBoard()
    board.update(progress=copy(10))
    asyncio.run(asyncio.wait_for(show_copies(board, stream), 30))
    assert stream.getvalue() == ""
