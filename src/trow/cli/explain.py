"""`trow help`: what `--help` prints, for those who ask in the other order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from trow.cli.parser import Commands, Parser


def add(commands: Commands, command_line: Callable[[], Parser]) -> None:
    parser = commands.add_parser(
        "help", help="explain a command, as --help does", description="Explain a command, as --help after it does."
    )
    parser.add_argument("words", metavar="COMMAND", nargs="*", help="such as policy test; without any, all commands")

    def run(args: argparse.Namespace) -> int:
        command_line().parse_args([*args.words, "--help"])
        return 0

    parser.set_defaults(run=run)
