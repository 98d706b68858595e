"""Numbers that move: from Postgres into the page, through a lost line, and through a server that was killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from playwright.sync_api import expect

from owkai.demo.postgres import EmbeddedPostgres, free_port
from tests.browser.chromium import Watch
from tests.browser.conftest import Open
from tests.browser.dashboard import Dashboard
from tests.browser.platform import Platform, make_platform, served
from tests.faults.proxy import Proxy
from tests.owkai.servers import SECRET
from tests.postgres import create_database, drop_database

OFFLINE = "#connection[data-state=lost]"


@pytest.fixture(scope="module")
def own_platform(postgres: EmbeddedPostgres) -> Iterator[Platform]:
    """For servers that are killed: their slot is in nobody's way."""
    database = create_database(postgres, "test_browser_own")
    try:
        yield make_platform(database)
    finally:
        drop_database(database)


def test_an_insert_in_postgres_moves_the_tiles_and_heads_the_table(
    admin: Dashboard, platform: Platform, watch: Watch
) -> None:
    before = {name: admin.number(name) for name in ("actions", "risks", "agents", "day")}
    platform.act(1, "a-brand-new-agent", risk="critical", tool="a-new-tool", times=3)
    expect(admin.tile("actions")).to_have_text(str(before["actions"] + 3))
    expect(admin.tile("risks")).to_have_text(str(before["risks"] + 3))
    expect(admin.tile("agents")).to_have_text(str(before["agents"] + 1))
    expect(admin.tile("day")).to_have_text(f"{before['day'] + 3:,}")
    expect(admin.rows().first).to_contain_text("a-brand-new-agent")
    expect(admin.rows().first).to_contain_text("Critical")
    waiting = admin.number("pending")
    platform.database.execute(
        "update agent_actions set status = 'pending_approval' where agent_id = 'a-brand-new-agent'"
    )
    expect(admin.tile("pending")).to_have_text(str(waiting + 3), timeout=20_000)
    platform.database.execute("delete from agent_actions where agent_id = 'a-brand-new-agent'")
    expect(admin.tile("actions")).to_have_text(str(before["actions"]))
    watch.assert_quiet()


def test_another_organizations_actions_move_nothing(admin: Dashboard, platform: Platform) -> None:
    before = admin.number("actions")
    platform.act(3, "of-another-organization", times=5)
    platform.act(1, "of-our-own", times=1)
    expect(admin.tile("actions")).to_have_text(str(before + 1))
    assert "of-another-organization" not in admin.page.content()
    platform.database.execute("delete from agent_actions where agent_id in ('of-another-organization', 'of-our-own')")


def test_a_lost_line_is_said_and_comes_back_by_itself(
    open_page: Open, own_platform: Platform, tmp_path: Path, watch: Watch
) -> None:
    with Proxy(0) as line:
        base = f"http://127.0.0.1:{line.port}"
        with served(own_platform, tmp_path, None, base) as server:
            line.target = server.port
            board = open_page(base).enter(own_platform.keys["admin"])
            before = board.number("actions")
            line.cut()
            expect(board.page.locator(OFFLINE)).to_be_visible()
            expect(board.page.locator("#stale")).to_contain_text("Connection lost")
            expect(board.page.locator("#announcements")).to_contain_text("Connection lost")
            expect(board.page.locator("#retry")).to_contain_text("retrying")
            expect(board.tile("actions")).to_have_text(str(before))  # what was known stays on show
            board.page.get_by_role("button", name="Try now").click()
            expect(board.page.locator(OFFLINE)).to_be_visible()
            own_platform.act(1, "while-nobody-saw", times=2)
            line.mend()
            expect(board.tile("actions")).to_have_text(str(before + 2), timeout=40_000)
            board.until_live()
            expect(board.page.locator("#stale")).to_be_hidden()
            expect(board.page.locator("#announcements")).to_have_text("Live updates are on.")
            assert (watch.violations, watch.dialogs) == ([], [])


def test_a_page_that_could_not_start_waits_for_the_server_and_never_leaves(
    open_page: Open, own_platform: Platform, tmp_path: Path
) -> None:
    """A wall screen: the server goes away while the page starts, and nobody is there to load it again."""
    with Proxy(0) as line:
        base = f"http://127.0.0.1:{line.port}"
        with served(own_platform, tmp_path, None, base) as server:
            line.target = server.port
            board = open_page(base)
            page = board.page
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            answer = page.context.request.post(
                f"{base}/session", data={"api_key": own_platform.keys["admin"]}, headers={"Origin": base}
            )
            assert answer.status == 201
            page.route("**/session", lambda route: route.abort())
            board.arrive()
            expect(page.locator("#startup-error")).to_be_visible()
            line.cut()
            page.unroute("**/session")
            tried = len(asked)
            with page.expect_request("**/session", timeout=60_000):
                pass
            with page.expect_request("**/session", timeout=60_000):
                pass
            assert {url.removeprefix(base) for url in asked[tried:]} == {"/session"}, "the page did not load itself"
            expect(page.locator("#startup-error")).to_contain_text("The server is unreachable.")
            line.mend()
            expect(page.locator("#startup-error")).to_be_hidden(timeout=60_000)
            board.until_live()
            expect(page).to_have_url(f"{base}/")


def test_a_killed_server_is_said_and_after_its_restart_the_page_goes_on(
    open_page: Open, own_platform: Platform, tmp_path: Path
) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    now = int(time.time())
    claims = {"sub": "1", "user_id": 1, "email": "admin@one.example", "role": "admin", "organization_id": 1}
    token = jwt.encode({**claims, "type": "access", "iat": now, "exp": now + 600}, SECRET, "HS256")
    with served(own_platform, tmp_path, port) as server:
        by_key = open_page(base).enter(own_platform.keys["user"])
        by_platform = open_page(base)
        by_platform.page.context.add_cookies([{"name": "access_token", "value": token, "url": base}])
        by_platform.arrive().until_live()
        before = by_platform.number("actions")
        server.signal(signal.SIGKILL)
        server.wait()
        for board in (by_key, by_platform):
            expect(board.page.locator(OFFLINE)).to_be_visible()
    own_platform.act(1, "while-it-was-away", times=4)
    with served(own_platform, tmp_path, port):
        expect(by_platform.tile("actions")).to_have_text(str(before + 4), timeout=60_000)
        by_platform.until_live()
        by_key.until_live()
        expect(by_key.tile("actions")).to_have_text(str(before + 4))


def test_a_postgres_out_of_reach_is_said_and_the_last_numbers_stay(
    open_page: Open, own_platform: Platform, tmp_path: Path
) -> None:
    source = own_platform.database.server
    with Proxy(source.port) as line:
        through = Platform(own_platform.database, own_platform.keys)
        with served(through, tmp_path, None, dsn=line.dsn(own_platform.database.dsn)) as server:
            board = open_page(f"http://127.0.0.1:{server.port}").enter(own_platform.keys["admin"])
            expect(board.page.locator("#sync-text")).to_contain_text("Up to date")
            line.cut()
            expect(board.page.locator("#sync-text")).to_contain_text("Source unreachable", timeout=30_000)
            expect(board.page.locator("#connection")).to_have_attribute("data-state", "live")
            line.mend()
            expect(board.page.locator("#sync-text")).to_contain_text("Up to date", timeout=40_000)
