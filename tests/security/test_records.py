"""What is written down and what is shown: one line each, nothing secret, nothing of the machine."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from pathlib import Path

import pytest

from analytics.state.cache import Cache
from handlers.audit.audit_log import AuditLog
from handlers.audit.files import AuditFileError
from handlers.audit.writer import Shape
from handlers.redaction import client_request_id, shown, shown_path
from handlers.request_log import FRAMEWORK_LOGGERS, FrameworkTexts, filter_framework_loggers
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Served
from tests.handlers.world import ADMIN_1, USER_1, LocalKeys

FIXED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.mark.gen_test
async def test_log_01_hostile_text_stays_one_line(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    for text in ("%0d%0aFAKE", "%1b%5b2J", "%E2%80%A8x", "%00", "%22%7D", "a" * 10_000, "%C2%85", "%E2%80%AE", "%ff"):
        await served.ask(f"/{text}", ("User-Agent", "x\x9b" * 50), ("Referer", "http://" + "r" * 2000))
        await served.get(f"/ws/realtime/{text}@x", key=USER_1.key)
    lines = served.audit_file.read_bytes().splitlines() if served.records() else []
    assert len(lines) == 18
    for line in lines:
        record = json.loads(line)
        assert len(record["path"]) <= 260
        assert line.isascii()
        assert b"FAKE" not in line.split(b'"path"')[0]
    for logged in caplog.records:
        text = logged.getMessage()
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202e]", text), text
        assert len(text) < 500


def test_log_02_format_marks_in_input_mean_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    filter_framework_loggers()
    logging.getLogger("tornado.general").warning("Malformed message from %s: %s", "9.9.9.9", "%s%n{0}")
    assert caplog.records[-1].getMessage() == "Malformed message from *: *"
    assert shown("%s %d {x}") == "%s %d {x}"


@pytest.mark.gen_test
async def test_log_03_no_log_line_quotes_a_query_or_header_value(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    mark = "QUERY-VALUE-MARK"
    for target in (f"{API}/trends?days={mark}", f"/nowhere?x={mark}", f"{API}/trends?tz={mark}&{mark}=1"):
        await served.ask(target, ("X-Anything", mark), ("Cookie", f"a={mark}"), key=USER_1.key)
    for raw in (
        f"GET /?{mark} HTTP/1.1\r\nHost: {mark}/\r\n\r\n",
        f"{mark}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{mark}\r\n\r\n",
    ):
        await served.send(raw.encode())
    await served.send(f"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: {mark}\r\n\r\n".encode())
    assert mark not in caplog.text
    assert mark not in served.audit_file.read_text()
    assert any("Malformed" in record.getMessage() for record in caplog.records), "the framework did speak"


def test_log_03_the_framework_loggers_are_bridled_once() -> None:
    filter_framework_loggers()
    filter_framework_loggers()
    for name in FRAMEWORK_LOGGERS:
        filters = [known for known in logging.getLogger(name).filters if isinstance(known, FrameworkTexts)]
        assert len(filters) == 1


@pytest.mark.gen_test
async def test_aud_01_every_access_has_its_record(served: Served) -> None:
    requests: tuple[tuple[str, dict[str, str], int, str, str | None], ...] = (
        (f"{API}/trends", {"key": USER_1.key}, 200, "success", None),
        (f"{API}/trends", {}, 401, "denied", "no_credential"),
        (f"{API}/executive/dashboard", {"key": USER_1.key}, 403, "denied", "not_admin"),
        (f"{API}/trends?days=0", {"token": USER_1.token()}, 400, "error", "parameter_range"),
        ("/nowhere", {}, 404, "error", "unknown_path"),
    )
    for target, how, *_ in requests:
        await served.ask(target, ("X-Request-Id", "abc-123"), key=how.get("key"), token=how.get("token"))
    records = served.records()
    assert len(records) == len(requests)
    for record, (target, how, status, outcome, reason) in zip(records, requests, strict=True):
        assert record["path"] == target.partition("?")[0]
        assert (record["status"], record["outcome"], record["reason"]) == (status, outcome, reason)
        assert re.fullmatch(r"2025-01-15T14:30:00\.250Z", record["time"])
        assert record["address"] == "127.0.0.1"
        assert record["method"] == "GET"
        if how and status != 401:
            assert record["principal"] == USER_1.email
            assert (record["user_id"], record["organization_id"]) == (2, 1)
    assert records[0]["credential"] == "x-api-key"
    assert USER_1.key.startswith(records[0]["credential_id"])
    assert len(records[0]["credential_id"]) <= 16
    assert re.fullmatch(r"[0-9a-f]{16}", records[3]["credential_id"])


@pytest.mark.gen_test
async def test_aud_10_no_record_holds_a_credential_wherever_it_was_put(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    key, token = USER_1.key, USER_1.token()
    for target in (f"/{key}", f"{API}/trends/{token}", f"{API}/ws/realtime/{key}", f"/?key={key}", f"/a/{key}@x/b"):
        await served.ask(target)
        await served.ask(target, key=ADMIN_1.key)
    for name in ("X-Request-Id", "User-Agent", "Referer", "X-Api-Token", "Origin", "X-Forwarded-For", "Host2"):
        for value in (key, token, served.local.user_1):
            await served.ask(f"{API}/trends", (name, value))
    await served.ask(f"{API}/trends", ("Authorization", f"Token {key}"))
    await served.ask(f"{API}/trends", ("X-API-Key", f"{key}, {key}"))
    # The fixture looks for every credential in log and records afterwards; here the parts of them.
    text = served.audit_file.read_text() + caplog.text
    assert key[-20:] not in text
    assert token[-20:] not in text
    assert token[10:40] not in text


def test_aud_10_what_looks_like_a_credential_is_masked() -> None:
    assert shown_path(f"/a/{USER_1.key}/b") == "/a/***/b"
    assert shown_path("/api/analytics/realtime/metrics") == "/api/analytics/realtime/metrics"
    assert shown_path("/api/analytics/ws/realtime/user@one.example") == "/api/analytics/ws/realtime/user@one.example"
    assert shown(USER_1.token()).count("***") >= 2
    assert client_request_id("8b1e0c2a-3c5d-4e6f-8a9b-0c1d2e3f4a5b") is not None
    assert client_request_id("abc-123") == "abc-123"
    for wrong in (USER_1.key, "a b", "x\n", "", "é"):
        assert client_request_id(wrong) is None


def test_aud_11_the_file_is_private_and_never_a_link(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        log = AuditLog(Shape(tmp_path / "new" / "audit.jsonl"))
        log.record({"event": "x"})
        log.close()
    finally:
        os.umask(before)
    file = tmp_path / "new" / "audit.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    link, folder, pipe = (tmp_path / name for name in ("link", "folder", "pipe"))
    link.symlink_to(file)
    folder.mkdir()
    os.mkfifo(pipe)
    for path in (link, folder, pipe, Path("/dev/full")):
        with pytest.raises(AuditFileError, match=r"audit\.file must name"):
            AuditLog(Shape(path))


@pytest.mark.gen_test
async def test_aud_12_request_ids_are_ours(served: Served) -> None:
    answers = [await served.ask("/healthz", ("X-Request-Id", "same-id")) for _ in range(2)]
    ids = [answer.header("X-Request-Id") for answer in answers]
    assert len(set(ids)) == 2
    assert "same-id" not in ids
    records = served.records()
    assert [record["request_id"] for record in records] == ids
    assert {record["client_request_id"] for record in records} == {"same-id"}


@pytest.mark.gen_test
async def test_sec_06_errors_show_nothing_of_the_machine(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(key: object) -> None:
        raise RuntimeError("SELECT secret FROM /var/lib/owkai at 10.0.0.5")

    monkeypatch.setattr(served.services.publisher, "get", broken)
    failed = await served.get("/trends", token=USER_1.token())
    assert (failed.status, failed.detail) == (500, "Internal Server Error")
    assert f"request {failed.header('X-Request-Id')}" in caplog.text
    targets = [
        await served.ask(target, *lines, method=method)
        for target in (f"{API}/trends", f"{API}/trends?days=x", "/nowhere", "/%ff", f"{API}/executive/dashboard")
        for lines in (
            (),
            (("X-API-Key", "k" * 40),),
            (("Authorization", "Bearer a.b.c"),),
            (("X-API-Key", ADMIN_1.key),),
        )
        for method in ("GET", "POST", "TRACE")
    ]
    for answer in (failed, *targets):
        assert answer.status >= 400
        assert answer.header("Server") == "owkai-analytics"
        text = answer.body.decode()
        for word in (
            "Traceback",
            "File ",
            "SELECT",
            "/var",
            "Error(",
            "tornado",
            "duckdb",
            "jwt",
            "python",
            ".py",
            "10.0.0.5",
        ):
            assert word not in text, text
        if answer.body:
            assert set(answer.json()) <= {"type", "title", "status", "detail", "request_id", "parameter"}


@pytest.mark.gen_test
async def test_sec_07_metrics_have_fixed_labels(served: Served) -> None:
    await served.ask("/some/unknown/thing", key=USER_1.key)
    await served.ask(f"{API}/trends?days=30", key=USER_1.key, method="BREW")
    await served.ask(f"{API}/ws/realtime/{USER_1.email}", key=USER_1.key)
    text = (await served.ask("/metrics")).body.decode()
    labels = dict.fromkeys(re.findall(r'(\w+)="([^"]*)"', text))
    assert {value for name, value in labels if name == "method"} <= {"GET", "HEAD", "OPTIONS", "other"}
    routes = {value for name, value in labels if name == "route"}
    assert routes == {"other", f"{API}/trends", f"{API}/ws/realtime"}
    assert 'method="other"' in text


@pytest.mark.gen_test
async def test_hdr_01_no_origin_is_ever_allowed_to_read(served: Served) -> None:
    for origin in ("https://evil.example", "null", "https://good.example", "*", "https://good.example.evil"):
        for method in ("GET", "OPTIONS"):
            answer = await served.get(
                "/trends",
                ("Origin", origin),
                ("Access-Control-Request-Method", "GET"),
                ("Access-Control-Request-Headers", "X-API-Key"),
                token=USER_1.token(),
                method=method,
            )
            assert not [name for name, _ in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.gen_test
async def test_hdr_04_07_every_answer_carries_the_fixed_headers(served: Served) -> None:
    first = await served.get("/trends", token=USER_1.token())
    answers = [
        first,
        await served.get("/trends", ("If-None-Match", first.header("ETag") or ""), token=USER_1.token()),
        await served.get("/trends"),
        await served.get("/trends?days=0", token=USER_1.token()),
        await served.get("/executive/dashboard", token=USER_1.token()),
        await served.get("/executive/dashboard", token=ADMIN_1.token()),
        await served.get("/trends", method="DELETE"),
        await served.get("/trends", method="OPTIONS"),
        await served.get("/trends", ("Content-Length", "100000000")),
        await served.get(f"/ws/realtime/{USER_1.email}", token=USER_1.token()),
        await served.ask("/nowhere"),
        await served.ask("/healthz"),
        await served.ask("/readyz"),
        await served.ask("/metrics"),
    ]
    assert [answer.status for answer in answers] == [
        200, 304, 401, 400, 403, 200, 405, 204, 413, 426, 404, 200, 200, 200,
    ]  # fmt: skip
    for answer in answers:
        for name, value in FIXED.items():
            assert answer.all_headers(name) == [value], answer.status
        assert answer.header("Permissions-Policy")
        assert answer.header("Server") == "owkai-analytics"


@pytest.mark.gen_test
async def test_xss_02_answers_are_never_html(served: Served) -> None:
    html = ("Accept", "text/html")
    for target in (f"{API}/trends", f"{API}/trends.html", "/<img src=x>".replace(" ", "%20"), "/healthz"):
        answer = await served.ask(target, html, token=USER_1.token())
        assert "html" not in (answer.header("Content-Type") or "")
        assert b"<img" not in answer.body


@pytest.mark.gen_test
async def test_mock_data_is_marked_on_every_answer(serve: Serve, own_cache: tuple[Cache, LocalKeys]) -> None:
    served = serve(cache=own_cache, mock_data=True)
    for answer in (
        await served.get("/trends", token=USER_1.token()),
        await served.get("/trends"),
        await served.ask("/nowhere"),
        await served.ask("/healthz"),
        await served.get("/trends", method="DELETE"),
    ):
        assert answer.header("X-OWKAI-Mock-Data") == "true"
    plain = serve(cache=own_cache)
    assert (await plain.get("/trends", token=USER_1.token())).header("X-OWKAI-Mock-Data") is None
