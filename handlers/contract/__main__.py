"""Generate the documents of the contract: `python -m handlers.contract` writes them beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from handlers.contract.asyncapi import asyncapi
from handlers.contract.openapi import openapi


def as_text(document: dict[str, Any]) -> str:
    """A document as the repository keeps it: indented, so that a diff shows each change of the contract."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def generate() -> dict[str, str]:
    """The documents by file name."""
    return {"openapi.json": as_text(openapi()), "asyncapi.json": as_text(asyncapi())}


if __name__ == "__main__":
    for name, content in generate().items():
        Path(__file__).with_name(name).write_text(content, encoding="utf-8")
