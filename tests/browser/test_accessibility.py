"""For everybody: axe-core's rules in every view and both themes, the keyboard alone, a phone, paper."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.dashboard import VIEWS, Dashboard
from tests.browser.platform import Platform

AXE = files("axe_playwright_python").joinpath("axe.min.js")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
STILL = {"reduced_motion": "reduce"}


def findings(page: Page) -> list[tuple[str, str, str]]:
    """What axe-core finds on the page as it is: rule, impact, place."""
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    report: Any = page.evaluate("(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}})", RULES)
    assert len(report["passes"]) > 10
    return [
        (found["id"], found["impact"], str(node["target"]) + " " + node["failureSummary"])
        for found in report["violations"]
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_any_view(open_page: Open, platform: Platform, theme: str) -> None:
    board = open_page(color_scheme=theme, **STILL).arrive()
    page = board.page
    expect(page.get_by_label("API key")).to_be_visible()
    assert findings(page) == []
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert findings(page) == []
    board.sign_in(platform.keys["admin"])
    for view in VIEWS:
        board.show(view)
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        for closed in page.locator(f"#view-{view} details:not([open]) summary").all():
            closed.click()
        assert findings(page) == [], view
    page.locator("#account summary").click()
    assert findings(page) == []


def test_axe_finds_nothing_on_a_phone_or_in_a_lost_connection(open_page: Open, platform: Platform) -> None:
    board = open_page(viewport={"width": 360, "height": 780}, **STILL).enter(platform.keys["admin"])
    for view in VIEWS:
        board.show(view)
        assert findings(board.page) == [], view
    board.page.context.set_offline(True)
    expect(board.page.locator("#stale")).to_be_visible()
    assert findings(board.page) == []


def focused(page: Page) -> str:
    """The focused element in few words, and that its focus can be seen."""
    seen: dict[str, str] = page.evaluate(
        """() => {
            const element = document.activeElement;
            const style = getComputedStyle(element);
            const near = getComputedStyle(element.nextElementSibling ?? element);
            const ring = [style, near].some((look) => look.outlineStyle !== 'none' && parseFloat(look.outlineWidth) >= 2);
            const id = element.id || element.getAttribute('href') || element.value || element.className || element.tagName;
            return { id, ring: String(ring) };
        }"""
    )
    assert seen["ring"] == "true", f"the focus on {seen['id']} cannot be seen"
    return seen["id"]


def test_the_keyboard_alone_signs_in_reads_sorts_filters_and_signs_out(open_page: Open, platform: Platform) -> None:
    page = open_page(**STILL).arrive("/sign-in").page
    board_keys = page.keyboard
    board_keys.press("Tab")
    assert focused(page) == "key"
    board_keys.type(platform.keys["admin"])
    board_keys.press("Enter")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    expect(page.locator("#tile-day")).not_to_have_text("–")

    board_keys.press("Tab")
    assert focused(page) == "skip"
    board_keys.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    board_keys.press("Tab")
    assert page.evaluate("document.activeElement.value") == "14"
    assert focused(page)
    board_keys.press("ArrowLeft")
    expect(page.locator("#risk-summary")).to_contain_text("in 7 days")

    reached = []
    for _ in range(40):
        board_keys.press("Tab")
        reached.append(focused(page))
        if reached[-1] == "actions-risk":
            break
    assert "actions-filter" in reached
    board_keys.press("Shift+Tab")
    board_keys.type("agent-1")
    expect(page.locator("#actions-count")).to_contain_text("of 20 actions")
    for _ in range(4):
        board_keys.press("Tab")
    assert focused(page) == "sort"  # past the choice of risk, "Clear filters" and the table's own frame
    board_keys.press("Enter")
    expect(page.locator("#sort-timestamp")).to_have_attribute("aria-sort", "ascending")

    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.locator("#link-overview").focus()
    board_keys.press("Tab")
    assert focused(page) == "link-forecast"
    board_keys.press("Enter")
    expect(page.locator("#view-forecast")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "title-forecast"

    page.locator("#account summary").focus()
    board_keys.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    board_keys.press("Escape")
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    board_keys.press("Enter")
    while focused(page) != "sign-out":
        board_keys.press("Tab")
    board_keys.press("Enter")
    expect(page.get_by_role("status")).to_have_text("You have signed out.")


@pytest.mark.parametrize("width", [320, 360, 768, 1920, 3840])
def test_no_view_scrolls_sideways_and_every_target_is_large_enough(
    open_page: Open, platform: Platform, width: int
) -> None:
    board = open_page(viewport={"width": width, "height": 900}).arrive("/sign-in")
    page = board.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    board.sign_in(platform.keys["admin"])
    for view in VIEWS:
        board.show(view)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        small = page.evaluate(
            """() => [...document.querySelectorAll('a, button, select, input, summary')]
                .filter((element) => element.checkVisibility() && element.offsetWidth > 1 && !element.matches('.skip'))
                .filter((element) => { const box = element.getBoundingClientRect(); return box.width < 24 || box.height < 24; })
                .map((element) => element.outerHTML.slice(0, 80))"""
        )
        assert small == [], view


def test_landmarks_and_headings_outline_the_page(admin: Dashboard) -> None:
    page = admin.page
    roles: tuple[Literal["banner", "main", "navigation"], ...] = ("banner", "main", "navigation")
    for role in roles:
        expect(page.get_by_role(role)).to_have_count(1)
    for view in VIEWS:
        admin.show(view)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_text(view.capitalize())
        expect(page).to_have_title(f"{view.capitalize()} · OW-kai Analytics")


def test_on_paper_the_numbers_stand_without_the_controls(admin: Dashboard) -> None:
    page = admin.page
    page.emulate_media(media="print")
    expect(page.get_by_role("navigation")).to_be_hidden()
    expect(page.locator("#actions-filter")).to_be_hidden()
    expect(admin.tile("actions")).to_be_visible()
    expect(page.locator("#risk-chart canvas")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_can_be_photographed_for_people_to_look_at(
    open_page: Open, platform: Platform, theme: str, tmp_path: Path
) -> None:
    """Pictures of all views lie in the test's folder (--basetemp); a picture of one colour is a fault."""
    board = open_page(color_scheme=theme, **STILL).enter(platform.keys["admin"])
    for view in VIEWS:
        board.show(view)
        picture = board.page.screenshot(path=tmp_path / f"{view}-{theme}.png", full_page=True)
        assert len(picture) > 30_000, view
