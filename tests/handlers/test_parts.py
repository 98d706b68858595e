"""The small parts by themselves: audit file, key store, frames, addresses."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.audit.audit_log import AuditLog
from handlers.audit.writer import Shape
from handlers.auth.key_store import KeyStore
from handlers.live.frames import may_be_sent, text_frame
from handlers.redaction import SECRET_RUN, shown, shown_path
from tests.handlers.world import NOW


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.json", lambda: NOW)


def test_records_are_written_in_order_and_all_of_them(tmp_path: Path) -> None:
    log = AuditLog(Shape(tmp_path / "audit.jsonl"))
    for number in range(5000):
        log.record({"n": number, "text": "a\nb\u2028c"})
    log.close()
    log.close()
    log.record({"n": "after"})
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(5000))


def test_records_are_appended_to_what_is_there(tmp_path: Path) -> None:
    for number in range(2):
        log = AuditLog(Shape(tmp_path / "audit.jsonl"))
        log.record({"n": number})
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    assert [(line["seq"], line["n"]) for line in lines] == [(1, 0), (2, 1)]
    assert lines[1]["prev"] == lines[0]["hash"]


def test_an_audit_log_without_a_place_records_nothing() -> None:
    log = AuditLog(None)
    log.record({"n": 1})
    assert log.flush()
    log.close()


def test_a_key_is_found_by_its_text_alone(store: KeyStore) -> None:
    text, key = store.create(7, "org_admin", "a@b.example", 10)
    assert text.startswith("owkai_org_admin_")
    assert len(text) == len("owkai_org_admin_") + 43
    assert store.find(text) == key
    assert store.get(key.id) == key
    assert store.find(text[:-1]) is None
    assert store.find(key.prefix) is None
    assert store.list() == (key,)
    assert key.expires_at == NOW.replace(microsecond=0) + timedelta(days=10)


def test_keys_are_revoked_by_id_or_prefix(store: KeyStore) -> None:
    made = [store.create(1, "user", "a@b.example") for _ in range(3)]
    store.revoke(made[0][1].id)
    store.revoke(made[1][1].prefix)
    assert store.list() == (made[2][1],)
    assert store.find(made[0][0]) is None
    for wrong in ("", "owkai_user_", "x"):
        with pytest.raises(KeyError, match="owkai keys list"):
            store.revoke(wrong)


def test_keys_that_cannot_be_are_refused(store: KeyStore) -> None:
    for organization_id, role, days in (
        (0, "user", None),
        (-1, "user", None),
        (1, "U", None),
        (1, "", 1),
        (1, "user", 0),
    ):
        with pytest.raises(ValueError, match="must be"):
            store.create(organization_id, role, "a@b.example", days)
    assert store.list() == ()


def test_two_makers_at_once_lose_no_key(tmp_path: Path) -> None:
    def make() -> None:
        mine = KeyStore(tmp_path / "keys.json", lambda: NOW)
        for _ in range(10):
            mine.create(1, "user", "a@b.example")

    makers = [threading.Thread(target=make) for _ in range(3)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(KeyStore(tmp_path / "keys.json").list()) == 30


@given(st.integers(0, 70_000))
def test_frames_state_their_length_in_the_shortest_form(size: int) -> None:
    payload = b"x" * size
    frame = text_frame(payload)
    assert frame[0] == 0x81
    assert frame.endswith(payload)
    head = len(frame) - size
    assert head == (2 if size < 126 else 4 if size <= 0xFFFF else 10)
    announced = frame[1] if head == 2 else int.from_bytes(frame[2:head], "big")
    assert announced == size


def test_close_codes_that_may_be_sent() -> None:
    assert all(may_be_sent(code) for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1013, 3000, 4401, 4999))
    assert not any(may_be_sent(code) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535))


@given(st.text(max_size=400))
def test_shown_text_is_one_bounded_line_without_long_runs(text: str) -> None:
    for result in (shown(text), shown_path(text)):
        assert result.isprintable() or not any(
            ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in result
        )
        assert len(result.splitlines()) <= 1
        assert not SECRET_RUN.search(result.replace("\\", " ").replace("/", " "))
