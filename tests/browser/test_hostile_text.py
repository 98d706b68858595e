"""Names and texts from the data are shown as text: in tables, lists, anomalies, the account, the chart and its words."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.chromium import Watch
from tests.browser.conftest import Open
from tests.browser.dashboard import VIEWS
from tests.browser.platform import HOSTILE_EMAIL, PAYLOADS, Platform


def test_xss_01_xss_03_markup_in_names_is_text_in_every_view_and_runs_nowhere(
    open_page: Open, platform: Platform, watch: Watch
) -> None:
    board = open_page().enter(platform.keys["hostile"])
    page = board.page
    for payload in PAYLOADS:
        expect(page.locator("#agents-list bdi").filter(has_text=payload).first).to_be_attached()
        expect(page.locator("#tools-list bdi").filter(has_text=payload).first).to_be_attached()
    # A burst of a hostile name an hour ago: the server's sentences quote it.
    expect(page.locator("#attention")).to_contain_text(PAYLOADS[0], timeout=30_000)
    for payload in PAYLOADS[1:3]:
        platform.act(2, payload, risk="critical", tool=payload)
        expect(board.rows().first).to_contain_text(payload)
    page.get_by_label("Filter by text").fill("<script>")
    page.get_by_label("Filter by text").fill("")
    page.locator("#account summary").click()
    expect(page.locator("#account-facts")).to_contain_text(HOSTILE_EMAIL)
    page.keyboard.press("Escape")
    for view in VIEWS:
        board.show(view)
        assert page.locator("main img, main svg, main script, main style, main a[target], main b").count() == 0
    box = board.show("overview").page.locator("#risk-chart .u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
    expect(page.locator("#risk-readout")).not_to_have_text("")
    watch.assert_quiet()
    assert watch.hosts == {board.base.removeprefix("http://")}


def test_xss_01_a_name_of_many_characters_does_not_widen_the_page(open_page: Open, platform: Platform) -> None:
    board = open_page(viewport={"width": 360, "height": 780}).enter(platform.keys["admin"])
    platform.act(1, "w" * 255, tool="W" * 255)
    expect(board.rows().first).to_contain_text("wwwwwwww")
    assert board.page.evaluate("document.documentElement.scrollWidth") == 360
    platform.database.execute("delete from agent_actions where agent_id = %s", ["w" * 255])
