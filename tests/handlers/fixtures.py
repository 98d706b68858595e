"""Fixtures of this room and of `tests/security`: a cache of the world, services over it, a server in the test's loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tornado.ioloop import IOLoop
from tornado.web import Application

from analytics.state.cache import Cache
from analytics.state.sync_status import Phase, StatusBoard
from config.settings import Settings
from handlers.application import ApiServer, make_application
from handlers.auth.key_store import KeyStore
from owkai.wiring import make_services
from tests.analytics.rows import ORIGIN, fill
from tests.handlers.serving import Served, run
from tests.handlers.world import CANARY, NOW, SECRET, Clock, LocalKeys, every_credential, make_local_keys, tables

Serve = Callable[..., Served]


@pytest.fixture(scope="session", autouse=True)
def no_stray_loop() -> None:
    """asyncio makes a loop for whoever asks first, and nobody closes it; after this it makes none."""
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session")
def world_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cache, LocalKeys]]:
    """The world in memory, shared by all tests that only read it."""
    with_keys = _open_world(tmp_path_factory.mktemp("world"))
    yield with_keys
    with_keys[0].close()


@pytest.fixture
def own_cache(tmp_path: Path) -> Iterator[tuple[Cache, LocalKeys]]:
    """The world in memory, for a test that changes it."""
    with_keys = _open_world(tmp_path / "cache")
    yield with_keys
    with_keys[0].close()


def _open_world(directory: Path) -> tuple[Cache, LocalKeys]:
    settings = make_settings(directory)
    cache = Cache(settings.cache)
    store = cache.build(ORIGIN)
    fill(store, tables())
    cache.publish(store)
    return cache, make_local_keys(KeyStore(settings.keys_file, lambda: NOW))


def make_settings(directory: Path, **sections: Mapping[str, Any]) -> Settings:
    """Settings for tests: HS256, a free port; sections replace single keys."""
    tree: dict[str, Any] = {
        "cache": {"directory": directory, "in_memory": True, "memory_limit": "256MiB", "threads": 1},
        "server": {"port": 0, "drain_seconds": 3},
        "auth": {"jwt_secret": SECRET},
        "websocket": {"allowed_origins": ["https://good.example"], "interval_seconds": 3600},
    }
    for name, values in sections.items():
        tree[name] = {**tree.get(name, {}), **values} if isinstance(values, Mapping) else values
    return Settings.model_validate(tree)


def make_board() -> StatusBoard:
    board = StatusBoard()
    board.update(phase=Phase.STREAMING, mode="stream", guarantee="exact", fresh_at=NOW, applied_lsn=100, source_lsn=100)
    return board


@pytest.fixture
def serve(
    io_loop: IOLoop,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Serve]:
    """Start a server: `serve(auth={...})`, `serve(cache=own_cache, ...)`. Afterwards nothing secret may be recorded."""
    caplog.set_level(logging.DEBUG)
    started: list[Served] = []

    def start(cache: tuple[Cache, LocalKeys] | None = None, clock: Clock | None = None, **sections: Any) -> Served:
        opened, local = cache or request.getfixturevalue("world_cache")
        audit_file = tmp_path / f"audit-{len(started)}.jsonl"
        settings = make_settings(opened.directory, audit={"file": audit_file}, **sections)
        clock = clock or Clock()
        services = make_services(settings, opened, make_board(), clock)
        server = ApiServer(services)

        # The test's loop is the current one, running (in a test) or not (in a fixture).
        served = Served(server.start(), server, services, clock, local, audit_file)
        started.append(served)
        return served

    yield start
    for served in started:
        run(io_loop, served.server.drain)
        served.services.close()
        check_standing_rules(served, caplog.text)


@pytest.fixture
def served(serve: Serve) -> Served:
    """A server with the settings of `make_settings`."""
    return serve()


@pytest.fixture
def app(io_loop: IOLoop, world_cache: tuple[Cache, LocalKeys], tmp_path: Path) -> Iterator[Application]:
    """The application alone, for the fixtures of pytest-tornado (`http_client`, `base_url`)."""
    opened, _ = world_cache
    services = make_services(
        make_settings(opened.directory, audit={"file": tmp_path / "app-audit.jsonl"}), opened, make_board(), Clock()
    )
    yield make_application(services)
    services.close()


def check_standing_rules(served: Served, log_text: str) -> None:
    """No fixture credential in any log or record; no answer mixes the two organizations."""
    recorded = served.audit_file.read_text(encoding="ascii") if served.audit_file.exists() else ""
    for credential in every_credential(served.local):
        assert credential not in recorded
        assert credential not in log_text
    for answer in served.seen:
        assert not all(mark.encode() in answer.body for mark in CANARY.values())
