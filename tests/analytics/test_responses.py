"""JSON of responses: what leaves, and in which form."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from analytics.responses import ConnectionMessage, connection_message, cut, encode, plain
from tests.contract.structure import assert_documented, example


@dataclass(frozen=True)
class Anything:
    value: object


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_dos_05_numbers_json_cannot_say_become_null(number: float) -> None:
    assert encode(Anything((number, 1e308, 2**70))) == b'{"value":[null,1e+308,1180591620717411303424]}'


def test_times_leave_as_utc_whole_seconds_z() -> None:
    berlin = timezone(timedelta(hours=1))
    assert plain(datetime(2025, 1, 15, 15, 30, 0, 999_999, berlin)) == "2025-01-15T14:30:00Z"
    assert plain(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00Z"
    assert plain(date(2025, 1, 9)) == "2025-01-09"


def test_json_is_compact_utf8_and_any_text_survives() -> None:
    text = 'é\u202e\u2028\ufffe\x00"\\ \U0001f469\u200d\U0001f4bb </script>'
    body = encode(Anything(text))
    assert json.loads(body.decode("utf-8")) == {"value": text}
    assert "é".encode() in body
    assert encode(Anything((1, None, True))) == b'{"value":[1,null,true]}'


def test_a_value_without_a_json_form_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="type set"):
        encode(Anything({1}))


def test_connection_message_is_the_documented_one() -> None:
    message = connection_message("user@company.com", datetime(2025, 1, 15, 14, 30, tzinfo=UTC))
    assert isinstance(message, ConnectionMessage)
    assert json.loads(encode(message)) == example("ws_connection")
    assert_documented("ws_connection", json.loads(encode(message)))


def test_cut_keeps_what_fits_and_marks_what_does_not() -> None:
    assert cut("x" * 256) == "x" * 256
    assert cut("x" * 257) == "x" * 255 + "…"
    assert cut("abc", 2) == "a…"
