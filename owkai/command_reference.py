"""docs/reference/commands.md: every command, argument, option and exit code, read from the commands themselves.

`python -m owkai.command_reference` prints the page.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from owkai.cli import main
from owkai.exits import Exit

PATH = "docs/reference/commands.md"

_HEAD = """\
# Commands and exit codes

Generated from the program by `make docs`; a test checks that it is current. `owkai COMMAND --help` prints the same text.

Commands that take `--config` read the settings file, `OWKAI_*` environment variables and `--set`; the last one wins.
Data goes to standard output, warnings and errors to standard error.
"""


def page() -> str:
    """The page as Markdown: commands in alphabetical order, then the exit codes."""
    parts = [_HEAD, "\n| Command | Purpose |\n| --- | --- |\n"]
    found = list(commands(main))
    for name, command in found:
        anchor = re.sub(r"[^a-z0-9 -]", "", f"owkai {name}").replace(" ", "-")
        parts.append(f"| [`owkai {name}`](#{anchor}) | {_purpose(command)} |\n")
    parts += [_section(name, command) for name, command in found]
    parts.append("\n## Exit codes\n\n| Code | Meaning |\n| --- | --- |\n")
    parts += [f"| {code.value} | {code.meaning} |\n" for code in Exit]
    return "".join(parts)


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command below `group` with its full name, without the groups themselves; in alphabetical order."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def _section(name: str, command: click.Command) -> str:
    arguments = [_argument(parameter) for parameter in command.params if isinstance(parameter, click.Argument)]
    usage = " ".join(["owkai", name, "[OPTIONS]", *arguments])
    text = inspect.cleandoc(command.help or "")
    rows = [_row(parameter) for parameter in command.params if isinstance(parameter, click.Option)]
    table = "\n| Option | Default | Meaning |\n| --- | --- | --- |\n" + "".join(rows) if rows else ""
    return f"\n## owkai {name}\n\n```\n{usage}\n```\n\n{text}\n{table}"


def _argument(parameter: click.Argument) -> str:
    name = parameter.metavar or (parameter.name or "").upper()
    return f"[{name}]..." if parameter.nargs == -1 else name


def _row(option: click.Option) -> str:
    value = "" if option.is_flag else f" {_value(option)}"
    meaning = (option.help or "").replace("|", "\\|")
    if option.envvar:
        meaning += f" Environment: `{option.envvar}`."
    if option.required:
        meaning = f"Required. {meaning}".strip()
    default = f"`{option.default}`" if option.show_default else ""
    return f"| `{', '.join(option.opts)}{value}` | {default} | {meaning} |\n"


def _value(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "\\|".join(map(str, option.type.choices))
    return option.metavar or option.type.name.upper().split()[0]


def _purpose(command: click.Command) -> str:
    text = " ".join((command.help or "").split("\n\n", maxsplit=1)[0].split())
    return text.replace("|", "\\|")


if __name__ == "__main__":
    click.echo(page(), nl=False)
