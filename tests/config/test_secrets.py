"""Passwords in connection strings."""

from __future__ import annotations

import pytest

from config.load import load_settings
from config.secrets import has_password, masked, secret_texts


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p%40w@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgres://u:p@w@h/d", "postgres://u:***@h/d"),
        ("postgresql://:pw@/d?host=/tmp", "postgresql://:***@/d?host=/tmp"),
        ("postgresql://h/d?user=u&password=pw&sslmode=require", "postgresql://h/d?user=u&password=***&sslmode=require"),
        ("host=h password=pw dbname=d", "host=h password=*** dbname=d"),
        ("host=h password = 'p w\\'x' dbname=d", "host=h password = *** dbname=d"),
        ("host=h sslpassword=pw", "host=h sslpassword=***"),
        ("cannot reach postgresql://u:p@h/d: refused", "cannot reach postgresql://u:***@h/d: refused"),
    ],
)
def test_sec_01_a_password_is_masked_in_every_form(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert has_password(text)


@pytest.mark.parametrize(
    "text", ["postgresql://u@h:5432/d", "host=h user=u", "postgresql:///d", "no password here", ""]
)
def test_text_without_a_password_stays(text: str) -> None:
    assert masked(text) == text
    assert not has_password(text)


def test_every_secret_in_force_is_known_to_the_filters() -> None:
    secret = "3f9a1c77d0b24e6f8a5b90c1d2e3f40516273849"
    loaded = load_settings(None, {"OWKAI_AUTH_JWT_SECRET": secret, "OWKAI_SOURCE_DSN": "postgresql://u:hidden@h/d"}, {})
    assert set(secret_texts(loaded.settings)) == {secret, "hidden", "postgresql://u:hidden@h/d"}
