"""Session tokens: whatever a forged, broken or stale one looks like, the answer is 401 and nothing else happens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import time
import uuid
import zlib
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from analytics.state.cache import Cache
from config.settings import AuthSettings
from handlers.auth.token_keys import KeyFileError, read_public_keys
from handlers.auth.tokens import TokenError, TokenVerifier
from tests.handlers.fixtures import Serve
from tests.handlers.serving import API, Served, still_alive
from tests.handlers.world import (
    ADMIN_1,
    DEMOTED,
    INACTIVE,
    LOGGED_OUT,
    NOW,
    SECRET,
    SUSPENDED,
    USER_1,
    USER_2,
    LocalKeys,
    encode,
    sign,
    sign_bytes,
)

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


async def refused(served: Served, *tokens: str) -> None:
    """401 with the one sentence for each token, by cookie and by header, whatever the reason."""
    for token in tokens:
        for line in (("Authorization", f"Bearer {token}"), ("Cookie", f"access_token={token}")):
            answer = await served.get("/trends", line)
            assert (answer.status, answer.detail) == (401, "Authentication required"), token[:80]
            assert answer.header("WWW-Authenticate") == "Bearer"


async def accepted(served: Served, *tokens: str) -> None:
    for token in tokens:
        assert (await served.get("/trends", token=token)).status == 200, token[:80]


# Failures are not to be limited here: the cases are many and come from one address.
MANY: dict[str, Any] = {"failed_limit": 100_000}


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def other_rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key: rsa.RSAPrivateKey, **members: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return {name: value for name, value in found.items() if name in ("kty", "n", "e")} | members


def key_file(tmp_path: Path, content: bytes | dict[str, Any]) -> Path:
    path = tmp_path / "keys"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def rs256(key: rsa.RSAPrivateKey, algorithm: str = "RS256", header: dict[str, Any] | None = None, **claims: Any) -> str:
    return jwt.encode(USER_1.claims(**claims), key, algorithm=algorithm, headers=header)


@pytest.mark.gen_test
async def test_jwt_01_unsigned_tokens_are_refused(serve: Serve) -> None:
    served = serve(auth=MANY)
    body = encode(json.dumps(ADMIN_1.claims()).encode())
    for algorithm in ("none", "None", "NONE", "nOnE", "", None):
        header = encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
        await refused(served, f"{header}.{body}.", f"{header}.{body}.AA", f"{header}.{body}")
    header = encode(b'{"alg":"HS256"}')
    await refused(served, f"{header}.{body}.", f"{header}.{body}")


@pytest.mark.gen_test
async def test_jwt_02_03_a_public_key_is_no_hmac_secret(
    serve: Serve, tmp_path: Path, rsa_key: rsa.RSAPrivateKey, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    for key, algorithm in ((rsa_key, "RS256"), (ec_key, "ES256")):
        pem = public_pem(key)
        path = key_file(tmp_path, pem)
        served = serve(auth={**MANY, "jwt_algorithm": algorithm, "jwt_public_key_file": path, "jwt_secret": ""})
        texts = [pem, pem.strip(), pem + b"\n", pem.replace(b"\n", b"\r\n"), b"\n" + pem, b" " + pem]
        public = key.public_key()
        texts.append(public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
        if isinstance(key, rsa.RSAPrivateKey):
            texts.append(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1))
            single = jwk(key)
            texts += [json.dumps(single).encode(), json.dumps({"keys": [single]}).encode()]
        for text in texts:
            await refused(served, sign(ADMIN_1.claims(), text), sign(ADMIN_1.claims(), text, {"alg": algorithm}))
        await accepted(served, jwt.encode(USER_1.claims(), key, algorithm=algorithm))


@pytest.mark.gen_test
async def test_jwt_04_no_other_algorithm_than_the_pinned_one(
    serve: Serve, rsa_key: rsa.RSAPrivateKey, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    served = serve(auth=MANY)
    claims = ADMIN_1.claims()
    for algorithm in ("HS384", "HS512"):
        await refused(served, jwt.encode(claims, SECRET + "x" * 32, algorithm=algorithm))
        digest = {"HS384": hashlib.sha384, "HS512": hashlib.sha512}[algorithm]
        text = encode(json.dumps({"alg": algorithm}).encode()) + "." + encode(json.dumps(claims).encode())
        await refused(served, f"{text}.{encode(hmac.new(SECRET.encode(), text.encode(), digest).digest())}")
    for algorithm in ("RS256", "PS256", "ES256", "EdDSA"):
        await refused(served, sign(claims, SECRET, {"alg": algorithm}))
    await refused(served, rs256(rsa_key), rs256(rsa_key, "PS256"), jwt.encode(claims, ec_key, algorithm="ES256"))
    await accepted(served, USER_1.token())


@pytest.mark.gen_test
async def test_jwt_05_a_key_of_another_algorithm_verifies_nothing(
    serve: Serve, tmp_path: Path, rsa_key: rsa.RSAPrivateKey, other_rsa_key: rsa.RSAPrivateKey
) -> None:
    for declared in ("PS256", "RS384"):
        keys = {"keys": [jwk(rsa_key, kid="a", alg=declared), jwk(other_rsa_key, kid="b", alg="RS256")]}
        path = key_file(tmp_path, keys)
        served = serve(auth={**MANY, "jwt_algorithm": "RS256", "jwt_public_key_file": path})
        named = rs256(rsa_key, declared, {"kid": "a"})
        body, signature = named.split(".")[1:]
        relabelled = encode(json.dumps({"alg": "RS256", "kid": "a"}).encode())
        await refused(served, named, f"{relabelled}.{body}.{signature}", rs256(rsa_key, header={"kid": "a"}))
        await accepted(served, rs256(other_rsa_key, header={"kid": "b"}))


def test_jwt_06_weak_secrets_are_refused_without_their_value() -> None:
    for secret in ("", "short", "x" * 31):
        with pytest.raises(KeyFileError, match=r"auth\.jwt_secret") as caught:
            TokenVerifier(AuthSettings.model_validate({"jwt_secret": secret}))
        assert not secret or secret not in str(caught.value)


@pytest.mark.gen_test
async def test_jwt_08_a_changed_bit_or_encoding_is_refused(serve: Serve) -> None:
    served = serve(auth=MANY)
    token = USER_1.token()
    parts = token.split(".")
    for index, part in enumerate(parts):
        data = bytearray(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        data[len(data) // 2] ^= 1
        changed = [*parts[:index], encode(bytes(data)), *parts[index + 1 :]]
        await refused(served, ".".join(changed))
    header, body, signature = parts
    other = USER_2.token().split(".")[2]
    standard = base64.b64encode(base64.urlsafe_b64decode(signature + "=")).decode()
    last = signature[:-1] + chr(ord(signature[-1]) + 1)  # other unused bits, the same bytes to a lax decoder
    for forged in (other, signature[:-2], signature + "=", signature + "==", last, signature + "A", "!" + signature):
        await refused(served, f"{header}.{body}.{forged}")
    if standard.rstrip("=") != signature:
        await refused(served, f"{header}.{body}.{standard}")
    await refused(served, f"{header}.{body}+/.{signature}", f"{header}=.{body}.{signature}", f"{header}.{body}. ")


@pytest.mark.gen_test
async def test_jwt_09_degenerate_es256_signatures_are_refused(
    serve: Serve, tmp_path: Path, ec_key: ec.EllipticCurvePrivateKey, caplog: pytest.LogCaptureFixture
) -> None:
    path = key_file(tmp_path, public_pem(ec_key))
    served = serve(auth={**MANY, "jwt_algorithm": "ES256", "jwt_public_key_file": path})
    good = jwt.encode(USER_1.claims(), ec_key, algorithm="ES256")
    await accepted(served, good)
    head, _, text = good.rpartition(".")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    der = encode_dss_signature(r, s)
    assert decode_dss_signature(der) == (r, s)
    order = P256_ORDER.to_bytes(32, "big")
    for signature in (
        bytes(64), order + raw[32:], raw[:32] + order, b"\xff" * 64, der, raw[:63], raw + b"\x00", b"\x00" + raw,
    ):  # fmt: skip
        await refused(served, f"{head}.{encode(signature)}")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.gen_test
async def test_jwt_10_11_header_members_that_steer_verification_are_refused(
    serve: Serve, rsa_key: rsa.RSAPrivateKey
) -> None:
    served = serve(auth=MANY)
    members: tuple[dict[str, Any], ...] = (
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"crit": []},
        {"crit": ["http://unknown.example"], "http://unknown.example": 1},
        {"jku": "http://127.0.0.1:9/keys"},
        {"x5u": "http://127.0.0.1:9/cert"},
        {"jwk": jwk(rsa_key)},
        {"x5c": ["MIIB"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"enc": "A256GCM"},
    )
    for member in members:
        await refused(served, sign(USER_1.claims(), SECRET, {"alg": "HS256", **member}))


@pytest.mark.gen_test
async def test_jwt_12_a_key_id_is_a_name_and_nothing_else(serve: Serve) -> None:
    served = serve(auth=MANY)
    long = "k" * 65536
    for key_id in (long, 7, ["a"], {"a": 1}, None, "", "a\x00b", "' OR 1=1 --", "ключ", True):
        token = sign(USER_1.claims(), SECRET, {"alg": "HS256", "kid": key_id})
        if len(token) < 9000:
            await refused(served, token)
        else:
            with pytest.raises(TokenError):
                TokenVerifier(served.services.settings.auth).verify(token, NOW.timestamp())
    for key_id in ("../../../dev/null", "/etc/hostname"):
        for content in (b"", b"\n", b"localhost"):
            await refused(served, sign(USER_1.claims(), content, {"alg": "HS256", "kid": key_id}))
    await still_alive(served, USER_1)


@pytest.mark.gen_test
async def test_jwt_13_a_set_of_keys_needs_the_right_name(
    serve: Serve, tmp_path: Path, rsa_key: rsa.RSAPrivateKey, other_rsa_key: rsa.RSAPrivateKey
) -> None:
    good = [jwk(rsa_key, kid="a"), jwk(other_rsa_key, kid="b")]
    served = serve(auth={**MANY, "jwt_algorithm": "RS256", "jwt_public_key_file": key_file(tmp_path, {"keys": good})})
    await accepted(served, rs256(rsa_key, header={"kid": "a"}), rs256(other_rsa_key, header={"kid": "b"}))
    await refused(
        served,
        rs256(rsa_key, header={"kid": "c"}),
        rs256(other_rsa_key, header={"kid": "a"}),
        rs256(rsa_key),
    )


def test_jwt_13_one_malformed_key_refuses_the_whole_set(
    tmp_path: Path, rsa_key: rsa.RSAPrivateKey, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    good = jwk(rsa_key, kid="a")
    for bad in ({**good, "n": "!!"}, {"kty": "RSA", "kid": "x"}, {"kid": "x"}, 7, {**good, "kid": 5}):
        with pytest.raises(KeyFileError, match="key 1"):
            read_public_keys(key_file(tmp_path, {"keys": [good, bad]}), "RS256")
    with pytest.raises(KeyFileError, match="key 0 is a secret or private key"):
        read_public_keys(key_file(tmp_path, {"keys": [{"kty": "oct", "k": ""}]}), "RS256")
    for content, message in (
        ({"keys": []}, "empty list"),
        ({"keys": [good, good]}, "different `kid`"),
        ({"keys": [{**good, "alg": "PS256"}]}, "no key for RS256"),
        (b"not a key", "neither a PEM"),
        (public_pem(ec_key), "RS256 needs an RSA"),
        (rsa_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ), "private key"),
    ):  # fmt: skip
        with pytest.raises(KeyFileError, match=message):
            read_public_keys(key_file(tmp_path, content), "RS256")


@pytest.mark.gen_test
async def test_jwt_14_15_16_times_are_checked_with_leeway(serve: Serve) -> None:
    served = serve(auth={**MANY, "leeway_seconds": 30})
    now = int(served.clock.now.timestamp())
    await refused(
        served,
        USER_1.token(exp=...),
        USER_1.token(iat=now - 600, exp=now - 31),
        USER_1.token(iat=now - 600, exp=now - 30),
        USER_1.token(iat=...),
        USER_1.token(iat=now + 3600, exp=now + 7200),
        USER_1.token(iat=now, exp=now - 1),
        USER_1.token(iat=now, exp=now),
        USER_1.token(iat=now - 86_000, exp=now + 401),
        USER_1.token(nbf=now + 35),
    )
    await accepted(
        served,
        USER_1.token(iat=now - 600, exp=now - 29),
        USER_1.token(iat=now + 20),
        USER_1.token(nbf=now + 25),
        USER_1.token(iat=now - 86_000, exp=now + 400),
    )


@pytest.mark.gen_test
async def test_jwt_14_a_verified_token_expires_all_the_same(served: Served) -> None:
    token = USER_1.token()
    await accepted(served, token, token)
    served.clock.advance(3600 + 31)
    await refused(served, token)


@pytest.mark.gen_test
async def test_jwt_17_dates_are_numbers(serve: Serve) -> None:
    served = serve(auth=MANY)
    now = int(NOW.timestamp())
    for name in ("exp", "iat", "nbf"):
        for value in (str(now), None, [now], {"v": now}, -1, 2**63, 10**30, True, 1e308):
            await refused(served, USER_1.token(**{name: value}))
    for text in (b"NaN", b"Infinity", b"-Infinity", b"1" * 5000):
        body = json.dumps(USER_1.claims()).encode().replace(b'"exp": ' + str(now + 3600).encode(), b'"exp": ' + text)
        assert text in body
        await refused(served, sign(body))


@pytest.mark.gen_test
async def test_jwt_18_the_audience_is_compared_whole(serve: Serve) -> None:
    served = serve(auth={**MANY, "audience": ["owkai-api", "owkai-platform"]})
    await refused(
        served,
        USER_1.token(),
        USER_1.token(aud="other"),
        USER_1.token(aud=["other", "owkai"]),
        USER_1.token(aud="owkai-api-extended"),
        USER_1.token(aud="x owkai-api"),
        USER_1.token(aud={"owkai-api": 1}),
        USER_1.token(aud=[["owkai-api"]]),
    )
    await accepted(served, USER_1.token(aud="owkai-api"), USER_1.token(aud=["other", "owkai-platform"]))


@pytest.mark.gen_test
async def test_jwt_19_the_issuer_is_compared_whole(serve: Serve) -> None:
    served = serve(auth={**MANY, "issuer": "https://a.example"})
    for issuer in (
        "https://a.example/",
        "https://a.example.evil",
        "a.example",
        ["https://a.example"],
        "h",
        "",
        None,
        7,
    ):
        await refused(served, USER_1.token(iss=issuer))
    await refused(served, USER_1.token())
    await accepted(served, USER_1.token(iss="https://a.example"))


@pytest.mark.gen_test
async def test_jwt_20_other_kinds_of_token_are_refused(serve: Serve) -> None:
    served = serve(auth=MANY)
    await refused(
        served,
        USER_1.token(type="refresh"),
        USER_1.token(type=None),
        USER_1.token(type=["access"]),
        USER_1.token(token_use="id"),
        USER_1.token(nonce="n"),
        sign(USER_1.claims(), SECRET, {"alg": "HS256", "typ": "logout+jwt"}),
        sign(USER_1.claims(), SECRET, {"alg": "HS256", "typ": 7}),
    )
    await accepted(served, USER_1.token(type=...), sign(USER_1.claims(), SECRET, {"alg": "HS256", "typ": "at+jwt"}))


@pytest.mark.gen_test
async def test_jwt_21_a_name_twice_is_refused(serve: Serve) -> None:
    served = serve(auth=MANY)
    body = json.dumps(USER_1.claims()).encode()
    for twice in (b'"role": "admin"', b'"organization_id": 2', b'"organization_id": 1', b'"exp": 9'):
        await refused(served, sign(body[:-1] + b", " + twice + b"}"))
    await refused(served, sign_bytes(b'{"alg":"HS256","alg":"HS256"}', body))


@pytest.mark.gen_test
async def test_jwt_22_no_subject_no_entry_and_no_role_no_right(serve: Serve) -> None:
    served = serve(auth=MANY)
    await refused(
        served,
        USER_1.token(user_id=..., sub=...),
        USER_1.token(user_id="", sub=""),
        USER_1.token(user_id=None, sub=None),
        USER_1.token(email=7),
        USER_1.token(role=["admin"]),
    )
    await accepted(served, USER_1.token(email=...), USER_1.token(role=...))
    for role in (..., "", None):
        assert (await served.get("/executive/dashboard", token=ADMIN_1.token(role=role))).status == 403


@pytest.mark.gen_test
async def test_jwt_23_no_organization_is_403_everywhere(served: Served) -> None:
    for value in (..., None, 0, "", "0"):
        token = ADMIN_1.token(organization_id=value)
        for path in (
            "/trends",
            "/realtime/metrics",
            "/predictive/trends",
            "/performance",
            "/debug",
            "/executive/dashboard",
        ):
            answer = await served.get(path, token=token)
            assert (answer.status, answer.detail) == (403, "Organization context required for this operation"), value
        live = await served.get(f"/ws/realtime/{ADMIN_1.email}", token=token)
        assert live.status == 403


@pytest.mark.gen_test
async def test_jwt_24_huge_tokens_cost_nothing(serve: Serve) -> None:
    served = serve(auth=MANY)
    verifier = TokenVerifier(served.services.settings.auth)
    huge = (
        USER_1.token(extra="x" * 1_000_000),
        sign(USER_1.claims(), SECRET, {"alg": "HS256", "kid": "k" * 200_000}),
        "." * 10_000,
    )
    for token in huge:
        began = time.thread_time()
        with pytest.raises(TokenError):
            verifier.verify(token, NOW.timestamp())
        assert time.thread_time() - began < 0.05
    await refused(served, USER_1.token(extra="x" * 6_000), "." * 8_000)
    (answer,) = await served.send(
        f"GET {API}/trends HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {huge[1]}\r\n\r\n".encode()
    )
    assert answer.status == 431
    await still_alive(served, USER_1)


@pytest.mark.gen_test
async def test_jwt_25_encrypted_compressed_and_nested_tokens_are_refused(serve: Serve) -> None:
    served = serve(auth=MANY)
    part = encode(b"x")
    inner = USER_1.token()
    bomb = encode(zlib.compress(b"\x00" * 3_000_000)[2:-4])[:3000]
    await refused(
        served,
        ".".join([encode(b'{"alg":"dir","enc":"A256GCM","zip":"DEF"}'), part, part, bomb, part]),
        sign(inner.encode(), SECRET, {"alg": "HS256", "cty": "JWT"}),
        sign(inner.encode()),
        sign(json.dumps(inner).encode()),
    )


@pytest.mark.gen_test
async def test_jwt_26_27_the_users_table_has_the_last_word(serve: Serve) -> None:
    served = serve(auth=MANY)
    await refused(served, INACTIVE.token(), SUSPENDED.token(), USER_1.token(user_id=999, sub="999"))
    promoted = DEMOTED.token(role="admin")
    await accepted(served, promoted)
    assert (await served.get("/executive/dashboard", token=promoted)).status == 403
    assert (await served.get("/executive/dashboard", token=ADMIN_1.token(role="user"))).status == 403
    assert (await served.get("/executive/dashboard", token=ADMIN_1.token())).status == 200
    await refused(served, USER_1.token(organization_id=2))


@pytest.mark.gen_test
async def test_jwt_27_an_emptied_users_table_gives_no_right_back(
    serve: Serve, own_cache: tuple[Cache, LocalKeys]
) -> None:
    """TRUNCATE users: whether there is a table decides, not whether it has rows at the moment."""
    served = serve(cache=own_cache)
    cache, _ = own_cache
    demoted = DEMOTED.token(role="admin")
    assert (await served.get("/executive/dashboard", token=demoted)).status == 403
    assert cache.live is not None
    cache.live.begin()
    cache.live.truncate("users")
    cache.live.commit(cache.version + 1000)
    cache.touched("users")
    await refused(served, demoted, ADMIN_1.token(), USER_1.token(), ADMIN_1.token(user_id=..., sub="text"))
    for person in (ADMIN_1, USER_1):
        assert (await served.get("/trends", key=person.key)).status == 401


@pytest.mark.gen_test
async def test_jwt_27_without_a_users_table_the_token_itself_decides(serve: Serve) -> None:
    """source.tables.users = "": rows that the cache has from elsewhere decide nothing."""
    served = serve(source={"tables": {"users": ""}})
    stranger = USER_1.token(user_id=999, sub="999", role="admin")
    assert (await served.get("/executive/dashboard", token=stranger)).status == 200
    assert (await served.get("/executive/dashboard", token=USER_1.token(user_id=999, sub="999"))).status == 403


@pytest.mark.gen_test
async def test_jwt_29_payloads_that_are_not_utf8_json_are_refused(serve: Serve) -> None:
    served = serve(auth=MANY)
    text = json.dumps(USER_1.claims())
    for body in (
        text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode(), text.encode().replace(b"user@", b"\xff\xfe@"),
        b"", b"null", b"[]", b'"text"', b"{", b"[" * 3000, text.encode() + b"x", b"\xed\xa0\x80",
    ):  # fmt: skip
        await refused(served, sign(body))
        await refused(served, sign_bytes(body, text.encode()))
    await refused(served, "é.é.é", "\xff\xff.\xff.\xff")


@pytest.mark.gen_test
async def test_jwt_30_the_platforms_forms_of_identity(serve: Serve) -> None:
    served = serve(auth=MANY)

    def as_uuid(number: int) -> str:
        return str(uuid.UUID(int=number))

    bare = {"organization_id": ..., "user_id": ..., "sub": ...}
    await accepted(
        served,
        USER_1.token(**bare | {"org_id": as_uuid(1), "sub": as_uuid(2)}),
        USER_1.token(**bare | {"db_org_id": 1, "db_user_id": 2}),
        USER_1.token(**bare | {"db_org_id": 1, "org_id": as_uuid(1), "db_user_id": 2, "sub": as_uuid(2)}),
        USER_1.token(**bare | {"organization_id": "1", "sub": "2"}),
        USER_1.token(sub=str(uuid.uuid4())),
    )
    disguised = as_uuid(10)
    await refused(
        served,
        USER_1.token(org_id=as_uuid(2)),
        USER_1.token(db_org_id=2),
        USER_1.token(db_user_id=4),
        USER_1.token(sub=as_uuid(4)),
        USER_1.token(**bare | {"org_id": str(uuid.uuid4()), "sub": "2"}),
        USER_1.token(**bare | {"org_id": as_uuid(2**31), "sub": "2"}),
        USER_1.token(**bare | {"org_id": disguised.upper(), "sub": "2"}),
        USER_1.token(**bare | {"org_id": "{" + as_uuid(1) + "}", "sub": "2"}),
        USER_1.token(**bare | {"org_id": "urn:uuid:" + as_uuid(1), "sub": "2"}),
        USER_1.token(**bare | {"org_id": as_uuid(1).replace("-", ""), "sub": "2"}),
        USER_1.token(organization_id=2**31),
        USER_1.token(organization_id=-1),
        USER_1.token(organization_id=1.0),
        USER_1.token(organization_id=True),
        USER_1.token(organization_id=[1]),
        USER_1.token(organization_id="1 "),
        USER_1.token(organization_id="01"),
        USER_1.token(organization_id="١"),
        USER_1.token(user_id=0, sub=...),
    )
    zero = USER_1.token(**bare | {"org_id": as_uuid(0), "sub": "2"})
    assert (await served.get("/trends", token=zero)).status == 403


@pytest.mark.gen_test
async def test_jwt_31_csr_02_cookies_have_an_order_and_must_agree(serve: Serve) -> None:
    served = serve(auth=MANY)

    async def with_cookies(*lines: str) -> int:
        return (await served.get("/trends", *(("Cookie", line) for line in lines))).status

    one, two, bad = USER_1.token(), USER_2.token(), USER_1.token() + "x"
    assert await with_cookies(f"owai_session={two}; access_token={one}") == 200
    assert served.records()[-1]["principal"] == USER_1.email
    assert served.records()[-1]["credential"] == "cookie:access_token"
    assert await with_cookies(f"owai_session={two}") == 200
    assert served.records()[-1]["credential"] == "cookie:owai_session"
    assert await with_cookies(f"access_token={one}; owai_session={bad}") == 401
    assert await with_cookies(f"access_token={bad}; owai_session={one}") == 401
    assert await with_cookies(f"access_token={one}; access_token={one}") == 200
    assert await with_cookies(f"access_token={one}; access_token={two}") == 401
    assert await with_cookies(f"access_token={one}", f"access_token={two}") == 401
    assert await with_cookies(f"access_token={one}; Access_Token={two}") == 401
    assert await with_cookies(f"Access_Token={one}") == 401
    assert await with_cookies(f'access_token="Bearer {one}"') == 200
    assert await with_cookies(f"access_token=Bearer {one}") == 200
    assert await with_cookies("access_token=") == 401


@pytest.mark.gen_test
async def test_csr_03_cookie_headers_cannot_be_made_expensive(serve: Serve) -> None:
    served = serve(auth=MANY)
    for line in ('access_token="' + '\\"' * 7000, "; ".join(f"c{n}=1" for n in range(1500)), ";" * 15000):
        began = time.thread_time()
        assert (await served.get("/trends", ("Cookie", line))).status in (400, 401)
        assert time.thread_time() - began < 0.2
    await still_alive(served, USER_1)


@pytest.mark.gen_test
async def test_csr_04_odd_cookie_values_set_nothing(serve: Serve) -> None:
    served = serve(auth=MANY)
    for value in ("a;Domain=evil", "caf\xe9", "a%0d%0aSet-Cookie: b=c", '"', "Bearer ", "Bearer"):
        answer = await served.get("/trends", ("Cookie", f"access_token={value}"))
        assert answer.status in (400, 401)
        assert answer.header("Set-Cookie") is None


@pytest.mark.gen_test
async def test_csr_09_a_token_from_before_the_log_out_is_dead(served: Served) -> None:
    await refused(served, LOGGED_OUT.token())
    now = int(served.clock.now.timestamp())
    await accepted(served, LOGGED_OUT.token(iat=now - 29))


@pytest.mark.gen_test
async def test_csr_06_csr_10_answers_stay_private(served: Served) -> None:
    for answer in (
        await served.get("/trends", ("Origin", "https://evil.example"), token=USER_1.token()),
        await served.get("/trends", ("Origin", "https://good.example")),
    ):
        assert answer.header("Access-Control-Allow-Origin") is None
        assert answer.header("Cross-Origin-Resource-Policy") == "same-origin"
        assert answer.header("Cache-Control") in ("private, no-cache", "no-store")
        assert {"Cookie", "Authorization", "X-API-Key"} <= set((answer.header("Vary") or "").split(", "))
