"""Serves the contract: /api/analytics/openapi.json and asyncapi.json to callers who may read the numbers, /reference to all.

All are the same in every installation: `python -m handlers.contract` generates them from the code. They contain no host, no
setting's value and no data, so the page can be public. The documents are not, because nothing under /api/ is public.
`server.reference = false` disables all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache as cached
from importlib.resources import files

from analytics.views import Published, publish
from handlers.contract.page import reference_page
from handlers.parameters import read_options
from handlers.rest import HiddenHandler, PublishedHandler
from handlers.routes import Access, Route

OPENAPI = "openapi.json"
ASYNCAPI = "asyncapi.json"
OPENAPI_PATH = f"/api/analytics/{OPENAPI}"
ASYNCAPI_PATH = f"/api/analytics/{ASYNCAPI}"
PAGE_PATH = "/reference"
STYLE_PATH = "/reference/style.css"
JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
POLICY = "default-src 'none'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
PUBLISHED_AT = datetime(2000, 1, 1, tzinfo=UTC)  # static files have no time of data; no header shows this one


def document(name: str) -> bytes:
    """A document of the package, unchanged. Raises OSError if the package is incomplete."""
    return files("handlers.contract").joinpath(name).read_bytes()


def contract_routes(shown: bool) -> list[Route]:
    """The routes of the documents and of the page; without `shown` their response is 404."""
    access = {OPENAPI_PATH: Access.ORGANIZATION, ASYNCAPI_PATH: Access.ORGANIZATION}
    return [
        Route(path, DocumentHandler if shown else HiddenHandler, access.get(path, Access.PUBLIC), path)
        for path in (OPENAPI_PATH, ASYNCAPI_PATH, PAGE_PATH, STYLE_PATH)
    ]


@cached
def contract_files() -> Mapping[str, Published]:
    """The documents and the page, by path; rendered once."""
    openapi, asyncapi = document(OPENAPI), document(ASYNCAPI)
    page = reference_page(json.loads(openapi), json.loads(asyncapi)).encode()
    return {
        OPENAPI_PATH: publish(openapi, 0, PUBLISHED_AT, JSON),
        ASYNCAPI_PATH: publish(asyncapi, 0, PUBLISHED_AT, JSON),
        PAGE_PATH: publish(page, 0, PUBLISHED_AT, HTML),
        STYLE_PATH: publish(document("page.css"), 0, PUBLISHED_AT, CSS),
    }


class DocumentHandler(PublishedHandler):
    """Serves one static document. Clients must revalidate it, so they see the document of a new version at once."""

    def get(self) -> None:
        read_options(self.request.query_arguments, (), self.services.zones)
        if self.route.access is Access.PUBLIC:
            self._headers["Content-Security-Policy"] = POLICY
        published = contract_files()[self.route.name]
        self.write_published(published, "no-cache" if self.route.access is Access.PUBLIC else "private, no-cache")

    def head(self) -> None:
        self.get()
