"""How commands print and end: tables, JSON, errors, exit codes. What clients have written never harms a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from trow.lib.terminal import escaped, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trow.policytools.judging import EvaluationOutcome

# What was asked for was done, and the answer is yes.
EXIT_OK: Final = 0
# The answer is no: denied, altered, damaged, not found.
EXIT_NO: Final = 1
# There is no answer: the command could not do it, or was not understood.
EXIT_FAILED: Final = 2


def exit_code(outcome: EvaluationOutcome) -> int:
    return {"denied": EXIT_NO, "undecided": EXIT_FAILED}.get(outcome.value, EXIT_OK)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    cells = [[printable(text) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()


def cut(text: str, most: int) -> str:
    """The beginning of a text, with an ellipsis where some of it is missing."""
    return text if len(text) <= most else text[: most - 1] + "…"


def say(*lines: str) -> None:
    for line in lines:
        print(printable(line))


def say_json(text: str) -> None:
    """Print JSON, which stays the same value: what a terminal could obey is escaped."""
    print(escaped(text))


def note(text: str) -> None:
    """Say on standard error what is not part of the result."""
    print(printable(text), file=sys.stderr)


def failed(reason: Exception | str, code: int = EXIT_FAILED) -> int:
    """Say on standard error why the command ends; returns its exit code."""
    for line in str(reason).splitlines():
        note(f"trow: error: {line}")
    return code
