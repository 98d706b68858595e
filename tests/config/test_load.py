"""Layers, problems and warnings of `load_settings`."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import pytest

from config.load import DEFAULT_FILES, Loaded, default_file, load_settings
from config.problems import SettingsError
from config.setting_keys import SettingKind, leaves

SECRET = "3f9a1c77d0b24e6f8a5b90c1d2e3f40516273849"
SOURCE = 'dsn = "postgresql://owkai@db.internal/platform"\n'


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "owkai.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def problems(
    file: Path | None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    serving: bool = False,
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environment or {}, overrides or {}, serving=serving)
    return str(caught.value).splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_a_working_folder_that_may_not_be_entered_holds_no_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`runuser -u owkai -- owkai check` as root, in root's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("config.load.DEFAULT_FILES", (DEFAULT_FILES[0], tmp_path.parents[-1] / "none" / "owkai.toml"))
    (tmp_path / "owkai.toml").write_text("")
    assert default_file() == DEFAULT_FILES[0]
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        assert default_file() is None
    finally:
        os.seteuid(0)


def from_environment(**variables: str) -> Loaded:
    return load_settings(None, {f"OWKAI_{name}": value for name, value in variables.items()}, {})


# -- layers --------------------------------------------------------------------------------------------------------


def test_without_any_layer_the_defaults_hold() -> None:
    loaded = load_settings(None, {}, {})
    assert (loaded.settings.server.port, loaded.file, dict(loaded.origins)) == (8480, None, {})


def test_environment_is_stronger_than_file_and_command_line_stronger_than_both(tmp_path: Path) -> None:
    file = write(tmp_path, "[server]\nport = 1\nworkers = 2\nhost = '127.0.0.2'\n[log]\nlevel = 'debug'\n")
    environment = {"OWKAI_SERVER_PORT": "2", "OWKAI_SERVER_WORKERS": "3"}
    loaded = load_settings(file, environment, {"server.port": "4"})
    server = loaded.settings.server
    assert (server.port, server.workers, server.host, loaded.settings.log.level) == (4, 3, "127.0.0.2", "debug")
    assert loaded.origins["server.port"] == "--set server.port"
    assert loaded.origins["server.workers"] == "OWKAI_SERVER_WORKERS"
    assert loaded.origins["server.host"] == f"{file}:4"


def test_every_setting_has_a_variable_of_its_own() -> None:
    variables = [leaf.variable for leaf in leaves()]
    assert len(set(variables)) == len(variables)
    assert "OWKAI_SOURCE_TABLES_USERS" in variables
    assert "OWKAI_SOURCE_SCHEMA" in variables


@pytest.mark.parametrize("text", ["true", "YES", "on", "1", " true "])
def test_cfg_02_words_for_true(text: str) -> None:
    assert from_environment(CACHE_IN_MEMORY=text).settings.cache.in_memory is True


@pytest.mark.parametrize("text", ["false", "No", "off", "0"])
def test_cfg_02_words_for_false(text: str) -> None:
    assert from_environment(SERVER_DEBUG_ENDPOINT=text).settings.server.debug_endpoint is False


@pytest.mark.parametrize("text", ["a.example, b.example", '["a.example", "b.example"]', "a.example,,b.example,"])
def test_lists_are_written_with_commas_or_as_json(text: str) -> None:
    assert from_environment(SERVER_ALLOWED_HOSTS=text).settings.server.allowed_hosts == ("a.example", "b.example")


@pytest.mark.parametrize("text", ["agent_id=agent, status = state", '{"agent_id": "agent", "status": "state"}'])
def test_tables_of_names_are_written_with_commas_or_as_json(text: str) -> None:
    columns = from_environment(SOURCE_COLUMNS_AGENT_ACTIONS=text).settings.source.columns.agent_actions
    assert columns == {"agent_id": "agent", "status": "state"}


def test_cfg_02_an_empty_variable_sets_texts_and_lists_and_counts_as_absent_for_the_rest() -> None:
    settings = from_environment(
        SOURCE_TABLES_USERS="", AUTH_COOKIE_NAMES="", SERVER_PORT=" ", AUDIT_FILE="", LOG_LEVEL=""
    ).settings
    assert settings.source.tables.users == ""
    assert settings.auth.cookie_names == ()
    assert (settings.server.port, settings.audit.file, settings.log.level) == (8480, None, "info")


def test_cfg_02_an_unknown_variable_is_a_warning_with_the_nearest_name() -> None:
    loaded = load_settings(
        None, {"OWKAI_SERVR_PORT": "1", "OWKAI_PORT_80_TCP": "x", "OWKAI_CONFIG": "f", "PATH": ""}, {}
    )
    assert loaded.warnings == [
        "OWKAI_PORT_80_TCP in the environment is not a setting and has no effect",
        "OWKAI_SERVR_PORT in the environment is not a setting and has no effect; did you mean OWKAI_SERVER_PORT?",
    ]


def test_cfg_05_relative_paths_start_at_the_file_or_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    file = write(tmp_path, "[cache]\ndirectory = 'var/cache'\n")
    assert load_settings(file, {}, {}).settings.cache.directory == tmp_path / "var/cache"
    assert load_settings(file, {}, {"cache.directory": "x"}).settings.cache.directory == elsewhere / "x"
    assert load_settings(None, {}, {}).settings.cache.directory == elsewhere / "data"
    assert load_settings(Path("../owkai.toml"), {}, {}).settings.audit_file == tmp_path / "var/cache/audit.jsonl"


def test_cfg_05_a_link_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    file = write(tmp_path, "[cache]\ndirectory = 'link'\n")
    assert load_settings(file, {}, {}).settings.cache.directory == tmp_path / "real"


# -- problems ------------------------------------------------------------------------------------------------------


def test_cfg_01_all_problems_come_at_once_with_file_line_key_and_remedy(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "mock_dat = true\n"
        "port = 3\n"
        "log = 1\n"
        "[server]\n"
        'port = "80"\n'
        "workers = 900\n"
        "[source]\n"
        'tables = { users = "a b" }\n'
        'columns.users.id = "x y"\n'
        "[auth]\n"
        f"jwt_secret = 5{SECRET[1:10].translate(str.maketrans('abcdef', '123456'))}\n"
        "audience = 'a'\n"
        "[sync]\n"
        "sample_seconds = 1979-05-27\n"
        "stale_after_seconds = inf\n"
        'mode = "strem"\n'
        "[cache]\n"
        'memory_limit = "5 apples"\n',
    )
    found = problems(file, {"OWKAI_WEBSOCKET_PING_SECONDS": "-1"}, {"server.prt": "1", "log.levl": "x"})
    assert sorted(found) == sorted(
        [
            f'{file}:1: mock_dat: is not a setting; did you mean "mock_data"?',
            f'{file}:2: port: is not a setting; did you mean "server.port"?',
            f"{file}:3: log: must be a section, not a number; write it as [log]",
            f'{file}:5: server.port: must be a whole number, not "80"; leave it out for the default, 8480',
            f"{file}:6: server.workers: must be at most 64, not 900; leave it out for the default, 2",
            f"{file}:8: source.tables.users: must be a plain Postgres name: letters, digits and _, at most 63, "
            'not "a b"; leave it out for the default, "users"',
            f"{file}:9: source.columns.users.id: must be a plain Postgres name: letters, digits and _, at most 63, "
            'not "x y"; leave it out for the default, {}',
            f"{file}:11: auth.jwt_secret: must be a text in quotes; leave it out for the default",
            f'{file}:12: auth.audience: must be a list of texts, e.g. ["a", "b"], not "a"; '
            "leave it out for the default, []",
            f"{file}:14: sync.sample_seconds: must be a number, not a date or time; leave it out for the default, 5",
            f"{file}:15: sync.stale_after_seconds: must be a finite number, not inf; leave it out for the default, 30",
            f'{file}:16: sync.mode: must be "auto", "stream" or "poll", not "strem"; leave it out for the default, "auto"',
            f'{file}:18: cache.memory_limit: must be a size with its unit, e.g. "512MiB", not "5 apples"; '
            'leave it out for the default, "512MiB"',
            "OWKAI_WEBSOCKET_PING_SECONDS: websocket.ping_seconds: must be greater than 0, not -1; "
            "leave it out for the default, 30",
            '--set server.prt: is not a setting; did you mean "server.port"?',
            '--set log.levl: is not a setting; did you mean "log.level"?',
        ]
    )


def test_a_mistaken_value_and_a_contradiction_elsewhere_are_reported_together(tmp_path: Path) -> None:
    file = write(tmp_path, "[server]\nport = 'x'\n[websocket]\nallowed_origins = ['*']\n")
    assert [line.split(": ")[1] for line in problems(file)] == ["server.port", "websocket.allowed_origins"]


@pytest.mark.parametrize("text", ["[server]\nport = 1\nport = 2\n", "[server]\n[server]\n"])
def test_cfg_01_a_second_key_or_section_is_an_error_and_nothing_else_is_said(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, text)
    line = text.count("\n")
    assert problems(file, serving=True) == [f"{file}:{line}: gives a key or section a second time; keep one of them"]


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (line,) = problems(tmp_path / "none.toml", serving=True)
    assert line.startswith(f"{tmp_path / 'none.toml'}: the settings file cannot be read: No such file")


def test_a_problem_stays_on_one_line_whatever_the_key(tmp_path: Path) -> None:
    file = write(tmp_path, '"a\\nb\\u001b[2J" = 1\n')
    (line,) = problems(file)
    assert "a\\x0ab\\x1b[2J: is not a setting" in line


@pytest.mark.parametrize("key", [leaf.key for leaf in leaves() if leaf.kind is SettingKind.SECRET])
def test_cfg_01_no_secret_value_is_in_any_problem(tmp_path: Path, key: str) -> None:
    canary = "canary-5c1f"
    section, _, name = key.rpartition(".")
    for value in (f'"{canary}"', f'["{canary}"]', f'{{ {name} = "{canary}" }}'):
        file = write(tmp_path, f'[{section}]\n{name} = {value}\nother = "{canary}"\n', mode=0o644)
        text = "\n".join(
            problems(file, {f"OWKAI_{section.upper()}_{name.upper()}_": canary}, {key: f"password={canary}"})
        )
        assert canary not in text
        assert f"{section}.other" in text


def test_sec_02_a_secret_on_the_command_line_is_refused_without_showing_it() -> None:
    found = problems(None, overrides={"auth.jwt_secret": SECRET, "source.dsn": "postgresql://u:hidden@h/d"})
    assert [line.split(":")[0] for line in found] == ["--set auth.jwt_secret", "--set source.dsn"]
    assert "OWKAI_AUTH_JWT_SECRET" in found[0]
    assert SECRET not in found[0]
    assert "hidden" not in found[1]


def test_a_connection_string_without_a_password_may_stand_on_the_command_line() -> None:
    loaded = load_settings(None, {}, {"source.dsn": "postgresql://u@h/d"})
    assert loaded.settings.source.dsn.get_secret_value() == "postgresql://u@h/d"


# -- what serving needs ----------------------------------------------------------------------------------------------


def test_jwt_07_serving_without_any_secret_is_refused_with_the_way_to_make_one() -> None:
    found = problems(None, serving=True)
    assert [line.split(":")[0] for line in found] == ["source.dsn", "auth.jwt_secret"]
    assert "openssl rand -hex 32" in found[1]
    assert "OWKAI_AUTH_JWT_SECRET" in found[1]


def test_serving_with_api_keys_alone_needs_no_secret(tmp_path: Path) -> None:
    file = write(tmp_path, f"[source]\n{SOURCE}[auth]\njwt_enabled = false\n")
    assert load_settings(file, {}, {}, serving=True).settings.auth.jwt_enabled is False


def test_serving_with_rs256_needs_the_public_key(tmp_path: Path) -> None:
    file = write(tmp_path, f"[source]\n{SOURCE}[auth]\njwt_algorithm = 'RS256'\n")
    (line,) = problems(file, serving=True)
    assert line.startswith(f"{file}: auth.jwt_public_key_file: is missing")


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_file_is_read_and_its_line_end_left_off(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "secret").chmod(0o600)
    file = write(tmp_path, "[auth]\njwt_secret_file = 'secret'\n", mode=0o644)
    assert load_settings(file, {}, {}).settings.auth.jwt_secret.get_secret_value() == SECRET


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_sec_03_a_secret_file_that_others_may_read_is_refused_with_its_mode(tmp_path: Path, mode: int) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(mode)
    file = write(tmp_path, "[auth]\njwt_secret_file = 'secret'\n")
    (line,) = problems(file)
    assert line == (
        f"{file}:2: auth.jwt_secret_file: {secret} has mode {mode:04o}, so that others than its owner may read it; "
        f"run `chmod 600 {secret}`"
    )


@pytest.mark.parametrize(
    "text",
    [f"[auth]\njwt_secret = '{SECRET}'\n", "[source]\ndsn = 'host=h password=p'\n", "[source]\npassword = 'p'\n"],
)
def test_sec_03_a_settings_file_with_a_secret_must_be_private(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, text, mode=0o640)
    (line,) = problems(file)
    assert line.startswith(f"{file}:2: ")
    assert f"{file} has mode 0640" in line
    assert line.endswith(f"run `chmod 600 {file}`")
    assert load_settings(write(tmp_path, text), {}, {}).settings


def test_a_settings_file_without_a_secret_may_be_public(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, f"[source]\n{SOURCE}", mode=0o644), {}, {}).settings.source.dsn


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff" * 40, b"x" * 70_000])
def test_an_empty_or_foreign_secret_file_is_refused(tmp_path: Path, content: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    secret.chmod(0o600)
    (line,) = problems(None, {"OWKAI_AUTH_JWT_SECRET_FILE": str(secret)})
    assert line.startswith(f"OWKAI_AUTH_JWT_SECRET_FILE: auth.jwt_secret_file: {secret} is")


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (SECRET[:31], "is shorter than 32 bytes"),
        ("a" * 64, "repeats one character"),
        ("ab" * 32, "uses fewer than eight different characters"),
        ("please-change-me-to-something-long-0123", "is a sample text of a documentation"),
        ("a-string-secret-at-least-256-bits-long", "is a sample text of a documentation"),
        ("your_secret_key_goes_right_here_123456", "is a sample text of a documentation"),
        ('{"kty": "oct", "k": "", "alg": "HS256"}', "is a key document"),
    ],
)
def test_jwt_06_a_weak_secret_is_refused_by_setting_and_never_shown(secret: str, reason: str) -> None:
    (line,) = problems(None, {"OWKAI_AUTH_JWT_SECRET": secret}, serving=False)
    assert line.startswith(f"OWKAI_AUTH_JWT_SECRET: auth.jwt_secret: {reason}")
    assert secret not in line


def test_secrets_are_never_in_the_representation(tmp_path: Path) -> None:
    file = write(tmp_path, f"[auth]\njwt_secret = '{SECRET}'\n[source]\ndsn = 'postgresql://u:hidden@h/d'\n")
    loaded = load_settings(file, {}, {})
    for text in (repr(loaded), str(loaded.settings), loaded.settings.model_dump_json()):
        assert SECRET not in text
        assert "hidden" not in text
        assert "***" in text


def test_the_environment_itself_is_not_changed() -> None:
    before = dict(os.environ)
    load_settings(None, os.environ, {})
    assert dict(os.environ) == before


def test_the_variable_of_the_one_file_is_no_mistyped_setting() -> None:
    assert load_settings(None, {"OWKAI_RUNTIME_DIR": "/opt/owkai"}, {}).warnings == []
