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
        help="Settings file. Default: ./owkai.toml, else /etc/owkai/owkai.toml.",
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
    """Load the settings for this command. If they are wrong, prints every problem and exits with code 2."""
    from config.load import default_file, load_settings
    from config.problems import SettingsError

    overrides = overrides_of(assignments, shortcuts or {})
    try:
        return load_settings(file or default_file(), os.environ, overrides, serving=serving)
    except SettingsError as error:
        fail(Exit.SETTINGS, str(error))


def overrides_of(assignments: tuple[str, ...], shortcuts: dict[str, Any]) -> dict[str, str]:
    """Settings given on the command line, by key; `--set` wins over options such as --port."""
    overrides = {key: str(value) for key, value in shortcuts.items() if value is not None}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            fail(Exit.SETTINGS, "--set takes key=value, e.g. --set server.port=9000")
        overrides[key.strip()] = value
    return overrides


def fail(code: Exit, text: str) -> NoReturn:
    """Print the reason on standard error and exit with `code`."""
    click.echo(text, err=True)
    sys.exit(code)
