"""`owkai check`: everything that must hold before the server can run, as a list of findings. Changes nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from analytics.state.clock import utc_now
from config.accounts import account_name, belongs_to
from config.load import Loaded
from config.secrets import masked
from config.settings import Settings

if TYPE_CHECKING:
    from sync.source.findings import Finding

LEAST_FREE_BYTES = 1_000_000_000


def inspect(loaded: Loaded) -> list[Finding]:
    """All findings: settings, cache directory, port, source."""
    from sync.source.findings import Finding
    from sync.source.preflight import inspect_source

    settings = loaded.settings
    given = len(loaded.origins)
    findings = [Finding("ok", "settings", f"{loaded.file or 'no file'}; {given} settings given, the rest are defaults")]
    findings += [Finding("warning", "settings", warning) for warning in loaded.warnings]
    if os.geteuid() == 0:
        findings.append(Finding("warning", "account", "this is root", "run the server as its own account"))
    holder = cache_holder(settings.cache.directory)
    findings += inspect_directory(settings.cache.directory, holder)
    findings += inspect_certificate(settings)
    findings += inspect_public_keys(settings)
    findings += inspect_keys(settings)
    findings += inspect_port(settings, holder)
    findings += inspect_source(settings)
    return findings


def report(findings: list[Finding]) -> str:
    """One line per finding, remedies below, and a verdict."""
    signs = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}
    lines = []
    for finding in findings:
        lines.append(masked(f"{signs[finding.level]}  {finding.subject}: {finding.message}"))
        if finding.remedy:
            lines += [f"           {line}" for line in masked(finding.remedy).splitlines()]
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if errors:
        lines.append(f"The server cannot run yet: {errors} {'error' if errors == 1 else 'errors'}.")
    elif warnings:
        lines.append(f"The server can run; {warnings} {'warning' if warnings == 1 else 'warnings'}.")
    else:
        lines.append("The server can run.")
    return "\n".join(lines)


def cache_holder(directory: Path) -> str | None:
    """The process that holds the cache directory, or None. Reads the lock and never keeps it."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(descriptor, "r+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return handle.read().strip() or "unknown"
        fcntl.flock(handle, fcntl.LOCK_UN)
    return None


def inspect_directory(directory: Path, holder: str | None) -> Iterator[Finding]:
    """Whether the cache directory exists or can be created, is private to this account, and has free space."""
    from sync.source.findings import Finding

    subject = "cache directory"
    if not directory.exists():
        parent = next(folder for folder in directory.parents if folder.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield Finding("ok", subject, f"{directory} does not exist; the server creates it")
        else:
            yield Finding(
                "error", subject, f"{directory} does not exist and {parent} may not be written",
                f"sudo install -d -m 0700 -o {account_name(os.geteuid())} {directory}",
            )  # fmt: skip
        return
    found = directory.stat()
    if found.st_uid != os.geteuid():
        yield Finding("error", subject, f"{directory} {belongs_to(found.st_uid)}", "or name another cache.directory")
        return
    if stat.S_IMODE(found.st_mode) & 0o077:
        yield Finding(
            "warning", subject, f"{directory} has mode {stat.S_IMODE(found.st_mode):04o}; the server sets 0700"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        yield Finding("error", subject, f"{directory} may not be written", f"chmod u+rwx {directory}")
        return
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE_BYTES:
        yield Finding(
            "warning", subject, f"{directory} has {free // 1_000_000} MB left", "free some space or move the cache"
        )
    held = f"; a running server (process {holder}) holds it" if holder else ""
    yield Finding("ok", subject, f"{directory} is writable, {free // 1_000_000_000} GB free{held}")


def inspect_certificate(settings: Settings) -> Iterator[Finding]:
    """Whether the port can speak TLS with what the settings name."""
    from handlers.connections.tls import CertificateError, load_identity
    from sync.source.findings import Finding

    try:
        identity = load_identity(settings.server, utc_now())
    except CertificateError as error:
        yield Finding("error", "TLS", str(error))
        return
    if identity is not None:
        yield Finding("ok", "TLS", f"the certificate is valid until {identity.not_after:%Y-%m-%d}")
        for warning in identity.warnings:
            yield Finding("warning", "TLS", warning)


def inspect_public_keys(settings: Settings) -> Iterator[Finding]:
    """Whether the file of public keys holds keys of the pinned algorithm."""
    from handlers.auth.token_keys import KeyFileError, read_public_keys
    from sync.source.findings import Finding

    path, algorithm = settings.auth.jwt_public_key_file, settings.auth.jwt_algorithm
    if path is None:
        return
    try:
        keys = read_public_keys(path, algorithm)
    except KeyFileError as error:
        yield Finding("error", "tokens", str(error))
    else:
        noun = "key" if len(keys) == 1 else "keys"
        yield Finding("ok", "tokens", f"{len(keys)} public {noun} for {algorithm} in {path}")


def inspect_keys(settings: Settings) -> Iterator[Finding]:
    """Whether the local key file is usable."""
    from handlers.auth.key_store import KeyStore
    from sync.source.findings import Finding

    if not settings.keys_file.exists():
        if not settings.auth.jwt_enabled:
            yield Finding(
                "warning", "keys", "no local API key, and session tokens are off", "create one with `owkai keys create`"
            )
        return
    try:
        keys = KeyStore(settings.keys_file).list()
    except (OSError, ValueError) as error:
        yield Finding("error", "keys", f"{settings.keys_file} cannot be used: {error}")
        return
    now = utc_now()
    active = sum(key.expires_at is None or key.expires_at > now for key in keys)
    yield Finding("ok", "keys", f"{active} of {len(keys)} local API keys are active")


def inspect_port(settings: Settings, holder: str | None) -> Iterator[Finding]:
    """Whether the address can be listened on; a running server of this cache is expected to hold it."""
    from owkai.app import address, explain_bind
    from sync.source.findings import Finding

    host, port = settings.server.host, settings.server.port
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        if holder:
            yield Finding("ok", "port", f"{address(host, port)} is taken, as expected: the server is running")
        else:
            yield Finding("error", "port", explain_bind(error, host, port)[1])
    else:
        yield Finding("ok", "port", f"{address(host, port)} can be listened on")
