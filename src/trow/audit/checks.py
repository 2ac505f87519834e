"""The rules of a chain, and the words for a broken one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from trow.audit import chain
from trow.audit import record as records
from trow.audit.chain import CHECKPOINT_RECORDS, Checkpoint, Gap, Head

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trow.audit.chain import Mark
    from trow.audit.keys import PublicKey
    from trow.audit.record import Record

    Keys: TypeAlias = Mapping[str, PublicKey]


# In place of a record's sequence, where what was altered belongs to no single record.
BESIDE: Final = 0
ANCHOR: Final = "the anchor"


class Altered(Exception):
    """Something was altered. It ends the check, so it is the first thing found."""

    def __init__(self, writer: str, sequence: int, what: str, where: str) -> None:
        self.writer, self.sequence, self.what, self.where = writer, sequence, what, where
        title = "what belongs to no single record" if sequence == BESIDE else f"record {sequence} of writer {writer}"
        super().__init__(f"{title} {what} ({where})")


@dataclass(slots=True)
class Chain:
    """What a check has found of one writer's chain.

    Attributes:
        first: the first record; 0 when there is none.
        last: the last one.
        retained: the first record that should be there: those before were removed by rule.
        covered: the last record under a checkpoint.
        removed: how many between others were removed by rule, as whoever had most gave up most.
    """

    writer: str
    last: Head
    first: int = 0
    retained: int = 1
    covered: int = 0
    removed: int = 0


@dataclass(slots=True)
class VerificationReport:
    """What a check has found.

    Attributes:
        records, checkpoints: how many were read.
        problem: what is wrong first; None when nothing is.
        unchecked: what could not be checked, in sentences.
    """

    records: int = 0
    checkpoints: int = 0
    chains: list[Chain] = field(default_factory=list)
    problem: Altered | None = None
    unchecked: list[str] = field(default_factory=list)


class ChainCheck:
    """Follows one writer's chain from record to record. Raises `Altered` at the first problem.

    Args:
        writer: whose chain it is.
        keys: public keys by their id; without any, signatures are not checked.
        anchors: hashes that somebody has kept elsewhere.
        report: what is found goes there.
        uncovered: this many records cannot be without a checkpoint.
    """

    def __init__(
        self,
        writer: str,
        keys: Keys,
        anchors: Sequence[Head],
        report: VerificationReport,
        uncovered: int = CHECKPOINT_RECORDS,
    ) -> None:
        self.found = Chain(writer, Head(writer))
        report.chains.append(self.found)
        self._writer = writer
        self._keys = keys
        self._report = report
        self._uncovered = uncovered
        self._known = {anchor.sequence: (anchor.hash, ANCHOR) for anchor in anchors if anchor.writer == writer}
        self._suspect: Altered | None = None

    def begin(self, last: Head) -> None:
        """The chain begins after a record that need not be there."""
        self.found.last = last
        self._compare(last, "beginning")

    def gap(self, gap: Gap, where: str) -> None:
        """Records that were removed by rule; those of them that an earlier mark tells of as well count once."""
        last = self.found.last
        self._settle(confirmed=False)
        self.mark(gap, where)
        if gap.first > last.sequence + 1:
            raise self.altered(last.sequence + 1, f"is missing; records are removed from {gap.first} on", where)
        if gap.sequence <= last.sequence:
            raise self.altered(gap.sequence, "is said to be removed, but is there", where)
        self.found.removed += gap.sequence - last.sequence
        # What a trim mark says of one of them nobody can compare any more.
        inside = [each for each in self._known if last.sequence < each < gap.sequence]
        for sequence in inside:
            if self._known[sequence][1] != ANCHOR:
                del self._known[sequence]
        self.found.last = Head(self._writer, gap.sequence, gap.hash)
        self._compare(self.found.last, where)

    def expect(self, head: Head, who: str) -> None:
        """Require that a record has this hash."""
        self._known.setdefault(head.sequence, (head.hash, who))

    def record(self, record: Record, where: str) -> None:
        """The next record, which has the hash that its content asks for."""
        last = self.found.last
        self._settle(confirmed=record.prev == last.hash)
        if record.sequence != last.sequence + 1:
            raise self.altered(last.sequence + 1, f"is missing; record {record.sequence} stands in its place", where)
        if record.writer != self._writer:
            raise self.altered(record.sequence, f"was replaced by one of writer {record.writer}", where)
        if record.prev != last.hash:
            self._suspect = self.altered(record.sequence, "was replaced: it does not follow the one before it", where)
        self._report.records += 1
        self.found.first = self.found.first or record.sequence
        self.found.last = Head(self._writer, record.sequence, record.hash)
        self._compare(self.found.last, where)

    def _settle(self, *, confirmed: bool) -> None:
        """Of two records that do not fit, what comes next knows which was replaced: not the one that it confirms."""
        if (suspect := self._suspect) is None:
            return
        if confirmed and self.found.first < suspect.sequence:
            what = "was replaced: the one after it follows another one"
            raise self.altered(suspect.sequence - 1, what, suspect.where)
        raise suspect

    def _compare(self, head: Head, where: str) -> None:
        wanted, who = self._known.pop(head.sequence, (head.hash, ""))
        if wanted != head.hash:
            raise self.altered(head.sequence, f"is not the one that {who} names: it or one before was replaced", where)

    def mark(self, mark: Mark, where: str) -> None:
        """Require that a checkpoint or a trim mark is signed."""
        if doubt := self._doubt(mark):
            name = "checkpoint" if isinstance(mark, Checkpoint) else "trim mark"
            raise self.altered(mark.sequence, f"has a {name} {doubt}", where)

    def _doubt(self, mark: Mark) -> str:
        key = self._keys.get(mark.key)
        if self._keys and key is None:
            return f"signed by an unknown key, {mark.key!r}"
        if key is not None and not chain.is_signed(mark, key):
            return "that was altered: its signature does not match"
        return ""

    def checkpoint(self, checkpoint: Checkpoint, where: str) -> None:
        """A checkpoint over the last record, or one before."""
        last = self.found.last
        meets = (checkpoint.sequence, checkpoint.hash) == (last.sequence, last.hash)
        self._settle(confirmed=meets and not self._doubt(checkpoint))
        self.mark(checkpoint, where)
        self._report.checkpoints += 1
        if checkpoint.sequence > last.sequence:
            what = f"is missing; a checkpoint says that records up to {checkpoint.sequence} were there"
            raise self.altered(last.sequence + 1, what, where)
        if checkpoint.sequence == last.sequence and checkpoint.hash != last.hash:
            what = "is not the one that its checkpoint names: it was replaced, or all from one before it on"
            raise self.altered(checkpoint.sequence, what, where)
        self.found.covered = max(self.found.covered, checkpoint.sequence)

    def end(self, where: str) -> None:
        """End the check; call it last."""
        self._settle(confirmed=False)
        last, covered = self.found.last.sequence, max(self.found.covered, self.found.retained - 1)
        if last - covered >= self._uncovered:
            what = "and those after it are under no checkpoint; checkpoints were removed"
            raise self.altered(covered + 1, what, where)
        for sequence, (_, who) in sorted(self._known.items()):
            if sequence > last:
                raise self.altered(last + 1, f"is missing; {who} names record {sequence}", where)
            self._report.unchecked.append(f"{who} names record {sequence}, which is not kept any more")

    def altered(self, sequence: int, what: str, where: str) -> Altered:
        """The error to raise."""
        return Altered(self._writer, sequence, what, where)


def sealed(text: object, check: ChainCheck, sequence: int, where: str) -> Record:
    """A record that is what its hash says."""
    if not isinstance(text, (str, bytes)):
        raise check.altered(sequence, "was altered: it is not text", where)
    try:
        record = records.decode(text)
    except ValueError as error:
        raise check.altered(sequence, f"was altered: {error}", where) from None
    if not chain.is_sealed(record):
        raise check.altered(sequence, "was altered: it does not have the hash of its content", where)
    return record


def verified(
    report: VerificationReport, keys: Keys, anchors: Sequence[Head], where: str, check: Callable[[], None]
) -> VerificationReport:
    """The report of a check, and of the anchors that name a writer of which nothing is left."""
    if not keys:
        report.unchecked.append("there is no public key, so that signatures were not checked; give --public-key")
    try:
        check()
    except Altered as altered:
        report.problem = altered
        return report
    present = {found.writer for found in report.chains}
    for lost in (anchor for anchor in reversed(anchors) if anchor.writer not in present):
        report.problem = Altered(lost.writer, 1, f"is missing; the anchor names record {lost.sequence}", where)
    return report
