"""Which regular expressions can be made to take more than linear time.

A backtracking matcher tries every way in which an expression can read a text before it gives up. The number of ways
grows without bound exactly where two different places of the expression each read some text and come back to
themselves, and that text also leads from the one to the other (Weber and Seidl, "On the degree of ambiguity of finite
automata", 1991): ``a*b?a*`` may share a run of a's between its stars in as many ways as the run is long. This module
looks for such places. Nothing is measured, so that no machine is too fast or too busy for it.

What it takes for granted: a back-reference reads anything, and a repeat with a small bound is a constant factor.
"""

from __future__ import annotations

import re
import re._compiler as compiler  # type: ignore[import-not-found]
import re._constants as op  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from typing import Any, Final, TypeAlias

# Letters enough to tell the classes of expressions apart.
_ALPHABET: Final = [*map(chr, range(128)), "é", "٣", "\N{LATIN SMALL LETTER LONG S}", "\ud800", "\U0001f600"]
_EVERYTHING: Final = frozenset(_ALPHABET)
# Bounds from here on count as none.
_MANY: Final = 1000
# Methods of patterns that try every place of a text, and those that are content with its beginning.
SEARCHING: Final = frozenset({"search", "sub", "subn", "split", "findall", "finditer"})
OPEN_ENDED: Final = SEARCHING | {"match"}

Part: TypeAlias = tuple[int, int]


class _Places:
    """An expression as its places, each of which reads one letter, and what may come after what (Glushkov, 1961)."""

    def __init__(self) -> None:
        self.letters: list[frozenset[str]] = []
        self._from: list[int] = []
        self._to: list[int] = []
        self._free: list[list[int]] = []
        self.asides: list[Any] = []

    def knot(self, *leads_to: int) -> int:
        """A point between places."""
        self._free.append(list(leads_to))
        return len(self._free) - 1

    def tie(self, start: int, end: int) -> None:
        """From here to there nothing is read."""
        self._free[start].append(end)

    def place(self, letters: frozenset[str]) -> Part:
        start, end = self.knot(), self.knot()
        self.letters.append(letters)
        self._from.append(start)
        self._to.append(end)
        return start, end

    def ways(self, place: int) -> list[int]:
        """How many ways there are from behind a place to the front of each."""
        return [self._ways(self._to[place], front, frozenset()) for front in self._from]

    def ends(self, place: int, end: int) -> bool:
        """Whether nothing more has to be read after the place."""
        return self._ways(self._to[place], end, frozenset()) > 0

    def _ways(self, start: int, end: int, passed: frozenset[int]) -> int:
        if start == end:
            return 1
        return sum(self._ways(each, end, passed | {start}) for each in self._free[start] if each not in passed)


class _Reader:
    """Reads what the library's own parser says of an expression."""

    def __init__(self, flags: int) -> None:
        self.places = _Places()
        self._flags = flags

    def sequence(self, parsed: Any) -> Part:
        start = end = self.places.knot()
        for code, argument in parsed:
            first, last = self._one(code, argument)
            self.places.tie(end, first)
            end = last
        return start, end

    def _one(self, code: Any, argument: Any) -> Part:
        if code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            return self._repeat(*argument)
        if code in (op.SUBPATTERN, op.ATOMIC_GROUP):
            return self.sequence(argument[3] if code is op.SUBPATTERN else argument)
        if code is op.BRANCH:
            return self._either([self.sequence(each) for each in argument[1]])
        if code is op.GROUPREF:
            return self._repeat(0, _MANY, [(op.ANY, None)])
        if code in (op.AT, op.ASSERT, op.ASSERT_NOT):
            if code is not op.AT:
                self.places.asides.append(argument[1])
            return (self.places.knot(), self.places.knot()) if self._begins(code, argument) else self._either([])
        return self.places.place(_letters(code, argument, self._flags))

    def _begins(self, code: Any, argument: Any) -> bool:
        """Whether nothing may have been read before: from other places no way leads through here."""
        if code is not op.AT:
            return False
        return argument is op.AT_BEGINNING_STRING or (argument is op.AT_BEGINNING and not self._flags & re.MULTILINE)

    def _either(self, parts: list[Part]) -> Part:
        end = self.places.knot()
        start = self.places.knot(*[first for first, _ in parts] or [end])
        for _, last in parts:
            self.places.tie(last, end)
        return start, end

    def _repeat(self, least: int, most: int, inner: Any) -> Part:
        """Once or twice where the number is bounded; else one copy that leads back to itself."""
        start, done = self.places.knot(), self.places.knot()
        end = start
        for at in range(min(most, 2 if most < _MANY else 1)):
            if at >= least:
                self.places.tie(end, done)
            first, last = self.sequence(inner)
            self.places.tie(end, first)
            if most >= _MANY:
                self.places.tie(last, first)
            end = last
        self.places.tie(end, done)
        return start, done


def _letters(code: Any, argument: Any, flags: int) -> frozenset[str]:
    """The letters that one step reads, found by asking the library."""
    step = parser.SubPattern(parser.State(), [(code, argument)])
    step.state.flags = flags
    one = compiler.compile(step, flags)
    return frozenset(letter for letter in _ALPHABET if one.fullmatch(letter))


def ambiguous(pattern: str | bytes, flags: int = 0, method: str = "fullmatch") -> bool:
    """Whether matching a text in vain can take more than linear time."""
    text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
    flags = flags & ~re.UNICODE | re.ASCII if isinstance(pattern, bytes) else flags
    parsed = parser.parse(text, flags)
    return _ambiguous(parsed, parsed.state.flags, method)


def _ambiguous(parsed: Any, flags: int, method: str) -> bool:
    reader = _Reader(flags)
    places = reader.places
    anything = (op.IN, [(op.CATEGORY, op.CATEGORY_SPACE), (op.CATEGORY, op.CATEGORY_NOT_SPACE)])
    prefix = [(op.MAX_REPEAT, (0, _MANY, [anything]))] if method in SEARCHING else []
    _, end = reader.sequence([*prefix, *parsed])
    ways = [places.ways(place) for place in range(len(places.letters))]
    harmless = {place for place in range(len(ways)) if places.ends(place, end) and _takes_all(places, place, method)}
    return _Search(places.letters, ways, harmless).finds() or any(
        _ambiguous(aside, flags, "match") for aside in places.asides
    )


def _takes_all(places: _Places, place: int, method: str) -> bool:
    """Whether whoever stands here cannot fail any more, and so never has to look for another way."""
    return method in OPEN_ENDED or places.letters[place] == _EVERYTHING


class _Search:
    """Looks for two places as the first paragraph of this module has them."""

    def __init__(self, letters: list[frozenset[str]], ways: list[list[int]], harmless: set[int]) -> None:
        self._letters = letters
        self._ways = ways
        self._after = [[then for then, count in enumerate(row) if count] for row in ways]
        self._harmless = harmless

    def finds(self) -> bool:
        reach = [self._reach(place) for place in range(len(self._after))]
        loops = [place for place, found in enumerate(reach) if place in found]
        twice = any(self._ways[p][q] > 1 and p in reach[q] for p in loops for q in self._after[p])
        return twice or any(
            self._lead_to_each_other(p, q)
            for p in loops
            for q in loops
            if p != q and q in reach[p] and q not in self._harmless
        )

    def _reach(self, place: int) -> set[int]:
        seen: set[int] = set()
        waiting = [place]
        while waiting:
            fresh = set(self._after[waiting.pop()]) - seen
            seen |= fresh
            waiting += fresh
        return seen

    def _lead_to_each_other(self, p: int, q: int) -> bool:
        """Whether one text leads from p to p, from p to q and from q to q."""
        goal, seen, waiting = (p, q, q), {(p, p, q)}, [(p, p, q)]
        while waiting:
            a, b, c = waiting.pop()
            for x in self._after[a]:
                for y in self._after[b]:
                    shared = self._letters[x] & self._letters[y]
                    for z in self._after[c] if shared else ():
                        step = (x, y, z)
                        if step not in seen and shared & self._letters[z]:
                            if step == goal:
                                return True
                            seen.add(step)
                            waiting.append(step)
        return False
