"""The audit trail as the rest of Trow knows it: `AuditTrail` is the `AuditLog` of the port."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.audit.retention import Retention
from trow.audit.sinks import SinkThread
from trow.audit.writer import WEBHOOK, TrailWriter
from trow.lib import times
from trow.oci.errors import Unavailable
from trow.registry.events import Action, Part, part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trow.audit.keys import SigningKey
    from trow.audit.sinks import Sink
    from trow.registry.events import Event

# About a second of the most that a server can answer, and some tens of megabytes.
MOST_WAITING: Final = 50_000
# Each part but that of effects gets this fraction of it: strangers fill no queue but their own.
_OTHERS: Final = 5
_PATIENCE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What the trail counts.

    Attributes:
        recorded: records written since the start.
        lost: events since the start that could not be recorded.
        waiting: events that are not written yet.
        unsent: records that the webhook has not taken; 0 without one.
        last: when one was written last, in seconds since 1970; 0 before the first.
    """

    recorded: int
    lost: int
    waiting: int
    unsent: int
    last: float = 0


class AuditTrail:
    """Records events. `record` may be called from any thread, `record_now` from the event loop.

    Args:
        path: the database, made when it is not there.
        key: signs the checkpoints.
        fail_closed: see `AuditLog.fail_closed`.
        retention: how long records are kept.
        webhook: whether a `Webhook` follows the trail; what it has not taken is kept as long as the size allows.
        most_waiting: how many events may wait for the database before further ones are lost, and counted; a fifth as
            many for each part but that of effects.
        clock: seconds since 1970.

    Attributes:
        writer: what sinks and webhooks follow.

    Raises:
        AuditError: the database cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        key: SigningKey,
        *,
        fail_closed: bool = False,
        retention: Retention = Retention(),  # noqa: B008 - frozen
        webhook: bool = False,
        most_waiting: int = MOST_WAITING,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.fail_closed = fail_closed
        self._webhook = webhook
        self._most = most_waiting
        self._clock = clock
        self._closed = False
        self._sinks: list[SinkThread] = []
        self.writer = TrailWriter(path, key, retention, clock, webhook=webhook)
        self.writer.start()

    def record(self, event: Event) -> None:
        part = part_of(event)
        waiting = self.writer.waiting(part)
        if len(waiting) >= self._room(part) or self._closed:
            self.writer.count_lost(part)
            return
        waiting.append((self._clock(), event, None))
        # The summary of a pull is made long after it.
        self.writer.wake(late=event.action is Action.PULL)

    def _room(self, part: Part) -> int:
        return self._most if part is Part.EFFECTS else max(1, self._most // _OTHERS)

    async def record_now(self, event: Event) -> None:
        """What was refused may still be on record later, when it was already on its way."""
        part = part_of(event)
        waiting = self.writer.waiting(part)
        if self.writer.failing or self._closed or len(waiting) >= self._room(part):
            raise Unavailable("the audit trail cannot be written at the moment; try again")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append((self._clock(), event, future))
        self.writer.wake(urgent=True)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await future
        except TimeoutError:
            raise Unavailable("the audit trail takes too long to write; try again") from None

    def displaced(self) -> Sequence[Path]:
        """The files of the database that are in use and no longer where they belong."""
        return self.writer.displaced()

    def counts(self) -> Counts:
        """How many events were recorded, lost, and wait."""
        writer = self.writer
        unsent = sum(
            max(0, head.sequence - (writer.positions.get(WEBHOOK, name) or 0)) for name, head in writer.heads.items()
        )
        waiting = sum(len(writer.waiting(part)) for part in Part)
        return Counts(writer.recorded, writer.lost, waiting, unsent if self._webhook else 0, writer.last_recorded)

    def close(self) -> None:
        """Write what waits, with a checkpoint, let the sinks catch up for a moment, and stop."""
        self._closed = True
        self.writer.finish()
        for sink in self._sinks:
            sink.close()
        self.writer.close()

    def add_sink(self, sink: Sink) -> None:
        """Have records written there as well, from now until `close`."""
        self._sinks.append(SinkThread(self.writer, sink, lambda: times.microseconds(self._clock())))
