"""`trow help`: what `--help` prints, for those who ask in the other order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.cli.parser import command

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from trow.cli.parser import Commands, Parser


def add(commands: Commands, command_line: Callable[[], Parser]) -> None:
    def run(args: argparse.Namespace) -> int:
        command_line().parse_args([*args.words, "--help"])
        return 0

    summary, description = "explain a command, as --help does", "Explain a command, as --help after it does."
    parser = command(commands, "help", summary, run, description)
    parser.add_argument("words", metavar="COMMAND", nargs="*", help="such as policy test; without any, all commands")
