"""argparse with Trow's manner of reporting mistakes."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # argparse has no public name for what add_subparsers() returns.
    Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001

# As argparse reports a value outside of its choices.
_CHOICE: Final = re.compile(r"argument ([^:]+): invalid choice: '([^']*)' \(choose from ([^()]*)\)")

# As it reports what is not there.
_MISSING: Final = re.compile(r"the following arguments are required: (.*)")
_VALUELESS: Final = re.compile(r"argument ([^:]+): expected (?:one|at least one) argument")


def group(commands: Commands, name: str, summary: str) -> Commands:
    """Add a command that has commands of its own, and return these."""
    return commands_of(commands.add_parser(name, help=summary))


def commands_of(parser: Parser) -> Commands:
    """Let a parser have commands, of which one has to be given."""
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def command(
    commands: Commands,
    name: str,
    summary: str,
    run: Callable[[argparse.Namespace], int],
    description: str = "",
    epilog: str | None = None,
) -> Parser:
    """Add a command, whose help begins with the description; without one, with the summary as a sentence."""
    about = description or f"{summary[0].upper()}{summary[1:]}."
    parser = commands.add_parser(name, help=summary, description=about, epilog=epilog)
    parser.set_defaults(run=run)
    return parser


class Parser(argparse.ArgumentParser):
    """A parser whose help keeps its line breaks and whose flags are never guessed from a part of their name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.set_defaults(parser=self)  # the innermost command's wins

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"trow: error: {self._worded(message)}\nTry '{self.prog} --help'.\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            # argparse lets the outermost parser complain, which knows no flag of the command.
            chosen = getattr(parsed, "parser", self)
            chosen.error(chosen.about_unknown(unknown))
        return parsed

    def about_unknown(self, arguments: Sequence[str]) -> str:
        """What to say of arguments that this command does not take."""
        flag = next((each.partition("=")[0] for each in arguments if each.startswith("-")), None)
        if flag is None:
            return f"unexpected argument {' '.join(arguments)}; leave it out, or write the flag that it belongs to"
        near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
        return f"unknown flag {flag}" + (f"; did you mean {near[0]}?" if near else "")

    @staticmethod
    def _worded(message: str) -> str:
        if missing := _MISSING.fullmatch(message):
            return f"{missing[1]} {'are' if ', ' in missing[1] else 'is'} missing"
        if valueless := _VALUELESS.fullmatch(message):
            return f"{valueless[1].rpartition('/')[2]} needs a value after it"
        found = _CHOICE.fullmatch(message)
        if found is None:
            return message
        what, wrong, among = found[1], found[2], re.findall(r"[^\s',]+", found[3])
        if what != "COMMAND":  # a value that is like another one is not a slip of the finger: ksh is not zsh
            return f"{what} cannot be {wrong!r}; choose from {', '.join(among)}"
        near = difflib.get_close_matches(wrong, among, n=1)
        fix = f"did you mean {near[0]}?" if near else f"choose from {', '.join(among)}"
        return f"unknown command {wrong!r}; {fix}"
