"""Fixtures of the browser tests: one browser and one served platform for all tests that only look or add."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from owkai.demo.postgres import EmbeddedPostgres
from tests.browser.chromium import Watch, chromium
from tests.browser.dashboard import Dashboard
from tests.browser.platform import Platform, make_platform, served
from tests.owkai.servers import Server
from tests.postgres import create_database, drop_database

Open = Callable[..., Dashboard]

expect.set_options(timeout=15_000)  # a shared machine may stall


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs a browser."""
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def platform(postgres: EmbeddedPostgres) -> Iterator[Platform]:
    database = create_database(postgres, "test_browser")
    try:
        yield make_platform(database)
    finally:
        drop_database(database)


@pytest.fixture(scope="session")
def server(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(platform, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def open_page(browser: Browser, watch: Watch, request: pytest.FixtureRequest) -> Iterator[Open]:
    """A page in a fresh browser profile: `open_page()`, `open_page(base, color_scheme="dark", viewport=…)`."""
    contexts = []

    def new(base: str | None = None, **options: Any) -> Dashboard:
        if base is None:
            base = f"http://127.0.0.1:{request.getfixturevalue('server').port}"
        given = {
            "viewport": {"width": 1440, "height": 900},
            "timezone_id": "Europe/Berlin",
            "locale": "en-GB",
            **options,
        }
        context = browser.new_context(**given)
        watch.follow(context)
        contexts.append(context)
        return Dashboard(context, base)

    yield new
    for context in contexts:
        context.close()


@pytest.fixture
def admin(open_page: Open, platform: Platform) -> Dashboard:
    """An admin of organization 1, signed in and live."""
    return open_page().enter(platform.keys["admin"])
