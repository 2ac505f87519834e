"""argparse with Trow's manner of reporting mistakes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

if TYPE_CHECKING:
    # argparse has no public name for what add_subparsers() returns.
    Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001


class Parser(argparse.ArgumentParser):
    """A parser whose help keeps its line breaks and whose flags are never guessed from a part of their name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"trow: error: {message}\nTry '{self.prog} --help'.\n")
