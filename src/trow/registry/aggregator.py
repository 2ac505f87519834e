"""Equal events are counted, so that no client fills the record by repeating itself.

The first is recorded at once. Those that follow within a minute are one record, with their number and the times of the
first and the last. Each source has a share of different ones, beyond which they are only counted.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from trow.access.identity import ANONYMOUS, Identity
from trow.lib.source import source_of
from trow.registry.events import Event, Outcome, Part, part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from trow.registry.events import AuditLog

WINDOW_SECONDS: Final = 60.0
# Events of each part of the record that are counted at a time; above it the oldest is recorded as it is.
MOST: Final = 10_000
# Different events of one user at one source, or of all there who have not shown who they are, that are recorded one by
# one within the window: refusals; what was allowed; and reviews, of which an API server sends those of a whole cluster.
REFUSALS: Final = 60
ALLOWED: Final = 600
REVIEWS: Final = 3_000

Key: TypeAlias = "tuple[Hashable, ...]"


@dataclass(slots=True)
class _Tally:
    """Equal events since the last record of them."""

    event: Event
    share: Key
    since: float
    last: float
    count: int = 0


class EventAggregator:
    """Records events that can be repeated at will."""

    def __init__(self, audit: AuditLog, clock: Callable[[], float] = time.time) -> None:
        self._audit = audit
        self._clock = clock
        self._tallies: dict[Part, OrderedDict[Key, _Tally]] = {part: OrderedDict() for part in Part}
        self._different: Counter[Key] = Counter()

    def gather(self, event: Event, alike: Hashable = None) -> None:
        """Record the event, or count it.

        Args:
            event: what happened.
            alike: what equal events have in common beside who, what, where and why; None: their `detail`.
        """
        part, now = part_of(event), self._clock()
        tallies = self._tallies[part]
        # A client that is refused may name whatever it likes.
        reference = event.reference if event.outcome is Outcome.OK else ""
        what = event.action, event.outcome, event.repository, reference, event.reason
        why = event.detail if alike is None else alike
        key: Key = (source_of(event.origin.address), event.actor.name, what, why)
        share = _share(event, part)
        most = REVIEWS if part is Part.REVIEWS else ALLOWED if event.outcome is Outcome.OK else REFUSALS
        if key not in tallies and self._different[share] >= most:
            key, event = share, _any_of(event, part)
        tally = tallies.get(key)
        if tally is not None:
            tally.count += 1
            tally.last = now
            return
        tallies[key] = _Tally(event, share, now, now)
        self._different[share] += 1
        self._audit.record(event)
        if len(tallies) > MOST:
            self._close(part, next(iter(tallies)))

    def sweep(self, *, everything: bool = False) -> None:
        """Record what was counted until now; call it many times a second, and with ``everything`` at the end."""
        until = self._clock() - WINDOW_SECONDS
        for part, tallies in self._tallies.items():
            # The oldest come first.
            while tallies and (everything or next(iter(tallies.values())).since < until):
                self._close(part, next(iter(tallies)))

    def _close(self, part: Part, key: Key) -> None:
        tally = self._tallies[part].pop(key)
        self._different[tally.share] -= 1
        if not self._different[tally.share]:
            del self._different[tally.share]
        if tally.count:
            counted = replace(tally.event, count=tally.count, started_at=tally.since, ended_at=tally.last)
            self._audit.record(counted)


def _share(event: Event, part: Part) -> Key:
    """Whose share of different records it takes from: that of a user at a source, or of all strangers there.

    Users have one for each source: a ServiceAccount is refused on every node of its Pods, and each is worth a record.
    A user with many sources costs others nothing: within a part of the record, the one who holds most gives up most.
    """
    proven = part in (Part.EFFECTS, Part.ACCESS)
    allowed = event.outcome is Outcome.OK and part is not Part.REVIEWS
    return source_of(event.origin.address), event.actor.name if proven else "", allowed


def _any_of(event: Event, part: Part) -> Event:
    """The event that represents all those beyond a share."""
    what = "requests" if event.outcome is Outcome.OK else "refusals"
    actor = event.actor if part in (Part.EFFECTS, Part.ACCESS) else ANONYMOUS
    if part is Part.REVIEWS:
        what, actor = "reviews", Identity("", event.actor.method)
    reason, origin = f"many different {what} of this client", event.origin
    return Event(event.action, event.outcome, actor=actor, origin=origin, status=event.status, reason=reason, part=part)
