"""The page of all commands: current, and complete."""

from __future__ import annotations

from pathlib import Path

import click

from owkai.cli import main
from owkai.command_reference import PATH, commands, page
from owkai.exits import Exit

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_commands_is_current() -> None:
    assert (ROOT / PATH).read_text(encoding="utf-8") == page(), "run `make docs`"


def test_the_page_has_every_command_option_and_exit_code_with_its_meaning() -> None:
    text = page()
    for name, command in commands(main):
        section = text.split(f"\n## owkai {name}\n")[1].split("\n## ")[0]
        options = [option for option in command.params if isinstance(option, click.Option)]
        for option in options:
            assert option.help, f"owkai {name} {option.opts[0]} has no help text"
            assert f"| `{option.opts[0]}" in section
    assert all(f"| {code.value} | {code.meaning} |" in text for code in Exit)
