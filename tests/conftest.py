"""Fixtures of every room: one Postgres per run, one database per test."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from owkai.demo.platform import platform_sql
from owkai.demo.postgres import EmbeddedPostgres
from tests.postgres import Database, create_database, drop_database, prepare_template


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A real server for the whole run: logical replication, room for many slots, no fsync."""
    # Not below pytest's own temporary folder: as root the server runs as an account that may not enter it.
    directory = Path(tempfile.mkdtemp(prefix="owkai-tests-"))
    with EmbeddedPostgres.start(directory, options={"max_replication_slots": "60", "max_wal_senders": "60"}) as server:
        prepare_template(server, platform_sql())
        yield server


@pytest.fixture(scope="session")
def _database_numbers() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def database(postgres: EmbeddedPostgres, _database_numbers: Iterator[int]) -> Iterator[Database]:
    """A fresh database with platform.sql loaded; dropped with its replication slots afterwards."""
    created = create_database(postgres, f"test_{next(_database_numbers)}")
    try:
        yield created
    finally:
        drop_database(created)
