"""Session tokens for testing, in the form that the `auth` settings accept."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import jwt

from config.settings import AuthSettings


def session_token(auth: AuthSettings, claims: Mapping[str, Any], now: datetime, life: timedelta) -> str:
    """An HS256 token with `claims`, valid from `now` (aware) for `life`, cut to auth.max_lifetime_seconds."""
    seconds = min(life.total_seconds(), auth.max_lifetime_seconds)
    payload: dict[str, Any] = {
        "sub": str(claims["user_id"]),
        **claims,
        "iat": int(now.timestamp()),
        "exp": int(now.timestamp() + seconds),
        "jti": secrets.token_hex(16),
    }
    if auth.token_types:
        payload["type"] = auth.token_types[0]
    if auth.issuer:
        payload["iss"] = auth.issuer
    if auth.audience:
        payload["aud"] = list(auth.audience)
    return jwt.encode(payload, auth.jwt_secret.get_secret_value(), algorithm="HS256")
