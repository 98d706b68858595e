"""TLS of our own port: what it speaks, what it is given, how it is renewed. Cases TLS-01 … TLS-07, HDR-04's HSTS."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from botocore.exceptions import SSLError
from websockets.sync.client import connect

from analytics.state.clock import utc_now
from config.load import load_settings
from config.problems import SettingsError
from config.settings import ServerSettings as ServerSettings
from config.settings import Settings, TelemetrySettings
from handlers.connections.address import parse_networks
from handlers.connections.tls import CIPHERS, CertificateError, arrived_safely, load_identity
from owkai.commands.check import inspect_certificate
from owkai.exits import Exit
from sync.faults import judge
from sync.source.connections import connect as connect_to_source
from sync.source.connections import connection_string
from sync.telemetry.cloudwatch import make_client
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Served, until
from tests.handlers.world import USER_1
from tests.owkai.servers import environment, owkai, serving, wait_for
from tests.postgres import Database
from tests.security.certificates import Authority, common_name

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def trusting(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=authority.pem)
    return context


def with_tls(serve: Serve, authority: Authority, folder: Path, **server: Any) -> Served:
    certificate, key = authority.issue(folder / "tls")
    return serve(server={"tls_certificate_file": certificate, "tls_key_file": key, **server})


async def ask(served: Served, context: ssl.SSLContext, *lines: str, path: str = f"{API}/trends") -> str:
    """The head of one answer over TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=context, server_hostname="localhost")
    head = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {served.authority}", "Connection: close", *lines])
    writer.write(head.encode() + b"\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer.partition(b"\r\n\r\n")[0].decode()


@pytest.mark.gen_test
async def test_over_long_headers_are_answered_with_431_over_tls_too(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    served = with_tls(serve, authority, tmp_path)
    head = await ask(served, trusting(authority), "X-Long: " + "a" * 40_000, path="/healthz")
    assert head.startswith("HTTP/1.1 431 ")
    assert "Strict-Transport-Security: max-age=" in head


async def everything(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, one way or the other."""
    found = b""
    try:
        while piece := await asyncio.wait_for(reader.read(65536), 30):
            found += piece
    except ConnectionError:
        pass
    return found


# -- what is spoken --------------------------------------------------------------------------------------------------


def weak_client(**how: Any) -> ssl.SSLContext:
    """A client that would take anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    for name, value in how.items():
        setattr(context, name, value)
    return context


@pytest.mark.gen_test
async def test_tls_01_old_versions_and_suites_without_forward_secrecy_are_refused(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    served = with_tls(serve, authority, tmp_path)
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        old = [
            weak_client(minimum_version=version, maximum_version=version)
            for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
        ]
    weak = []
    for suites in ("kRSA", "DHE", "aNULL", "eNULL", "ECDHE+AES+SHA1", "PSK"):
        client = weak_client(maximum_version=ssl.TLSVersion.TLSv1_2)
        client.set_ciphers(f"{suites}:@SECLEVEL=0")
        weak.append(client)
    for context in (*old, *weak):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(served, context)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        good = trusting(authority)
        good.minimum_version = good.maximum_version = version
        assert (await ask(served, good, f"X-API-Key: {USER_1.key}")).startswith("HTTP/1.1 200")


def test_tls_01_every_suite_offered_has_forward_secrecy_and_authenticated_encryption(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue(tmp_path)
    identity = load_identity(ServerSettings(tls_certificate_file=certificate, tls_key_file=key), utc_now())
    assert identity is not None
    suites = identity.context.get_ciphers()
    assert suites
    assert CIPHERS.startswith("ECDHE")
    for suite in suites:
        assert suite["protocol"] == "TLSv1.3" or suite["name"].startswith("ECDHE-"), suite["name"]
        assert suite["aead"], suite["name"]
    assert identity.context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.gen_test
async def test_tls_01_hdr_04_hsts_is_sent_over_tls_alone(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    served = with_tls(serve, authority, tmp_path)
    client = trusting(authority)
    for lines, path in (((), f"{API}/trends"), ((f"X-API-Key: {USER_1.key}",), f"{API}/trends"), ((), "/nowhere"),
                        (("Content-Length: 100000000",), f"{API}/trends")):  # fmt: skip
        head = await ask(served, client, *lines, path=path)
        assert head.count("Strict-Transport-Security: max-age=31536000") == 1, head
    plain = serve()
    assert (await plain.get("/trends", token=USER_1.token())).header("Strict-Transport-Security") is None


# -- what is given ---------------------------------------------------------------------------------------------------


def refusal(certificate: Path | None, key: Path | None, **more: Any) -> str:
    settings = ServerSettings(tls_certificate_file=certificate, tls_key_file=key, **more)
    with pytest.raises(CertificateError) as caught:
        load_identity(settings, utc_now())
    return str(caught.value)


def test_tls_02_what_is_wrong_with_certificate_or_key_is_said_with_its_file(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue(tmp_path / "a")
    other_certificate, other_key = authority.issue(tmp_path / "b")
    assert "is not the key of the first certificate" in refusal(certificate, other_key)
    assert f"{other_key}" in refusal(certificate, other_key)
    old, old_key = authority.issue(tmp_path / "old", until=datetime.now(UTC) - timedelta(days=1))
    assert "expired on" in refusal(old, old_key)
    young, young_key = authority.issue(tmp_path / "young", since=datetime.now(UTC) + timedelta(days=1))
    assert "is valid from" in refusal(young, young_key)
    locked, locked_key = authority.issue(tmp_path / "locked", pass_phrase="a long pass phrase")
    assert "is encrypted; name the file of its pass phrase" in refusal(locked, locked_key)
    wrong = tmp_path / "phrase"
    wrong.write_text("another phrase")
    wrong.chmod(0o600)
    told = refusal(locked, locked_key, tls_key_password_file=wrong)
    assert "does not open" in told
    assert "another phrase" not in told
    key.chmod(0o644)
    assert "has mode 0644" in refusal(certificate, key)
    key.chmod(0o600)
    assert "cannot be read" in refusal(tmp_path / "none.pem", key)
    assert "cannot be read" in refusal(certificate, tmp_path / "none.key")
    assert "is no PEM certificate" in refusal(key, key)
    assert "is no PEM private key" in refusal(other_certificate, wrong)


def test_tls_02_the_pass_phrase_opens_the_key_from_its_private_file(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue(tmp_path, pass_phrase="a long pass phrase")
    phrase = tmp_path / "phrase"
    phrase.write_text("a long pass phrase\n")
    phrase.chmod(0o640)
    assert "has mode 0640" in refusal(certificate, key, tls_key_password_file=phrase)
    phrase.chmod(0o600)
    settings = ServerSettings(tls_certificate_file=certificate, tls_key_file=key, tls_key_password_file=phrase)
    identity = load_identity(settings, utc_now())
    assert identity is not None
    assert identity.warnings == ()


def test_tls_02_a_missing_chain_and_an_end_that_is_near_are_warnings(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue(tmp_path, chain=False, until=datetime.now(UTC) + timedelta(days=3))
    identity = load_identity(ServerSettings(tls_certificate_file=certificate, tls_key_file=key), utc_now())
    assert identity is not None
    soon, alone = identity.warnings
    assert "expires on" in soon
    assert "need the chain behind it" in alone
    certificate.write_text(certificate.read_text() + Authority("another").pem)
    identity = load_identity(ServerSettings(tls_certificate_file=certificate, tls_key_file=key), utc_now())
    assert identity is not None
    assert "are not a chain" in identity.warnings[1]


def test_tls_02_serve_ends_with_2_and_check_says_why(authority: Authority, tmp_path: Path) -> None:
    certificate, _ = authority.issue(tmp_path / "a")
    _, key = authority.issue(tmp_path / "b")
    variables = {"SERVER_TLS_CERTIFICATE_FILE": str(certificate), "SERVER_TLS_KEY_FILE": str(key)}
    env = environment(
        SOURCE_DSN="postgresql://owkai@127.0.0.1:1/platform", AUTH_JWT_ENABLED="false",
        CACHE_DIRECTORY=str(tmp_path / "cache"), SERVER_PORT="0", **variables,
    )  # fmt: skip
    refused = owkai("serve", cwd=tmp_path, env=env)
    assert refused.returncode == Exit.SETTINGS
    assert "is not the key of the first certificate" in refused.stderr
    settings = Settings.model_validate({"server": {"tls_certificate_file": certificate, "tls_key_file": key}})
    (finding,) = inspect_certificate(settings)
    assert (finding.level, finding.subject) == ("error", "TLS")
    assert "is not the key of the first certificate" in finding.message
    half = owkai("serve", cwd=tmp_path, env={name: value for name, value in env.items() if "KEY_FILE" not in name})
    assert half.returncode == Exit.SETTINGS
    assert "server.tls_key_file: is missing: server.tls_certificate_file is given" in half.stderr


# -- renewal ---------------------------------------------------------------------------------------------------------


def shown_name(port: int, authority: Authority) -> str:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        trusting(authority).wrap_socket(plain, server_hostname="localhost") as line,
    ):
        return common_name(line.getpeercert(binary_form=True) or b"")


def test_tls_03_a_renewed_certificate_serves_new_connections_and_old_live_ones_go_on(
    authority: Authority, tmp_path: Path, database: Database
) -> None:
    certificate, key = authority.issue(tmp_path / "tls", name="first")
    env = environment(CACHE_DIRECTORY=str(tmp_path / "cache"))
    made = owkai("keys", "create", "--org", "1", "--role", "user", "--email", "a@one.example", cwd=tmp_path, env=env)
    with serving(
        tmp_path, SOURCE_DSN=database.dsn, SERVER_TLS_CERTIFICATE_FILE=str(certificate), SERVER_TLS_KEY_FILE=str(key),
        WEBSOCKET_INTERVAL_SECONDS="0.1",
    ) as server:  # fmt: skip
        wait_for(lambda: "the first copy" in server.messages() or "copied" in server.messages(), "the first copy")
        assert shown_name(server.port, authority) == "first"
        live = connect(
            f"wss://localhost:{server.port}{API}/ws/realtime/a@one.example", ssl=trusting(authority),
            additional_headers={"X-API-Key": made.stdout.strip()},
        )  # fmt: skip
        with live:
            assert '"connection"' in str(live.recv(timeout=30))
            authority.issue(tmp_path / "tls", name="second")
            server.signal(signal.SIGHUP)
            wait_for(lambda: shown_name(server.port, authority) == "second", "the new certificate")
            for broken in ("no certificate", Authority("another").pem):
                certificate.write_text(broken)
                seen = server.messages().count("certificate stay as they are")
                server.signal(signal.SIGHUP)
                wait_for(lambda: server.messages().count("certificate stay as they are") > seen, "refusal")  # noqa: B023
                assert shown_name(server.port, authority) == "second"
            for _ in range(3):
                assert "metrics_update" in str(live.recv(timeout=30))


def test_tls_03_a_renewed_certificate_is_noticed_and_one_whose_permission_is_repaired(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue(tmp_path / "tls", name="first")
    with serving(
        tmp_path, SERVER_TLS_CERTIFICATE_FILE=str(certificate), SERVER_TLS_KEY_FILE=str(key)
    ) as server:  # fmt: skip
        assert shown_name(server.port, authority) == "first"
        authority.issue(tmp_path / "tls", name="second")
        wait_for(lambda: shown_name(server.port, authority) == "second", "the new certificate, without a signal")
        key.chmod(0o644)
        wait_for(lambda: "the certificate stays as it is: server.tls_key_file" in server.messages(), "the refusal")
        certificate_of_third, key_of_third = authority.issue(tmp_path / "third", name="third")
        certificate_of_third.replace(certificate)
        key.write_bytes(key_of_third.read_bytes())
        assert shown_name(server.port, authority) == "second"
        key.chmod(0o600)
        wait_for(lambda: shown_name(server.port, authority) == "third", "the repaired one")


# -- cost ------------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_tls_04_handshakes_that_never_finish_are_ended_and_others_served(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    served = with_tls(serve, authority, tmp_path, idle_timeout_seconds=1)
    silent = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(50)]
    for _, writer in silent[:25]:
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # the beginning of a hello
    assert (await ask(served, trusting(authority), f"X-API-Key: {USER_1.key}")).startswith("HTTP/1.1 200")
    for reader, writer in silent:
        assert await everything(reader) == b""
        writer.close()
    await until(lambda: not served.server.http._connections)


@pytest.mark.gen_test
async def test_tls_04_http_29_what_is_no_tls_ends_the_connection(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    served = with_tls(serve, authority, tmp_path)
    for data in (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"\0" * 4096):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(data)
        assert b"HTTP/1.1 200" not in await everything(reader)
        writer.close()
    assert (await ask(served, trusting(authority), f"X-API-Key: {USER_1.key}")).startswith("HTTP/1.1 200")


@pytest.mark.gen_test
async def test_tls_04_a_client_cannot_renegotiate(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    served = with_tls(serve, authority, tmp_path)
    client = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", served.authority, "-tls1_2", "-legacy_renegotiation",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(b"R\n")
    said = b""
    while b"RENEGOTIATING" not in said:
        piece = await asyncio.wait_for(client.stdout.read(4096), 30)
        assert piece, said
        said += piece
    said += await asyncio.wait_for(client.stdout.read(), 30)
    assert await client.wait() != 0
    assert b"no renegotiation" in said or b"handshake failure" in said, said[-400:]
    assert (await ask(served, trusting(authority), f"X-API-Key: {USER_1.key}")).startswith("HTTP/1.1 200")


# -- plain HTTP ------------------------------------------------------------------------------------------------------


def test_tls_05_plain_http_on_all_interfaces_is_a_loud_warning() -> None:
    def warnings(**variables: str) -> str:
        return " ".join(
            load_settings(None, {f"OWKAI_SERVER_{key}": value for key, value in variables.items()}, {}).warnings
        )

    assert "reachable from other machines and the server speaks plain HTTP" in warnings(HOST="0.0.0.0")
    assert "server.behind_proxy = true" in warnings(HOST="::", TRUSTED_PROXIES="127.0.0.1")
    assert "plain HTTP" not in warnings(HOST="0.0.0.0", TRUSTED_PROXIES="127.0.0.1", BEHIND_PROXY="true")
    with pytest.raises(SettingsError, match="names no proxy"):
        warnings(HOST="0.0.0.0", BEHIND_PROXY="true")
    with pytest.raises(SettingsError, match="neither a certificate nor a proxy"):
        warnings(HOST="0.0.0.0", REQUIRE_TLS="true")


@pytest.mark.gen_test
async def test_tls_05_with_require_tls_no_credential_is_taken_over_plain_http_from_elsewhere(serve: Serve) -> None:
    served = serve(server={"require_tls": True, "behind_proxy": True, "trusted_proxies": ["127.0.0.1"]})
    client, token = ("X-Forwarded-For", "203.0.113.9"), USER_1.token()
    https, http = ("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")
    cookie = ("Cookie", f"access_token={token}")
    for lines in (
        (client,),
        (client, http),
        (client, https, http),
        (client, ("X-Forwarded-Proto", "https, http")),
        (http,),
    ):
        for credential in (cookie, ("Authorization", f"Bearer {token}"), ("X-API-Key", USER_1.key)):
            answer = await served.get("/trends", *lines, credential)
            assert (answer.status, answer.detail) == (403, "Credentials are accepted over TLS only"), lines
        live = await served.get(f"/ws/realtime/{USER_1.email}", *lines, cookie)
        assert live.status == 403
        origin = ("Origin", "https://good.example")
        sign_in = await served.ask("/session", *lines, origin, ("X-API-Key", USER_1.key), method="POST")
        assert (sign_in.status, sign_in.header("Set-Cookie")) == (403, None)
    assert (await served.get("/trends", client, https, cookie)).status == 200
    assert (await served.get("/trends", cookie)).status == 200, "this machine"
    assert (await served.ask("/healthz", client)).status == 200


def test_tls_05_who_is_no_trusted_proxy_cannot_claim_to_have_come_over_tls() -> None:
    trusted = parse_networks(["10.0.0.1"])
    assert not arrived_safely("http", "203.0.113.9", False, ["https"], trusted)
    assert not arrived_safely("http", "203.0.113.9", True, ["https"], trusted)
    assert not arrived_safely("http", "203.0.113.9", False, [], trusted)
    assert arrived_safely("https", "203.0.113.9", False, [], ())
    assert arrived_safely("http", "10.0.0.1", True, ["https"], trusted)
    assert not arrived_safely("http", "10.0.0.1", True, [], trusted)
    assert not arrived_safely("http", "127.0.0.1", True, ["https"], trusted), "a proxy on this machine nobody named"
    assert arrived_safely("http", "::1", False, [], ())


# -- other lines -----------------------------------------------------------------------------------------------------


def speak(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that gives each connection its answer, one after the other; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve_all() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError), listener.accept()[0] as line:
                    answer(line)

        thread = threading.Thread(target=serve_all)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


speaking = contextlib.contextmanager(speak)


def tls_postgres(certificate: Path, key: Path, more: bytes = b"") -> Callable[[socket.socket], None]:
    """Agrees to the request for TLS, adds `more` in the clear, and shows the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def answer(line: socket.socket) -> None:
        line.recv(8)
        line.sendall(b"S" + more)
        with context.wrap_socket(line, server_side=True) as secured:
            secured.recv(1024)

    return answer


def raw_postgres(data: bytes) -> Callable[[socket.socket], None]:
    def answer(line: socket.socket) -> None:
        line.recv(8)
        line.sendall(data)
        line.recv(1024)

    return answer


def source_at(port: int, authority_file: Path) -> Settings:
    dsn = f"postgresql://u:canary-pw@localhost:{port}/d?sslmode=verify-full&sslrootcert={authority_file}&gssencmode=disable"
    return Settings.model_validate({"source": {"dsn": dsn, "connect_timeout_seconds": 5}})


def test_tls_06_the_source_is_verified_by_default_where_it_is_another_machine() -> None:
    for host in ("db.example", "10.1.2.3", "postgres"):
        text = connection_string(Settings.model_validate({"source": {"dsn": f"postgresql://u@{host}/d"}}))
        assert "sslmode=verify-full" in text
        assert "sslrootcert=system" in text
    assert "sslmode" not in connection_string(
        Settings.model_validate({"source": {"dsn": "postgresql://u@127.0.0.1/d"}})
    )
    chosen = connection_string(
        Settings.model_validate({"source": {"dsn": "postgresql://u@db.example/d?sslmode=verify-ca"}})
    )
    assert "sslmode=verify-ca" in chosen


def test_tls_06_a_server_that_cannot_prove_itself_gets_no_password_and_says_nothing(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = tmp_path / "ca.pem"
    trusted.write_text(authority.pem)
    good, good_key = authority.issue(tmp_path / "good")
    foreign, foreign_key = Authority("another").issue(tmp_path / "foreign")
    wrong, wrong_key = authority.issue(tmp_path / "wrong", names=("elsewhere.example",))
    evil = (
        b"E" + (60).to_bytes(4, "big") + b"SFATAL\0C28000\0M" + b"\x1b[2JCANARY-TEXT canary".ljust(40, b"!") + b"\0\0"
    )
    servers = {
        "self-signed": tls_postgres(foreign, foreign_key),
        "wrong host name": tls_postgres(wrong, wrong_key),
        "plain": raw_postgres(b"N"),
        "bytes before TLS": tls_postgres(good, good_key, b"Z\0\0\0\5I"),
        "error text before TLS": raw_postgres(evil),
    }
    for name, answer in servers.items():
        with (
            speaking(answer) as port,
            pytest.raises(psycopg.OperationalError) as caught,
            connect_to_source(source_at(port, trusted)),
        ):
            pass
        told = judge(caught.value)
        assert told.message.isprintable(), name
        for word in ("CANARY-TEXT", "canary-pw"):
            assert word not in told.message, name
            assert word not in caplog.text, name


def test_tls_07_aws_with_a_certificate_of_an_unknown_authority_is_refused(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    certificate, key = authority.issue(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    heard: list[bytes] = []

    def answer(line: socket.socket) -> None:
        with context.wrap_socket(line, server_side=True) as secured:
            heard.append(secured.recv(1024))

    with speaking(answer) as port:
        settings = TelemetrySettings(region="us-east-2", endpoint_url=f"https://127.0.0.1:{port}", timeout_seconds=2)
        with pytest.raises(SSLError):
            make_client("cloudwatch", settings).list_metrics()
    assert heard == [], "not a byte of a request was sent"


def test_tls_07_certificates_of_others_are_never_left_unchecked() -> None:
    unchecked = re.compile(
        r"verify\s*=\s*False|CERT_NONE|_create_unverified_context|check_hostname\s*=\s*False|use_ssl\s*=\s*False|sslmode=(?:disable|allow|prefer)\b"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for room in ("owkai", "handlers", "analytics", "sync", "config")
        for path in (ROOT / room).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if unchecked.search(line)
    ]
    assert found == []
