"""Combinations that cannot be meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.load import load_settings
from config.problems import SettingsError

SECRET = "3f9a1c77d0b24e6f8a5b90c1d2e3f40516273849"


def problems(**variables: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {f"OWKAI_{name}": value for name, value in variables.items()}, {})
    return [line.partition(": ")[2] for line in caught.value.lines]


def accepted(**variables: str) -> list[str]:
    return load_settings(None, {f"OWKAI_{name}": value for name, value in variables.items()}, {}).warnings


@pytest.mark.parametrize(
    "origin",
    [
        "*", "https://*.example.com", "null", "https://a.example/", "https://a.example/x", "HTTPS://a.example",
        "https://A.example", "a.example", "https://", "https://a.example:443", "http://a.example:80", "ws://a.example",
        "https://u@a.example", "https://a.example:99999", "https://a.example?x", "https://a b",
    ],
)  # fmt: skip
def test_cfg_04_an_origin_no_browser_sends_is_refused(origin: str) -> None:
    (line,) = problems(WEBSOCKET_ALLOWED_ORIGINS=json.dumps([origin]))
    assert line.startswith(f'websocket.allowed_origins: has "{origin}", which ')


@pytest.mark.parametrize(
    "origin", ["https://soc.example.com", "http://localhost:3000", "https://[::1]:8443", "https://10.0.0.1"]
)
def test_a_well_formed_origin_is_accepted(origin: str) -> None:
    assert accepted(WEBSOCKET_ALLOWED_ORIGINS=origin) == []


@pytest.mark.parametrize("proxy", ["x", "10.0.0.1/8", "10.0.0.0/33", "0.0.0.0/0", "::/0", "proxy.internal"])
def test_a_proxy_that_is_no_address_or_is_everybody_is_refused(proxy: str) -> None:
    (line,) = problems(SERVER_TRUSTED_PROXIES=proxy)
    assert line.startswith(f'server.trusted_proxies: has "{proxy}", ')


def test_proxies_are_addresses_and_networks() -> None:
    proxies = "10.0.0.7, 10.1.0.0/16, ::1, fd00::/8"
    assert accepted(SERVER_TRUSTED_PROXIES=proxies, WEBSOCKET_ALLOWED_ORIGINS="https://soc.example.com") == []


def test_cfg_03_cloudwatch_needs_region_cluster_and_service_and_all_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"OWKAI_TELEMETRY_SOURCE": "cloudwatch"}, {})
    assert [line.partition(":")[0] for line in caught.value.lines] == [
        "telemetry.region",
        "telemetry.cluster",
        "telemetry.service",
    ]
    named = {f"TELEMETRY_{name}": "x" for name in ("REGION", "CLUSTER", "SERVICE")}
    assert accepted(TELEMETRY_SOURCE="cloudwatch", **named) == []
    assert accepted(TELEMETRY_SOURCE="host") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("period_seconds", "300"),
        ("metric_period_seconds", "90"),
        ("endpoint_url", "monitoring.example.com"),
        ("endpoint_url", "http://monitoring.example.com"),
        ("endpoint_url", "https://key:secret@monitoring.example.com"),
        ("logs_endpoint_url", "https://a:b"),
        ("log_status_pattern", "(?<status>"),
        ("log_status_pattern", "(?<code>[0-9]+)"),
        ("log_duration_pattern", "[0-9]+ms"),
    ],
)
def test_telemetry_that_cannot_work_is_refused(name: str, value: str) -> None:
    (line,) = problems(**{f"TELEMETRY_{name.upper()}": value})
    assert line.startswith(f"telemetry.{name}: ")
    assert "secret@" not in line


def test_telemetry_patterns_may_be_written_as_python_or_as_the_logs_query_has_them() -> None:
    for pattern in ("code=(?<status>[0-9]+)", "code=(?P<status>[0-9]+)"):
        assert accepted(TELEMETRY_LOG_STATUS_PATTERN=pattern) == []
    assert accepted(TELEMETRY_ENDPOINT_URL="http://127.0.0.1:5000") == []


@pytest.mark.parametrize("host", ["http://a", "a:80", "*", "a b", "-a"])
def test_an_allowed_host_is_a_name_alone(host: str) -> None:
    (line,) = problems(SERVER_ALLOWED_HOSTS=host)
    assert line.startswith(f'server.allowed_hosts: has "{host}", which is no host name')


def test_cfg_03_contradictions_are_all_reported_at_once(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PUBLIC KEY-----\n")
    found = problems(
        AUTH_JWT_ALGORITHM="RS256",
        AUTH_JWT_SECRET=SECRET,
        AUTH_JWT_PUBLIC_KEY_FILE=str(key),
        AUTH_JWT_ENABLED="false",
        SYNC_SAMPLE_SECONDS="60",
        WEBSOCKET_MAX_PER_USER="20000",
        MEANING_FAILURE_STATUSES="failed,completed",
        AUDIT_ENABLED="false",
        AUDIT_FILE=str(tmp_path / "audit.jsonl"),
    )
    assert [line.partition(":")[0] for line in found] == [
        "sync.sample_seconds",
        "websocket.max_per_user",
        "auth.jwt_secret",
        "auth.jwt_enabled",
        "meaning.failure_statuses",
        "audit.file",
    ]


def test_hs256_with_a_public_key_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PUBLIC KEY-----\n")
    (line,) = problems(AUTH_JWT_PUBLIC_KEY_FILE=str(key))
    assert line.startswith("auth.jwt_public_key_file: is given, but auth.jwt_algorithm is HS256")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"-----BEGIN PRIVATE KEY-----\n", "holds a private key"),
        (b"ssh-rsa AAAA", "is neither PEM nor JWKS"),
        (None, "cannot be read"),
    ],
)
def test_an_unfit_public_key_file_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    key = tmp_path / "key.pem"
    if content is not None:
        key.write_bytes(content)
    (line,) = problems(AUTH_JWT_ALGORITHM="RS256", AUTH_JWT_PUBLIC_KEY_FILE=str(key))
    assert line.startswith(f"auth.jwt_public_key_file: {key} {words}")


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    (line,) = problems(AUTH_JWT_SECRET=SECRET, AUTH_JWT_SECRET_FILE=str(secret))
    assert line == "auth.jwt_secret_file: is given beside auth.jwt_secret; keep one of the two"
    (line,) = problems(SOURCE_DSN="postgresql://u:p@h/d", SOURCE_PASSWORD="q")
    assert line == "source.password: is given beside a password in source.dsn; keep one of the two"


@pytest.mark.parametrize(
    "dsn", ["postgresql://u:hidden@h/d?nonsense=1", "hidden", "host=h password='hidden", "mysql://hidden"]
)
def test_a_connection_string_that_libpq_refuses_is_named_and_not_shown(dsn: str) -> None:
    (line,) = problems(SOURCE_DSN=dsn)
    assert line.startswith("source.dsn: is not a connection string")
    assert "hidden" not in line


def test_a_connection_string_must_not_choose_replication() -> None:
    (line,) = problems(SOURCE_DSN="host=h replication=database")
    assert line.startswith("source.dsn: sets `replication`")


@pytest.mark.parametrize("folder", ["/", "/etc", "/var/lib", "~"])
def test_cfg_05_a_folder_of_the_machine_is_no_cache_directory(folder: str) -> None:
    (line,) = problems(CACHE_DIRECTORY=folder)
    assert "is not a directory of our own" in line


def test_cfg_05_the_audit_file_is_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    cases = {
        "folder": "no regular file",
        "none/audit.jsonl": "does not exist",
        "keys.json": "another file of this server",
    }
    for name, words in cases.items():
        (line,) = problems(CACHE_DIRECTORY=str(tmp_path), AUDIT_FILE=str(tmp_path / name))
        assert line.startswith("audit.file: ")
        assert words in line
    assert accepted(CACHE_DIRECTORY=str(tmp_path / "new"), AUDIT_FILE=str(tmp_path / "new" / "a.jsonl")) == []


def test_one_table_cannot_serve_twice() -> None:
    (line,) = problems(SOURCE_TABLES_USERS="agent_actions")
    assert line.startswith("source.tables.users: names the table of source.tables.agent_actions again")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SERVER_HOST": "0.0.0.0"}, "plain HTTP"),
        (
            {
                "SERVER_HOST": "::",
                "SERVER_TRUSTED_PROXIES": "10.0.0.1",
                "SERVER_BEHIND_PROXY": "yes",
                "MOCK_DATA": "true",
            },
            "the demo is reachable",
        ),
        ({"SERVER_HOST": "0.0.0.0", "SERVER_TRUSTED_PROXIES": "10.0.0.1"}, "server.behind_proxy = true"),
        (
            {"AUDIT_ANCHOR_FILE": "/etc/owkai-anchor", "AUDIT_FILE": "/etc/owkai-audit"},
            "in the same folder as the audit file",
        ),
        ({"AUDIT_ON_FAILURE": "continue"}, "still served"),
        (
            {"SERVER_TRUSTED_PROXIES": "10.0.0.7", "WEBSOCKET_ALLOWED_ORIGINS": ""},
            "no browser on another machine can sign in",
        ),
        ({"AUDIT_ENABLED": "no"}, "accesses leave no record"),
        ({"CACHE_IN_MEMORY": "yes"}, "copies the source again"),
        ({"AUTH_ADMIN_ROLES": ""}, "no one may read the executive dashboard"),
    ],
)
def test_cfg_04_what_is_allowed_but_seldom_meant_is_a_warning(variables: dict[str, str], words: str) -> None:
    (warning,) = accepted(**{"WEBSOCKET_ALLOWED_ORIGINS": "https://soc.example.com", **variables})
    assert words in warning


def test_no_warning_for_loopback() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        assert accepted(SERVER_HOST=host) == []
