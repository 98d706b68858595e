"""The manual page owkai(1), from the help texts of the commands."""

from __future__ import annotations

from collections.abc import Iterator

import click

from owkai.cli import main
from owkai.command_reference import commands
from owkai.exits import Exit


def page(version: str, date: str) -> str:
    """Text in man(7) form. `date` is YYYY-MM-DD."""
    lines = [
        f'.TH OWKAI 1 "{date}" "owkai {version}" "OW-kai Analytics"',
        ".SH NAME",
        "owkai \\- analytics server for the governance of AI agents",
        ".SH SYNOPSIS",
        ".B owkai",
        "COMMAND [OPTIONS]",
        ".SH DESCRIPTION",
        "Copies the platform's tables out of Postgres, follows every change, and serves dashboards over REST and WebSocket.",
        ".SH COMMANDS",
    ]
    for name, command in commands(main):
        lines += [".TP", f".B owkai {_escaped(name)}", _escaped(" ".join((command.help or "").split()))]
        lines += [_escaped(f"{' '.join(option.opts)}: {option.help}") for option in _options(command)]
    lines += [".SH EXIT STATUS"]
    for code in Exit:
        lines += [".TP", f".B {code.value}", _escaped(code.meaning)]
    lines += [
        ".SH FILES",
        ".TP", ".I /etc/owkai/owkai.toml", "Settings; a file named by \\-\\-config, OWKAI_CONFIG or ./owkai.toml comes before it.",
        ".TP", ".I /var/lib/owkai", "Cache, keys and audit log of the service.",
        ".SH ENVIRONMENT",
        ".TP", ".B OWKAI_SECTION_KEY", "One setting; overrides the file.",
        ".TP", ".B OWKAI_RUNTIME_DIR", "Where the one file unpacks itself; it must be private. Default: the cache folder of the account.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _options(command: click.Command) -> Iterator[click.Option]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.help:
            yield parameter


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
