"""What a running server takes anew: keys for tokens, the revocation list, settings. Cases JWT-28, KEY-02, CFG-06."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from analytics.cache import Cache
from config.settings import Auth
from handlers.keyring import KeyRing
from handlers.revocations import Revocations, RevokedFileError, read_revoked, token_identifier
from handlers.tokenkeys import KeyFileError
from tests.contract.platform_rows import fill, make_key
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Served, until
from tests.handlers.world import ADMIN_1, NOW, SECRET, USER_1, USER_2, LocalKeys, sign
from tests.owkai.servers import SECRET as SERVED_SECRET
from tests.owkai.servers import environment, owkai, serving, wait_for
from tests.postgres import Database
from tests.security.test_tokens import jwk, key_file, public_pem, rs256
from tests.sync.running import slot_name

NEW_SECRET = "c0ffee11-another-signing-secret-77aa21b3"


@pytest.fixture(scope="module")
def two_keys() -> tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey]:
    first, second = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    return first, second


def secret_file(folder: Path, secret: str, mode: int = 0o600) -> Path:
    """A new file in the place of the old one, as an operator or a secret store puts it."""
    path, fresh = folder / "secret", folder / "secret.new"
    fresh.write_text(secret + "\n")
    fresh.chmod(mode)
    fresh.replace(path)
    return path


async def status(served: Served, token: str) -> int:
    return (await served.get("/trends", token=token)).status


async def comes_to(served: Served, token: str, wanted: int) -> None:
    """Ask until the answer is the wanted one; the server looks at its files once a second."""
    found: list[int] = []

    async def ask() -> None:
        found.append(await status(served, token))

    for _ in range(100):
        await ask()
        if found[-1] == wanted:
            return
        loop_time = served.services.verifier.ring
        assert loop_time is not None
        import asyncio

        await asyncio.sleep(0.05)
    raise AssertionError(found)
