"""What every command shares: the options for settings, loading them, and failing with an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from owkai.exits import Exit

if TYPE_CHECKING:
    from config.load import Loaded

EXIT_HELP = "Exit codes:\n\n\b\n" + "\n".join(f"  {code.value}  {code.meaning}" for code in Exit)

Command = Callable[..., Any]


def config_option(command: Command) -> Command:
    return click.option(
        "--config", "file", type=click.Path(path_type=Path, dir_okay=False), envvar="OWKAI_CONFIG", metavar="FILE",
        help="Settings file. Default: ./owkai.toml, then /etc/owkai/owkai.toml, where one exists.",
    )(command)  # fmt: skip


def set_option(command: Command) -> Command:
    return click.option(
        "--set", "assignments", multiple=True, metavar="KEY=VALUE",
        help="Override one setting, e.g. --set server.port=9000. May be repeated; no secrets here.",
    )(command)  # fmt: skip


def load(
    file: Path | None,
    assignments: tuple[str, ...] = (),
    shortcuts: dict[str, Any] | None = None,
    *,
    serving: bool = False,
) -> Loaded:
    """The settings of this call; ends the process with exit code 2 and all problems where they are wrong."""
    from config.load import default_file, load_settings
    from config.problems import SettingsError

    overrides = given(assignments, shortcuts or {})
    try:
        return load_settings(file or default_file(), os.environ, overrides, serving=serving)
    except SettingsError as error:
        fail(Exit.SETTINGS, str(error))


def given(assignments: tuple[str, ...], shortcuts: dict[str, Any]) -> dict[str, str]:
    """What the command line says of settings, by key; the assignments win over the shortcuts."""
    overrides = {key: str(value) for key, value in shortcuts.items() if value is not None}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            fail(Exit.SETTINGS, "--set takes key=value, e.g. --set server.port=9000")
        overrides[key.strip()] = value
    return overrides


def fail(code: Exit, text: str) -> NoReturn:
    """Say why on standard error and end with `code`."""
    click.echo(text, err=True)
    sys.exit(code)
