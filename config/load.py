"""From file, environment and command line to one checked `Settings`, with every problem found at once.

Later ones override earlier ones: defaults, TOML file, `OWKAI_<SECTION>_<FIELD>` in the environment, `--set key=value`.
A relative path of the file starts at the file's folder, one of the environment or command line at the working folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from config.document import DocumentError, SettingsDocument, read_document
from config.problems import UNPLACED, SettingsError, SettingsProblem, from_validation, nearest, type_name, unknown_key
from config.rules import advice, contradictions, missing_for_serving
from config.secrets import HOW_TO_MAKE_A_SECRET, exposure, has_password, read_secret, weakness
from config.setting_keys import ENVIRONMENT_PREFIX, Branch, Leaf, SettingKind, branches, leaves
from config.settings import Settings

DEFAULT_FILES = (Path("owkai.toml"), Path("/etc/owkai/owkai.toml"))
# Names of the family that are no settings: the settings file itself, and where the one file unpacks.
OTHER_VARIABLES = frozenset({"OWKAI_CONFIG", "OWKAI_RUNTIME_DIR"})
TRUE, FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})

Key = tuple[str, ...]


@dataclass(frozen=True)
class Loaded:
    """Settings ready for use. `warnings` are full sentences; `origins` maps each given key to where it was given."""

    settings: Settings
    warnings: list[str]
    file: Path | None
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Gathering:
    """The layers laid over each other so far. `origins` and `folders` are by path of a leaf."""

    file: Path | None
    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    folders: dict[Key, Path] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def put(self, leaf: Leaf, value: Any, origin: str, folder: Path) -> None:
        at = self.tree
        for part in leaf.path[:-1]:
            at = at.setdefault(part, {})
        at[leaf.path[-1]] = value
        self.origins[leaf.path] = origin
        self.folders[leaf.path] = folder

    def place(self, path: Key) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return str(self.file or "")

    def report(self, problem: SettingsProblem) -> None:
        line = problem.text(self.place(problem.path))
        if line not in self.lines:
            self.lines.append(line)


def default_file() -> Path | None:
    """The settings file taken when none is named: the first of `DEFAULT_FILES` that exists.

    Raises `PermissionError` for the machine's one when this account may not enter its folder. A working folder that it may
    not enter holds nothing for it: `runuser -u owkai` stays in the folder of root.
    """
    for path in DEFAULT_FILES:
        try:
            if path.is_file():
                return path
        except PermissionError:
            if path.is_absolute():
                raise
    return None


def load_settings(
    file: Path | None, environment: Mapping[str, str], overrides: Mapping[str, str], *, serving: bool = False
) -> Loaded:
    """Read and check all layers. Raises `SettingsError` that lists every problem.

    `overrides` maps dotted keys to texts as given with `--set`. With `serving`, what `owkai serve` cannot do without
    (a source, a way to verify tokens) is demanded too.
    """
    gathered = _Gathering(file)
    here = Path.cwd()
    home = here if file is None else file.absolute().parent
    if file is not None:
        _lay_file(gathered, file, home)
    _lay_environment(gathered, environment, here)
    _lay_overrides(gathered, overrides, here)
    unreadable = bool(gathered.lines) and not gathered.tree
    settings, mistaken = _validate(gathered)
    settings = _with_absolute_paths(settings, gathered, home)
    if file is not None:
        _check_exposure(gathered, file, mistaken)
    settings = _with_secrets(settings, gathered)
    found = list(contradictions(settings))
    if serving and not unreadable:
        found += missing_for_serving(settings)
    sections = {path[0] for path in mistaken}  # their values are not known, so neither is what contradicts them
    for problem in found:
        if problem.path[0] not in sections:
            gathered.report(problem)
    if gathered.lines:
        raise SettingsError(gathered.lines)
    origins = {".".join(path): origin for path, origin in gathered.origins.items()}
    return Loaded(settings, gathered.warnings + advice(settings), file, origins)


# -- the file ------------------------------------------------------------------------------------------------------


def _lay_file(gathered: _Gathering, file: Path, home: Path) -> None:
    try:
        document = read_document(file)
    except DocumentError as error:
        place = f"{file}:{error.line}" if error.line else str(file)
        gathered.lines.append(f"{place}: {error}")
        return
    except OSError as error:
        gathered.lines.append(f"{file}: the settings file cannot be read: {error.strerror}; name another with --config")
        return
    by_path = {branch.path: branch for branch in branches()}
    by_leaf = {leaf.path: leaf for leaf in leaves()}
    everywhere = {leaf.path[-1]: leaf.key for leaf in reversed(list(leaves()))}
    _lay_table(gathered, document, document.values, by_path[()], by_path, by_leaf, everywhere, file, home)


def _lay_table(
    gathered: _Gathering,
    document: SettingsDocument,
    table: Mapping[str, Any],
    branch: Branch,
    by_path: Mapping[Key, Branch],
    by_leaf: Mapping[Key, Leaf],
    everywhere: Mapping[str, str],
    file: Path,
    home: Path,
) -> None:
    for name, value in table.items():
        path = (*branch.path, name)
        line = document.line(path)
        place = f"{file}:{line}" if line else str(file)
        if path in by_leaf:
            if by_leaf[path].kind is SettingKind.PATH and value == "":
                continue  # as in the environment: no path
            gathered.put(by_leaf[path], value, place, home)
        elif path not in by_path:
            gathered.lines.append(unknown_key(path, branch.names, everywhere).text(place))
        elif isinstance(value, dict):
            _lay_table(gathered, document, value, by_path[path], by_path, by_leaf, everywhere, file, home)
        else:
            problem = SettingsProblem(
                path, f"must be a section, not {type_name(value)}", f"write it as [{'.'.join(path)}]"
            )
            gathered.lines.append(problem.text(place))


def _check_exposure(gathered: _Gathering, file: Path, mistaken: set[Key]) -> None:
    """A settings file that contains a secret must be readable only by its owner."""
    for leaf in leaves():
        given_here = gathered.origins.get(leaf.path, "").startswith(f"{file}:")
        if not leaf.secret or not given_here or leaf.path in mistaken:
            continue
        text = _at(gathered.tree, leaf.path)
        if not text or (leaf.key == "source.dsn" and not has_password(text)):
            continue
        reason = exposure(file)
        if reason:
            gathered.report(SettingsProblem(leaf.path, f"is a secret, but {reason}", f"run `chmod 600 {file}`"))
        return


# -- texts: environment and command line -----------------------------------------------------------------------------


def _lay_environment(gathered: _Gathering, environment: Mapping[str, str], here: Path) -> None:
    known = {leaf.variable: leaf for leaf in leaves()}
    for name in sorted(environment):
        if not name.upper().startswith(ENVIRONMENT_PREFIX) or name in OTHER_VARIABLES:
            continue
        leaf = known.get(name)
        if leaf is None:
            close = nearest(name.upper(), [*known, *OTHER_VARIABLES])
            hint = f"; did you mean {close}?" if close else ""
            gathered.warnings.append(f"{name} in the environment is not a setting and has no effect{hint}")
            continue
        _lay_text(gathered, leaf, environment[name], name, here)


def _lay_overrides(gathered: _Gathering, overrides: Mapping[str, str], here: Path) -> None:
    known = {leaf.key: leaf for leaf in leaves()}
    for key, text in overrides.items():
        origin = f"--set {key}"
        leaf = known.get(key)
        if leaf is None:
            close = nearest(key, known)
            hint = f'did you mean "{close}"?' if close else "`owkai config reference` lists every key"
            gathered.lines.append(SettingsProblem((), "is not a setting", hint).text(origin))
        elif leaf.secret and (leaf.key != "source.dsn" or has_password(text)):
            remedy = f"give it as {leaf.variable} in the environment or in a file of mode 0600"
            what = "a secret on the command line is seen by everyone who lists processes"
            gathered.lines.append(SettingsProblem((), what, remedy).text(origin))
        else:
            _lay_text(gathered, leaf, text, origin, here)


def _lay_text(gathered: _Gathering, leaf: Leaf, text: str, origin: str, folder: Path) -> None:
    """Lay one textual value. Blanks around it do not count; an empty one counts as not given where it is no value."""
    text = text if leaf.secret else text.strip()
    if not text and not leaf.may_be_empty:
        return
    gathered.put(leaf, parse_text(leaf, text), origin, folder)


def parse_text(leaf: Leaf, text: str) -> Any:
    """The value a text stands for; what does not parse stays a text, for validation to name."""
    if leaf.kind is SettingKind.BOOLEAN:
        word = text.lower()
        return True if word in TRUE else False if word in FALSE else text
    if leaf.kind in (SettingKind.INTEGER, SettingKind.NUMBER):
        try:
            return int(text) if leaf.kind is SettingKind.INTEGER else float(text)
        except ValueError:
            return text
    if leaf.kind is SettingKind.LIST:
        return _json_or(text, "[") or [entry.strip() for entry in text.split(",") if entry.strip()]
    if leaf.kind is SettingKind.MAP:
        pairs = [entry.partition("=") for entry in text.split(",") if entry.strip()]
        return _json_or(text, "{") or {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
    return text


def _json_or(text: str, opening: str) -> Any:
    if not text.startswith(opening):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


# -- checking ----------------------------------------------------------------------------------------------------------


def _validate(gathered: _Gathering) -> tuple[Settings, set[Key]]:
    """The tree as settings, and the paths of mistaken leaves, which are reported and stand at their defaults."""
    try:
        return _settings_of(gathered.tree), set()
    except ValidationError as error:
        details = error.errors(include_url=False)
    by_path = {leaf.path: leaf for leaf in leaves()}
    mistaken: set[Key] = set()
    for detail in details:
        location = tuple(str(part) for part in detail["loc"])
        path = next(location[:length] for length in range(len(location), 0, -1) if location[:length] in by_path)
        leaf = by_path[path]
        if path not in mistaken or leaf.kind is SettingKind.MAP:
            gathered.report(from_validation(detail, leaf))
        mistaken.add(path)
    for path in mistaken:
        del _at(gathered.tree, path[:-1])[path[-1]]
    return _settings_of(gathered.tree), mistaken


def _settings_of(tree: Mapping[str, Any]) -> Settings:
    # By way of JSON, because pydantic's strict mode takes a list for a tuple and a text for a path only there.
    text = json.dumps(tree, default=lambda value: {UNPLACED: type_name(value)})
    return Settings.model_validate_json(text, strict=True)


def _with_absolute_paths(settings: Settings, gathered: _Gathering, home: Path) -> Settings:
    for leaf in leaves():
        value = leaf.value(settings)
        if leaf.kind is SettingKind.PATH and value is not None:
            try:
                expanded = value.expanduser()
                absolute = (gathered.folders.get(leaf.path, home) / expanded).resolve()
            except (RuntimeError, OSError, ValueError) as error:
                gathered.report(SettingsProblem(leaf.path, f"is no usable path: {error}"))
                continue
            settings = replaced(settings, leaf, absolute)
    return settings


def _with_secrets(settings: Settings, gathered: _Gathering) -> Settings:
    """Read secret files into the fields they stand for and judge what will sign tokens."""
    known = {leaf.key: leaf for leaf in leaves()}
    for key in ("source.password", "auth.jwt_secret"):
        leaf, file_leaf = known[key], known[f"{key}_file"]
        file = file_leaf.value(settings)
        if file is None:
            continue
        if leaf.value(settings).get_secret_value():
            gathered.report(SettingsProblem(file_leaf.path, f"is given beside {key}", "keep one of the two"))
            continue
        try:
            settings = replaced(settings, leaf, SecretStr(read_secret(file)))
        except ValueError as error:
            remedy = f"run `chmod 600 {file}`" if "mode" in str(error) else "name a file that holds only the secret"
            gathered.report(SettingsProblem(file_leaf.path, str(error), remedy))
        else:
            gathered.origins.setdefault(leaf.path, gathered.place(file_leaf.path))
    secret = settings.auth.jwt_secret.get_secret_value()
    reason = weakness(secret) if secret else None
    if reason:
        named = ("auth", "jwt_secret_file" if settings.auth.jwt_secret_file else "jwt_secret")
        gathered.report(SettingsProblem(named, f"{reason}, so that tokens could be forged", HOW_TO_MAKE_A_SECRET))
    return settings


def replaced(settings: Settings, leaf: Leaf, value: Any) -> Settings:
    """The tree with one leaf changed; the value is taken as valid."""
    chain: list[Any] = [settings]
    for attribute in leaf.attributes[:-1]:
        chain.append(getattr(chain[-1], attribute))
    for section, attribute in zip(reversed(chain), reversed(leaf.attributes), strict=True):
        value = section.model_copy(update={attribute: value})
    assert isinstance(value, Settings)  # noqa: S101 - the chain starts at the root
    return value


def _at(tree: Mapping[str, Any], path: Key) -> Any:
    found: Any = tree
    for part in path:
        found = found[part]
    return found
