"""Ranges of semantic versions, as Flux and others write them: ``>=1.2 <2``, ``^1.4``, ``~1.4.2``, ``1.x || 2.1.x``.

A tag is a version if it consists of three numbers, after an optional ``v``: ``1.27.0``, ``v2.0.1``. A tag with a suffix
is a pre-release, and not in any range: ``1.27.0-alpine`` cannot be distinguished from ``1.27.0-rc.1``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Version: TypeAlias = tuple[int, int, int]
# The first version that is in the interval, and the first above it that is not; None: without an end.
Interval: TypeAlias = "tuple[Version, Version | None]"

LONGEST: Final = 100
_MOST_ALTERNATIVES: Final = 8
_NUMBER: Final = r"(?:0|[1-9][0-9]{0,8})"
_TAG: Final = re.compile(r"v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")
_COMPARATOR: Final = re.compile(
    rf"(>=|<=|>|<|=|\^|~)?v?({_NUMBER}|[xX*])(?:\.({_NUMBER}|[xX*]))?(?:\.({_NUMBER}|[xX*]))?"
)
_SPACED: Final = re.compile(r"(>=|<=|>|<|=|\^|~)[ ]{1,9}")
_HOW: Final = "write comparisons such as >=1.2 <2, ^1.4, ~1.4.2 or 1.x, and || between alternatives"
_LARGEST_DIGITS: Final = 9
_ANY: Final = "(?:0|[1-9][0-9]*)"


@dataclass(frozen=True, slots=True)
class VersionRange:
    """A range of versions. `parse` is its constructor.

    Attributes:
        text: as it was written.
        intervals: the range is their union.
    """

    text: str
    intervals: tuple[Interval, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a range as an operator wrote it.

        Raises:
            ValueError: it is not a range, or it is empty.
        """
        alternatives = text.split("||")
        if len(text) > LONGEST or len(alternatives) > _MOST_ALTERNATIVES:
            raise ValueError(f"{text[:LONGEST]!r} is too long a range of versions")
        found = [_intersection(part, text) for part in alternatives]
        intervals = tuple(each for each in found if each[1] is None or each[0] < each[1])
        if not intervals:
            raise ValueError(f"{text!r} has no version in it")
        return cls(text, intervals)

    def covers(self, tag: str) -> bool:
        """Whether a tag is a version in the range."""
        match = _TAG.fullmatch(tag)
        if match is None:
            return False
        # A number with more digits than any number of a range is larger than all of them; it is not converted.
        version = tuple(
            int(part) if len(part) <= _LARGEST_DIGITS + 1 else 10 ** (_LARGEST_DIGITS + 1) for part in match.groups()
        )
        return any(low <= version and (high is None or version < high) for low, high in self.intervals)

    @property
    def expression(self) -> str:
        """A regular expression that matches the tags in the range."""
        numbers = [r"\.".join(parts) for low, high in self.intervals for parts in _between(low, high, 3)]
        return rf"v?(?:{'|'.join(dict.fromkeys(numbers))})"

    def __str__(self) -> str:
        return self.text


# Parsing


def _intersection(part: str, text: str) -> Interval:
    words = _SPACED.sub(r"\1", part.replace(",", " ")).split()
    if not words:
        raise ValueError(f"{text!r} is not a range of versions; {_HOW}")
    low: Version = (0, 0, 0)
    high: Version | None = None
    for word in words:
        its_low, its_high = _interval(word, text)
        low = max(low, its_low)
        high = its_high if high is None else high if its_high is None else min(high, its_high)
    return low, high


def _interval(word: str, text: str) -> Interval:
    match = _COMPARATOR.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} in {text!r} is not a comparison of versions; {_HOW}")
    parts: list[int] = []
    for part in match.groups()[1:]:
        if part is None or not part.isdecimal():
            break
        parts.append(int(part))
    if not parts and match[1] in ("<", ">"):
        raise ValueError(f"{word!r} in {text!r} is not a version: nothing is below or above all of them; {_HOW}")
    if not parts:
        return (0, 0, 0), None
    first = _filled(parts)
    after = _after(parts)
    by_operator: dict[str | None, Interval] = {
        ">=": (first, None),
        ">": (after, None),
        "<": ((0, 0, 0), first),
        "<=": ((0, 0, 0), after),
        "~": (first, _after(parts[:2])),
        # Up to the first number that is not zero: an increment of that number is a breaking change.
        "^": (first, _after(parts[: next((at for at, part in enumerate(parts, 1) if part), len(parts))])),
    }
    return by_operator.get(match[1], (first, after))


def _filled(parts: Sequence[int]) -> Version:
    major, minor, patch = (*parts, 0, 0)[:3]
    return major, minor, patch


def _after(parts: Sequence[int]) -> Version:
    """The first version after all those that begin with these numbers."""
    return _filled([*parts[:-1], parts[-1] + 1])


# Regular expressions


def _between(low: Sequence[int] | None, high: Sequence[int] | None, count: int) -> Iterator[tuple[str, ...]]:
    """Regular expressions of `count` numbers each, from one sequence up to another, which is not included.

    None: without a bound.
    """
    if not count:
        if high is None:
            yield ()
        return
    if low is not None and high is not None and low[0] == high[0]:
        yield from ((str(low[0]), *rest) for rest in _between(low[1:], high[1:], count - 1))
        return
    if low is not None:
        yield from ((str(low[0]), *rest) for rest in _between(low[1:], None, count - 1))
    if high is not None:
        yield from ((str(high[0]), *rest) for rest in _between(None, high[1:], count - 1))
    first = 0 if low is None else low[0] + 1
    last = None if high is None else high[0] - 1
    if last is None or first <= last:
        yield (_numbers(first, last), *[_ANY] * (count - 1))


def _numbers(first: int, last: int | None) -> str:
    """A regular expression of the numbers from one to another, both included."""
    if last is None:
        if first == 0:
            return _ANY
        digits = len(str(first))
        found = [*_of_equal_length(str(first), "9" * digits), rf"[1-9][0-9]{{{digits},}}"]
    else:
        found = []
        while first <= last:
            end = min(last, 10 ** len(str(first)) - 1)
            found += _of_equal_length(str(first), str(end))
            first = end + 1
    return f"(?:{'|'.join(found)})"


def _of_equal_length(first: str, last: str) -> Iterator[str]:
    if not first or first == last:
        yield first
        return
    rest = len(first) - 1
    if first[0] == last[0]:
        yield from (first[0] + each for each in _of_equal_length(first[1:], last[1:]))
        return
    low, high = int(first[0]), int(last[0])
    if set(first[1:]) - {"0"}:
        yield from (first[0] + each for each in _of_equal_length(first[1:], "9" * rest))
        low += 1
    whole = not set(last[1:]) - {"9"}
    if low <= (high if whole else high - 1):
        digits = f"[0-9]{{{rest}}}" if rest else ""
        yield f"[{low}-{high if whole else high - 1}]{digits}"
    if not whole:
        yield from (last[0] + each for each in _of_equal_length("0" * rest, last[1:]))
