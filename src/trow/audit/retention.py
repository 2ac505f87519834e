"""Removes old records from a part of the trail, by age and by size. Each removal is recorded.

By age, the oldest records go, up to a checkpoint. By size, whoever holds most gives up their oldest records, so that
nobody pushes out those of others. Only where nobody holds much more than others do the oldest records of all go.

A trim is recorded first, together with a signed mark that says where the chain now begins. Only then are rows removed,
a few at a time, so that writing never waits for long. Records that are removed from between others leave a mark in
their place, in the same transaction.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from trow.audit.chain import Head, part_name
from trow.lib.levels import excess_of
from trow.lib.times import MICROSECONDS
from trow.registry.events import Action, Event, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trow.audit.chain import Gap
    from trow.audit.store import AuditStore, HeldRecord

log = logging.getLogger(__name__)

# What each part of the record may take of its size; the rest is for what was done by those who have a right to.
SHARES: Final = {Part.EFFECTS: 1 / 2, Part.ANONYMOUS: 1 / 4, Part.ACCESS: 1 / 8, Part.REVIEWS: 1 / 8}
# Nobody who holds less of a part than one in this many is made to give up anything before those who hold more.
HOLDERS: Final = 16

CHECK_SECONDS: Final = 30.0
_SIZE_CHECK_SECONDS: Final = 1.0
# Their content is read, by an interpreter that runs one thread at a time.
_ROWS_IN_A_STEP: Final = 200
# Down to this part of the limit, so that a full trail is not trimmed at every check.
_LEAVE: Final = 0.95
_FULL: Final = "this part of the trail is as large as it may be"


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records are kept; None means forever.

    Attributes:
        seconds: for how long.
        most_bytes: until they take this much.
    """

    seconds: float | None = None
    most_bytes: int | None = None

    def of(self, part: Part) -> Retention:
        """The share of one part of the trail."""
        return Retention(self.seconds, None if self.most_bytes is None else round(self.most_bytes * SHARES[part]))


@dataclass(frozen=True, slots=True)
class TrimPlan:
    """What is to be removed.

    Attributes:
        last: everything up to and with this record; or what is in `excess`, of what stands up to it.
        unsent: this many of them had not reached the sink.
        excess: how many bytes each of those who hold most give up; None: the oldest of all leave.
    """

    last: Head
    event: Event
    unsent: int = 0
    excess: Mapping[str, int] | None = None


@dataclass(slots=True)
class _FairTrim:
    """A walk from the oldest record on, which removes the records of those who hold most.

    Attributes:
        left: how many bytes each of them has still to give up.
        kept: the last record that stays, or what was before the first.
        seen: the last record that was looked at.
        until: where the walk ends.
    """

    left: dict[str, int]
    kept: int
    seen: int
    until: int
    unsent: int = 0
    gone: list[HeldRecord] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.seen >= self.until or not any(left > 0 for left in self.left.values())

    def walk(self, some: Sequence[HeldRecord]) -> list[tuple[int, HeldRecord]]:
        """Which of the records go: for each run of them where it begins, and the last of it."""
        runs: list[tuple[int, HeldRecord]] = []
        self.gone = []
        for each in some:
            self.seen = each.sequence
            if self.left.get(each.holder, 0) > 0:
                self.left[each.holder] -= each.bytes
                self.gone.append(each)
                if runs and runs[-1][0] == self.kept + 1:
                    runs.pop()
                runs.append((self.kept + 1, each))
            else:
                self.kept = each.sequence
        return runs


class Trimmer:
    """Decides what is removed from a part of the trail, and removes it step by step. Only the writer's thread uses it.

    Args:
        writer: whose chain it is.
        sent: the last record that a sink which may not miss any has taken; None without such a sink.
        sign: makes the mark for what leaves from between others: from this record up to and with that one.

    Attributes:
        full: whether the part takes more than it may.
    """

    def __init__(
        self,
        store: AuditStore,
        writer: str,
        retention: Retention,
        sent: Callable[[], int | None],
        sign: Callable[[int, Head], Gap],
    ) -> None:
        self._store = store
        self._writer = writer
        self._part = Part(part_name(writer))
        self._retention = retention
        self._sent = sent
        self._sign = sign
        self._next_check = self._next_size_check = 0.0
        self._until = store.retained(writer)
        self._first = store.first(writer) or self._until
        self._fair_trim: _FairTrim | None = None
        self._grown = True
        self.full = False

    @property
    def busy(self) -> bool:
        """Whether rows are waiting to be removed."""
        return self._first < self._until or self._fair_trim is not None

    def seconds_left(self) -> float:
        """The seconds until there is something to decide, if nothing happens before."""
        soon = self.full or self._grown
        return max(0.0, (self._next_size_check if soon else self._next_check) - time.monotonic())

    def note_growth(self) -> None:
        """Note that records were added."""
        self._grown = True

    def plan(self, now: int) -> TrimPlan | None:
        """What has to be removed, checked from time to time."""
        moment = time.monotonic()
        if self.busy or moment < self._next_size_check:
            return None
        self._next_size_check = moment + _SIZE_CHECK_SECONDS
        self._first = self._store.first(self._writer) or self._until
        self._grown = False
        if (plan := self._by_size()) is not None or moment < self._next_check:
            return plan
        self._next_check = moment + CHECK_SECONDS
        return self._by_age(now)

    def begin(self, plan: TrimPlan) -> None:
        """Carry out a plan, which was recorded."""
        if plan.excess is None:
            self._until = plan.last.sequence + 1
        else:
            before = self._until - 1
            self._fair_trim = _FairTrim(dict(plan.excess), before, before, plan.last.sequence)

    def step(self) -> None:
        """Remove some rows."""
        if self._fair_trim is not None:
            self._step_fairly(self._fair_trim)
            return
        held = self._store.between(self._writer, self._first - 1, self._until - 1, _ROWS_IN_A_STEP)
        upper = held[-1].sequence + 1 if len(held) == _ROWS_IN_A_STEP else self._until
        self._store.drop_before(self._writer, held, upper)
        self._first = upper

    def _step_fairly(self, work: _FairTrim) -> None:
        some = self._store.between(self._writer, work.seen, work.until, _ROWS_IN_A_STEP)
        marks = [self._sign(first, Head(self._writer, last.sequence, last.hash)) for first, last in work.walk(some)]
        if marks:
            self._store.drop_between(self._writer, work.gone, marks)
        sent = self._sent()
        work.unsent += 0 if sent is None else sum(each.sequence > sent for each in work.gone)
        if not some or work.done:
            self._fair_trim = None
            if work.unsent:
                log.error("audit records were removed before the webhook took them", extra={"count": work.unsent})

    def _by_age(self, now: int) -> TrimPlan | None:
        if self._retention.seconds is None:
            return None
        last = self._store.checkpoint_before(self._writer, now - round(self._retention.seconds * MICROSECONDS))
        sent = self._sent()
        if last is not None and sent is not None and last.sequence > sent:
            last = self._store.checkpoint_up_to(self._writer, sent)
        return self._planned(last, "older than records are kept")

    def _by_size(self) -> TrimPlan | None:
        most = self._retention.most_bytes
        used = 0 if most is None else self._store.used_bytes(self._writer)
        self.full = most is not None and used > most
        if most is None or not self.full:
            return None
        head = self._store.head(self._writer)
        covered = self._store.checkpoint_up_to(self._writer, head.sequence)
        if covered is None:
            return None
        surplus = round(used - _LEAVE * most)
        excess = excess_of(self._store.largest(self._writer, HOLDERS), surplus, most // HOLDERS)
        if sum(excess.values()) >= surplus:
            names = ", ".join(holder or "nobody known" for holder in excess)
            detail = f"the oldest records up to {covered.sequence} of whoever has most removed: {names}"
            event = Event(Action.AUDIT_TRIM, reason=_FULL, detail=detail, part=self._part)
            return TrimPlan(covered, event, excess=excess)
        before = self._first - 1 + round((head.sequence - self._first) * surplus / used)
        found = self._store.between(self._writer, before, covered.sequence, 1)
        return self._planned(Head(self._writer, found[0].sequence, found[0].hash), _FULL) if found else None

    def _planned(self, last: Head | None, reason: str) -> TrimPlan | None:
        if last is None or last.sequence < self._first:
            return None
        count = self._store.count_up_to(self._writer, last.sequence)
        sent = self._sent()
        unsent = 0 if sent is None else min(count, max(0, last.sequence - max(sent, self._first - 1)))
        lost = f"; {unsent} of them had not been sent to the webhook" if unsent else ""
        event = Event(
            Action.AUDIT_TRIM,
            reason=reason,
            detail=f"records {self._first} to {last.sequence} removed{lost}",
            count=count,
            part=self._part,
        )
        return TrimPlan(last, event, unsent)
