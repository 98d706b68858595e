"""The dashboard page: the files of `handlers/dashboard/static/`, read once and served from memory under an exact list of names.

The files hold no secret and are the same for every caller; data comes from the API, which needs a credential. A name from a
request never becomes part of a file path.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files

from handlers.base import ApiHandler
from handlers.parameters import read_options
from handlers.rest import negotiated

ASSETS = "/assets/"
HTML = "text/html; charset=utf-8"
SCRIPT = "text/javascript; charset=utf-8"
STYLE = "text/css; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
SVG = "image/svg+xml"
TYPES = {".html": HTML, ".js": SCRIPT, ".css": STYLE, ".txt": TEXT, ".svg": SVG}
PAGES = {"/": "index.html", "/sign-in": "sign-in.html"}
VENDORED = ("vendor/uplot/uPlot.iife.min.js", "vendor/uplot/uPlot.min.css", "vendor/uplot/LICENSE.txt")
ASSET_NAMES = (
    "account.js", "anomalies.js", "api.js", "app.js", "backoff.js", "base.css", "connection-status.js",
    "elements.js", "executive.js", "forecast.js", "format.js", "icon.svg", "latest-actions.js", "layout.css",
    "live-connection.js", "navigation.js", "panel.js", "panels.css", "period-choice.js", "poller.js", "print.css",
    "ranking.js", "risk-chart.js", "sign-in.css", "sign-in.js", "sync-status.js", "table.js", "tables.css",
    "telemetry.js", "theme.js", "tiles.js", "time-zone.js",
    *VENDORED,
)  # fmt: skip
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src {connect}; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class PageFile:
    """One file as sent. `etag` is strong: a digest of the bytes."""

    content_type: str
    body: bytes
    gzipped: bytes
    etag: str


PageFiles = Mapping[str, PageFile]


def read_files() -> PageFiles:
    """All files by URL path. Raises OSError if the package is incomplete."""
    root = files("handlers").joinpath("dashboard", "static")
    named = {**PAGES, **{ASSETS + name: name for name in ASSET_NAMES}}
    return {path: page_file(name, root.joinpath(name).read_bytes()) for path, name in named.items()}


def page_file(name: str, body: bytes) -> PageFile:
    kind = TYPES["." + name.rpartition(".")[2]]
    return PageFile(kind, body, gzip.compress(body, 9, mtime=0), f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def pattern(paths: Iterable[str]) -> str:
    """A route pattern that matches exactly these paths."""
    return f"(?:{'|'.join(re.escape(path) for path in sorted(paths))})"


class PageHandler(ApiHandler):
    """Serves one file of the page. Browsers always revalidate, so an upgraded server serves its new page at the next load."""

    def initialize(self, files: PageFiles, **common: object) -> None:  # type: ignore[override]
        super().initialize(**common)  # type: ignore[arg-type]
        self._files = files

    def get(self) -> None:
        read_options(self.request.query_arguments, (), self.services.zones)
        file = self._files[self.request.path]
        headers = self._headers
        headers["Content-Security-Policy"] = page_policy(self.services.origins.live_sources(self.request.host))
        headers["Cache-Control"] = "no-cache"
        headers["Vary"] = "Accept-Encoding"
        body = negotiated(self, file.body, file.gzipped, file.etag)
        if body is None:
            self.finish()
            return
        headers["Content-Type"] = file.content_type
        self.finish(body)

    def head(self) -> None:
        self.get()


def page_policy(live_sources: tuple[str, ...]) -> str:
    """The Content-Security-Policy. Lists the ws: or wss: address too, because not every browser includes it in 'self'."""
    return POLICY.format(connect=" ".join(("'self'", *live_sources)))
