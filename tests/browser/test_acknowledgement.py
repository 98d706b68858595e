"""Acknowledging an anomaly on the page: analysts and admins may, others see no button."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import Watch
from tests.browser.conftest import Open
from tests.browser.platform import Platform
from tests.contract.platform_rows import make_key
from tests.owkai.servers import Server, wait_for


@pytest.mark.parametrize("role", ["admin", "analyst"])
def test_an_anomaly_is_acknowledged_and_the_acknowledgement_withdrawn(
    open_page: Open, platform: Platform, server: Server, watch: Watch, role: str
) -> None:
    email = f"{role}@two.example"
    key = make_key(platform.database, 2, role, email)
    wait_for(lambda: server.get("/session", {"X-API-Key": key})[0] == 200, "the key to be known")
    board = open_page().enter(key).show("forecast")
    page = board.page
    anomalies = page.locator("#anomalies")
    buttons = anomalies.get_by_role("button", name=re.compile("^Acknowledge:"))
    expect(buttons.first).to_be_visible(timeout=30_000)
    number = buttons.count()
    buttons.first.click()
    expect(anomalies).to_contain_text(f"acknowledged by {email}", timeout=30_000)
    expect(buttons).to_have_count(number - 1)
    expect(page.locator("#announcements")).to_have_text("Anomaly acknowledged.")
    page.reload()
    board.until_live().show("forecast")
    expect(anomalies).to_contain_text(f"acknowledged by {email}", timeout=30_000)
    anomalies.get_by_role("button", name=re.compile("^Withdraw acknowledgement:")).click()
    expect(buttons).to_have_count(number, timeout=30_000)
    expect(anomalies).not_to_contain_text("acknowledged by")
    watch.assert_quiet()


def test_a_user_without_the_role_sees_anomalies_and_no_button(
    open_page: Open, platform: Platform, server: Server
) -> None:
    key = make_key(platform.database, 2, "viewer", "viewer@two.example")
    wait_for(lambda: server.get("/session", {"X-API-Key": key})[0] == 200, "the key to be known")
    page = open_page().enter(key).show("forecast").page
    expect(page.locator("#anomalies li").first).to_be_visible(timeout=30_000)
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)


def test_a_refused_acknowledgement_is_shown_next_to_its_button(open_page: Open, platform: Platform) -> None:
    page = open_page().enter(platform.keys["hostile"]).show("forecast").page
    page.route(
        "**/acknowledgement",
        lambda route: route.fulfill(status=503, json={"detail": "The acknowledgement cannot be recorded"}),
    )
    page.locator("#anomalies").get_by_role("button", name=re.compile("^Acknowledge:")).first.click()
    expect(page.locator("#anomalies .failure").first).to_have_text("The acknowledgement cannot be recorded.")
