"""The commands of the documents, as the tests that run them see them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"(?ms)^```(\w+)(?: (\w+))?\n(.*?)^```")
INDENTED = re.compile(r"(?m)(?:^    .*\n)+")
LANGUAGES = frozenset({"sh", "sql", "json", "toml", "text"})  # the last three are not commands
# Where commands of a fenced block are for; what comes after the language in its first line.
PLACES = {
    "": "beside a running server, as its account",
    "environment": "a checkout, to make an environment of Python",
    "target": "the machine that is to run the server, as root",
    "systemd": "the same, where systemd runs",
    "builder": "a machine that builds",
    "network": "a machine that reaches an external service; not run, as tests reach none",
}
COMMANDS = ("make ", "curl ", "owkai ")


@dataclass(frozen=True)
class Block:
    """Commands of one document; `line` is that of the first command."""

    document: str
    line: int
    language: str
    place: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def blocks() -> list[Block]:
    """Every fenced block, and every indented one that begins with a command."""
    found = []
    for document in documents():
        text, name = document.read_text(encoding="utf-8"), document.relative_to(ROOT).as_posix()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            found.append(Block(name, line, match[1], match[2] or "", match[3]))
        for match in INDENTED.finditer(FENCE.sub(lambda one: "\n" * one[0].count("\n"), text)):
            if match[0].lstrip().startswith(COMMANDS):
                dedented = re.sub(r"(?m)^    ", "", match[0])
                found.append(Block(name, text[: match.start()].count("\n") + 1, "sh", "", dedented))
    return sorted(found, key=lambda block: (block.document, block.line))


def shell(place: str = "") -> list[Block]:
    return [block for block in blocks() if block.language == "sh" and block.place == place]
