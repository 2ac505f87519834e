"""How commands print: tables, errors, exit codes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from trow.lib.terminal import escaped, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from trow.policytools.judging import Outcome

EXIT_ALLOWED: Final = 0
EXIT_DENIED: Final = 1
EXIT_UNDECIDED: Final = 2


def exit_code(outcome: Outcome) -> int:
    return {"denied": EXIT_DENIED, "undecided": EXIT_UNDECIDED}.get(outcome.value, EXIT_ALLOWED)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def say(lines: Iterable[str]) -> None:
    for line in lines:
        print(shown(line))


def say_json(text: str) -> None:
    """Print JSON, which stays the same value: what a terminal could obey is escaped."""
    print(escaped(text))


def failed(error: Exception) -> int:
    for line in str(error).splitlines():
        print(f"trow: error: {shown(line)}", file=sys.stderr)
    return EXIT_UNDECIDED
