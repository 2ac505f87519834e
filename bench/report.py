"""The report in Markdown."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.measure import show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.measure import Case, Result, Series

DASH = "\N{EN DASH}"
HEAD = """\
# Benchmarks

Trow beside its peers, measured on one machine in one run: the same data on the same disk, each server with its
default logging to a file, all on the loopback interface. The contenders take turns, round by round, after one round
each that is not counted. A ratio is Trow's value divided by the peer's of the same round; the table has the median of
the rounds and, in brackets, the lowest and the highest. MB are 10⁶ bytes.
"""


def markdown(command: str, facts: Sequence[tuple[str, str]], measured: Sequence[tuple[Case, Sequence[Result]]]) -> str:
    results = [result for _, each in measured for result in each]
    return "\n".join(
        [
            HEAD,
            f"Made by `{command}`.\n",
            *_table(("what", "which"), facts),
            "",
            "## Results\n",
            *_table(("case", "Trow", "peer", "ratio", "must", "hope", "met"), [_row(result) for result in results]),
            "",
            "## Method",
            *(f"\n**{case.name}.** {case.method}" for case, _ in measured),
            "\n## All rounds\n",
            "<details>\n<summary>every value of every round</summary>\n",
            *_table(
                ("case", "who", "unit", "rounds"), list(dict.fromkeys(row for each in results for row in _rounds(each)))
            ),
            "\n</details>\n",
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cells)} |"


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.case,
        f"{show(result.ours.median)} {result.unit}",
        f"{result.peer.name} {show(result.peer.median)} {result.unit}" if result.peer else DASH,
        _ratio(result.ratios),
        str(result.must or DASH),
        str(result.hope or DASH),
        _verdict(result),
    )


def _ratio(ratios: list[float]) -> str:
    if not ratios:
        return DASH
    if len(ratios) == 1:
        return f"{ratios[0]:.2f}"
    return f"{median(ratios):.2f} ({min(ratios):.2f}{DASH}{max(ratios):.2f})"


def _verdict(result: Result) -> str:
    """What is reached, or in bold the must that is missed."""
    if result.must and not result.judged(result.must):
        return "**missed**"
    reached = ["must"] if result.must else []
    if result.hope:
        reached.append("hope" if result.judged(result.hope) else "not the hope")
    return ", ".join(reached) or DASH


def _rounds(result: Result) -> Iterator[tuple[str, ...]]:
    for series in filter(None, (result.ours, result.peer)):
        yield result.case, series.name, result.unit, _values(series)


def _values(series: Series) -> str:
    return ", ".join(show(value) for value in series.values)
