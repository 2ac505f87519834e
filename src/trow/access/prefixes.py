"""Where names have to be looked for at all: the literal beginnings of globs.

A list of the repositories that a user may see is read only where their rules reach, not from end to end.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EVERYWHERE: Final = ("",)


def merged(beginnings: Iterable[str]) -> Sequence[str]:
    """The same names with as few beginnings as can be, sorted: none begins with another one."""
    kept: list[str] = []
    for each in sorted(beginnings):
        if not kept or not each.startswith(kept[-1]):
            kept.append(each)
    return kept


def shared(first: Sequence[str], second: Sequence[str]) -> Sequence[str]:
    """The names that begin with one of ``first`` and with one of ``second``; all three are `merged`."""
    return merged([each for each in first if _covers(second, each)] + [each for each in second if _covers(first, each)])


def _covers(beginnings: Sequence[str], name: str) -> bool:
    """Whether the name begins with one of these: of sorted ones, with the last that is not behind it."""
    at = bisect_right(beginnings, name)
    return at > 0 and name.startswith(beginnings[at - 1])
