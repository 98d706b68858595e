"""Commands that end by themselves."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner, Result

from config.accounts import account_name
from config.load import load_settings
from config.reference import reference, sample
from handlers.auth.key_store import KeyStore
from handlers.auth.tokens import TokenVerifier
from owkai.cli import main
from owkai.exits import Exit
from tests.owkai.servers import SECRET, environment, owkai


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("OWKAI_")]:
        monkeypatch.delenv(name)
    return tmp_path


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner(env={f"OWKAI_{name}": value for name, value in variables.items()}).invoke(main, list(arguments))


def test_help_documents_every_exit_code(folder: Path) -> None:
    for arguments in (["--help"], ["serve", "--help"], ["check", "--help"], ["demo", "--help"]):
        text = " ".join(run(*arguments).output.split())
        assert [code for code in Exit if f"{code.value} {code.meaning}" not in text] == []


def test_version_is_that_of_the_installed_package(folder: Path) -> None:
    output = run("version").output
    assert re.match(r"owkai \d+\.\d+\.\d+\nPython \d\S+\ntornado ", output)
    facts = json.loads(run("version", "--json").output)
    assert output.startswith(f"owkai {facts['version']}\nPython {facts['python']}\n")
    assert {"duckdb", "polars", "psycopg-binary"} <= facts["packages"].keys()


def test_only_a_packed_program_can_be_compared_with_its_build(folder: Path) -> None:
    refused = run("version", "--check")
    assert refused.exit_code == Exit.SETTINGS
    assert "--check is for the packaged program" in refused.output


def test_sample_and_reference_are_printed_as_generated(folder: Path) -> None:
    assert run("config", "sample").output == sample()
    assert run("config", "reference").output == reference()


def test_the_file_in_the_working_folder_is_taken_when_none_is_named(folder: Path) -> None:
    (folder / "owkai.toml").write_text("[server]\nport = 9\n")
    assert "port = 9  # owkai.toml:2" in run("config", "show").output
    (folder / "other.toml").write_text("[server]\nport = 8\n")
    assert "port = 8  # other.toml:2" in run("config", "show", CONFIG="other.toml").output
    assert "port = 7  # --set server.port" in run("config", "show", "--set", "server.port=7").output


def test_wrong_settings_end_with_2_and_all_problems_on_standard_error(folder: Path) -> None:
    (folder / "owkai.toml").write_text("[server]\nprt = 9\nworkers = 0\n")
    result = run("config", "show", "--set", "log.level=loud")
    assert result.exit_code == Exit.SETTINGS
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == [
        "owkai.toml:2", "owkai.toml:3", "--set log.level",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["serve", "--nonsense"], ["config", "show", "--set", "x"], ["token"]]
)
def test_wrong_usage_ends_with_2(folder: Path, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == Exit.SETTINGS


def test_jwt_07_serve_without_a_secret_refuses_and_says_how_to_make_one(folder: Path) -> None:
    result = run("serve", SOURCE_DSN="postgresql://h/d")
    assert result.exit_code == Exit.SETTINGS
    assert result.stderr.startswith("auth.jwt_secret: is missing")
    assert "openssl rand -hex 32" in result.stderr


def test_jwt_06_serve_with_a_weak_secret_refuses_without_showing_it(folder: Path) -> None:
    for secret in ("x" * 40, SECRET[:31], "change-me-change-me-change-me-change-me"):
        result = run("serve", SOURCE_DSN="postgresql://h/d", AUTH_JWT_SECRET=secret)
        assert result.exit_code == Exit.SETTINGS
        assert "auth.jwt_secret" in result.stderr
        assert secret not in result.output


def test_sec_02_serve_refuses_a_secret_on_the_command_line(folder: Path) -> None:
    result = run("serve", "--set", f"auth.jwt_secret={SECRET}", SOURCE_DSN="postgresql://h/d")
    assert result.exit_code == Exit.SETTINGS
    assert SECRET not in result.output


def test_a_warning_of_the_settings_reaches_standard_error_and_not_the_output(folder: Path) -> None:
    result = run("config", "show", SERVR_PORT="1")
    assert "OWKAI_SERVR_PORT" in result.stderr
    assert "OWKAI_SERVR_PORT" not in result.stdout


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_found_by_the_server_until_it_is_revoked(folder: Path) -> None:
    result = run("keys", "create", "--org", "2", "--role", "admin", "--email", "a@b.example", "--days", "3")
    assert result.exit_code == 0
    text = result.stdout.strip()
    store = KeyStore(folder / "data" / "keys.json")
    key = store.find(text)
    assert key is not None
    assert (key.organization_id, key.role, key.email) == (2, "admin", "a@b.example")
    listed = run("keys", "list").stdout
    assert listed.split("\t")[:5] == [key.id, key.prefix, "2", "admin", "a@b.example"]
    assert text not in listed
    assert text not in (folder / "data" / "keys.json").read_text()
    assert run("keys", "revoke", key.id).exit_code == 0
    assert run("keys", "list").stdout == ""
    again = run("keys", "revoke", key.id)
    assert again.exit_code == Exit.FAILED
    assert "owkai keys list" in again.stderr


def test_sec_04_the_key_store_is_private_whatever_the_umask(folder: Path) -> None:
    result = owkai("keys", "create", "--org", "1", "--role", "user", "--email", "a@b.example", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert (folder / "data").stat().st_mode & 0o777 == 0o700
    assert (folder / "data" / "keys.json").stat().st_mode & 0o777 == 0o600


def test_keys_in_the_directory_of_another_account_are_left_to_that_account(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "data").mkdir(mode=0o700)
    owner = (folder / "data").stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    result = run("keys", "create", "--org", "1", "--role", "user", "--email", "a@b.example")
    assert result.exit_code == Exit.SETTINGS
    assert f"belongs to account {account_name(owner)}; run the command as that account: sudo -u" in result.stderr
    assert list((folder / "data").iterdir()) == []


def test_a_damaged_key_store_is_named_and_nothing_is_written(folder: Path) -> None:
    (folder / "data").mkdir()
    file = folder / "data" / "keys.json"
    file.write_text("{")
    file.chmod(0o600)
    result = run("keys", "list")
    assert result.exit_code == Exit.FAILED
    assert str(file) in result.stderr
    assert run("keys", "create", "--org", "1", "--role", "user", "--email", "a@b.example").exit_code == Exit.SETTINGS
    assert file.read_text() == "{"


# -- token -------------------------------------------------------------------------------------------------------------

ARGUMENTS = ("token", "--org", "2", "--user", "7", "--email", "a@b.example", "--role", "admin")


def test_a_token_is_accepted_by_the_server_with_the_same_settings(folder: Path) -> None:
    variables = {"AUTH_JWT_SECRET": SECRET, "AUTH_ISSUER": "https://a.example", "AUTH_AUDIENCE": "one,two"}
    result = run(*ARGUMENTS, "--minutes", "5", **variables)
    assert result.exit_code == 0, result.stderr
    auth = load_settings(None, {f"OWKAI_{name}": value for name, value in variables.items()}, {}).settings.auth
    claims = TokenVerifier(auth).verify(result.stdout.strip(), datetime.now(UTC).timestamp())
    assert (claims.user_id, claims.organization_id, claims.email, claims.role) == (7, 2, "a@b.example", "admin")
    assert claims.expires_at - claims.issued_at == 300


def test_a_token_never_outlives_the_longest_life_accepted(folder: Path) -> None:
    result = run(*ARGUMENTS, "--minutes", "600", AUTH_JWT_SECRET=SECRET, AUTH_MAX_LIFETIME_SECONDS="60")
    payload = jwt.decode(result.stdout.strip(), SECRET, algorithms=["HS256"])
    assert payload["exp"] - payload["iat"] == 60


def test_a_token_under_rs256_is_the_platforms_to_sign(folder: Path) -> None:
    (folder / "key.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    result = run(*ARGUMENTS, AUTH_JWT_ALGORITHM="RS256", AUTH_JWT_PUBLIC_KEY_FILE="key.pem")
    assert result.exit_code == Exit.SETTINGS
    assert "the platform holds the private key" in result.stderr


def test_a_token_without_a_secret_names_the_setting(folder: Path) -> None:
    result = run(*ARGUMENTS)
    assert result.exit_code == Exit.SETTINGS
    assert result.stderr.startswith("auth.jwt_secret is missing")


# -- the process around it ---------------------------------------------------------------------------------------------


def test_sup_04_a_planted_module_in_the_working_folder_is_not_imported(folder: Path) -> None:
    for name in ("config", "tornado", "click", "tomllib"):
        (folder / f"{name}.py").write_text("open('planted', 'w').close()\nraise SystemExit(99)\n")
    result = owkai("config", "show", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert not (folder / "planted").exists()


def test_help_loads_none_of_the_heavy_packages(folder: Path) -> None:
    code = (
        "import json, sys; from click.testing import CliRunner; from owkai.cli import main; "
        "CliRunner().invoke(main, ['--help']); CliRunner().invoke(main, ['config', 'show']); "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    import subprocess
    import sys

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=folder, env=environment())
    assert not set(json.loads(found.stdout)) & {"duckdb", "polars", "sklearn", "boto3", "tornado", "numpy"}


def test_sync_drop_without_a_source_names_the_setting(folder: Path) -> None:
    result = run("sync", "drop", "--yes")
    assert result.exit_code == Exit.SETTINGS
    assert result.stderr.startswith("source.dsn is missing")


def test_sync_drop_of_a_source_out_of_reach_ends_with_3_and_without_the_password(folder: Path) -> None:
    result = run("sync", "drop", "--yes", SOURCE_DSN="postgresql://u:hidden@127.0.0.1:1/d")
    assert result.exit_code == Exit.SOURCE
    assert "hidden" not in result.output


def test_sync_drop_asks_first(folder: Path) -> None:
    result = run("sync", "drop", SOURCE_DSN="postgresql://u@127.0.0.1:1/d")
    assert result.exit_code == Exit.FAILED
    assert "Aborted" in result.stderr


@pytest.mark.parametrize(
    "command",
    ["--help", "version", "config sample", "config show", "openapi", "keys list --help",
     "token --org 1 --user 1 --email a@b.example --role user", "audit report"],
)  # fmt: skip
def test_output_that_cannot_be_written_is_told_in_one_line(folder: Path, command: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "owkai", *command.split()], cwd=folder, env=environment(AUTH_JWT_SECRET=SECRET), stdout=full,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == Exit.FAILED
    assert done.stderr == (
        "the output cannot be written: No space left on device; free some space there, then run the command again\n"
    )


def test_a_key_that_was_not_shown_is_not_kept(folder: Path) -> None:
    create = ["keys", "create", "--org", "1", "--role", "user", "--email", "a@b.example"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "owkai", *create], cwd=folder, env=environment(), stdout=full, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == Exit.FAILED
    assert "Traceback" not in done.stderr
    assert KeyStore(folder / "data" / "keys.json").list() == ()


def test_a_disk_without_room_leaves_the_keys_as_they_were_and_is_named(folder: Path) -> None:
    kept = owkai("keys", "create", "--org", "1", "--role", "user", "--email", "a@b.example", cwd=folder)
    assert kept.returncode == 0, kept.stderr
    file = folder / "data" / "keys.json"
    before = file.read_bytes()
    (identifier,) = [key.id for key in KeyStore(file).list()]
    for command in ("keys create --org 1 --role user --email b@b.example --unchecked", f"keys revoke {identifier}"):
        limited = f"ulimit -f 0; exec '{sys.executable}' -m owkai {command}"
        done = subprocess.run(
            ["bash", "-c", limited], cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == Exit.FAILED, command
        assert done.stdout == ""
        assert done.stderr.endswith(f"{file}: File too large; free some space there, then run the command again\n")
        assert "Traceback" not in done.stderr
        assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.iterdir() if "new" in path.name) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another account")
def test_root_is_told_how_to_run_a_command_as_the_account_of_the_server(folder: Path) -> None:
    """What root left in the folder, the server could not read; what root took for damaged, it would have set aside."""
    made = owkai("keys", "create", "--org", "1", "--role", "user", "--email", "a@b.example", cwd=folder)
    assert made.returncode == 0, made.stderr
    data, secret = folder / "data", folder / "jwt.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    there = {path.name for path in data.iterdir()}
    nobody = pwd.getpwnam("nobody").pw_uid
    for path in (data, *data.iterdir(), secret):
        os.chown(path, nobody, -1)
    source = "postgresql://u@127.0.0.1:1/d"
    for command in ("keys list", f"verify --set source.dsn={source}"):
        told = owkai(*command.split(), cwd=folder)
        assert told.returncode == Exit.SETTINGS
        assert "belongs to account nobody; run the command as that account: runuser -u nobody -- owkai …" in told.stderr
        assert {path.name for path in data.iterdir()} == there
    told = owkai("config", "show", cwd=folder, env=environment(AUTH_JWT_SECRET_FILE=str(secret)))
    assert told.returncode == Exit.SETTINGS
    assert "runuser -u nobody -- owkai …" in told.stderr
