"""From "the most specific entry decides" to "deny wins", in which order means nothing.

A deny entry is dropped where it says no more than the default does: kept, it would beat the more specific entries that
were exceptions from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trow.policy.rules import Effect
from trow.policytools.importing.drafts import ImportResult, RuleDraft

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trow.policytools.importing.globs import Translation


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a source whose most specific line decides.

    Attributes:
        text: as it was written.
        glob: over whole names, as the source matches it; tells whether two entries can meet.
        least: how specific it is, whatever the image; of two that are equal, deny wins.
        most: the same for the image that it fits best, where that depends on the image.
        meaning: what it means here.
        implied: it denies only because what it asks for cannot be had here; not worth a rule if the default denies too.
    """

    text: str
    glob: str
    least: tuple[int, ...]
    most: tuple[int, ...]
    effect: Effect
    meaning: Translation
    implied: bool = False

    def beats(self, other: Entry) -> bool:
        """Whether it decides wherever both match."""
        return self.least > other.most or (self.least == other.most and self.effect is Effect.DENY)


def settled(entries: Sequence[Entry], default: Effect, into: ImportResult) -> tuple[RuleDraft, ...]:
    """Rules that decide the same by "deny wins", as far as no remark says otherwise."""
    allowing = [entry for entry in entries if entry.effect is Effect.ALLOW]
    return tuple(
        RuleDraft(entry.text, entry.effect, entry.meaning.patterns)
        for entry in entries
        if entry.effect is Effect.ALLOW or _stays(entry, allowing, default, into)
    )


def _stays(deny: Entry, allowing: Sequence[Entry], default: Effect, into: ImportResult) -> bool:
    met = [allow for allow in allowing if meet(deny.glob, allow.glob)]
    exceptions = [allow for allow in met if allow.beats(deny)]
    if default is Effect.DENY and len(exceptions) == len(met) and (exceptions or deny.implied):
        if not deny.implied:
            into.note(
                f"deny {deny.text!r}", "is not written down: the default denies the same, save for its exceptions"
            )
        return False
    for allow in met:
        if not deny.beats(allow):
            into.changed(
                f"allow {allow.text!r}",
                f"has no effect where deny {deny.text!r} matches too: it was more specific, but deny always wins here",
            )
    return True


def meet(one: str, other: str) -> bool:
    """Whether some text is like both globs, in which ``*`` stands for any characters."""
    seen, reached = {(0, 0)}, [(0, 0)]
    while reached:
        at, there = reached.pop()
        if at == len(one) and there == len(other):
            return True
        for step in _steps(one, at, other, there):
            if step not in seen:
                seen.add(step)
                reached.append(step)
    return False


def _steps(one: str, at: int, other: str, there: int) -> Iterator[tuple[int, int]]:
    here, its = one[at : at + 1], other[there : there + 1]
    if here == "*":
        yield at + 1, there
        if its not in ("", "*"):
            yield at, there + 1
    if its == "*":
        yield at, there + 1
        if here not in ("", "*"):
            yield at + 1, there
    if here and here == its != "*":
        yield at + 1, there + 1
