"""Make the documents of the contract anew: `python -m handlers.contract` writes them beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from handlers.contract.asyncapi import asyncapi
from handlers.contract.openapi import openapi


def text(document: dict[str, Any]) -> str:
    """A document as it is kept: indented, so that a change of the contract shows in a diff."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def made() -> dict[str, str]:
    """The documents by file name."""
    return {"openapi.json": text(openapi()), "asyncapi.json": text(asyncapi())}


if __name__ == "__main__":
    for name, content in made().items():
        Path(__file__).with_name(name).write_text(content, encoding="utf-8")
