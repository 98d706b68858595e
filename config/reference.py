"""What the settings tree says of itself: the sample file, the reference page, and the settings in force. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from config.load import Loaded
from config.problems import plain
from config.secrets import HIDDEN, masked
from config.setting_keys import Branch, Leaf, SettingKind, branches, leaves

SAMPLE_PATH = "config/owkai.toml"
REFERENCE_PATH = "docs/reference/settings.md"

_SAMPLE_HEAD = """\
# Settings of OW-kai Analytics: every key with its default. Made by `owkai config sample`.
# Uncomment what you change. Stronger than this file: OWKAI_<SECTION>_<KEY> in the environment, then --set key=value.
# A file that holds a secret must be its owner's alone: chmod 600.
"""

_REFERENCE_HEAD = """\
# Settings

Made by `owkai config reference`; a test keeps this page, the sample file `config/owkai.toml` and the code equal.

Strength rises in this order: default, TOML file, environment, command line (`--set section.key=value`).

- **File**: UTF-8 TOML without byte order mark, LF or CRLF, at most 1 MB. Without `--config`, the first of
  `./owkai.toml` and `/etc/owkai/owkai.toml` that exists. Relative paths in it start at its folder.
- **Environment and command line**: blanks around a value do not count. Lists are written `a, b` or as JSON, tables
  `ours=theirs, …` or as JSON; true is `true`, `yes`, `on` or `1`, false is `false`, `no`, `off` or `0`. An empty value
  sets an empty text or list, and counts as not given for anything else. Relative paths start at the working folder.
  An unknown `OWKAI_*` name is a warning, as container platforms put such names there.
- **Secrets** come from the environment, from a file named by the `…_file` key, or from a settings file; each such file
  must be its owner's alone (mode 0600). On the command line they are refused. Nothing prints them.
- Every problem is reported at once, as `file:line: key: what is wrong; remedy`, with exit code 2.
"""


def sample() -> str:
    """A settings file in which every setting stands as a comment with its default. Loads as the defaults."""
    parts = [_SAMPLE_HEAD]
    for branch, found in _sections():
        parts.append("\n" + _wrapped(branch.description) + f"[{'.'.join(branch.path)}]\n" if branch.path else "\n")
        parts += ["".join((_wrapped(leaf.description), _sample_line(leaf))) for leaf in found]
    return "".join(parts)


def reference() -> str:
    """The reference page, Markdown."""
    parts = [_REFERENCE_HEAD]
    for branch, found in _sections():
        name = ".".join(branch.path)
        parts.append(f"\n## {name}\n\n{branch.description}\n" if name else "\n## Top level\n")
        parts.append("\n| Key | Type | Default | Meaning | Environment |\n| --- | --- | --- | --- | --- |\n")
        parts += [_row(leaf) for leaf in found]
    return "".join(parts)


def in_force(loaded: Loaded) -> str:
    """The settings in force as TOML, each given one followed by where it was given. Secrets are hidden."""
    lines = [f"# {loaded.file or 'no settings file'}"]
    for branch, found in _sections():
        if branch.path:
            lines += ["", f"[{'.'.join(branch.path)}]"]
        for leaf in found:
            origin = loaded.origins.get(leaf.key)
            shown = _shown(leaf, leaf.value(loaded.settings))
            line = f"{leaf.path[-1]} = {shown}" if shown else f"# {leaf.path[-1]} is not set"
            lines.append(line + (f"  # {origin}" if origin else ""))
    return "\n".join(lines) + "\n"


def _sections() -> Iterator[tuple[Branch, list[Leaf]]]:
    by_path = {branch.path: branch for branch in branches()}
    for path, found in groupby(leaves(), key=lambda leaf: leaf.path[:-1]):
        yield by_path[path], list(found)


def _shown(leaf: Leaf, value: Any) -> str:
    """The value as TOML; empty where there is none."""
    if leaf.secret:
        text = value.get_secret_value()
        if leaf.key == "source.dsn":
            return _quoted(masked(text)) if text else '""'
        return f'"{HIDDEN}"' if text else '""'
    if value is None:
        return ""
    if leaf.kind is SettingKind.LIST:
        return "[" + ", ".join(_quoted(entry) for entry in value) + "]"
    if leaf.kind is SettingKind.MAP:
        if not value:
            return "{}"
        return "{ " + ", ".join(f"{_quoted(ours)} = {_quoted(theirs)}" for ours, theirs in value.items()) + " }"
    if leaf.kind in (SettingKind.TEXT, SettingKind.CHOICE, SettingKind.PATH):
        return _quoted(str(value))
    return plain(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _sample_line(leaf: Leaf) -> str:
    return f"# {leaf.path[-1]} = {_toml_default(leaf)}\n"


def _toml_default(leaf: Leaf) -> str:
    return plain(leaf.default) or '""'


def _default(leaf: Leaf) -> str:
    text = plain(leaf.default)
    return f"`{text}`" if text and text != '""' else "none"


def _row(leaf: Leaf) -> str:
    meaning = leaf.description.replace("|", "\\|")
    return f"| `{leaf.path[-1]}` | {_type(leaf)} | {_default(leaf)} | {meaning} | `{leaf.variable}` |\n"


def _type(leaf: Leaf) -> str:
    return ", ".join(f"`{choice}`" for choice in leaf.choices) if leaf.choices else leaf.kind.value


def _wrapped(text: str, width: int = 112) -> str:
    lines, line = [], "#"
    for word in text.split():
        if len(line) + 1 + len(word) > width:
            lines.append(line)
            line = "#"
        line += f" {word}"
    return "\n".join([*lines, line]) + "\n" if text else ""
