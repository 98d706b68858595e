"""The source stops, dies, is replaced, loses our slot, changes its certificate. Servers of the tests' own."""

from __future__ import annotations

import datetime
import ipaddress
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from analytics.state.clock import utc_now
from analytics.state.sync_status import Phase
from tests.faults.proxy import Proxy
from tests.faults.stories import insert, own_database, quick
from tests.faults.writing import WritingLoad
from tests.postgres import Database
from tests.sync.running import RunningSync, assert_equal, cache_rows, running_sync, wait_until


@pytest.fixture(scope="module")
def restartable() -> Iterator[Database]:
    with own_database() as database:
        yield database


@pytest.fixture
def source(restartable: Database) -> Iterator[Database]:
    """Empty tables on a server that may be stopped; no slot is left behind."""
    yield restartable
    if not restartable.server.running:
        restartable.server.restart()
    restartable.close()
    wait_until(lambda: not active_slots(restartable), "walsenders to end")
    restartable.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
    restartable.execute("truncate agent_actions, audit_logs, api_keys, users cascade")
    restartable.execute("drop publication if exists owkai")
    restartable.close()


def active_slots(database: Database) -> list[tuple[int]]:
    return database.execute("select active_pid from pg_replication_slots where active").fetchall()


def drop_slot_under_it(database: Database, slot: str) -> None:
    """End the walsender and drop its slot before the next one comes."""
    for _ in range(200):
        database.execute("select pg_terminate_backend(active_pid) from pg_replication_slots where active")
        try:
            database.execute("select pg_drop_replication_slot(%s)", [slot])
            return
        except psycopg.errors.ObjectInUse:
            time.sleep(0.005)
    raise AssertionError("the slot stayed in use")


def stale_answers(sync: RunningSync, rows: int) -> None:
    bound = sync.settings.sync.stale_after_seconds
    wait_until(lambda: sync.board.current.stale(utc_now(), bound), f"stale; {sync.board.current}")
    assert len(cache_rows(sync.cache, "agent_actions")) == rows


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_source_that_stops_or_dies_is_followed_again_from_the_same_position(
    source: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level(logging.INFO)
    insert(source, 50)
    with running_sync(source, tmp_path, **quick()) as sync:
        sync.streaming()
        insert(source, 50)
        source.close()
        getattr(source.server, how)()
        sync.phase(Phase.RETRYING)
        assert "sync is retrying" in caplog.text
        stale_answers(sync, rows=len(cache_rows(sync.cache, "agent_actions")))
        source.server.restart()
        insert(source, 50)
        sync.streaming()
        assert assert_equal(sync, source) == 150
        assert sync.board.current.copies == 1
        assert "sync resumed after" in caplog.text


def test_a_source_killed_under_load_again_and_again_stays_equal(source: Database, tmp_path: Path) -> None:
    with running_sync(source, tmp_path, **quick(batch_rows=200)) as sync:
        sync.streaming()
        with WritingLoad(source, seed=7) as load:
            for _ in range(3):
                before = load.transactions
                wait_until(lambda before=before: load.transactions > before + 20, "a load")  # type: ignore[misc]
                source.server.kill()
                source.server.restart()
        source.close()
        assert assert_equal(sync, source) > 0


def test_a_source_killed_during_the_copy_is_copied_once_it_is_back(source: Database, tmp_path: Path) -> None:
    insert(source, 60_000)
    with Proxy(source.server.port) as line:
        line.delay(0.005)
        with running_sync(source, tmp_path, dsn=line.dsn(source.dsn), **quick()) as sync:
            wait_until(lambda: sync.board.current.progress is not None, "rows of the copy")
            source.close()
            source.server.kill()
            sync.phase(Phase.RETRYING)
            assert not sync.cache.ready
            line.mend()
            source.server.restart()
            sync.streaming()
            assert assert_equal(sync, source) == 60_000


def test_rep_08_a_failover_that_lost_the_slot_ends_in_a_new_copy_while_the_old_rows_are_answered(
    source: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(source, 50)
    with running_sync(source, tmp_path, **quick()) as sync:
        sync.streaming()
        drop_slot_under_it(source, sync.settings.source.slot)
        insert(source, 50)
        wait_until(lambda: sync.board.current.copies == 2, f"a new copy; {sync.board.current}")
        sync.streaming()
        insert(source, 50)
        assert assert_equal(sync, source) == 150
        assert "is gone" in caplog.text or "does not exist" in caplog.text
        assert "making a new copy of the source" in caplog.text


def test_rep_09_another_cluster_at_the_address_takes_the_old_rows_down_and_is_copied(
    source: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    role = "create role owkai_any superuser login password 'known-to-both'"
    insert(source, 50)
    with own_database() as other, Proxy(source.server.port) as line:
        for database in (source, other):
            database.execute("drop role if exists owkai_any")
            database.execute(role)
        insert(other, 7)
        dsn = line.dsn(source.server.dsn(source.name, "owkai_any", "known-to-both"))
        with running_sync(source, tmp_path, dsn=dsn, **quick()) as sync:
            sync.streaming()
            assert_equal(sync, source)
            line.cut()
            line.target = other.server.port
            line.mend()
            wait_until(lambda: sync.board.current.copies == 2, f"a new copy; {sync.board.current}")
            sync.streaming()
            insert(other, 7)
            assert assert_equal(sync, other) == 14
            assert "another database" in caplog.text
        source.execute("drop owned by owkai_any cascade")


def test_a_source_put_back_from_an_older_state_is_copied_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A restored backup has our slot, but of the past: what the cache holds beyond it no longer happened."""
    with own_database() as source:
        insert(source, 50)
        with running_sync(source, tmp_path, **quick()) as sync:
            sync.streaming()
            source.close()
            source.server.stop()
            data = (source.server.directory / "data").resolve()
            backup = data.with_name("backup")
            shutil.copytree(data, backup, symlinks=True)
            for path in (backup, *backup.rglob("*")):
                shutil.chown(path, data.stat().st_uid, data.stat().st_gid)
            source.server.restart()
            insert(source, 5000)
            assert_equal(sync, source)
            source.close()
            source.server.stop()
            shutil.rmtree(data)
            backup.rename(data)
            source.server.restart()
            wait_until(lambda: sync.board.current.copies == 2, f"a new copy; {sync.board.current}")
            sync.streaming()
            insert(source, 5)
            assert assert_equal(sync, source) == 55
            assert "behind the cache" in caplog.text


def test_a_restored_source_that_has_grown_past_the_cache_is_told_by_its_timeline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By positions alone the slot would lead on, into another history: rows of the lost one would stay for ever."""
    with own_database() as source, Proxy(source.server.port) as line:
        insert(source, 50)
        with running_sync(source, tmp_path, dsn=line.dsn(source.dsn), **quick()) as sync:
            sync.streaming()
            source.close()
            source.server.stop()
            data = (source.server.directory / "data").resolve()
            backup = data.with_name("backup")
            shutil.copytree(data, backup, symlinks=True)
            with (backup / "postgresql.auto.conf").open("a") as settings:
                settings.write("restore_command = 'false'\n")
            (backup / "recovery.signal").touch()
            for path in (backup, *backup.rglob("*")):
                shutil.chown(path, data.stat().st_uid, data.stat().st_gid)
            source.server.restart()
            insert(source, 100)
            assert_equal(sync, source)
            reached = sync.board.current.applied_lsn or 0
            line.cut()
            source.close()
            source.server.stop()
            shutil.rmtree(data)
            backup.rename(data)
            source.server.restart()
            end = "select (pg_current_wal_flush_lsn() - '0/0')::bigint"
            wait_until(lambda: source.execute("select pg_is_in_recovery()").fetchone() == (False,), "the promotion")
            while (source.execute(end).fetchone() or (0,))[0] <= reached + 1_000_000:
                insert(source, 1000)
            line.mend()
            wait_until(lambda: sync.board.current.copies == 2, f"a new copy; {sync.board.current}")
            sync.streaming()
            insert(source, 5)
            assert assert_equal(sync, source) > 1000
            assert "timeline" in caplog.text


def test_rep_08_a_slot_invalidated_by_max_slot_wal_keep_size_ends_in_a_new_copy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"max_slot_wal_keep_size": "32MB", "max_wal_size": "64MB", "min_wal_size": "32MB"}
    with own_database(**options) as source, Proxy(source.server.port) as line:
        insert(source, 50)
        with running_sync(source, tmp_path, dsn=line.dsn(source.dsn), **quick()) as sync:
            sync.streaming()
            line.cut()
            slot = sync.settings.source.slot
            lost = "select wal_status = 'lost' from pg_replication_slots where slot_name = %s"
            for _ in range(30):
                source.execute("select pg_logical_emit_message(false, 'owkai-test', repeat('x', 8000000))")
                source.execute("select pg_switch_wal()")
                source.execute("checkpoint")
                if source.execute(lost, [slot]).fetchone() == (True,):
                    break
            assert source.execute(lost, [slot]).fetchone() == (True,)
            insert(source, 50)
            stale_answers(sync, rows=50)
            line.mend()
            wait_until(lambda: sync.board.current.copies == 2, f"a new copy; {sync.board.current}")
            sync.streaming()
            insert(source, 50)
            assert assert_equal(sync, source) == 150
            assert "invalidated" in caplog.text


@dataclass
class Authority:
    """A certificate authority made for one test."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return cls(key, builder.sign(key, hashes.SHA256()))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def install(self, directory: Path) -> None:
        """Write a certificate for 127.0.0.1 and its key where Postgres looks for them."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = _builder(subject, self.certificate.subject, key.public_key())
        certificate = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        owner = directory.stat()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        signed = certificate.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        for name, content in (("server.crt", signed), ("server.key", private)):
            path = directory / name
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(content)
            shutil.chown(path, owner.st_uid, owner.st_gid)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )


def test_a_certificate_of_another_authority_is_refused_until_it_is_trusted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second = Authority.make("first authority"), Authority.make("second authority")
    roots = tmp_path / "roots.pem"
    roots.write_bytes(first.pem)
    with own_database() as source:
        data = (source.server.directory / "data").resolve()
        first.install(data)
        source.execute("alter system set ssl = on")
        source.execute("select pg_reload_conf()")
        insert(source, 50)
        with Proxy(source.server.port) as line:
            dsn = line.dsn(source.dsn) + f"?sslmode=verify-full&sslrootcert={roots}"
            with running_sync(source, tmp_path, dsn=dsn, **quick()) as sync:
                sync.streaming()
                assert source.execute("select count(*) from pg_stat_ssl where ssl").fetchone() != (0,)
                second.install(data)
                source.execute("select pg_reload_conf()")
                line.cut()
                insert(source, 50)
                line.mend()
                wait_until(
                    lambda: "certificate verify failed" in (sync.board.current.error or ""), f"{sync.board.current}"
                )
                assert "sslrootcert" in (sync.board.current.remedy or "")
                assert "certificate verify failed" in caplog.text
                stale_answers(sync, rows=50)
                roots.write_bytes(first.pem + second.pem)
                sync.streaming()
                assert assert_equal(sync, source) == 100
                assert sync.board.current.copies == 1


def test_garbled_bytes_inside_tls_are_never_taken_for_rows(tmp_path: Path) -> None:
    authority = Authority.make("authority")
    (tmp_path / "roots.pem").write_bytes(authority.pem)
    with own_database() as source:
        authority.install((source.server.directory / "data").resolve())
        source.execute("alter system set ssl = on")
        source.execute("select pg_reload_conf()")
        with Proxy(source.server.port) as line:
            dsn = line.dsn(source.dsn) + f"?sslmode=verify-full&sslrootcert={tmp_path / 'roots.pem'}"
            with running_sync(source, tmp_path, dsn=dsn, **quick(reply_timeout_seconds=1)) as sync:
                sync.streaming()
                for turn in range(1, 5):
                    line.garble(turn)
                    insert(source, 100)
                    wait_until(lambda turn=turn: line.garbled >= turn, "garbled pieces")  # type: ignore[misc]
                line.mend()
                assert assert_equal(sync, source) == 400
                assert sync.board.current.copies == 1
