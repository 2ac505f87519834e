"""`trow completion`: what a shell needs to complete commands, flags and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.cli.parser import command

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from trow.cli.parser import Commands, Parser

_SHELLS: Final = ("bash", "zsh", "fish")
_EXAMPLES: Final = """\
examples:
  source <(trow completion bash)                                      this shell; in ~/.bashrc, every one
  trow completion zsh > "${fpath[1]}/_trow"                           every zsh from the next one on
  trow completion fish > ~/.config/fish/completions/trow.fish         every fish
"""


def add(commands: Commands, whole: Callable[[], Parser]) -> None:
    """Add the command, which completes the command line that ``whole`` makes."""
    description = "Print a script for a shell that completes commands, flags and files."
    summary = "print what a shell needs to complete commands"
    parser = command(commands, "completion", summary, lambda args: run(args, whole()), description, _EXAMPLES)
    parser.add_argument("shell", choices=_SHELLS, metavar="SHELL", help="bash, zsh or fish")


def run(args: argparse.Namespace, whole: Parser) -> int:
    import shtab  # noqa: PLC0415 - only this command needs it

    print(shtab.complete(whole, shell=args.shell))
    return 0
