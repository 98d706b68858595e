"""The audit trail of a running server: what is recorded, floods, failing disks, signals. Cases AUD-01 … AUD-09."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from handlers.audit.audit_log import MAX_QUEUED, AuditLog
from handlers.audit.coalescing import MAX_GROUPS, RecordCoalescer
from handlers.audit.verify import verify_trail
from handlers.audit.writer import Shape
from owkai.cli import main
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Served, still_alive, until
from tests.handlers.world import ADMIN_1, USER_1
from tests.owkai.servers import Server, environment, owkai, serving, wait_for
from tests.security.trails import records_of, shape, whole


def trail_of(folder: Path) -> Shape:
    return Shape(folder / "cache" / "audit.jsonl")


def events(kept: Shape) -> list[str]:
    return [record["event"] for record in records_of(kept)]


def cli(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = owkai(*arguments, cwd=folder, env=environment(CACHE_DIRECTORY=str(folder / "cache")))
    return done.returncode, done.stdout, done.stderr


# -- what is recorded ------------------------------------------------------------------------------------------------


def test_aud_01_start_stop_reload_sync_and_the_operators_keys_are_recorded(tmp_path: Path) -> None:
    kept = trail_of(tmp_path)
    code, _, error = cli(tmp_path, "keys", "create", "--org", "1", "--role", "user", "--email", "a@one.example")
    assert code == 0, error
    with serving(tmp_path) as server:
        code, key, error = cli(tmp_path, "keys", "create", "--org", "1", "--role", "user", "--email", "b@one.example")
        assert code == 0, error
        assert server.get(f"{API}/trends", {"X-API-Key": key.strip()})[0] == 503
        second = [record for record in records_of(kept) if record["event"] == "key_create"][-1]
        assert cli(tmp_path, "keys", "revoke", second["key"])[0] == 0
        server.signal(signal.SIGHUP)
        wait_for(lambda: "reload" in events(kept), "the reload to be recorded")
        wait_for(lambda: any("retrying" in record.get("now", "") for record in records_of(kept)), "sync to retry")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    records = records_of(kept)
    names = [record["event"] for record in records]
    assert names[:2] == ["key_create", "start"]
    assert [name for name in names if name != "sync"] == [
        "key_create", "start", "key_create", "access", "key_revoke", "reload", "stop",
    ]  # fmt: skip
    made = records[0]
    assert (made["organization_id"], made["key_email"], made["key_role"]) == (1, "a@one.example", "user")
    assert f"uid {os.getuid()}" in made["principal"]
    assert records[-1]["reason"] == "SIGTERM"
    assert records[1]["pid"] == server.process.pid
    text = kept.path.read_text()
    assert key.strip() not in text
    whole(kept)


def test_aud_01_a_key_that_cannot_be_recorded_is_not_made(tmp_path: Path) -> None:
    code, _, _ = cli(tmp_path, "keys", "list")
    (tmp_path / "cache").mkdir(mode=0o700, exist_ok=True)
    os.mkfifo(tmp_path / "cache" / "audit.jsonl")
    made = cli(tmp_path, "keys", "create", "--org", "1", "--role", "user", "--email", "a@one.example")
    assert made[0] == 1
    assert "no key was created" in made[2]
    assert cli(tmp_path, "keys", "list") == (0, "", "")
    assert code == 0


@pytest.mark.gen_test
async def test_aud_01_a_live_connection_is_recorded_when_it_opens_and_ends(served: Served) -> None:
    lines = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", f"Authorization: Bearer {USER_1.token()}")  # fmt: skip
    head = "\r\n".join([f"GET {API}/ws/realtime/{USER_1.email} HTTP/1.1", f"Host: {served.authority}", *lines])
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head.encode() + b"\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 101")
    writer.close()
    await until(lambda: len(served.records()) == 2)
    opened, closed = served.records()
    assert (opened["event"], opened["outcome"], opened["status"]) == ("ws_open", "success", 101)
    assert closed["event"] == "ws_closed"
    assert opened["request_id"] == closed["request_id"]
    assert opened["principal"] == closed["principal"] == USER_1.email


# -- the report ------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_aud_01_the_report_counts_by_user_endpoint_outcome_and_day(served: Served) -> None:
    for path, who, times in (
        ("/trends", USER_1, 3),
        ("/executive/dashboard", USER_1, 2),
        ("/executive/dashboard", ADMIN_1, 1),
    ):
        for _ in range(times):
            await served.get(path, token=who.token())
    await served.get("/trends")
    served.records()
    before = served.audit_file.read_bytes(), served.audit_file.stat().st_mtime_ns

    def report(*options: str) -> str:
        done = CliRunner().invoke(main, ["audit", "report", *options, str(served.audit_file)])
        assert done.exit_code == 0, done.output
        return done.stdout

    found = json.loads(report("--json"))
    assert found["accesses"] == 7
    assert found["by_user"] == {
        "user@one.example (organization 1)": 5,
        "(no credential)": 1,
        "admin@one.example (organization 1)": 1,
    }
    assert found["by_endpoint"] == {f"{API}/trends": 4, f"{API}/executive/dashboard": 3}
    assert found["by_outcome"] == {"success": 4, "denied": 3}
    assert found["by_day"] == {"2025-01-15": 7}
    assert found["refusals"] == {"not_admin from 127.0.0.1": 2, "no_credential from 127.0.0.1": 1}
    assert json.loads(report("--json", "--until", "2025-01-14"))["accesses"] == 0
    assert json.loads(report("--json", "--since", "2025-01-15"))["accesses"] == 7
    table = report("--csv", "--by", "outcome")
    assert table.splitlines()[:3] == ["dimension,value,count", "outcome,success,4", "outcome,denied,3"]
    assert "         5  user@one.example (organization 1)" in report()
    assert (served.audit_file.read_bytes(), served.audit_file.stat().st_mtime_ns) == before


# -- signals and files -----------------------------------------------------------------------------------------------


def test_aud_05_mv_and_sighup_go_on_in_a_new_file_of_the_same_chain(tmp_path: Path) -> None:
    kept = trail_of(tmp_path)
    with serving(tmp_path) as server:
        for number in range(3):
            server.get("/healthz")
            kept.path.rename(kept.path.with_name(f"audit.jsonl.{number}"))
            server.signal(signal.SIGHUP)
            wait_for(kept.path.exists, "the new file")
        server.get("/healthz")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert events(kept).count("access") == 4
    verdict = whole(kept)
    assert len(verdict.files) == 4
    assert events(kept).count("file_moved") == 3


def test_aud_06_upg_05_a_killed_server_leaves_a_whole_chain(tmp_path: Path) -> None:
    kept = trail_of(tmp_path)
    for _ in range(2):
        with serving(tmp_path, AUDIT_ANCHOR_FILE=str(tmp_path / "anchor.jsonl")) as server:
            stop = threading.Event()
            asking = threading.Thread(target=ask_until, args=(server, stop))
            asking.start()
            lines = len(events(kept))
            wait_for(lambda: len(events(kept)) > lines + 20, "records")  # noqa: B023
            server.signal(signal.SIGKILL)
            server.wait()
            stop.set()
            asking.join()
    verdict = verify_trail(Shape(kept.path, anchor=tmp_path / "anchor.jsonl"))
    assert verdict.whole, verdict.faults
    assert events(kept).count("start") == 2


def ask_until(server: Server, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            server.get("/healthz")
        except (OSError, ValueError):
            return


# -- a disk that fails -----------------------------------------------------------------------------------------------


def fill_disk(server: Server, kept: Shape) -> None:
    """From now on the kernel refuses the process every write beyond the trail's present size."""
    size = kept.path.stat().st_size + 100
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def empty_disk(server: Server) -> None:
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def recording(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/readyz")[1]["audit"]
    return found


def test_aud_07_a_full_disk_refuses_protected_routes_until_records_are_written_again(tmp_path: Path) -> None:
    kept = trail_of(tmp_path)
    with serving(tmp_path) as server:
        key = cli(tmp_path, "keys", "create", "--org", "1", "--role", "user", "--email", "a@one.example")[1].strip()
        assert server.get(f"{API}/trends", {"X-API-Key": key})[1]["detail"].startswith("The first copy")
        assert recording(server) == {"state": "recording", "reason": None, "anchor_failure": None}
        fill_disk(server, kept)
        wait_for(lambda: recording(server)["state"] == "failing", "the failure to be noticed")
        status, problem = server.get(f"{API}/trends", {"X-API-Key": key})
        assert (status, problem["detail"]) == (503, "Accesses cannot be recorded at the moment")
        assert server.get("/readyz")[0] == 503
        assert recording(server)["reason"] == "File too large"
        assert server.get("/healthz")[0] == 200
        refused = cli(tmp_path, "keys", "create", "--org", "1", "--role", "user", "--email", "b@one.example")
        assert refused[0] == 1
        assert "no key was created" in refused[2]
        empty_disk(server)
        wait_for(lambda: recording(server)["state"] == "recording", "recording to go on")
        status, problem = server.get(f"{API}/trends", {"X-API-Key": key})
        assert problem["detail"].startswith("The first copy")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.messages().count("the audit trail cannot be written") == 1
    names = events(kept)
    assert "recording_resumed" in names
    assert next(record for record in records_of(kept) if record["event"] == "similar")["count"] >= 1
    whole(kept)


def test_aud_07_with_continue_requests_are_served_and_every_record_follows(tmp_path: Path) -> None:
    kept = trail_of(tmp_path)
    key = cli(tmp_path, "keys", "create", "--org", "1", "--role", "user", "--email", "a@one.example")[1].strip()
    with serving(tmp_path, AUDIT_ON_FAILURE="continue") as server:
        fill_disk(server, kept)
        wait_for(lambda: recording(server)["state"] == "failing", "the failure to be noticed")
        before = events(kept).count("access")
        for _ in range(5):
            assert server.get(f"{API}/trends", {"X-API-Key": key})[1]["detail"].startswith("The first copy")
        assert events(kept).count("access") == before
        empty_disk(server)
        wait_for(lambda: recording(server)["state"] == "recording", "recording to go on")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    trends = [record for record in records_of(kept) if record.get("route") == f"{API}/trends"]
    assert len([record for record in trends if record.get("principal") == "a@one.example"]) == 5
    whole(kept)


def test_aud_07_a_file_deleted_or_emptied_while_open_is_said_in_the_trail(tmp_path: Path) -> None:
    kept = shape(tmp_path)
    log = AuditLog(kept)
    log.record({"event": "one"})
    assert log.flush()
    kept.path.unlink()
    log.record({"event": "two"})
    assert log.flush()
    assert [record["event"] for record in records_of(kept)] == ["file_lost", "two"]
    os.truncate(kept.path, 0)
    log.record({"event": "three"})
    log.close()
    assert [record["event"] for record in records_of(kept)] == ["file_shrunk", "three"]
    assert verify_trail(kept).first == 4


def test_aud_07_a_folder_that_goes_away_fails_and_comes_back(tmp_path: Path) -> None:
    kept = Shape(tmp_path / "trail" / "audit.jsonl")
    log = AuditLog(kept)
    log.record({"event": "one", "principal": "x"})
    assert log.flush()
    (tmp_path / "trail").rename(tmp_path / "away")
    (tmp_path / "trail").write_text("in the way")
    log.record({"event": "two", "principal": "x"})
    wait_for(lambda: log.failing is not None, "the failure")
    assert not log.accepting
    (tmp_path / "trail").unlink()
    (tmp_path / "away").rename(tmp_path / "trail")
    assert log.flush()
    assert log.accepting
    log.close()
    assert [record["event"] for record in records_of(kept)] == ["one", "two", "recording_resumed"]
    whole(kept)


def test_aud_07_a_recording_thread_that_ends_is_never_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(shape(tmp_path))
    assert log._writer is not None

    def broken(entries: Any) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(log._writer, "append", broken)
    log.record({"event": "access"})
    wait_for(lambda: not log.accepting, "the failure to be seen")
    assert "background job audit failed" in caplog.text
    log.close()


# -- floods ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_aud_09_a_flood_of_junk_is_counted_exactly_and_blocks_nobody(served: Served) -> None:
    junk = 1500
    raw = f"GET /nowhere HTTP/1.1\r\nHost: {served.authority}\r\n\r\n".encode()
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(raw * (junk // 3 - 1) + raw.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await asyncio.wait_for(reader.read(), 10)
        while not reader.at_eof():
            await asyncio.wait_for(reader.read(1 << 20), 10)
        writer.close()
    await still_alive(served, USER_1)
    records = served.records()
    lines = [record for record in records if record["event"] == "access" and record["reason"] == "unknown_path"]
    gathered = [record for record in records if record["event"] == "similar"]
    assert len(lines) + sum(record["count"] for record in gathered) == junk
    assert sum(record["count"] for record in gathered) > 0
    assert {(record["of"], record["reason"], record["address"]) for record in gathered} == {
        ("access", "unknown_path", "127.0.0.1")
    }
    assert [record["principal"] for record in records if record["event"] == "access" and record["status"] == 200] == [
        USER_1.email
    ]


def test_aud_09_groups_are_bounded_and_their_counts_exact() -> None:
    gathering = RecordCoalescer(limit=0)
    total = 0
    for number in range(5 * MAX_GROUPS):
        entry = {
            "event": "access",
            "status": 404,
            "reason": f"r{number % 7}",
            "address": f"10.0.{number // 250}.{number % 250}",
        }
        assert gathering.is_flood(entry, 1.0)
        gathering.add(entry)
        total += 1
    records = gathering.take_all()
    assert len(records) <= 2 * MAX_GROUPS + 8
    assert sum(record["count"] for record in records) == total
    assert not gathering


def test_aud_09_a_full_queue_is_counted_exactly_and_recording_never_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = shape(tmp_path)
    log = AuditLog(kept, refuse=False)
    gate, entered = threading.Event(), threading.Event()
    assert log._writer is not None
    real = log._writer.append

    def held(entries: Any) -> None:
        entered.set()
        gate.wait(120)
        real(entries)

    monkeypatch.setattr(log._writer, "append", held)
    log.record({"event": "access", "principal": "a", "status": 200})
    assert entered.wait(30)
    begun = time.monotonic()
    for _ in range(MAX_QUEUED + 700):
        log.record({"event": "access", "principal": "a", "status": 200, "outcome": "success"})
    assert time.monotonic() - begun < 60, "the writer is held for longer"
    assert log._queue.qsize() <= MAX_QUEUED
    gate.set()
    assert log.flush(30)
    log.close()
    records = records_of(kept)
    assert sum(record.get("count", 1) for record in records) == MAX_QUEUED + 701
    assert [record["principal"] for record in records if record["event"] == "similar"] == ["a"]


def test_aud_09_with_refuse_a_full_queue_takes_no_protected_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(shape(tmp_path))
    monkeypatch.setattr("handlers.audit.audit_log.MAX_QUEUED", 0)
    assert not log.accepting
    monkeypatch.undo()
    assert log.accepting
    log.close()


@pytest.mark.gen_test
async def test_aud_07_503_comes_before_the_credential_is_looked_at(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()
    monkeypatch.setattr(served.services.audit, "failing", "No space left on device")
    for how in ({"token": USER_1.token()}, {}, {"key": "x" * 40}):
        answer = await served.get("/trends", **how)
        assert answer.status == 503
        assert answer.header("Retry-After")
        assert b"space" not in answer.body
    signing_in = await served.ask(
        "/session", ("Origin", "https://good.example"), ("X-API-Key", USER_1.key), method="POST"
    )
    assert (signing_in.status, signing_in.header("Set-Cookie")) == (503, None)
    ready = (await served.ask("/readyz")).json()
    assert (ready["ready"], ready["audit"]["reason"]) == (False, "No space left on device")
    monkeypatch.undo()
    assert (await served.get("/trends", token=USER_1.token())).status == 200
