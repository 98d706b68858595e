"""Finding the credentials a request presents: the page's session, session cookies, `Authorization: Bearer`, `X-API-Key`, in
this order.

Nothing else counts: no query parameter, no body, no identity header of a proxy. A request that presents one twice with
different values, or in a form that is not documented, is refused rather than read in one of two ways. Documented forms of
`Authorization`: the scheme Bearer in any case, one blank, then a session token or an API key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from handlers.problem import Refusal, bad_request, unauthenticated

MAX_COOKIES = 200
GUESSED_PREFIX = 32  # the part of a key that is no secret to who can read the platform's tables
SECURE_PAGE_COOKIE = "__Host-owkai_page"
PAGE_COOKIE = "owkai_page"
PAGE_COOKIES = (SECURE_PAGE_COOKIE, PAGE_COOKIE)
COOKIE = "cookie:"  # what the source of a credential out of a cookie begins with
KEY_TEXT = re.compile(r"[\x21-\x2b\x2d-\x7e]{16,256}")  # visible ASCII without the comma


class Headers(Protocol):
    """Header lines by name, as the HTTP parser gives them."""

    def get_list(self, name: str) -> list[str]: ...


@dataclass(frozen=True)
class Presented:
    """One credential as presented. `kind` is session, token or key, `source` is where it was found (for the audit record)."""

    kind: str
    source: str
    text: str

    @property
    def from_cookie(self) -> bool:
        return self.source.startswith(COOKIE)

    def fingerprint(self) -> bytes:
        return hashlib.sha256(f"{self.kind} {self.text}".encode("utf-8", "surrogateescape")).digest()

    def prefix_bucket(self) -> str | None:
        """What failures with keys of one prefix are counted under; None for a token."""
        if self.kind != "key":
            return None
        return hashlib.sha256(self.text[:GUESSED_PREFIX].encode("utf-8", "surrogateescape")).hexdigest()

    def __repr__(self) -> str:
        return f"Presented({self.kind}, {self.source})"


def find_credentials(headers: Headers, cookie_names: tuple[str, ...], *, over_tls: bool) -> tuple[Presented, ...]:
    """All credentials of a request in the order in which they count; empty when it presents none.

    `over_tls`: of the page's two cookies only the one with the prefix __Host- counts. Any host of the same site can set the other.
    Raises `Refusal`: 400 for a repeated or malformed X-API-Key, 401 for everything else that cannot be read one way.
    """
    found: list[Presented] = []
    cookie_lines = headers.get_list("Cookie")
    if cookie_lines:
        found.extend(_cookies(cookie_lines, cookie_names, over_tls))
    if authorization := headers.get_list("Authorization"):
        found.append(_bearer(authorization))
    if keys := headers.get_list("X-Api-Key"):
        if len(keys) > 1 or not keys[0] or "," in keys[0]:
            raise bad_request("The X-API-Key header must be given once, with one key", "key_header_repeated")
        found.append(Presented("key", "x-api-key", keys[0]))
    return tuple(found)


def _cookies(lines: list[str], names: tuple[str, ...], over_tls: bool) -> Iterator[Presented]:
    pairs = [pair for line in lines for pair in _pairs(line)]
    if len(pairs) > MAX_COOKIES:
        raise _too_many_cookies()
    yield from _page_session(pairs, over_tls)
    for name in names:
        # The same name in another case may come from a sibling host: one value or none.
        if len({value for known, value in pairs if known.lower() == name.lower()}) > 1:
            raise unauthenticated("cookie_repeated")
        for value in {value for known, value in pairs if known == name}:
            yield Presented("token", f"{COOKIE}{name}", _session_text(value))


def _page_session(pairs: list[tuple[str, str]], over_tls: bool) -> Iterator[Presented]:
    """The cookie of the page's session. A browser sends the one with the prefix over TLS only, so with it the other counts for
    nothing. Names are compared exactly: the prefix protects this spelling and, in some browsers, no other."""
    for name in PAGE_COOKIES:
        values = {value for known, value in pairs if known == name}
        if len(values) > 1:
            raise unauthenticated("cookie_repeated")
        if values:
            yield Presented("session", f"{COOKIE}{name}", values.pop())
            return
        if over_tls:
            return


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    for pair in line.split(";", MAX_COOKIES):
        name, _, value = pair.strip(" \t").partition("=")
        yield name, value


def _too_many_cookies() -> Refusal:
    return bad_request(f"More than {MAX_COOKIES} cookies", "cookies_too_many")


def _session_text(value: str) -> str:
    """The token in a cookie value: optionally in double quotes, optionally after "Bearer "."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return value.removeprefix("Bearer ")


def _bearer(lines: list[str]) -> Presented:
    if len(lines) > 1:
        raise unauthenticated("authorization_repeated")
    scheme, blank, text = lines[0].partition(" ")
    if scheme.lower() != "bearer" or not blank or not text or text.startswith(" "):
        raise unauthenticated("authorization_form")
    return token_or_key(text, "bearer")


def token_or_key(text: str, source: str) -> Presented:
    """A credential in a place where both may stand: a token has at least two dots, a key has none."""
    return Presented("token" if text.count(".") >= 2 else "key", source, text)


def well_formed_key(text: str) -> bool:
    """Whether a text can be an API key at all; blanks are never trimmed into a match."""
    return KEY_TEXT.fullmatch(text) is not None
