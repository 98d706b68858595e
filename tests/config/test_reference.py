"""The sample, the reference page and `owkai config show` say what the tree says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from config.load import load_settings
from config.reference import REFERENCE_PATH, SAMPLE_PATH, in_force, reference, sample
from config.setting_keys import branches, leaves
from config.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SECRET = "3f9a1c77d0b24e6f8a5b90c1d2e3f40516273849"


def test_the_sample_file_is_what_the_tree_gives() -> None:
    assert (ROOT / SAMPLE_PATH).read_text(encoding="utf-8") == sample(), "run `make docs`"


def test_the_reference_page_is_what_the_tree_gives() -> None:
    assert (ROOT / REFERENCE_PATH).read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_every_setting_and_section_says_what_it_means() -> None:
    assert [leaf.key for leaf in leaves() if not leaf.description.endswith(".")] == []
    assert [branch.path for branch in branches() if branch.path and not branch.description] == []


def test_the_sample_as_it_is_and_uncommented_gives_the_defaults(tmp_path: Path) -> None:
    for name, text in {"as-is": sample(), "uncommented": re.sub(r"(?m)^# ([a-z_]+ = )", r"\1", sample())}.items():
        file = tmp_path / f"{name}.toml"
        file.write_text(text, encoding="utf-8")
        loaded = load_settings(file, {}, {})
        defaults = load_settings(None, {}, {"cache.directory": str(tmp_path / "data")})
        assert loaded.settings == defaults.settings
        assert loaded.warnings == []
    assert tomllib.loads(text)["server"]["port"] == Settings().server.port


def test_sec_01_config_show_hides_secrets_and_says_where_each_value_came_from(tmp_path: Path) -> None:
    file = tmp_path / "owkai.toml"
    file.write_text(f"[source]\ndsn = 'postgresql://u:hidden@h/d'\n[auth]\njwt_secret = '{SECRET}'\n")
    file.chmod(0o600)
    text = in_force(load_settings(file, {"OWKAI_SERVER_PORT": "9"}, {"log.level": "debug"}))
    assert f'dsn = "postgresql://u:***@h/d"  # {file}:2' in text
    assert f'jwt_secret = "***"  # {file}:4' in text
    assert "port = 9  # OWKAI_SERVER_PORT" in text
    assert 'level = "debug"  # --set log.level' in text
    assert "hidden" not in text
    assert SECRET not in text
    assert tomllib.loads(text)["sync"]["batch_rows"] == 20_000
