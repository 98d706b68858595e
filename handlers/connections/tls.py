"""TLS of our own port: certificate and key from files, TLS 1.2 and 1.3 with ephemeral keys only, exchanged when the files change.

And when the port speaks plain HTTP: whether a request arrived over a connection that cannot be tapped (`arrived_safely`).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from config.secrets import exposure, read_secret
from config.settings import ServerSettings
from handlers.connections.address import Network, is_loopback, parse_address

log = logging.getLogger(__name__)

# RFC 9325: forward secrecy and authenticated encryption. Of TLS 1.3 every suite has both.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
EXPIRES_SOON = timedelta(days=21)
HSTS = "max-age=31536000"


class CertificateError(ValueError):
    """Certificate or key cannot be used; the text names the setting, the file and the remedy."""


@dataclass(frozen=True)
class ServerCertificate:
    """A certificate in force: the context to serve with, and warnings about it."""

    context: ssl.SSLContext
    not_after: datetime
    fingerprint: bytes  # SHA-256 of the server's certificate
    warnings: tuple[str, ...] = ()


def load_identity(server: ServerSettings, now: datetime) -> ServerCertificate | None:
    """The certificate of the settings; None: the port speaks plain HTTP. Raises `CertificateError`."""
    certificate, key = server.tls_certificate_file, server.tls_key_file
    if certificate is None or key is None:
        return None
    chain = _read_chain(certificate)
    try:
        reason = exposure(key)
    except OSError as error:
        raise CertificateError(f"server.tls_key_file: {key} cannot be read: {error.strerror}") from error
    if reason:
        raise CertificateError(f"server.tls_key_file: {reason}; run `chmod 600 {key}`")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    _load(context, certificate, key, _pass_phrase(server.tls_key_password_file))
    leaf = chain[0]
    if leaf.not_valid_before_utc > now:
        raise CertificateError(
            f"server.tls_certificate_file: {certificate} is valid from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on; "
            "check the clock of this machine"
        )
    if leaf.not_valid_after_utc <= now:
        raise CertificateError(
            f"server.tls_certificate_file: {certificate} expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it"
        )
    return ServerCertificate(
        context, leaf.not_valid_after_utc, leaf.fingerprint(SHA256()), tuple(_warnings(certificate, chain, now))
    )


def identity_files(server: ServerSettings) -> tuple[Path, ...]:
    """What `load_identity` reads."""
    files = (server.tls_certificate_file, server.tls_key_file, server.tls_key_password_file)
    return tuple(file for file in files if file is not None)


def _read_chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"server.tls_certificate_file: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CertificateError(
            f"server.tls_certificate_file: {path} is no PEM certificate; put the server's certificate first, then its chain"
        ) from error


def _pass_phrase(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return read_secret(path)
    except ValueError as error:
        raise CertificateError(f"server.tls_key_password_file: {error}") from error


def _load(context: ssl.SSLContext, certificate: Path, key: Path, pass_phrase: str | None) -> None:
    asked = []

    def give() -> str:
        asked.append(True)
        return pass_phrase or ""  # without this function OpenSSL would ask on the terminal

    try:
        context.load_cert_chain(certificate, key, give)
    except (ssl.SSLError, OSError, ValueError) as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise CertificateError(
                f"server.tls_key_file: {key} is not the key of the first certificate in {certificate}"
            ) from error
        if asked and pass_phrase is None:
            raise CertificateError(
                f"server.tls_key_file: {key} is encrypted; name the file of its pass phrase as server.tls_key_password_file"
            ) from error
        if asked:
            raise CertificateError(f"server.tls_key_password_file: the pass phrase does not open {key}") from error
        raise CertificateError(f"server.tls_key_file: {key} is no PEM private key that can be used") from error


def _warnings(path: Path, chain: list[x509.Certificate], now: datetime) -> list[str]:
    leaf, found = chain[0], []
    if leaf.not_valid_after_utc - now < EXPIRES_SOON:
        found.append(f"the certificate in {path} expires on {leaf.not_valid_after_utc:%Y-%m-%d}; renew it")
    if len(chain) == 1 and leaf.issuer != leaf.subject:
        found.append(
            f"{path} holds only the server's certificate; clients that do not know its issuer need the chain behind it"
        )
    for earlier, later in pairwise(chain):
        if earlier.issuer != later.subject:
            found.append(f"the certificates in {path} are not a chain: one was not issued by the next")
            break
    return found


def came_over_tls(protocol: str, forwarded_protocol: Sequence[str], origins: Sequence[str]) -> bool:
    """Whether anything shows that a browser came over TLS: the connection, the header of a proxy, the origin of the page.

    Any client can claim this, so it may only make a rule stricter.
    """
    return (
        protocol == "https"
        or any(text.strip().lower() == "https" for line in forwarded_protocol for text in line.split(","))
        or any(origin.startswith("https://") for origin in origins)
    )


def arrived_safely(
    protocol: str, peer: str, forwarded: bool, forwarded_protocol: Sequence[str], trusted: Sequence[Network]
) -> bool:
    """Whether a request came over TLS, or never left this machine.

    `protocol` is that of the connection. A trusted proxy states in X-Forwarded-Proto (once) how the client reached it; from
    any other peer the header is ignored. `forwarded`: the request has headers of a proxy.
    """
    if protocol == "https":
        return True
    address = parse_address(peer)
    if address is not None and any(address in network for network in trusted) and (forwarded or forwarded_protocol):
        return len(forwarded_protocol) == 1 and forwarded_protocol[0].strip().lower() == "https"
    return is_loopback(peer) and not forwarded
