"""Rules that span several settings: contradictions refused, gaps that keep a server from starting, advice. Pure but for
looks at the file system that the rules on paths need."""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from config.problems import SettingsProblem
from config.secrets import HOW_TO_MAKE_A_SECRET, has_password
from config.settings import Settings

# Making one of these private (0700) or clearing it would break the machine.
SYSTEM_FOLDERS = frozenset(
    Path("/") / name
    for name in (
        *("", "bin", "boot", "dev", "etc", "home", "lib", "media", "mnt", "opt", "proc", "root", "run", "sbin", "srv"),
        *("sys", "tmp", "usr", "var", "var/lib", "var/log", "var/tmp"),
    )
)
_HOST = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
_PAGE_COOKIES = frozenset({"owkai_page", "__host-owkai_page"})
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def contradictions(settings: Settings) -> Iterator[SettingsProblem]:
    """What cannot be true together, or cannot be true at all."""
    yield from _source(settings)
    yield from _timing(settings)
    yield from _tokens(settings)
    yield from _server(settings)
    yield from _meaning(settings)
    yield from _telemetry(settings)
    yield from _paths(settings)


def missing_for_serving(settings: Settings) -> Iterator[SettingsProblem]:
    """What `owkai serve` cannot do without."""
    if not settings.source.dsn.get_secret_value():
        yield SettingsProblem(
            ("source", "dsn"), "is missing: the server needs a Postgres to read",
            'set it, e.g. dsn = "postgresql://owkai@db.internal/platform", or OWKAI_SOURCE_DSN',
        )  # fmt: skip
    auth = settings.auth
    if not auth.jwt_enabled:
        return
    if auth.jwt_algorithm == "HS256" and not auth.jwt_secret.get_secret_value() and auth.jwt_secret_file is None:
        yield SettingsProblem(
            ("auth", "jwt_secret"), "is missing: there is no built-in secret to verify tokens with",
            f"{HOW_TO_MAKE_A_SECRET} and give it as auth.jwt_secret_file or OWKAI_AUTH_JWT_SECRET, or choose "
            "RS256/ES256 with auth.jwt_public_key_file, or set auth.jwt_enabled = false to accept only API keys",
        )  # fmt: skip
    if auth.jwt_algorithm != "HS256" and auth.jwt_public_key_file is None:
        yield SettingsProblem(
            ("auth", "jwt_public_key_file"), f"is missing: {auth.jwt_algorithm} tokens are verified with a public key",
            "name the PEM or JWKS file of the platform's public key",
        )  # fmt: skip


def advice(settings: Settings) -> list[str]:
    """Warnings for settings that are allowed but seldom meant."""
    found = []
    server = settings.server
    if not loopback(server.host):
        if server.tls_certificate_file is None and not server.behind_proxy:
            found.append(
                f"server.host = {server.host} is reachable from other machines and the server speaks plain HTTP: name a "
                "certificate in server.tls_certificate_file, or put a TLS proxy before it, name it in server.trusted_proxies "
                "and set server.behind_proxy = true"
            )
        if settings.mock_data:
            found.append(f"the demo is reachable from other machines at {server.host}")
    if not settings.websocket.allowed_origins and (server.trusted_proxies or not loopback(server.host)):
        found.append(
            "websocket.allowed_origins is empty: no browser on another machine can sign in or get live updates; list the "
            "address of the page as the browser shows it"
        )
    if not settings.audit.enabled:
        found.append("audit.enabled = false: accesses leave no record")
    elif settings.audit.anchor_file is not None and settings.audit.anchor_file.parent == settings.audit_file.parent:
        found.append(
            "audit.anchor_file is in the same folder as the audit file: anyone who can truncate one can truncate the other"
        )
    if settings.audit.enabled and settings.audit.on_failure == "continue":
        found.append('audit.on_failure = "continue": while records cannot be written, requests are still served')
    if settings.cache.in_memory:
        found.append(
            "cache.in_memory = true: every start copies the source again, while its slot retains WAL between runs"
        )
    if not settings.auth.admin_roles:
        found.append("auth.admin_roles is empty: no one may read the executive dashboard")
    return found


def loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


def _source(settings: Settings) -> Iterator[SettingsProblem]:
    source, key = settings.source, ("source", "dsn")
    dsn = source.dsn.get_secret_value()
    if dsn:
        from psycopg import ProgrammingError  # 0.2 s; commands without a source do without it
        from psycopg.conninfo import conninfo_to_dict

        try:
            parts = conninfo_to_dict(dsn)
        except (ProgrammingError, UnicodeError, ValueError):
            # libpq's own message repeats parts of the text, possibly of a password.
            yield SettingsProblem(
                key, "is not a connection string",
                'write "postgresql://role@host:5432/database" or "host=… dbname=… user=…", special letters quoted',
            )  # fmt: skip
        else:
            if parts.get("replication"):
                yield SettingsProblem(key, "sets `replication`, which the server does itself", "leave it out")
    if has_password(dsn) and (source.password.get_secret_value() or source.password_file):
        other = "password_file" if source.password_file else "password"
        yield SettingsProblem(("source", other), "is given beside a password in source.dsn", "keep one of the two")
    names = [
        (field, name)
        for field in ("agent_actions", "users", "audit_logs", "api_keys")
        if (name := getattr(source.tables, field))
    ]
    for index, (field, name) in enumerate(names):
        for earlier, same in names[:index]:
            if name == same:
                yield SettingsProblem(
                    ("source", "tables", field), f"names the table of source.tables.{earlier} again", ""
                )


def _timing(settings: Settings) -> Iterator[SettingsProblem]:
    sync, socket = settings.sync, settings.websocket
    if sync.sample_seconds >= sync.stale_after_seconds:
        yield SettingsProblem(
            ("sync", "sample_seconds"), f"is not below sync.stale_after_seconds ({sync.stale_after_seconds:g}), so "
            "that responses would be called stale between two samples", "lower it or raise sync.stale_after_seconds",
        )  # fmt: skip
    if sync.batch_milliseconds / 1000 >= sync.stale_after_seconds:
        yield SettingsProblem(
            ("sync", "batch_milliseconds"), f"is not below sync.stale_after_seconds ({sync.stale_after_seconds:g})",
            "lower it",
        )  # fmt: skip
    if sync.mode == "poll" and sync.poll_seconds >= sync.stale_after_seconds:
        yield SettingsProblem(
            ("sync", "poll_seconds"), f"is not below sync.stale_after_seconds ({sync.stale_after_seconds:g}), so that "
            "responses would be called stale between two polls", "lower it or raise sync.stale_after_seconds",
        )  # fmt: skip
    if sync.mode != "stream" and sync.reconcile_seconds < sync.poll_seconds:
        yield SettingsProblem(
            ("sync", "reconcile_seconds"), f"is below sync.poll_seconds ({sync.poll_seconds:g})",
            "raise it or lower sync.poll_seconds",
        )  # fmt: skip
    if socket.max_per_user > socket.max_total:
        yield SettingsProblem(
            ("websocket", "max_per_user"), f"exceeds websocket.max_total ({socket.max_total})", "lower it"
        )
    if socket.max_total > settings.server.max_connections:
        yield SettingsProblem(
            ("websocket", "max_total"), f"exceeds server.max_connections ({settings.server.max_connections})",
            "lower it or raise server.max_connections",
        )  # fmt: skip


def _tokens(settings: Settings) -> Iterator[SettingsProblem]:
    auth = settings.auth
    has_secret = bool(auth.jwt_secret.get_secret_value()) or auth.jwt_secret_file is not None
    named = "jwt_secret_file" if auth.jwt_secret_file else "jwt_secret"
    if auth.jwt_algorithm == "HS256" and auth.jwt_public_key_file is not None:
        yield SettingsProblem(
            ("auth", "jwt_public_key_file"), "is given, but auth.jwt_algorithm is HS256",
            'set jwt_algorithm = "RS256" or "ES256", or leave the key file out',
        )  # fmt: skip
    if auth.jwt_algorithm != "HS256" and has_secret:
        yield SettingsProblem(
            ("auth", named), f"is an HS256 secret, but auth.jwt_algorithm is {auth.jwt_algorithm}",
            "leave the secret out",
        )  # fmt: skip
    if not auth.jwt_enabled and (has_secret or auth.jwt_public_key_file is not None):
        yield SettingsProblem(
            ("auth", "jwt_enabled"), "is false, but a key to verify tokens is given", "leave one of them out"
        )
    if auth.jwt_public_key_file is not None:
        yield from _public_key(auth.jwt_public_key_file)
    for name in auth.cookie_names:
        if not _COOKIE_NAME.fullmatch(name):
            yield SettingsProblem(("auth", "cookie_names"), f'has "{name}", which no cookie can be called', "")
        if name.lower() in _PAGE_COOKIES:
            yield SettingsProblem(
                ("auth", "cookie_names"), f'has "{name}", which is the cookie of our own page', "leave it out"
            )
    if auth.session_idle_seconds > auth.session_max_seconds:
        yield SettingsProblem(
            ("auth", "session_idle_seconds"), f"exceeds auth.session_max_seconds ({auth.session_max_seconds:g})",
            "lower it or raise auth.session_max_seconds",
        )  # fmt: skip


def _public_key(path: Path) -> Iterator[SettingsProblem]:
    key = ("auth", "jwt_public_key_file")
    try:
        with path.open("rb") as handle:
            raw = handle.read(1_000_001)
    except OSError as error:
        yield SettingsProblem(
            key, f"{path} cannot be read: {error.strerror}", "name the PEM or JWKS file of the public key"
        )
        return
    if len(raw) > 1_000_000:
        yield SettingsProblem(key, f"{path} is larger than any key file", "name the PEM or JWKS file of the public key")
    elif b"PRIVATE KEY" in raw:
        yield SettingsProblem(
            key, f"{path} holds a private key, which this server must not have", "export its public part"
        )
    elif b"-----BEGIN" not in raw and not raw.lstrip().startswith(b"{"):
        yield SettingsProblem(key, f"{path} is neither PEM nor JWKS", "name the PEM or JWKS file of the public key")


def _server(settings: Settings) -> Iterator[SettingsProblem]:
    server = settings.server
    if not server.host or not (_HOST.fullmatch(server.host) or _is_address(server.host)):
        yield SettingsProblem(
            ("server", "host"), f'"{server.host}" is no address to listen on', 'e.g. "127.0.0.1" or "::"'
        )
    for entry in server.trusted_proxies:
        yield from _proxy(entry)
    if server.behind_proxy and not server.trusted_proxies:
        yield SettingsProblem(
            ("server", "behind_proxy"), "is true, but server.trusted_proxies names no proxy",
            'name its address, e.g. trusted_proxies = ["127.0.0.1"]',
        )  # fmt: skip
    if (server.tls_certificate_file is None) != (server.tls_key_file is None):
        given, missing = ("certificate", "key") if server.tls_key_file is None else ("key", "certificate")
        yield SettingsProblem(
            ("server", f"tls_{missing}_file"), f"is missing: server.tls_{given}_file is given", "name both, or none"
        )
    if server.tls_key_password_file is not None and server.tls_key_file is None:
        yield SettingsProblem(
            ("server", "tls_key_password_file"), "is given without a key that it opens", "name server.tls_key_file"
        )
    if (
        server.require_tls
        and server.tls_certificate_file is None
        and not server.behind_proxy
        and not loopback(server.host)
    ):
        yield SettingsProblem(
            ("server", "require_tls"), "is true, but there is neither a certificate nor a proxy that has one",
            "set server.tls_certificate_file or server.behind_proxy",
        )  # fmt: skip
    for host in server.allowed_hosts:
        if not (_HOST.fullmatch(host) or _is_address(host)):
            yield SettingsProblem(
                ("server", "allowed_hosts"), f'has "{host}", which is no host name',
                "give only names, without scheme, port or pattern; an empty list accepts any",
            )  # fmt: skip
    yield from _origins(("websocket", "allowed_origins"), settings.websocket.allowed_origins)
    yield from _origins(("server", "cors_origins"), server.cors_origins)


def _origins(key: tuple[str, str], origins: tuple[str, ...]) -> Iterator[SettingsProblem]:
    for origin in origins:
        reason = _origin_fault(origin)
        if reason:
            yield SettingsProblem(
                key, f'has "{origin}", which {reason}',
                'list each origin as a browser sends it, e.g. "https://soc.example.com"',
            )  # fmt: skip


def _proxy(entry: str) -> Iterator[SettingsProblem]:
    key = ("server", "trusted_proxies")
    try:
        network = ipaddress.ip_network(entry)
    except ValueError:
        try:
            meant = f', e.g. "{ipaddress.ip_network(entry, strict=False)}"'
        except ValueError:
            meant = ', e.g. "10.0.0.7" or "10.0.0.0/24"'
        yield SettingsProblem(
            key, f'has "{entry}", which is no address or network', f"give addresses or networks{meant}"
        )
        return
    if network.prefixlen == 0:
        yield SettingsProblem(key, f'has "{entry}", so that anyone could claim any address', "name only the proxies")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


def _origin_fault(origin: str) -> str | None:
    if "*" in origin:
        return "would let pages of any site connect"
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return "is no origin"
    if parts.scheme not in ("http", "https"):
        return "does not start with http:// or https://"
    if not parts.hostname or not (_HOST.fullmatch(parts.hostname) or _is_address(parts.hostname)):
        return "names no host"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    standard = {"http": 80, "https": 443}[parts.scheme]
    if port == standard:
        return f"names the standard port {standard}, which browsers leave out"
    if origin != f"{parts.scheme}://{host}" + (f":{port}" if port else ""):
        return "is more than scheme, host and port, or not in lower case"
    return None


def _meaning(settings: Settings) -> Iterator[SettingsProblem]:
    meaning = settings.meaning
    groups = {
        "success_statuses": meaning.success_statuses,
        "failure_statuses": meaning.failure_statuses,
        "pending_statuses": meaning.pending_statuses,
    }
    seen: dict[str, str] = {}
    for field, statuses in groups.items():
        for status in dict.fromkeys(statuses):
            if status in seen:
                yield SettingsProblem(
                    ("meaning", field), f'has "{status}", as has meaning.{seen[status]}', "keep it in one list"
                )
            seen.setdefault(status, field)


def _telemetry(settings: Settings) -> Iterator[SettingsProblem]:
    telemetry = settings.telemetry
    if telemetry.source == "cloudwatch":
        for field in ("region", "cluster", "service"):
            if not getattr(telemetry, field):
                yield SettingsProblem(
                    ("telemetry", field), "is missing: telemetry.source is cloudwatch",
                    "name it, or choose another telemetry.source",
                )  # fmt: skip
    if telemetry.period_seconds >= telemetry.max_age_seconds:
        yield SettingsProblem(
            ("telemetry", "period_seconds"), f"is not below telemetry.max_age_seconds ({telemetry.max_age_seconds:g}), "
            "so that samples would be too old before the next comes", "lower it or raise telemetry.max_age_seconds",
        )  # fmt: skip
    if telemetry.metric_period_seconds % 60:
        yield SettingsProblem(("telemetry", "metric_period_seconds"), "is not a multiple of 60", "e.g. 60 or 300")
    for field in ("endpoint_url", "logs_endpoint_url"):
        fault = _endpoint_fault(getattr(telemetry, field))
        if fault:
            yield SettingsProblem(
                ("telemetry", field), fault, 'e.g. "https://vpce-0123.monitoring.us-east-2.vpce.amazonaws.com"'
            )
    for field, group in (("log_status_pattern", "status"), ("log_duration_pattern", "duration")):
        fault = _pattern_fault(getattr(telemetry, field), group)
        if fault:
            yield SettingsProblem(("telemetry", field), fault, f"e.g. (?<{group}>[0-9]+)")


def _endpoint_fault(url: str) -> str | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is no http:// or https:// URL"
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        return "is more than scheme, host, port and path"
    if parts.scheme == "http" and not loopback(parts.hostname):
        return "would send signed requests unencrypted to another machine"
    return None


def _pattern_fault(pattern: str, group: str) -> str | None:
    if not pattern:
        return None
    if not pattern.isprintable():
        return "has control characters"
    try:
        found = re.compile(re.sub(r"\(\?<(?=[A-Za-z])", "(?P<", pattern)).groupindex
    except re.error as error:
        return f"is no regular expression: {error}"
    return None if set(found) == {group} else f"must have the one named group `{group}`"


def _paths(settings: Settings) -> Iterator[SettingsProblem]:
    directory = settings.cache.directory
    if directory in SYSTEM_FOLDERS or directory == Path.home():
        yield SettingsProblem(
            ("cache", "directory"), f"{directory} is not a directory of our own", "name one, e.g. /var/lib/owkai"
        )
    elif directory.exists() and not directory.is_dir():
        yield SettingsProblem(("cache", "directory"), f"{directory} is no directory", "name a directory")
    yield from _audit_paths(settings)


def _audit_paths(settings: Settings) -> Iterator[SettingsProblem]:
    directory, anchor = settings.cache.directory, settings.audit.anchor_file
    if anchor is not None and (
        anchor in _files_of_others(settings) or anchor in (settings.audit_file, settings.keys_file)
    ):
        yield SettingsProblem(
            ("audit", "anchor_file"), f"{anchor} is another file of this server", "name a file in another place"
        )
    elif anchor is not None and not anchor.parent.is_dir():
        yield SettingsProblem(
            ("audit", "anchor_file"), f"its folder {anchor.parent} does not exist", "create the folder"
        )
    for field in ("file", "key_file", "anchor_file"):
        if getattr(settings.audit, field) is not None and not settings.audit.enabled:
            yield SettingsProblem(("audit", field), "is given, but audit.enabled is false", "leave one of the two out")
    audit = settings.audit.file
    if audit is None:
        return
    if audit == settings.keys_file or audit in _files_of_others(settings):
        yield SettingsProblem(("audit", "file"), f"{audit} is another file of this server", "name a file of its own")
    elif audit.exists() and not stat.S_ISREG(audit.stat().st_mode):
        yield SettingsProblem(("audit", "file"), f"{audit} is no regular file", "name a file")
    elif not audit.parent.is_dir() and audit.parent != directory:
        yield SettingsProblem(("audit", "file"), f"its folder {audit.parent} does not exist", "create the folder")


def _files_of_others(settings: Settings) -> set[Path]:
    auth, server = settings.auth, settings.server
    files = (
        settings.source.password_file, auth.jwt_secret_file, auth.jwt_public_key_file, auth.revoked_file,
        server.tls_certificate_file, server.tls_key_file, server.tls_key_password_file, settings.audit.key_file,
    )  # fmt: skip
    return {path for path in files if path is not None}
