"""A response that is a file instead of JSON: a CSV table or a PDF."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RenderedDocument:
    """Finished bytes. `content_type` is the header value; `file_name` (ASCII, no quotes) is set for downloads."""

    content_type: str
    body: bytes
    file_name: str | None = None
