"""What our own code never does: shells, pickles, other people's modules. Read off the sources, and tried."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest

from analytics.predictive.forecast_record import ForecastRecord
from analytics.state.cache import Cache
from config.load import load_settings
from tests.analytics.predictive.counts import outlook_of, rows
from tests.analytics.rows import ORIGIN, fill, settings

ROOT = Path(__file__).parents[2]
ROOMS = ("owkai", "handlers", "analytics", "sync", "config")
SOURCES = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
LOADERS = {"pickle", "joblib", "dill", "shelve", "yaml", "cloudpickle"}
HOSTILE = ("$(touch {mark})", "`touch {mark}`", "; touch {mark};", "| touch {mark}", "-rf", "--help", "&& touch {mark}")


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_there_are_sources() -> None:
    assert len(SOURCES) > 100


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_cmd_01_des_01_no_shell_no_pickle_no_evaluation(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not imported(tree) & LOADERS
    for call in calls(tree):
        name = ast.unparse(call.func)
        assert name not in {"eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "__import__"}, name
        assert all(keyword.arg != "shell" for keyword in call.keywords), ast.unparse(call)
        assert name not in {"marshal.load", "marshal.loads"}, "the build compiles our own sources; it reads none"
        assert not name.endswith((".allow_pickle", "read_pickle", "read_ipc_pickle"))
        assert all(keyword.arg != "allow_pickle" for keyword in call.keywords)


@pytest.mark.parametrize("text", HOSTILE)
def test_cmd_01_hostile_names_of_files_and_settings_start_nothing(tmp_path: Path, text: str) -> None:
    mark = tmp_path / "mark"
    name = text.format(mark=mark).replace("/", "_")
    folder = tmp_path / name
    given = settings(folder)
    cache = Cache(given.cache)
    store = cache.build(ORIGIN)
    fill(store, {"agent_actions": rows([5] * 5, agent=text.format(mark=mark))})
    cache.publish(store)
    outlook = outlook_of(cache)
    assert outlook.forecasts is not None
    assert outlook.forecasts.workload[0].agent_id == text.format(mark=mark)
    cache.close()
    file = tmp_path / f"{name}.toml"
    file.write_text('mock_data = true\n[auth]\njwt_enabled = false\n[source]\ndsn = "postgresql://u@127.0.0.1/x"\n')
    file.chmod(0o600)
    assert load_settings(file, {}, {}).settings.mock_data
    assert not mark.exists()
    assert not list(tmp_path.glob("*mark")) or all(path.is_dir() or path == file for path in tmp_path.glob("*mark"))


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.mark,))


def test_des_01_a_planted_pickle_is_not_loaded(tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    bomb = pickle.dumps(Bomb(mark))
    for name in (
        "model.pkl",
        "forecasts.sqlite",
        "forecasts.joblib",
        "cache-000001.duckdb",
        "CURRENT",
        "keys.json.pkl",
    ):
        (folder / name).write_bytes(bomb)
    cache = Cache(settings(folder).cache)
    assert not cache.ready
    assert ForecastRecord(folder).due("s", 1, rows([1])[0]["timestamp"].date()) == []
    cache.close()
    assert not mark.exists()
    pickle.loads(bomb)  # noqa: S301 - shows that it would have gone off
    assert mark.exists()
