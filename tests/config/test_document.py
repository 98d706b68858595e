"""A settings file as text: what is refused, and where keys stand."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.document import MAXIMUM_BYTES, DocumentError, parse_document

SETTINGS = b"""\
mock_data = true  # server = 1

[server]
port = 1 # host = "b"
"host" = "x"
[source]
dsn = \"\"\"
[fake]
port = 3
\"\"\"
tables = { users = "" }
columns.users.id = "x"
[auth]
audience = [
  "a = b", # ]
  "c",
]
issuer = 'q # "'
[ websocket . "inner" ]
"""


def test_every_key_and_section_is_known_by_its_line() -> None:
    assert parse_document(SETTINGS).lines == {
        ("mock_data",): 1,
        ("server",): 3,
        ("server", "port"): 4,
        ("server", "host"): 5,
        ("source",): 6,
        ("source", "dsn"): 7,
        ("source", "tables"): 11,
        ("source", "columns"): 12,
        ("source", "columns", "users"): 12,
        ("source", "columns", "users", "id"): 12,
        ("auth",): 13,
        ("auth", "audience"): 14,
        ("auth", "issuer"): 18,
        ("websocket", "inner"): 19,
    }


def test_a_key_inside_an_inline_table_has_the_line_of_the_table() -> None:
    assert parse_document(SETTINGS).line(("source", "tables", "users")) == 11


def test_windows_line_ends_are_read() -> None:
    document = parse_document(b"[server]\r\nport = 1\r\n")
    assert document.values == {"server": {"port": 1}}
    assert document.lines[("server", "port")] == 2


@pytest.mark.parametrize(
    ("raw", "line", "words"),
    [
        (b"\xef\xbb\xbfa = 1", 1, "byte order mark"),
        ("a = 1".encode("utf-16"), 1, "byte order mark"),
        (b"a = 1\nb = '\xff'", 2, "not UTF-8 (byte 0xff)"),
        (b"a = 1\na = 2\nb = 1\n", 2, "a second time"),
        (b"a = 1\na = 2\n\n", 2, "a second time"),
        (b"[a]\n[b]\n[a]\nx = 1\n", 3, "a second time"),
        (b"[a]\nb = 1\n[a.b]\n", 3, "a second time"),
        (b"a = 1\nb = word\n", 2, "not TOML: invalid value"),
        (b"a = 1\rb = 2", 1, "not TOML"),
        (b'a = 1\nb = "open', 2, "not TOML"),
        (b"a = " + b"9" * 5000, None, "number that is too long"),
        (b"a = " + b"[" * 100_000, None, "nested too deeply"),
        (b"x = 1\na" + b".a" * 200_000 + b" = 1", 2, "nested too deeply"),
        (b"[a" + b".a" * 200_000 + b"]", 1, "nested too deeply"),
        (b"#" * (MAXIMUM_BYTES + 1), None, "larger than"),
    ],
    ids=range(15),
)
def test_cfg_01_a_broken_file_is_refused_with_its_line(raw: bytes, line: int | None, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_document(raw)
    assert words in str(caught.value)
    assert caught.value.line == line


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_a_document_error(raw: bytes) -> None:
    with suppress(DocumentError):
        assert isinstance(parse_document(raw).values, dict)


names = st.text("abcdefgh_", min_size=1, max_size=4)
scalars = st.one_of(
    st.integers(), st.booleans(), st.text(st.characters(codec="ascii", exclude_characters='"\\'), max_size=9)
)


@given(st.dictionaries(names, st.dictionaries(names, scalars, max_size=4), max_size=4), st.data())
def test_the_line_of_a_key_is_where_it_was_written(
    sections: dict[str, dict[str, int | bool | str]], data: st.DataObject
) -> None:
    lines, expected = [], {}
    for section, keys in sections.items():
        lines += [""] * data.draw(st.integers(0, 2)) + [f"[{section}]"]
        for key, value in keys.items():
            if isinstance(value, str):
                shown = '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in value) + '"'
            else:
                shown = str(value).lower()
            lines.append(f"{key} = {shown} # {key} = [")
            expected[(section, key)] = len(lines)
    found = parse_document("\n".join(lines).encode()).lines
    assert {path: line for path, line in found.items() if len(path) == 2} == expected
