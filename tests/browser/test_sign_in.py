"""Signing in, staying signed in, signing out, and what the browser keeps."""

from __future__ import annotations

import re
import time

import jwt
from playwright.sync_api import expect

from tests.browser.chromium import Watch
from tests.browser.conftest import Open
from tests.browser.dashboard import Dashboard
from tests.browser.platform import Platform
from tests.contract.platform_rows import make_key
from tests.owkai.servers import SECRET, Server, wait_for


def test_a_key_signs_in_and_the_browser_keeps_a_session_but_never_the_key(
    open_page: Open, platform: Platform, server: Server, watch: Watch
) -> None:
    key = platform.keys["admin"]
    board = open_page().arrive()
    expect(board.page).to_have_url(f"{board.base}/sign-in")
    board.sign_in(key)
    expect(board.page).to_have_url(f"{board.base}/")
    board.page.locator("#account summary").click()
    expect(board.page.locator("#account-facts")).to_contain_text("admin@one.example")
    expect(board.page.locator("#account-facts")).to_contain_text("(admin)")
    (cookie,) = board.page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("owkai_page", True, "Strict")
    assert key not in cookie["value"]
    kept = board.page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert key not in kept
    assert cookie["value"] not in kept
    assert key not in server.log_path.read_text(encoding="utf-8")
    watch.assert_quiet()


def test_a_wrong_key_is_refused_in_words_and_the_next_try_works(open_page: Open, platform: Platform) -> None:
    board = open_page().arrive("/sign-in")
    page = board.page
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("Enter your API key.")
    page.get_by_label("API key").fill("owkai_user_" + "w" * 43)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("Invalid key")
    expect(page.get_by_label("API key")).to_be_focused()
    expect(page.get_by_label("API key")).to_have_attribute("type", "password")
    page.get_by_label("Show key").check()
    expect(page.get_by_label("API key")).to_have_attribute("type", "text")
    board.sign_in(platform.keys["user"])


def test_a_session_survives_a_reload_and_a_second_tab_and_ends_with_the_sign_out(admin: Dashboard) -> None:
    page = admin.page
    page.reload()
    admin.until_live()
    other = Dashboard(page.context, admin.base).arrive("/sign-in")
    expect(other.page).to_have_url(f"{admin.base}/")  # who is signed in is not asked again
    other.until_live()
    page.locator("#account summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{admin.base}/sign-in")
    expect(page.get_by_role("status")).to_have_text("You have signed out.")
    assert page.context.cookies() == []
    expect(other.page).to_have_url(f"{admin.base}/sign-in", timeout=20_000)
    expect(other.page.get_by_role("status")).to_have_text("Your session has expired. Sign in again.")
    page.goto(admin.base + "/")
    expect(page).to_have_url(f"{admin.base}/sign-in")


def test_a_revoked_key_ends_the_session_and_the_page_says_so(
    open_page: Open, platform: Platform, server: Server
) -> None:
    key = make_key(platform.database, 1, "user", "leaving@one.example")
    wait_for(lambda: server.get("/session", {"X-API-Key": key})[0] == 200, "the key to be known")
    board = open_page().enter(key)
    platform.database.execute(
        "update api_keys set revoked_at = now(), is_active = false"
        " where user_id = (select id from users where email = 'leaving@one.example')"
    )
    expect(board.page).to_have_url(f"{board.base}/sign-in", timeout=20_000)
    expect(board.page.get_by_role("status")).to_have_text("Your session has expired. Sign in again.")


def test_a_session_of_the_platform_needs_no_sign_in_and_is_not_ours_to_end(open_page: Open, server: Server) -> None:
    now = int(time.time())
    claims = {"sub": "1", "user_id": 1, "email": "admin@one.example", "role": "admin", "organization_id": 1}
    token = jwt.encode({**claims, "type": "access", "iat": now, "exp": now + 600}, SECRET, "HS256")
    board = open_page()
    board.page.context.add_cookies([{"name": "access_token", "value": token, "url": board.base, "httpOnly": True}])
    board.arrive().until_live()
    board.page.locator("#account summary").click()
    expect(board.page.locator("#account-note")).to_contain_text("Signed in by the platform")
    expect(board.page.get_by_role("button", name="Sign out")).to_be_hidden()


def test_a_view_is_kept_over_the_sign_in(open_page: Open, platform: Platform) -> None:
    board = open_page().arrive("/#system")
    expect(board.page).to_have_url(f"{board.base}/sign-in")
    board.sign_in(platform.keys["user"])
    expect(board.page).to_have_url(f"{board.base}/#system")
    expect(board.page.locator("#view-system")).to_be_visible()
    expect(board.page).to_have_title(re.compile("^System"))


def test_a_dead_cookie_that_cannot_be_taken_back_leads_to_the_sign_in_and_no_loop(
    open_page: Open, platform: Platform
) -> None:
    """Another host, or here another path, has set the cookie: the server cannot make the browser forget it."""
    board = open_page()
    page = board.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    junk = {"name": "owkai_page", "value": "J" * 43, "domain": "127.0.0.1", "path": "/session"}
    page.context.add_cookies([junk])  # type: ignore[list-item]
    for _ in range(2):
        del asked[:]
        board.arrive()
        expect(page).to_have_url(f"{board.base}/sign-in")
        expect(page.get_by_label("API key")).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert asked.count(f"{board.base}/session") == 2, "once, and once more after the cookie was to be forgotten"
