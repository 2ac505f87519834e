"""Converts entries of which the most specific one wins to rules of which deny wins.

An entry that denies is dropped if it only repeats the default: as a rule it would win over the more specific entries
that allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trow.policy.rules import Effect
from trow.policytools.importing.drafts import ImportResult, RuleDraft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.policy.patterns import ImagePattern


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a source in which the most specific entry wins.

    Attributes:
        text: as it was written.
        glob: over whole names, as the source matches it.
        least: its specificity for any image; if two entries are equal, deny wins.
        most: its specificity for the image that it matches best.
        patterns: what it covers here.
        implied: it denies only because its condition cannot be expressed, and needs no rule if the default denies.
    """

    text: str
    glob: str
    least: tuple[int, ...]
    most: tuple[int, ...]
    effect: Effect
    patterns: tuple[ImagePattern, ...]
    implied: bool = False

    def beats(self, other: Entry) -> bool:
        """Whether it wins wherever both match."""
        return self.least > other.most or (self.least == other.most and self.effect is Effect.DENY)


def resolve_precedence(entries: Sequence[Entry], default: Effect, result: ImportResult) -> tuple[RuleDraft, ...]:
    """The rules that decide the same, except for the remarks."""
    allowing = [entry for entry in entries if entry.effect is Effect.ALLOW]
    return tuple(
        RuleDraft(entry.text, entry.effect, entry.patterns)
        for entry in entries
        if entry.effect is Effect.ALLOW or _is_kept(entry, allowing, default, result)
    )


def _is_kept(deny: Entry, allowing: Sequence[Entry], default: Effect, result: ImportResult) -> bool:
    overlapping = [allow for allow in allowing if overlaps(deny.glob, allow.glob)]
    exceptions = [allow for allow in overlapping if allow.beats(deny)]
    if default is Effect.DENY and len(exceptions) == len(overlapping) and (exceptions or deny.implied):
        if not deny.implied:
            result.note(
                f"deny {deny.text!r}",
                "is not needed: the default denies the same images, except for those that are allowed",
            )
        return False
    for allow in overlapping:
        if not deny.beats(allow):
            result.changed(
                f"allow {allow.text!r}",
                f"has no effect where deny {deny.text!r} matches too: there the more specific entry won, here deny"
                " always wins",
            )
    return True


def overlaps(one: str, other: str) -> bool:
    """Whether some text matches both globs, in which ``*`` stands for any characters."""
    seen, reached = {(0, 0)}, [(0, 0)]
    while reached:
        at, there = reached.pop()
        if at == len(one) and there == len(other):
            return True
        here, its = one[at : at + 1], other[there : there + 1]
        steps = {(at + 1, there)} if here == "*" or (its == "*" and here) else set()
        steps |= {(at, there + 1)} if its == "*" or (here == "*" and its) else set()
        steps |= {(at + 1, there + 1)} if here and here == its != "*" else set()
        reached += steps - seen
        seen |= steps
    return False
