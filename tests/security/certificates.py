"""Certificates for the tests of the TLS group: a CA of the test's own, and leaves of every kind it needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A CA. `issue` writes certificate and key of a server of this machine into a folder."""

    def __init__(self, name: str = "test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1500))
            .not_valid_after(now + timedelta(days=1500))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(
        self,
        folder: Path,
        *,
        name: str = "server",
        until: datetime | None = None,
        since: datetime | None = None,
        pass_phrase: str | None = None,
        chain: bool = True,
        names: tuple[str, ...] = ("localhost",),
    ) -> tuple[Path, Path]:
        """Certificate file and key file (0600); files of the same name are replaced."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since or now - timedelta(days=1000))
            .not_valid_after(until or now + timedelta(days=90))
            .add_extension(
                x509.SubjectAlternativeName([*map(x509.DNSName, names), x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        protection: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(pass_phrase.encode()) if pass_phrase else serialization.NoEncryption()
        )
        folder.mkdir(exist_ok=True)
        certificate_file, key_file = folder / "server.pem", folder / "server.key"
        certificate_file.write_bytes(
            leaf.public_bytes(serialization.Encoding.PEM) + (self.pem.encode() if chain else b"")
        )
        key_file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
        )
        key_file.chmod(0o600)
        return certificate_file, key_file


def common_name(der: bytes) -> str:
    """Of the certificate that a peer showed."""
    certificate = x509.load_der_x509_certificate(der)
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
