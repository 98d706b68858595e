"""The log: one line per record, no secret, no control character."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from config.settings import LogSettings
from owkai import logs

SECRET = "3f9a1c77d0b24e6f8a5b90c1d2e3f405"
HOSTILE = 'a\r\nb\x1b[2J\x00\x7f\x85\u2028\u2029\u202e\ufeff"}\ud800 %s {0} é'


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


def records(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("form", ["json", "console"])
def test_log_01_hostile_text_stays_on_one_line_of_printable_characters(stream: io.StringIO, form: str) -> None:
    logs.set_up(LogSettings.model_validate({"format": form}), stream=stream)
    logging.getLogger("a.room").warning("agent %s", HOSTILE, extra={"agent": HOSTILE, HOSTILE: "x"})
    line, rest = stream.getvalue().split("\n")
    assert rest == ""
    assert [letter for letter in line if not letter.isprintable()] == []
    assert "\\x1b[2J" in (json.loads(line)["message"] if form == "json" else line)


@pytest.mark.parametrize("form", ["json", "console"])
def test_log_01_long_text_is_cut_with_its_length(stream: io.StringIO, form: str) -> None:
    logs.set_up(LogSettings.model_validate({"format": form}), stream=stream)
    logging.getLogger("a.room").warning("x" * 100_000)
    assert len(stream.getvalue()) < 5000
    assert "(100000 characters)" in (str(records(stream)[0]["message"]) if form == "json" else stream.getvalue())


def test_log_02_format_marks_in_a_message_are_not_interpreted(stream: io.StringIO) -> None:
    logs.set_up(LogSettings(format="json"), stream=stream)
    logging.getLogger("a.room").warning("100 %s {0} %(name)s")
    logging.getLogger("a.room").warning("%d of them", "no number")
    assert [record["message"] for record in records(stream)] == ["100 %s {0} %(name)s", "%d of them"]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "text",
    [
        f"connecting with {SECRET}",
        "postgresql://u:3f9a1c77d0b24e6f@h/d",
        "host=h password='3f9a1c77d0b24e6f'",
        "Authorization: Bearer 3f9a1c77d0b24e6f",
        "cookie eyJhbGciOiJIUzI1NiJ9.eyJ3f9a1c77d0b24e6f.sig3f9a1c77d0b24e6f",
        "key owkai_admin_3f9a1c77d0b24e6f8a5b90c1d2e3f40516273849",
    ],
)
def test_sec_01_secrets_are_taken_out_of_messages_fields_and_traces(stream: io.StringIO, form: str, text: str) -> None:
    logs.set_up(LogSettings.model_validate({"format": form}), [SECRET], stream)
    log = logging.getLogger("a.room")
    log.warning(text)
    log.warning("%s", text, extra={"field": text})
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed")
    assert "3f9a1c77d0b24e6f" not in stream.getvalue()
    assert "***" in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 3


def test_a_record_carries_time_level_logger_fields_and_error(stream: io.StringIO) -> None:
    logs.set_up(LogSettings(format="json"), stream=stream)
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("a.room").exception("it failed", extra={"request_id": "r1", "status": 500, "none": None})
    (record,) = records(stream)
    assert str(record["time"]).endswith("Z")
    assert {name: record[name] for name in ("level", "logger", "message", "request_id", "status", "error")} == {
        "level": "error", "logger": "a.room", "message": "it failed", "request_id": "r1", "status": 500,
        "error": "KeyError",
    }  # fmt: skip
    assert "Traceback" in str(record["trace"])
    assert "none" not in record


def test_a_field_cannot_overwrite_what_the_record_says(stream: io.StringIO) -> None:
    logs.set_up(LogSettings(format="json"), stream=stream)
    logging.getLogger("a.room").warning("true", extra={"level": "debug", "logger": "other", "time": "never"})
    (record,) = records(stream)
    assert (record["level"], record["logger"]) == ("warning", "a.room")
    assert record["time"] != "never"


def test_auto_is_console_on_a_terminal_and_json_elsewhere(stream: io.StringIO) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    logs.set_up(LogSettings(), stream=terminal)
    logging.getLogger("a.room").warning("hello", extra={"count": 2})
    logs.set_up(LogSettings(), stream=stream)
    logging.getLogger("a.room").warning("hello")
    assert terminal.getvalue().endswith("WARNING a.room: hello  count=2\n")
    assert records(stream)[0]["message"] == "hello"


def test_the_level_is_a_setting_and_libraries_keep_their_debug_records(stream: io.StringIO) -> None:
    logs.set_up(LogSettings(format="json", level="debug"), stream=stream)
    logging.getLogger("a.room").debug("seen")
    logging.getLogger("botocore.endpoint").debug("request with headers")
    assert [record["message"] for record in records(stream)] == ["seen"]
