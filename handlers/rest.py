"""The views over HTTP: authenticate, take the published bytes, write them. Nothing is computed or serialized here."""

from __future__ import annotations

import re
from functools import lru_cache

from analytics.fair_workers import BacklogFullError
from analytics.views import Published, ViewKey
from handlers.allowance import DOCUMENT_COST
from handlers.base import ApiHandler
from handlers.parameters import Parameter, read_options
from handlers.problem import Refusal
from handlers.routes import Access, Route

ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')
QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
VARY = "Cookie, Authorization, X-API-Key, Accept-Encoding"


def negotiated(handler: ApiHandler, body: bytes, gzipped: bytes | None, etag: str) -> bytes | None:
    """The bytes to send, gzipped if the client accepts it, with their ETag set; None and status 304 if the client has them."""
    headers = handler.request.headers
    if gzipped is not None and accepts_gzip(headers.get("Accept-Encoding", "")):
        body, etag = gzipped, tag_of_gzip(etag)
        handler._headers["Content-Encoding"] = "gzip"
    handler._headers["Etag"] = etag
    condition = headers.get("If-None-Match")
    if condition is not None and matches(condition, etag):
        handler.set_status(304)
        return None
    return body


class PublishedHandler(ApiHandler):
    """Writes finished bytes."""

    def write_published(self, published: Published, cache_control: str = "private, no-cache") -> None:
        """200 with the bytes, or 304 when the client has them; gzip where the client accepts it and compression paid off."""
        headers = self._headers
        headers["Cache-Control"] = cache_control
        headers["Vary"] = self.vary(VARY)
        body = negotiated(self, published.body, published.gzipped, published.etag)
        if body is None:
            self.finish()
            return
        headers["Content-Type"] = published.content_type
        if published.file_name is not None:
            headers["Content-Disposition"] = f'attachment; filename="{published.file_name}"'
        self.finish(body)


class ViewHandler(PublishedHandler):
    """One view of the caller's organization. `view` is the view's name, `parameters` its query parameters."""

    def initialize(self, view: str, parameters: tuple[Parameter, ...] = (), **common: object) -> None:  # type: ignore[override]
        super().initialize(**common)  # type: ignore[arg-type]
        self._view = view
        self._parameters = parameters

    async def get(self) -> None:
        options = read_options(self.request.query_arguments, self._parameters, self.services.zones)
        key = ViewKey(self._view, self.organization_id, options, self.principal.account)
        publisher = self.services.publisher
        published = publisher.cached(key)
        if published is None:
            await self.count_computation(DOCUMENT_COST if key.is_document else 1)
            try:
                published = await publisher.get(key)
            except BacklogFullError:
                await self.hold_back()
                raise
        self.write_published(published)

    async def head(self) -> None:
        await self.get()


class HiddenHandler(ApiHandler):
    """A path that the settings switch off: 404, as if it did not exist."""

    async def prepare(self) -> None:
        self._check_host()
        raise Refusal(404, "Not Found", "switched_off")


class UnknownPath(ApiHandler):
    """Answers 404 on every path that has no route."""

    async def prepare(self) -> None:
        self._check_host()
        raise Refusal(404, "Not Found", "unknown_path")


UNKNOWN_ROUTE = Route("", UnknownPath, Access.PUBLIC, "other")


def tag_of_gzip(tag: str) -> str:
    """The entity tag of the compressed representation: other bytes, another tag."""
    return f'{tag[:-1]}-gzip"'


def matches(condition: str, tag: str) -> bool:
    """Weak comparison of If-None-Match with the tag of the selected representation."""
    if condition.strip() == "*":
        return True
    opaque = tag.removeprefix("W/")
    return any(found == opaque for found in ENTITY_TAG.findall(condition))


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether gzip is acceptable: named, or by `*`, with a quality above 0."""
    named: float | None = None
    anything: float | None = None
    for entry in accept_encoding[:1024].split(","):
        coding, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = float(value) if QUALITY.fullmatch(value.strip()) else 0.0
        if coding in ("gzip", "x-gzip"):
            named = quality
        elif coding == "*":
            anything = quality
    return (named if named is not None else anything or 0.0) > 0
