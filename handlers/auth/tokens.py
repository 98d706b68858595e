"""Session tokens (JWT): one pinned algorithm, strict form, then claims. RFC 8725 is the list this module follows.

Cheap checks come first: size, three parts, strict base64url, header members, algorithm. PyJWT verifies the signature; the
claims are checked here, because they need our clock and stricter types than PyJWT asks for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import re
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import jwt

from config.settings import AuthSettings
from handlers.auth.keyring import KeyRing
from handlers.auth.revocations import token_identifier
from handlers.auth.token_keys import VerificationKey

log = logging.getLogger(__name__)

MAX_TOKEN_BYTES = 8192
MAX_IDENTITY = 2**31 - 1  # ids are Postgres integers
LATEST_DATE = 253_402_300_799  # the year 9999
KEPT_TOKENS = 4096
HEADER_MEMBERS = frozenset({"alg", "typ", "kid", "x5t", "x5t#S256"})  # the last two are never looked at
TOKEN_TYPES = frozenset({"jwt", "at+jwt"})
SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
KEY_ID = re.compile(r"[A-Za-z0-9._~+/=:-]{1,128}")
WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class TokenError(ValueError):
    """A token that is not accepted; the text is a reason code for records, never shown to the client."""


@dataclass(frozen=True)
class Claims:
    """The claims of a verified token. Times are seconds since 1970 UTC. `organization_id` None: no organization."""

    user_id: int | None
    organization_id: int | None
    email: str
    role: str
    issued_at: float
    expires_at: float
    not_before: float | None
    identifier: str  # jti shortened to a hash, or the token's own hash
    key: str = ""  # fingerprint of the key that verified it


class TokenVerifier:
    """Verifies tokens against the settings' keys. Verified signatures are kept (bounded), times are checked each time."""

    def __init__(self, auth: AuthSettings) -> None:
        self._auth = auth
        self.ring = KeyRing(auth)
        self._kept: OrderedDict[bytes, Claims] = OrderedDict()

    def verify(self, text: str, now: float) -> Claims:
        """The token's claims; raises `TokenError`. `now` is seconds since 1970 UTC."""
        if not self._auth.jwt_enabled:
            raise TokenError("tokens_switched_off")
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        claims = self._kept.get(digest)
        if claims is None or not self.ring.trusts(claims.key, now):
            self._kept.pop(digest, None)
            claims = self._verify_afresh(text, digest, now)
            self._kept[digest] = claims
            if len(self._kept) > KEPT_TOKENS:
                self._kept.popitem(last=False)
        check_times(claims, now, self._auth.leeway_seconds)
        return claims

    def confirm(self, claims: Claims, now: float) -> None:
        """Whether verified claims still hold: their dates, and the key they were verified with. Raises `TokenError`."""
        check_times(claims, now, self._auth.leeway_seconds)
        if not self.ring.trusts(claims.key, now):
            raise TokenError("token_key_retired")

    def _verify_afresh(self, text: str, digest: bytes, now: float) -> Claims:
        if len(text) > MAX_TOKEN_BYTES:
            raise TokenError("token_too_large")
        parts = text.split(".", 3)
        if len(parts) != 3:
            raise TokenError("token_not_three_parts")
        header, payload, signature = (decode_segment(part) for part in parts)
        if not signature:
            raise TokenError("token_unsigned")
        key_id = check_header(parse_object(header), self._auth.jwt_algorithm)
        key = self._check_signature(text, key_id, now)
        return replace(read_claims(parse_object(payload), self._auth, digest.hex()[:16]), key=key)

    def _check_signature(self, text: str, key_id: str | None, now: float) -> str:
        """The fingerprint of the key that the signature is of."""
        failure = TokenError("token_unknown_key")
        for keys in self.ring.sets(now):
            try:
                key = select_key(keys, key_id)
                check_signature(text, key, self._auth.jwt_algorithm)
            except TokenError as error:
                failure = error
            else:
                return key.fingerprint
        raise failure


def select_key(keys: tuple[VerificationKey, ...], key_id: str | None) -> VerificationKey:
    """The key a token names; a single key without a name serves every token, several keys need the name."""
    if len(keys) == 1 and (keys[0].key_id is None or key_id is None):
        return keys[0]
    for key in keys:
        if key.key_id is not None and key.key_id == key_id:
            return key
    raise TokenError("token_unknown_key")


def check_signature(text: str, key: VerificationKey, algorithm: str) -> None:
    """Raises `TokenError` where the signature is not of this key, whatever the library reports."""
    try:
        jwt.PyJWS().decode(text, key.material, algorithms=[algorithm])
    except Exception as error:
        raise TokenError("token_signature") from error


def decode_segment(text: str) -> bytes:
    """Strict base64url without padding, canonical in its last bits."""
    if text == "":
        return b""
    if not SEGMENT.fullmatch(text) or len(text) % 4 == 1:
        raise TokenError("token_encoding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise TokenError("token_encoding") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode():
        raise TokenError("token_encoding")
    return data


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8 without a name twice, NaN or Infinity."""
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique_names, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise TokenError("token_json") from error
    if not isinstance(found, dict):
        raise TokenError("token_json")
    return found


def check_header(header: dict[str, Any], algorithm: str) -> str | None:
    """Refuse every header but a plain signed token's of the pinned algorithm; returns the key id."""
    if not header.keys() <= HEADER_MEMBERS:
        raise TokenError("token_header")
    if header.get("alg") != algorithm:
        raise TokenError("token_algorithm")
    if "typ" in header and not (isinstance(header["typ"], str) and header["typ"].lower() in TOKEN_TYPES):
        raise TokenError("token_header_type")
    if "kid" not in header:
        return None
    key_id = header["kid"]
    if not isinstance(key_id, str) or not KEY_ID.fullmatch(key_id):
        raise TokenError("token_key_id")
    return key_id


def read_claims(payload: dict[str, Any], auth: AuthSettings, fallback_identifier: str) -> Claims:
    """Claims of a payload whose signature holds; all checks that do not depend on the time of day."""
    issued_at = _numeric_date(payload, "iat")
    expires_at = _numeric_date(payload, "exp")
    if issued_at is None or expires_at is None:
        raise TokenError("token_dates_missing")
    if expires_at <= issued_at or expires_at - issued_at > auth.max_lifetime_seconds:
        raise TokenError("token_lifetime")
    if auth.issuer and payload.get("iss") != auth.issuer:
        raise TokenError("token_issuer")
    if auth.audience and not _audience(payload.get("aud")) & set(auth.audience):
        raise TokenError("token_audience")
    _check_type(payload, auth)
    email, role = (_text(payload, name) for name in ("email", "role"))
    user_id = _user(payload)
    if user_id is None and not _text(payload, "sub"):
        raise TokenError("token_subject")
    token_id = payload.get("jti")
    identifier = fallback_identifier
    if isinstance(token_id, str) and token_id:
        identifier = token_identifier(token_id)
    return Claims(
        user_id=user_id,
        organization_id=_organization(payload),
        email=email,
        role=role,
        issued_at=issued_at,
        expires_at=expires_at,
        not_before=_numeric_date(payload, "nbf"),
        identifier=identifier,
    )


def check_times(claims: Claims, now: float, leeway: float) -> None:
    if now >= claims.expires_at + leeway:
        raise TokenError("token_expired")
    if claims.issued_at > now + leeway:
        raise TokenError("token_issued_in_future")
    if claims.not_before is not None and claims.not_before > now + leeway:
        raise TokenError("token_not_yet_valid")


def identity_of_uuid(text: str) -> int | None:
    """N of the platform's UUID(int=N) form; None for any other UUID or text; raises for a disguised spelling of one."""
    if CANONICAL_UUID.fullmatch(text):
        number = uuid.UUID(text).int
        return number if 0 <= number <= MAX_IDENTITY else None
    try:
        uuid.UUID(text)
    except ValueError:
        return None
    raise TokenError("token_identity")


def _check_type(payload: dict[str, Any], auth: AuthSettings) -> None:
    if not auth.token_types:
        return
    for name in ("type", "token_use"):
        if name in payload and payload[name] not in auth.token_types:
            raise TokenError("token_type")
    if "nonce" in payload:  # an id token of the same issuer
        raise TokenError("token_type")


def _organization(payload: dict[str, Any]) -> int | None:
    numbers = {
        _agreed_number(payload, "organization_id", _identity),
        _agreed_number(payload, "db_org_id", _identity),
        _agreed_number(payload, "org_id", _identity_or_uuid),
    } - {None}
    if len(numbers) > 1:
        raise TokenError("token_identity")
    return (numbers.pop() if numbers else None) or None


def _user(payload: dict[str, Any]) -> int | None:
    numbers = {
        _agreed_number(payload, "user_id", _identity),
        _agreed_number(payload, "db_user_id", _identity),
        _agreed_number(payload, "sub", _subject),
    } - {None}
    if len(numbers) > 1 or 0 in numbers:
        raise TokenError("token_identity")
    return numbers.pop() if numbers else None


def _agreed_number(payload: dict[str, Any], name: str, read: Callable[[Any], int | None]) -> int | None:
    value = payload.get(name)
    return None if value is None or value == "" else read(value)


def _identity(value: Any) -> int | None:
    if isinstance(value, str) and WHOLE_NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_IDENTITY:
        raise TokenError("token_identity")
    return int(value)


def _identity_or_uuid(value: Any) -> int | None:
    if isinstance(value, str) and not WHOLE_NUMBER.fullmatch(value):
        number = identity_of_uuid(value)
        if number is None:
            raise TokenError("token_identity")
        return number
    return _identity(value)


def _subject(value: Any) -> int | None:
    """A subject may be any text; only a number or UUID(int=N) is a user id."""
    if not isinstance(value, str):
        return _identity(value)
    return _identity(value) if WHOLE_NUMBER.fullmatch(value) else identity_of_uuid(value)


def _numeric_date(payload: dict[str, Any], name: str) -> float | None:
    if name not in payload:
        return None
    value = payload[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST_DATE:
        raise TokenError("token_date")
    return float(value)


def _text(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if value is None:
        return ""
    if name == "sub" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or len(value) > 320:
        raise TokenError("token_claim_text")
    return value


def _audience(value: Any) -> set[str]:
    values = value if isinstance(value, list) else [value]
    return {entry for entry in values if isinstance(entry, str)}


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError("not a JSON number")
