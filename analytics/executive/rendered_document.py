"""An answer that is a document of its own rather than JSON: a table to read in, a page to print."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RenderedDocument:
    """Finished bytes. `content_type` as the header says it; `file_name` (ASCII, no quotes) where it is kept as a file."""

    content_type: str
    body: bytes
    file_name: str | None = None
