"""Public keys that tokens are verified with: a PEM file or a JWKS file. Read once, refused as a whole when one is wrong."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

log = logging.getLogger(__name__)

KEY_TYPES = {"RS256": "RSA", "ES256": "EC"}
MINIMUM_RSA_BITS = 2048


class KeyFileError(ValueError):
    """Keys for tokens are missing or unusable; the text names the setting or file and, in a set, the key's index."""


@dataclass(frozen=True)
class VerificationKey:
    """A key and the `kid` it goes by; None: it has no name."""

    key_id: str | None
    material: Any

    @cached_property
    def fingerprint(self) -> str:
        """What tells this key from others, without being it."""
        data = self.material
        if not isinstance(data, bytes):
            data = data.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(data).hexdigest()


def read_public_keys(path: Path, algorithm: str) -> tuple[VerificationKey, ...]:
    """All keys of a PEM or JWKS file that serve `algorithm` (RS256 or ES256); raises `KeyFileError`."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"auth.jwt_public_key_file: {path} cannot be read as text") from error
    if text.startswith("{"):
        return _read_key_set(path, text, algorithm)
    if "PRIVATE KEY" in text:
        raise KeyFileError(f"auth.jwt_public_key_file: {path} holds a private key; put the public key there")
    try:
        material: Any
        if "BEGIN CERTIFICATE" in text:
            material = load_pem_x509_certificate(text.encode()).public_key()
        else:
            material = load_pem_public_key(text.encode())
    except ValueError as error:
        raise KeyFileError(
            f"auth.jwt_public_key_file: {path} is neither a PEM public key nor a JWKS document"
        ) from error
    _check_material(material, algorithm, f"{path}")
    return (VerificationKey(None, material),)


def _read_key_set(path: Path, text: str, algorithm: str) -> tuple[VerificationKey, ...]:
    try:
        entries = json.loads(text)["keys"]
    except (ValueError, KeyError, RecursionError) as error:
        raise KeyFileError(f'auth.jwt_public_key_file: {path} is no JWKS document with a list "keys"') from error
    if not isinstance(entries, list) or not entries:
        raise KeyFileError(f'auth.jwt_public_key_file: {path} has an empty list "keys"')
    keys = [key for index, entry in enumerate(entries) if (key := _read_entry(path, index, entry, algorithm))]
    names = [key.key_id for key in keys]
    if len(set(names)) != len(names) or (len(keys) > 1 and None in names):
        raise KeyFileError(f"auth.jwt_public_key_file: {path} needs a different `kid` for each of its keys")
    if not keys:
        raise KeyFileError(f"auth.jwt_public_key_file: {path} has no key for {algorithm}")
    return tuple(keys)


def _read_entry(path: Path, index: int, entry: Any, algorithm: str) -> VerificationKey | None:
    """The key at `index`; None when it declares another algorithm or use, which is reported and no fault."""
    where = f"auth.jwt_public_key_file: {path}, key {index}"
    if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP", "oct"):
        raise KeyFileError(f"{where} is malformed: it has no known `kty`")
    if entry["kty"] == "oct" or "d" in entry:
        raise KeyFileError(f"{where} is a secret or private key; put public keys there")
    name = entry.get("kid")
    if name is not None and not isinstance(name, str):
        raise KeyFileError(f"{where} is malformed: its `kid` is no text")
    if (
        entry["kty"] != KEY_TYPES[algorithm]
        or entry.get("alg", algorithm) != algorithm
        or entry.get("use", "sig") != "sig"
    ):
        log.warning("%s is left aside: it is not for %s signatures", where, algorithm)
        return None
    try:
        material = jwt.PyJWK(entry, algorithm).key
    except Exception as error:
        raise KeyFileError(f"{where} is malformed") from error
    _check_material(material, algorithm, where)
    return VerificationKey(name, material)


def _check_material(material: Any, algorithm: str, where: str) -> None:
    if algorithm == "RS256" and not (isinstance(material, RSAPublicKey) and material.key_size >= MINIMUM_RSA_BITS):
        raise KeyFileError(f"{where}: RS256 needs an RSA public key of at least {MINIMUM_RSA_BITS} bits")
    if algorithm == "ES256" and not (
        isinstance(material, EllipticCurvePublicKey) and isinstance(material.curve, SECP256R1)
    ):
        raise KeyFileError(f"{where}: ES256 needs a public key on the curve P-256")
