"""What a running server takes anew: keys for tokens, the revocation list, settings. Cases JWT-28, KEY-02, CFG-06."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.asyncio.client import connect as live
from websockets.exceptions import ConnectionClosed

from analytics.state.cache import Cache
from config.settings import AuthSettings
from handlers.auth.keyring import KeyRing
from handlers.auth.revocations import Revocations, RevokedFileError, read_revoked, token_identifier
from handlers.auth.token_keys import KeyFileError
from tests.contract.platform_rows import fill, make_key
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Served, until
from tests.handlers.world import ADMIN_1, SECRET, SHARED_1, USER_1, USER_2, LocalKeys, sign
from tests.owkai.servers import SECRET as SERVED_SECRET
from tests.owkai.servers import serving, wait_for
from tests.postgres import Database
from tests.security.test_tokens import jwk, key_file, rs256
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
    deadline = time.monotonic() + 5
    while (found := await status(served, token)) != wanted:
        assert time.monotonic() < deadline, f"still {found}"
        await asyncio.sleep(0.02)


def with_file(serve: Serve, path: Path, **auth: Any) -> Served:
    return serve(auth={"jwt_secret": SECRET, "jwt_secret_file": path, "failed_limit": 1000, **auth})


# -- keys for tokens -------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_jwt_28_an_exchanged_secret_leaves_the_old_one_its_overlap_and_no_more(
    serve: Serve, tmp_path: Path
) -> None:
    served = with_file(serve, secret_file(tmp_path, SECRET), jwt_overlap_seconds=300)
    old, new = USER_1.token(), sign(USER_1.claims(jti="new"), NEW_SECRET)
    assert (await status(served, old), await status(served, new)) == (200, 401)
    secret_file(tmp_path, NEW_SECRET)
    await comes_to(served, new, 200)
    unseen = USER_1.token(jti="never shown before")
    assert (await status(served, old), await status(served, unseen)) == (200, 200), "within the overlap"
    served.clock.advance(299)
    assert await status(served, old) == 200
    served.clock.advance(2)
    assert (await status(served, old), await status(served, unseen), await status(served, new)) == (401, 401, 200)


@pytest.mark.gen_test
async def test_jwt_28_without_an_overlap_the_old_secret_ends_at_once(serve: Serve, tmp_path: Path) -> None:
    served = with_file(serve, secret_file(tmp_path, SECRET), jwt_overlap_seconds=0)
    assert await status(served, USER_1.token()) == 200
    secret_file(tmp_path, NEW_SECRET)
    await comes_to(served, USER_1.token(), 401)
    assert await status(served, sign(USER_1.claims(), NEW_SECRET)) == 200


@pytest.mark.parametrize("broken", ["weak", "open", "gone", "empty"])
@pytest.mark.gen_test
async def test_jwt_28_a_broken_new_file_keeps_the_old_secret(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    path = secret_file(tmp_path, SECRET)
    served = with_file(serve, path)
    if broken == "gone":
        path.unlink()
    else:
        secret_file(
            tmp_path, {"weak": "x" * 40, "open": NEW_SECRET, "empty": ""}[broken], 0o644 if broken == "open" else 0o600
        )
    deadline = time.monotonic() + 5
    while "the keys for tokens stay as they are: auth.jwt_secret_file" not in caplog.text:
        assert await status(served, USER_1.token()) == 200
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert (await status(served, USER_1.token()), await status(served, sign(USER_1.claims(), NEW_SECRET))) == (200, 401)
    assert NEW_SECRET not in caplog.text
    secret_file(tmp_path, NEW_SECRET)
    await comes_to(served, sign(USER_1.claims(), NEW_SECRET), 200)


@pytest.mark.gen_test
async def test_jwt_28_a_set_of_public_keys_is_exchanged_and_names_alone_choose(
    serve: Serve, tmp_path: Path, two_keys: tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey]
) -> None:
    a, b = two_keys
    path = key_file(tmp_path, {"keys": [jwk(a, kid="a")]})
    served = serve(auth={"jwt_algorithm": "RS256", "jwt_public_key_file": path, "jwt_secret": "", "failed_limit": 1000,
                         "jwt_overlap_seconds": 60})  # fmt: skip
    by_a, by_b = rs256(a, header={"kid": "a"}), rs256(b, header={"kid": "b"})
    assert (await status(served, by_a), await status(served, by_b)) == (200, 401)
    key_file(tmp_path, {"keys": [jwk(a, kid="a"), jwk(b, kid="b")]})
    await comes_to(served, by_b, 200)
    assert await status(served, rs256(b, header={"kid": "a"})) == 401
    assert await status(served, rs256(b, header={"kid": "c"})) == 401
    key_file(tmp_path, {"keys": [jwk(b, kid="b")]})
    wait = time.monotonic() + 5
    while len(served.services.verifier.ring.current) != 1:
        await status(served, by_b)
        assert time.monotonic() < wait
        await asyncio.sleep(0.02)
    assert await status(served, by_a) == 200, "within the overlap"
    served.clock.advance(61)
    assert (await status(served, by_a), await status(served, by_b)) == (401, 200)


@pytest.mark.gen_test
async def test_jwt_28_a_live_connection_ends_with_the_key_it_was_opened_by(serve: Serve, tmp_path: Path) -> None:
    served = serve(
        auth={"jwt_secret": SECRET, "jwt_secret_file": secret_file(tmp_path, SECRET), "jwt_overlap_seconds": 0},
        websocket={"interval_seconds": 0.05},
    )
    url = f"ws://{served.authority}{API}/ws/realtime/{USER_1.email}"
    headers = {"Authorization": f"Bearer {USER_1.token()}"}
    async with asyncio.timeout(8), live(url, additional_headers=headers) as line:
        await line.recv()
        secret_file(tmp_path, NEW_SECRET)
        with contextlib.suppress(ConnectionClosed):
            async for _ in line:
                pass  # until the server closes
    assert line.close_code == 4401


def test_jwt_28_sighup_and_a_restart_take_the_new_secret(tmp_path: Path) -> None:
    def token(secret: str) -> dict[str, str]:
        now = int(time.time())
        return {"Authorization": "Bearer " + sign(USER_1.claims(iat=now - 5, exp=now + 600), secret)}

    path = secret_file(tmp_path, SERVED_SECRET)
    options = {"AUTH_JWT_SECRET": "", "AUTH_JWT_SECRET_FILE": str(path)}
    with serving(tmp_path, **options) as server:
        trends = f"{API}/trends"
        assert server.get(trends, token(SERVED_SECRET))[0] == 503, "let in; there is no copy of the source yet"
        assert server.get(trends, token(NEW_SECRET))[0] == 401
        secret_file(tmp_path, NEW_SECRET)
        server.signal(signal.SIGHUP)
        wait_for(
            lambda: "tokens exchanged" in server.messages() or "keys for tokens were exchanged" in server.messages(),
            "SIGHUP",
        )
        assert server.get(trends, token(NEW_SECRET))[0] == 503
        assert server.get(trends, token(SERVED_SECRET))[0] == 503, "within the overlap"
        assert NEW_SECRET not in server.log_path.read_text()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    with serving(tmp_path, **options) as server:
        assert server.get(trends, token(NEW_SECRET))[0] == 503
        assert server.get(trends, token(SERVED_SECRET))[0] == 401


def test_jwt_28_a_ring_that_cannot_be_made_says_which_setting(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"auth\.jwt_public_key_file is missing"):
        KeyRing(AuthSettings(jwt_algorithm="RS256"))
    with pytest.raises(KeyFileError, match=r"auth\.jwt_secret has fewer than 32 bytes"):
        KeyRing(AuthSettings())


# -- the revocation list ---------------------------------------------------------------------------------------------


def listed(path: Path, *lines: str) -> Path:
    path.write_text("# taken out of service\n" + "".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.gen_test
async def test_key_02_what_the_revocation_list_names_is_out_within_a_second(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = listed(tmp_path / "revoked")
    served = serve(auth={"revoked_file": path, "failed_limit": 1000})
    local = served.services.keys.find(served.local.user_1)
    assert local is not None
    ways: dict[str, tuple[str, str]] = {
        f"jti jti-{USER_1.id}": ("Authorization", f"Bearer {USER_1.token()}"),
        f"token {token_identifier(f'jti-{USER_2.id}')}  # seen in an audit record": (
            "Authorization", f"Bearer {USER_2.token()}"),
        f"key {ADMIN_1.key[:32]}": ("X-API-Key", ADMIN_1.key),
        f"key {local.id}": ("X-API-Key", served.local.user_1),
        f"user {SHARED_1.id}": ("Cookie", f"access_token={SHARED_1.token()}"),
    }  # fmt: skip
    for line in ways.values():
        assert (await served.get("/trends", line)).status == 200
    listed(path, *ways)
    begun = time.monotonic()
    for entry, line in ways.items():
        while (answer := await served.get("/trends", line)).status != 401:
            assert time.monotonic() - begun < 30, entry
            await asyncio.sleep(0.02)
        assert answer.detail == "Authentication required"
    assert (await served.get("/trends", token=ADMIN_1.token())).status == 200, "the person's token is not the key"
    assert {record["reason"] for record in served.records() if record["status"] == 401} == {"revoked"}
    for words in (f"{path}:2 is no entry", "cannot be read"):
        if "entry" in words:
            listed(path, "nonsense")
        else:
            path.unlink()
        begun = time.monotonic()
        while words not in caplog.text:
            assert (await served.get("/trends", line)).status == 401, "the list before stays in force"
            assert time.monotonic() - begun < 30
            await asyncio.sleep(0.02)


@pytest.mark.gen_test
async def test_key_02_ws_21_a_live_connection_and_a_session_end_when_the_list_names_them(
    serve: Serve, tmp_path: Path
) -> None:
    path = listed(tmp_path / "revoked")
    served = serve(auth={"revoked_file": path, "failed_limit": 1000}, websocket={"interval_seconds": 0.05})
    signed_in = await served.ask(
        "/session", ("Origin", "https://good.example"), ("X-API-Key", USER_1.key), method="POST"
    )
    assert signed_in.status == 201
    session = ("Cookie", (signed_in.header("Set-Cookie") or "").partition(";")[0])
    assert (await served.get("/trends", session)).status == 200
    url = f"ws://{served.authority}{API}/ws/realtime/{USER_1.email}"
    for credential, entry in (
        ({"X-API-Key": USER_1.key}, f"key {USER_1.key[:32]}"),
        ({"Authorization": f"Bearer {USER_1.token()}"}, f"user {USER_1.id}"),
    ):
        listed(path)
        await comes_to(served, USER_1.token(), 200)
        async with asyncio.timeout(8), live(url, additional_headers=credential) as line:
            await line.recv()
            listed(path, entry)
            with contextlib.suppress(ConnectionClosed):
                async for _ in line:
                    pass  # until the server closes
        assert line.close_code == 4401, entry
    assert (await served.get("/trends", session)).status == 401


def test_key_02_a_list_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = listed(tmp_path / "list", "user 7", "", "key owkai_user_AbC", "jti a b c")
    found = read_revoked(path)
    assert (found.users, found.keys, found.tokens) == (
        frozenset({7}), frozenset({"owkai_user_AbC"}), frozenset({token_identifier("a b c")}),
    )  # fmt: skip
    for data in (b"user 7\nuser\n", b"\xff\xfe", b"user 0\n", b"key\n"):
        path.write_bytes(data)
        with pytest.raises(RevokedFileError, match=r"auth\.revoked_file"):
            Revocations(path).load()
    with pytest.raises(RevokedFileError, match="cannot be read"):
        Revocations(tmp_path / "none").load()


def test_key_02_03_jwt_26_who_is_deactivated_or_suspended_in_postgres_is_cut_off(
    database: Database, tmp_path: Path
) -> None:
    fill(database)
    people = {name: make_key(database, 1, "user", f"{name}@org1.example.com") for name in ("a", "b", "c")}
    with serving(tmp_path, SOURCE_DSN=database.dsn, SOURCE_SLOT=slot_name(database)) as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")
        now = int(time.time())
        changes = {
            "a": "update users set is_active = false where email = 'a@org1.example.com'",
            "b": "update api_keys set is_active = false where user_id = (select id from users where email = 'b@org1.example.com')",
            "c": "update users set is_suspended = true where email = 'c@org1.example.com'",
        }
        for name, change in changes.items():
            row = database.execute("select id from users where email = %s", [f"{name}@org1.example.com"]).fetchone()
            assert row is not None
            claims = {"user_id": row[0], "sub": str(row[0]), "email": f"{name}@org1.example.com", "role": "user",
                      "organization_id": 1, "iat": now - 5, "exp": now + 600}  # fmt: skip
            ways = [{"X-API-Key": people[name]}]
            if name != "b":
                ways.append({"Authorization": "Bearer " + sign(claims, SERVED_SECRET)})
            for way in ways:
                assert server.get(f"{API}/trends", way)[0] == 200
            database.execute(change)
            for way in ways:
                wait_for(lambda: server.get(f"{API}/trends", way)[0] == 401, "the refusal")  # noqa: B023


# -- settings --------------------------------------------------------------------------------------------------------


def test_cfg_06_a_broken_settings_file_changes_nothing_and_is_said_once(tmp_path: Path) -> None:
    file = tmp_path / "owkai.toml"
    file.write_text('[log]\nlevel = "info"\n')
    with serving(tmp_path, "--config", str(file)) as server:
        for number, broken in enumerate(('[log]\nlevel = "loud"\n[server]\nprot = 1\n', "[log\n"), 1):
            file.write_text(broken)
            server.signal(signal.SIGHUP)
            wait_for(lambda: server.messages().count("SIGHUP: settings kept") == number, "the answer")  # noqa: B023
            assert server.get("/healthz")[0] == 200
        errors = [
            record["message"] for record in server.log if record["level"] == "error" and "settings" in record["message"]
        ]
        assert len(errors) == 2
        assert f"{file}:2: log.level" in errors[0]
        assert f"{file}:4: server.prot" in errors[0]
        file.write_text('[log]\nlevel = "warning"\n[websocket]\nmax_total = 7000\n')
        server.signal(signal.SIGHUP)
        wait_for(lambda: "a restart is needed for: websocket.max_total" in server.messages(), "the good file")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    trail = (tmp_path / "cache" / "audit.jsonl").read_text().splitlines()
    reloads = [record for line in trail if (record := json.loads(line))["event"] == "reload"]
    assert [(record["outcome"], record["settings"]) for record in reloads] == [
        ("error", "kept"), ("error", "kept"), ("success", "exchanged, in part after a restart"),
    ]  # fmt: skip


@pytest.mark.gen_test(timeout=30)
async def test_jwt_28_a_repaired_permission_is_noticed(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = with_file(serve, secret_file(tmp_path, SECRET), jwt_overlap_seconds=0)
    path = secret_file(tmp_path, NEW_SECRET, 0o644)
    await until(lambda: _look(served) and "the keys for tokens stay as they are" in caplog.text, seconds=10)
    assert await status(served, USER_1.token()) == 200
    path.chmod(0o600)
    await comes_to(served, sign(USER_1.claims(), NEW_SECRET), 200)
    assert await status(served, USER_1.token()) == 401, "the old secret is no longer valid"


@pytest.mark.gen_test(timeout=30)
async def test_key_02_a_list_that_becomes_readable_is_read(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = listed(tmp_path / "folder")
    served = serve(auth={"revoked_file": path})
    path.unlink()
    path.mkdir()
    await until(lambda: served.services.revocations.now is not None and "cannot be read" in caplog.text, seconds=10)
    path.rmdir()
    listed(path, f"user {USER_1.id}")
    await comes_to(served, USER_1.token(), 401)
    await comes_to(served, USER_2.token(), 200)


@pytest.mark.gen_test(timeout=30)
async def test_key_12_a_key_store_whose_permission_is_repaired_is_read(
    serve: Serve, own_cache: tuple[Cache, LocalKeys], caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(cache=own_cache)
    path = served.services.keys.path

    async def local_key_gives(expected: int) -> None:
        deadline = time.monotonic() + 10
        while (await served.get("/trends", key=served.local.user_1)).status != expected:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    await local_key_gives(200)
    path.chmod(0o640)
    await local_key_gives(401)
    assert caplog.text.count("no local key is accepted") == 1
    path.chmod(0o600)
    await local_key_gives(200)


def _look(served: Served) -> bool:
    """Asks for the keys, which looks at their file when it is time to."""
    return bool(list(served.services.verifier.ring.sets(served.clock().timestamp())))
