"""Exit codes of every `owkai` command. Part of the interface: service units and scripts act on them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """`meaning` is what --help and docs/reference/commands.md say."""

    OK = 0
    FAILED = 1
    SETTINGS = 2
    SOURCE = 3
    BUSY = 4

    @property
    def meaning(self) -> str:
        return {
            Exit.OK: "done; for a server: stopped by SIGTERM or SIGINT after its drain",
            Exit.FAILED: "a check found an error, or the server failed while it ran",
            Exit.SETTINGS: "settings or command line are wrong; nothing was started",
            Exit.SOURCE: "the source refused the command or is out of reach",
            Exit.BUSY: "another process holds the cache directory or the port, or has held the slot for 20 s after the start",
        }[self]
