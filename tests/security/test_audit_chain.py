"""The audit trail as a chain of files: what changes, cuts, rotations, crashes and clocks do to it. Cases AUD-02 … AUD-08."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from handlers.audit.anchor import read_anchors
from handlers.audit.chain import Head, digest, read_line, seal
from handlers.audit.files import AuditFileError, earlier_files
from handlers.audit.writer import Shape, TrailWriter
from tests.handlers.world import NOW
from tests.owkai.servers import environment, owkai, wait_for
from tests.security.trails import KEY, check, lines_of, records_of, shape, whole, write

ROOT = Path(__file__).parents[2]
Change = Callable[[list[bytes]], list[bytes]]


def renumbered(lines: list[bytes]) -> list[bytes]:
    return [
        *lines[:2],
        *(line.replace(b'"seq":%d,' % n, b'"seq":%d,' % (n - 1)) for n, line in enumerate(lines[3:], 4)),
    ]


CHANGES: dict[str, tuple[Change, int]] = {
    "one byte": (lambda lines: [*lines[:3], lines[3].replace(b'"n":4', b'"n":9'), *lines[4:]], 4),
    "one byte of the last": (lambda lines: [*lines[:9], lines[9].replace(b"user@one", b"user@two")], 10),
    "one byte of a seal": (lambda lines: [lines[0][:-4] + b'0"}\n', *lines[1:]], 1),
    "one deleted": (lambda lines: [*lines[:3], *lines[4:]], 4),
    "two swapped": (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], 4),
    "one copied": (lambda lines: [*lines[:6], lines[2], *lines[6:]], 7),
    "renumbered": (renumbered, 3),
    "a line of another kind": (lambda lines: [*lines[:5], b'{"event":"access"}\n', *lines[5:]], 6),
    "an empty line": (lambda lines: [*lines[:5], b"\n", *lines[5:]], 6),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("keys", [(), (KEY,)], ids=["hash", "mac"])
def test_aud_02_a_changed_removed_moved_or_copied_record_is_found_at_its_line(
    tmp_path: Path, what: str, keys: tuple[bytes, ...]
) -> None:
    kept = shape(tmp_path, keys=keys)
    write(kept, 10)
    assert whole(kept).records == 10
    change, line = CHANGES[what]
    lines = lines_of(kept.path)
    changed = [bad for bad in change(lines) if bad]
    assert changed != lines
    kept.path.write_bytes(b"".join(changed))
    verdict = check(kept)
    assert not verdict.whole
    assert verdict.faults[0].startswith(f"audit.jsonl:{line}: ")


def test_aud_02_the_command_exits_with_1_and_names_file_and_line(tmp_path: Path) -> None:
    kept = shape(tmp_path)
    write(kept, 10)
    settings = ("--set", f"audit.file={kept.path}", "--set", f"cache.directory={tmp_path / 'cache'}")
    good = owkai("audit", "verify", *settings, cwd=tmp_path)
    assert (good.returncode, ": intact" in good.stdout) == (0, True), good.stderr
    assert "tail not protected" in good.stdout
    lines = lines_of(kept.path)
    kept.path.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    for arguments in ((), (str(kept.path),)):
        bad = owkai("audit", "verify", *settings, *arguments, cwd=tmp_path)
        assert bad.returncode == 1
        assert bad.stdout.startswith("audit.jsonl:4: records 4 to 4 are missing before it")
        assert "NOT intact" in bad.stdout


# -- the tail --------------------------------------------------------------------------------------------------------


def test_aud_03_records_cut_from_the_end_are_found_by_the_anchor(tmp_path: Path) -> None:
    kept = shape(tmp_path, anchor=tmp_path / "elsewhere" / "anchor.jsonl")
    write(kept, 10)
    assert "the anchor knows the records up to 10" in " ".join(whole(kept).notes)
    kept.path.write_bytes(b"".join(lines_of(kept.path)[:7]))
    assert "the tail is cut: the anchor knew record 10" in check(kept).faults[0]
    kept.path.unlink()
    assert not check(kept).whole


def test_aud_03_without_an_anchor_the_check_says_that_the_tail_is_not_protected(tmp_path: Path) -> None:
    kept = shape(tmp_path)
    write(kept, 10)
    kept.path.write_bytes(b"".join(lines_of(kept.path)[:7]))
    verdict = whole(kept)
    assert verdict.head.seq == 7
    assert any("tail not protected" in note and "record 7" in note for note in verdict.notes)


def test_aud_03_the_newest_file_removed_or_an_older_folder_put_back_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "trail"
    kept = Shape(folder / "audit.jsonl", anchor=tmp_path / "anchor.jsonl", rotate_bytes=1000)
    write(kept, 6)
    older = {file.name: file.read_bytes() for file in folder.iterdir()}
    write(kept, 30, start=7)
    whole(kept)
    newest = earlier_files(kept.path)[-1]
    content = newest.read_bytes()
    newest.unlink()
    assert any("are missing before it" in fault for fault in check(kept).faults)
    newest.write_bytes(content)
    whole(kept)
    for file in folder.iterdir():
        file.unlink()
    for name, data in older.items():
        (folder / name).write_bytes(data)
    assert any("the tail is cut" in fault for fault in check(kept).faults)


def test_aud_03_a_server_that_starts_on_a_cut_trail_says_so_for_ever(tmp_path: Path) -> None:
    kept = shape(tmp_path, anchor=tmp_path / "anchor.jsonl")
    write(kept, 10)
    kept.path.write_bytes(b"".join(lines_of(kept.path)[:7]))
    write(kept, 3, start=11)
    records = records_of(kept)
    assert [record["seq"] for record in records] == [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14]
    assert (records[7]["event"], records[7]["first"], records[7]["last"]) == ("records_missing", 8, 10)
    verdict = check(kept)
    assert verdict.faults[0].startswith("audit.jsonl:8: records 8 to 10 are missing")


def test_aud_03_an_anchor_that_was_damaged_or_is_gone_is_a_fault(tmp_path: Path) -> None:
    kept = shape(tmp_path, anchor=tmp_path / "anchor.jsonl", keys=(KEY,))
    write(kept, 5)
    whole(kept)
    anchor = tmp_path / "anchor.jsonl"
    sound = anchor.read_bytes()
    anchor.write_bytes(sound.replace(b'"seq":5', b'"seq":3'))
    assert any(fault.startswith("anchor: ") for fault in check(kept).faults)
    anchor.write_bytes(b"")
    assert any("no line yet" in note for note in whole(kept).notes)
    anchor.unlink()
    assert any("cannot be read" in fault for fault in check(kept).faults)


# -- who makes the chain anew --------------------------------------------------------------------------------------------


def forged(kept: Shape, key: bytes | None) -> bytes:
    """The trail with one record left out and every seal made anew."""
    head, lines = Head(), []
    for record in records_of(kept):
        if record["n"] == 4:
            continue
        line, head = seal({name: value for name, value in record.items() if name != "time"}, head, key)
        lines.append(line)
    return b"".join(lines)


def test_aud_04_a_chain_made_anew_is_found_when_it_is_keyed(tmp_path: Path) -> None:
    kept = shape(tmp_path, keys=(KEY,))
    write(kept, 10)
    kept.path.write_bytes(forged(kept, b"another key, of more than thirty-two characters"))
    verdict = check(kept)
    assert verdict.fault_count == 9
    assert "audit.jsonl:1: record 1 was changed: its seal does not fit" in verdict.faults[0]


def test_aud_04_a_keyed_chain_cannot_be_replaced_by_an_unkeyed_one(tmp_path: Path) -> None:
    kept = shape(tmp_path, keys=(KEY,))
    write(kept, 10)
    kept.path.write_bytes(forged(kept, None))
    assert "has no key's seal" in check(kept).faults[-1]


def test_aud_04_an_unkeyed_chain_made_anew_is_found_by_the_anchor_alone(tmp_path: Path) -> None:
    kept = shape(tmp_path, anchor=tmp_path / "anchor.jsonl")
    write(kept, 10)
    kept.path.write_bytes(forged(kept, None))
    assert "is not the one that was anchored" in check(kept).faults[0]
    assert check(shape(tmp_path)).whole, "what an unkeyed chain does not give, as docs/reference/audit-records.md says"
    page = (ROOT / "docs" / "reference" / "audit-records.md").read_text()
    assert "What an unkeyed chain does not give" in page


def test_aud_04_a_key_given_later_covers_what_was_before(tmp_path: Path) -> None:
    write(shape(tmp_path), 5)
    kept = shape(tmp_path, keys=(KEY,))
    write(kept, 5, start=6)
    verdict = whole(kept)
    assert (verdict.records, verdict.keyed_records) == (10, 5)
    lines = lines_of(kept.path)
    first = read_line(lines[0][:-1])
    assert first is not None
    body = first.body.replace(b'"n":1', b'"n":2')
    lines[0] = body[:-1] + f',"hash":"{digest(body, None)}"}}\n'.encode()
    kept.path.write_bytes(b"".join(lines))
    assert not check(kept).whole


def test_aud_04_an_exchanged_key_leaves_old_records_verifiable(tmp_path: Path) -> None:
    new = b"a new key, of more than thirty-two characters"
    write(shape(tmp_path, keys=(KEY,)), 3)
    write(shape(tmp_path, keys=(new, KEY)), 3, start=4)
    whole(shape(tmp_path, keys=(new, KEY)))
    assert not check(shape(tmp_path, keys=(new,))).whole


# -- from file to file -----------------------------------------------------------------------------------------------


def test_aud_05_rotation_by_size_in_mid_burst_loses_and_doubles_nothing(tmp_path: Path) -> None:
    kept = shape(tmp_path, rotate_bytes=5000)
    writer = TrailWriter(kept, lambda: NOW)
    for burst in range(30):
        writer.append({"event": "access", "n": burst * 10 + one} for one in range(10))
    writer.close()
    assert len(earlier_files(kept.path)) > 5
    assert all(file.stat().st_size <= 5000 for file in earlier_files(kept.path))
    records = records_of(kept)
    assert [record["n"] for record in records if record["event"] == "access"] == list(range(300))
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert whole(kept).first == 1
    first = earlier_files(kept.path)[0]
    assert first.name.startswith("audit.000000000001-")
    assert first.stat().st_mode & 0o777 == 0o600


def test_aud_05_rotation_by_time_begins_a_file_when_the_old_one_is_of_age(tmp_path: Path) -> None:
    kept = shape(tmp_path, rotate_seconds=86_400)
    for day in range(4):
        write(kept, 2, now=NOW + timedelta(days=day), start=2 * day)
    assert len(earlier_files(kept.path)) == 3
    assert [record["n"] for record in records_of(kept) if record["event"] == "access"] == list(range(8))
    whole(kept)


def test_aud_05_a_file_moved_away_is_followed_by_a_new_one_in_the_same_chain(tmp_path: Path) -> None:
    kept = shape(tmp_path)
    writer = TrailWriter(kept, lambda: NOW)
    writer.append({"n": number} for number in range(5))
    kept.path.rename(tmp_path / "audit.jsonl.1")
    writer.reopen()
    writer.append({"n": number} for number in range(5, 10))
    writer.close()
    verdict = whole(kept)
    assert verdict.files == ["audit.jsonl.1", "audit.jsonl"]
    assert [record.get("n", record.get("event")) for record in records_of(kept)] == [
        *range(5),
        "file_moved",
        *range(5, 10),
    ]
    subprocess.run(["gzip", str(tmp_path / "audit.jsonl.1")], check=True)
    assert whole(kept).files == ["audit.jsonl.1.gz", "audit.jsonl"]


def test_aud_05_upg_03_a_second_process_is_refused_with_the_holders_number(tmp_path: Path) -> None:
    kept = shape(tmp_path)
    writer = TrailWriter(kept, lambda: NOW)
    with pytest.raises(AuditFileError, match=f"is written by process {os.getpid()};"):
        TrailWriter(kept, lambda: NOW)
    writer.append([{"n": 1}])
    writer.close()
    write(kept, 1, start=2)
    assert whole(kept).records == 2


def test_aud_05_files_that_were_archived_away_are_said_and_no_fault(tmp_path: Path) -> None:
    kept = shape(tmp_path, rotate_bytes=1000)
    write(kept, 20)
    earlier_files(kept.path)[0].unlink()
    assert any("earlier ones are not among these files" in note for note in whole(kept).notes)


# -- crashes ---------------------------------------------------------------------------------------------------------

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from handlers.audit.audit_log import AuditLog
from handlers.audit.writer import Shape
log = AuditLog(Shape(Path(sys.argv[1]), anchor=Path(sys.argv[2]), anchor_seconds=0.01, rotate_bytes=200_000))
number = 0
while True:
    for _ in range(50):
        number += 1
        log.record({"event": "access", "n": number, "principal": "x" * 100})
    log.flush()
"""


def kill_in_mid_write(kept: Shape, bytes_more: int) -> None:
    """Let a process write without a pause, and kill it when the trail has grown by so much or a new file was begun."""

    def size() -> int:
        return kept.path.stat().st_size if kept.path.exists() else 0

    before = size()
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(kept.path), str(kept.anchor)], env=environment(), cwd=ROOT
    )
    try:
        wait_for(lambda: process.poll() is not None or not 0 <= size() - before <= bytes_more, "records to be written")
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_aud_06_upg_05_a_killed_writer_leaves_a_chain_that_goes_on_whole(tmp_path: Path) -> None:
    kept = shape(tmp_path, anchor=tmp_path / "anchor.jsonl")
    for bytes_more in (100, 8_000, 30_000, 1, 20_000, 60_000):
        kill_in_mid_write(kept, bytes_more)
    write(kept, 1)
    assert whole(kept).records > 100


@pytest.mark.parametrize(
    "torn",
    [b'{"seq":11,"prev":"00', b"\0" * 4096, b"\0" * 100 + b"\n", b'{"seq":11}'],
    ids=["cut", "zeros", "zero line", "whole?"],
)
def test_aud_06_a_torn_last_line_is_kept_aside_and_recovered_is_recorded(tmp_path: Path, torn: bytes) -> None:
    kept = shape(tmp_path)
    write(kept, 10)
    with kept.path.open("ab") as file:
        file.write(torn)
    verdict = check(kept)
    assert verdict.whole is not torn.endswith(b"\n"), "an incomplete line may be one that is being written"
    write(kept, 2, start=11)
    assert (tmp_path / "audit.jsonl.torn-11").read_bytes() == torn
    assert (tmp_path / "audit.jsonl.torn-11").stat().st_mode & 0o777 == 0o600
    note = records_of(kept)[10]
    assert (note["event"], note["bytes"], note["file"]) == ("recovered", len(torn), "audit.jsonl.torn-11")
    assert whole(kept).records == 13


@pytest.mark.parametrize("line", [0, 4, 9])
def test_aud_02_a_line_made_unreadable_is_still_found_after_a_restart(tmp_path: Path, line: int) -> None:
    kept = shape(tmp_path)
    write(kept, 10)
    lines = lines_of(kept.path)
    lines[line] = b"made unreadable\n"
    kept.path.write_bytes(b"".join(lines))
    write(kept, 2, start=11)
    assert not list(tmp_path.glob("*.aside*"))
    verdict = check(kept)
    assert verdict.faults[0] == f"audit.jsonl:{line + 1}: is no record, or one that was changed"


# -- old releases ----------------------------------------------------------------------------------------------------

OLD = (
    '{"time": "2025-01-14T10:00:00.000Z", "event": "access", "path": "/api/analytics/trends", "status": 200, '
    '"outcome": "success", "principal": "user@one.example", "organization_id": 1}\n'
)


def test_upg_07_a_trail_of_the_release_before_is_set_aside_and_still_read(tmp_path: Path) -> None:
    kept = shape(tmp_path)
    kept.path.write_text(OLD * 3)
    write(kept, 2)
    aside = tmp_path / "audit.jsonl.aside-1"
    assert aside.read_text() == OLD * 3
    records = records_of(kept)
    assert (records[0]["event"], records[0]["file"]) == ("set_aside", "audit.jsonl.aside-1")
    assert any("was set aside" in note for note in whole(kept).notes)
    done = owkai("audit", "report", "--by", "user", "--json", str(aside), cwd=tmp_path)
    assert json.loads(done.stdout)["by_user"] == {"user@one.example (organization 1)": 3}, done.stderr


def test_upg_07_a_key_store_of_the_release_before_is_read_and_one_of_a_later_is_refused(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    store = cache / "keys.json"
    entry = {
        "id": "0a1b2c3d", "prefix": "owkai_user_AbCdEf", "organization_id": 1, "role": "user", "email": "a@one.example",
        "key_hash": "ab" * 32, "created_at": "2025-01-01T00:00:00+00:00", "expires_at": None,
    }  # fmt: skip
    store.write_text(json.dumps({"format": 1, "keys": [entry]}))
    store.chmod(0o600)
    settings = ("--set", f"cache.directory={cache}")
    assert "0a1b2c3d" in owkai("keys", "list", *settings, cwd=tmp_path).stdout
    store.write_text(json.dumps({"format": 2, "keys": [entry]}))
    refused = owkai("keys", "list", *settings, cwd=tmp_path)
    assert refused.returncode == 1
    assert "damaged" in refused.stderr


# -- the clock -------------------------------------------------------------------------------------------------------


def test_aud_08_a_clock_set_back_or_forward_changes_times_and_no_numbers(tmp_path: Path) -> None:
    kept = shape(tmp_path, rotate_seconds=86_400 * 7, anchor=tmp_path / "anchor.jsonl")
    moments = [NOW, NOW - timedelta(days=1), NOW + timedelta(days=1), NOW.replace(hour=23, minute=59, second=59), NOW]
    for number, moment in enumerate(moments):
        write(kept, 1, now=moment, start=number)
    records = records_of(kept)
    assert [record["seq"] for record in records] == [1, 2, 3, 4, 5]
    assert [record["time"] for record in records] == [
        "2025-01-15T14:30:00.250Z", "2025-01-14T14:30:00.250Z", "2025-01-16T14:30:00.250Z", "2025-01-15T23:59:59.250Z",
        "2025-01-15T14:30:00.250Z",
    ]  # fmt: skip
    whole(kept)
    anchors = read_anchors(kept.anchor or Path(), ())
    assert [anchor.head.seq for anchor in anchors] == [1, 2, 3, 4, 5]


def test_aud_03_an_emptied_or_missing_file_is_found_without_an_anchor(tmp_path: Path) -> None:
    kept = shape(tmp_path, rotate_bytes=1500)
    write(kept, 20)
    assert whole(kept).records >= 20
    earlier = earlier_files(kept.path)
    for path in (kept.path, *earlier):
        content = path.read_bytes()
        path.write_bytes(b"")
        assert any(fault.startswith(f"{path.name}: ") for fault in check(kept).faults), path
        path.unlink()
        assert not check(kept).whole or path == earlier[0], "a file archived away from the beginning is no fault"
        path.write_bytes(content)
    assert whole(kept).records >= 20
    copy = tmp_path / "copy"
    copy.write_bytes(b"")
    assert not check(kept, [copy]).whole
    for path in (kept.path, *earlier):
        path.write_bytes(b"")
    result = owkai(
        "audit", "verify", cwd=tmp_path, env=environment(AUDIT_FILE=str(kept.path), CACHE_DIRECTORY=str(tmp_path))
    )
    assert result.returncode == 1
    assert "is empty" in result.stdout + result.stderr


def test_aud_03_a_file_emptied_while_it_was_written_is_found_afterwards(tmp_path: Path) -> None:
    kept = shape(tmp_path)
    writer = TrailWriter(kept, lambda: NOW)
    writer.append([{"event": "one"}, {"event": "two"}])
    os.truncate(kept.path, 0)
    writer.append([{"event": "three"}])
    writer.close()
    assert any("cut or emptied while it was being written" in fault for fault in check(kept).faults)
