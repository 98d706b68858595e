"""The dashboard as a person handles it."""

from __future__ import annotations

import re
from typing import Literal

from playwright.sync_api import BrowserContext, Locator, Page, expect

NUMBER = re.compile(r"^[\d,]+$")
View = Literal["overview", "forecast", "system", "executive"]
VIEWS: tuple[View, ...] = ("overview", "forecast", "system", "executive")


class Dashboard:
    """One page of a context at a server's address."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.base = base
        self.page: Page = context.new_page()
        self.page.set_default_timeout(15_000)

    def arrive(self, path: str = "/") -> Dashboard:
        self.page.goto(self.base + path)
        return self

    def sign_in(self, key: str) -> Dashboard:
        """From the sign-in page to live numbers."""
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        return self.until_live()

    def enter(self, key: str) -> Dashboard:
        """Live numbers by the shortest way: the request that the sign-in page sends, and its cookie."""
        answer = self.page.context.request.post(
            f"{self.base}/session", data={"api_key": key}, headers={"Origin": self.base}
        )
        assert answer.status == 201, answer.text()
        return self.arrive().until_live()

    def until_live(self) -> Dashboard:
        expect(self.page.locator("#connection")).to_have_attribute("data-state", "live", timeout=15_000)
        expect(self.tile("day")).to_have_text(NUMBER)
        expect(self.tile("pending")).to_have_text(NUMBER)
        return self

    def tile(self, name: str) -> Locator:
        return self.page.locator(f"#tile-{name}")

    def number(self, name: str) -> int:
        return int((self.tile(name).text_content() or "").replace(",", ""))

    def show(self, view: View) -> Dashboard:
        """A view, with its answers in."""
        self.page.get_by_role("navigation", name="Views").get_by_role("link", name=view.capitalize()).click()
        shown = self.page.locator(f"#view-{view}")
        expect(shown).to_be_visible()
        expect(shown.locator("[aria-busy=true]")).to_have_count(0)
        return self

    def rows(self) -> Locator:
        """The rows of the latest actions."""
        return self.page.locator("#actions-rows tr")

    def column(self, title: str) -> list[str]:
        return self.page.locator(f'#actions-rows [data-title="{title}"]').all_text_contents()
