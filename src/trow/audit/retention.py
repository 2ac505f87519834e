"""How old records leave: by age and by size, oldest first, from checkpoint to checkpoint, and on record.

A trim is first written down: as a record, and as a signed mark that says where the chain begins from now on. Only then
are rows removed, some at a time, so that writing never waits for long.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.audit.times import MICROSECONDS
from trow.registry.events import Action, Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.audit.chain import Head
    from trow.audit.store import AuditStore

CHECK_SECONDS: Final = 30.0
_ROWS_IN_A_STEP: Final = 1000
# Down to this part of the limit, so that a full trail is not trimmed at every check.
_LEAVE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records are kept; None is without end.

    Attributes:
        seconds: for how long.
        most_bytes: until the database takes this much.
    """

    seconds: float | None = None
    most_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be removed: everything up to and with ``last``; ``unsent`` of it had not reached the sink."""

    last: Head
    event: Event
    unsent: int = 0


class Trimmer:
    """Decides what leaves, and removes it step by step. Used by the writer's thread alone.

    Attributes:
        sent: the last record that a sink which may not miss any has taken; None without such a sink.
    """

    def __init__(self, store: AuditStore, retention: Retention, sent: Callable[[], int | None]) -> None:
        self._store = store
        self._retention = retention
        self._sent = sent
        self._next_check = 0.0
        self._until = store.retained()
        self._first = store.first() or self._until

    @property
    def busy(self) -> bool:
        """Whether rows are waiting to be removed."""
        return self._first < self._until

    def seconds_left(self) -> float:
        """How long until there is something to decide."""
        return max(0.0, self._next_check - time.monotonic())

    def plan(self, now: int) -> Plan | None:
        """What has to leave, looked at now and then."""
        if self.busy or self.seconds_left():
            return None
        self._next_check = time.monotonic() + CHECK_SECONDS
        self._first = self._store.first() or self._until
        return self._by_size() or self._by_age(now)

    def begin(self, plan: Plan) -> None:
        """The plan is on record: carry it out."""
        self._until = plan.last.sequence + 1

    def step(self) -> None:
        """Remove some rows."""
        upper = min(self._until, self._first + _ROWS_IN_A_STEP)
        self._store.drop_before(upper)
        self._first = upper

    def _by_age(self, now: int) -> Plan | None:
        if self._retention.seconds is None:
            return None
        last = self._store.checkpoint_before(now - round(self._retention.seconds * MICROSECONDS))
        sent = self._sent()
        if last is not None and sent is not None and last.sequence > sent:
            last = self._store.checkpoint_up_to(sent)
        return self._planned(last, "older than records are kept")

    def _by_size(self) -> Plan | None:
        most = self._retention.most_bytes
        if most is None or (used := self._store.used_bytes()) <= most:
            return None
        records = self._store.head().sequence - self._first + 1
        surplus = max(1, round(records * (1 - _LEAVE * most / used)))
        last = self._store.checkpoint_from(self._first + surplus - 1)
        return self._planned(last, "the trail is as large as it may be")

    def _planned(self, last: Head | None, reason: str) -> Plan | None:
        if last is None or last.sequence < self._first:
            return None
        sent = self._sent()
        unsent = 0 if sent is None else max(0, last.sequence - max(sent, self._first - 1))
        lost = f"; {unsent} of them had not been sent to the webhook" if unsent else ""
        event = Event(
            Action.AUDIT_TRIM,
            reason=reason,
            detail=f"records {self._first} to {last.sequence} removed{lost}",
            count=last.sequence - self._first + 1,
        )
        return Plan(last, event, unsent)
