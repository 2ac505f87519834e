"""Writes the generated pages of the documentation: `make reference`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trow.cli import command_line
from trow.cli.options import add_settings
from trow.cli.parser import Parser
from trow.config import SETTINGS, Config, yaml_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trow.config import Setting

_FOLDER: Final = Path(__file__).parents[2] / "docs" / "reference"
_HEAD = "<!-- Written by `make reference`. Change the source, not this page. -->\n"

_CONFIGURATION = """\
# Configuration

Every setting has a default, so that `trow serve` needs no configuration. Values come from, by rising precedence:

1. the defaults below,
2. a YAML file, given by `--config FILE` or the variable `TROW_CONFIG`,
3. environment variables,
4. command line flags.

An unknown key or variable, a bad value or a contradiction stops the start. The message names the place, the key, what
is wrong and what to write instead. `trow config check` looks for such mistakes without serving, and `trow config show`
prints every value with the place it comes from. A complete file is [examples/trow.yaml](../../examples/trow.yaml).

In variables and flags a list is separated by commas, and an empty text is null. A relative path starts at the directory
that Trow was started in. Kubernetes sets variables such as `TROW_SERVICE_HOST` for a Service named `trow`; these are
ignored.
"""

_COMMAND_LINE = """\
# Command line

Flags are never abbreviated. Mistakes in the command line or the configuration are written to standard error as
`trow: error: ...`, with exit code 2.
"""


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (_FOLDER / name).write_text(text, "utf-8")


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    return {
        "configuration.md": "\n".join([_HEAD, _CONFIGURATION, *_sections()]),
        "command-line.md": "\n".join([_HEAD, _COMMAND_LINE, *_commands(command_line()), _settings()]),
    }


def _sections() -> Iterator[str]:
    shown = ""
    for key, setting in SETTINGS.items():
        section = key.rpartition(".")[0]
        if section not in ("", shown):
            yield f"## {section}\n\n{type(getattr(Config(), section)).__doc__}\n"
        shown = section
        yield _entry(setting)


def _entry(setting: Setting) -> str:
    facts = [f"- Default: `{yaml_text(setting.default)}`", f"- Variable: `{setting.environment}`"]
    if setting.flag:
        facts.append(f"- Flag: `{setting.flag}`")
    facts.append(f"- Write {'a list; each entry is ' * setting.many}{setting.form}{' (or null)' * setting.optional}.")
    return "\n".join([f"### {setting.key}", "", setting.description, "", *facts, ""])


# argparse offers no public way to look at a parser, and its help text differs from one Python to the next.


def _commands(command: argparse.ArgumentParser) -> Iterator[str]:
    groups = [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001
    for group in groups:
        for one in group.choices.values():
            yield from _commands(one)
    if not groups:
        yield "\n".join([f"## {command.prog}", "", command.description or "", "", *_flags(command)])
        if command.epilog:
            yield f"```text\n{command.epilog.strip()}\n```\n"


def _flags(command: argparse.ArgumentParser, title: str = "options") -> Iterator[str]:
    groups = {group.title: group for group in command._action_groups}  # noqa: SLF001
    flags = [action for action in groups[title]._group_actions if action.dest != "help"]  # noqa: SLF001
    if flags:
        yield "| Flag | Meaning |\n|---|---|"
        yield from map(_row, flags)
        yield ""
    if title == "options" and "settings" in groups:
        yield "And every flag under [Settings](#settings).\n"


def _row(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    names = ", ".join(f"`{name}{value}`" for name in action.option_strings)
    return f"| {names} | {(action.help or '').replace('%%', '%')} |"


def _settings() -> str:
    command = Parser()
    add_settings(command)
    return "\n".join(
        [
            "## Settings",
            "",
            "These flags win over variables, which win over the file.",
            "",
            *_flags(command, "settings"),
        ]
    )


if __name__ == "__main__":
    main()
