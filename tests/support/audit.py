"""An audit trail that only remembers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.registry.events import Action, Event


class RecordingAudit:
    """See `trow.registry.events.AuditLog`.

    Attributes:
        events: what was recorded, whenever that had to be.
        now: those of them that somebody waited for.
        full: nothing more can be recorded by who waits for it.
        open: while it is not set, who waits for a record goes on waiting.
    """

    def __init__(self, *, fail_closed: bool = False) -> None:
        self.fail_closed = fail_closed
        self.events: list[Event] = []
        self.now: list[Event] = []
        self.full = False
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = asyncio.Event()

    def record(self, event: Event) -> None:
        self.events.append(event)

    async def record_now(self, event: Event) -> None:
        self.waiting.set()
        await self.open.wait()
        if self.full:
            raise Unavailable("the record has no space left")
        self.events.append(event)
        self.now.append(event)

    def of(self, action: Action) -> Sequence[Event]:
        """What was recorded of one kind."""
        return [event for event in self.events if event.action is action]

    def taken(self) -> Sequence[Event]:
        """What was recorded since the last time this was asked."""
        taken, self.events = self.events, []
        return taken
