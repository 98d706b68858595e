"""Progress bar of the initial copy on a terminal. Without a terminal, progress is in the log and on /readyz."""

from __future__ import annotations

import asyncio
from typing import TextIO

import click

from analytics.state.sync_status import InitialCopyProgress, StatusBoard

REFRESH_SECONDS = 0.1


async def show_copies(board: StatusBoard, stream: TextIO) -> None:
    """Draw each copy on `stream` while it runs; returns at once if `stream` is not a terminal. Cancel to end."""
    if not stream.isatty():
        return
    while True:
        progress = board.current.progress
        if progress is not None:
            await _draw(board, progress, stream)
        await asyncio.sleep(REFRESH_SECONDS)


async def _draw(board: StatusBoard, first: InitialCopyProgress, stream: TextIO) -> None:
    # The length is Postgres' estimate: the bar stays below its end until the copy is published.
    length = max(1, first.rows_estimated)
    with click.progressbar(length=length, label="copying the source", file=stream, width=40) as bar:
        drawn = 0
        while (progress := board.current.progress) is not None:
            reached = min(progress.rows_copied, length - 1)
            bar.label = f"copying {progress.table}"
            bar.update(max(0, reached - drawn))
            drawn = max(drawn, reached)
            await asyncio.sleep(REFRESH_SECONDS)
        if board.current.error is None:
            bar.update(length - drawn)
