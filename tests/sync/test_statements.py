"""pg_stat_statements of a real Postgres, as sync samples it: sums over the hour, no text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from owkai.demo.postgres import EmbeddedPostgres
from sync.source import statement_statistics as statements
from sync.source.statement_statistics import HOUR, INTERVAL, Interval, StatementSampler, Total, between
from tests.postgres import Database

NOW = datetime(2025, 1, 15, 14, 30, tzinfo=UTC)
SECRET_TEXT = "'not for anybody'"


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    options = {"shared_preload_libraries": "pg_stat_statements", "fsync": "off"}
    with EmbeddedPostgres.start(tmp_path_factory.mktemp("counted"), options=options) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("create schema extensions")
            connection.execute("create extension pg_stat_statements schema extensions")
            connection.execute("create role reader")
            connection.execute("grant usage on schema extensions to reader")
            connection.execute("create database another")
        yield server


def sampled(connection: psycopg.Connection[Any], sampler: StatementSampler, times: int) -> Any:
    return [sampler.sample(connection, NOW + number * INTERVAL) for number in range(times)][-1]


@pytest.mark.parametrize("role", ["postgres", "reader"])
def test_rep_11_executions_of_our_database_are_counted_without_their_text(counted: EmbeddedPostgres, role: str) -> None:
    sampler = StatementSampler()
    with (
        psycopg.connect(counted.dsn(), autocommit=True) as ours,
        psycopg.connect(counted.dsn(), autocommit=True) as platform,
        psycopg.connect(counted.dsn("another"), autocommit=True) as elsewhere,
    ):
        ours.execute(f"set role {role}")
        assert sampler.sample(ours, NOW) is None
        for _ in range(30):
            platform.execute("select 1 where 'x' <> " + SECRET_TEXT)
        for _ in range(3):
            platform.execute("select pg_sleep(0.12)")
        for _ in range(500):
            elsewhere.execute("select 2")
        found = sampler.sample(ours, NOW + INTERVAL)
    assert found is not None
    # Our own two catalogue queries and a few of the sessions' are in it too.
    assert 33 <= found.executed < 60
    assert found.milliseconds >= 360
    # Without the right to tell statements of others apart they are one, and on average that is not slow.
    assert found.slow == (3 if role == "postgres" else 0)
    assert (found.since, found.sampled_at) == (NOW, NOW + INTERVAL)
    assert SECRET_TEXT not in repr((found, vars(sampler)))


def test_between_two_readings_the_last_answer_stands(counted: EmbeddedPostgres) -> None:
    sampler = StatementSampler()
    with psycopg.connect(counted.dsn(), autocommit=True) as connection:
        found = sampled(connection, sampler, 2)
        assert sampler.sample(connection, NOW + INTERVAL * 1.9) is found
        assert sampler.sample(connection, NOW + INTERVAL * 2) is not found


def test_statistics_that_are_reset_count_from_zero(counted: EmbeddedPostgres) -> None:
    sampler = StatementSampler()
    with psycopg.connect(counted.dsn(), autocommit=True) as connection:
        for _ in range(50):
            connection.execute("select 3")
        sampler.sample(connection, NOW)
        connection.execute("select extensions.pg_stat_statements_reset()")
        for _ in range(5):
            connection.execute("select 3")
        found = sampler.sample(connection, NOW + INTERVAL)
    assert found is not None
    assert 5 <= found.executed < 20


def test_a_source_without_the_extension_is_asked_seldom(database: Database) -> None:
    sampler = StatementSampler()
    with database.connect() as connection:
        assert sampler.sample(connection, NOW) is None
        assert sampler.sample(connection, NOW + timedelta(minutes=6)) is None
    # Not due again: a closed connection is not even touched.
    assert sampler.sample(connection, NOW + timedelta(minutes=7)) is None


def test_a_broken_connection_is_the_samplers_to_mend(database: Database) -> None:
    with database.connect() as connection:
        pid = connection.execute("select pg_backend_pid()").fetchone()
        assert pid is not None
        database.execute("select pg_terminate_backend(%s)", [pid[0]])
        with pytest.raises(psycopg.Error):
            StatementSampler().sample(connection, NOW)


def test_an_extension_that_is_not_loaded_is_no_failure(database: Database) -> None:
    """Created, but not in shared_preload_libraries: Postgres refuses the function."""
    database.execute("create extension pg_stat_statements")
    with database.connect() as connection:
        assert StatementSampler().sample(connection, NOW) is None
        assert connection.execute("select 1").fetchone() == (1,)


def test_slow_are_statements_slow_on_average_in_their_interval() -> None:
    before = {(1, 7): Total(10, 100.0), (1, 8): Total(5, 50_000.0)}
    after = {(1, 7): Total(12, 400.0), (1, 8): Total(25, 50_100.0), (1, 9): Total(3, 299.7)}
    assert between(before, after, NOW) == Interval(NOW, 2 + 20 + 3, 2, pytest.approx(300 + 100 + 299.7))


def test_an_hour_is_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(0, 10**6, 10))
    monkeypatch.setattr(statements, "read_totals", lambda connection: {(1, 1): Total(next(calls), 0.0)})
    sampler = StatementSampler()
    found = sampled(None, sampler, 400)  # type: ignore[arg-type]
    assert found.executed == 10 * (HOUR // INTERVAL)
    assert found.since == found.sampled_at - HOUR
