"""A real Chromium, cut off from every host but this machine, and a record of what goes on in its pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
WATCH_VIOLATIONS = (
    "document.addEventListener('securitypolicyviolation',"
    " (event) => reportViolation(`${event.violatedDirective} ${event.blockedURI}`))"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser of this machine; raises RuntimeError when there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise RuntimeError("no Chromium on this machine; apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """What a context's pages did that nobody should see: console errors, exceptions, policy violations, dialogs."""

    errors: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def follow(self, context: BrowserContext) -> None:
        context.expose_function("reportViolation", lambda text: self.violations.append(text))
        context.add_init_script(WATCH_VIOLATIONS)
        context.on("page", self._follow_page)
        context.on("request", self._request)

    def _follow_page(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", self._dialog)
        page.on("websocket", lambda socket: self.hosts.add(urlsplit(socket.url).netloc))

    def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        # Asking who is signed in when nobody is: the browser notes every 401.
        asked = urlsplit(message.location.get("url", "")).path
        if message.type in ("error", "warning") and not ("401" in message.text and asked == "/session"):
            self.errors.append(f"{message.text} {asked}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.hosts.add(urlsplit(request.url).netloc)

    def assert_quiet(self) -> None:
        assert (self.errors, self.violations, self.dialogs) == ([], [], [])
