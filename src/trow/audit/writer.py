"""The one thread that writes the trail: it makes, chains and stores the waiting records, many in a commit.

None of that happens on the event loop. The interpreter runs one thread at a time, so this one pauses often; otherwise
a wake-up of the loop could take a whole switch interval (5 ms).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import apsw

from trow.audit import chain
from trow.audit import record as records
from trow.audit.chain import CHECKPOINT_RECORDS, CHECKPOINT_SECONDS, UNSEALED, Head
from trow.audit.retention import Trimmer
from trow.audit.store import AuditStore, Positions, WriteBatch
from trow.lib import times
from trow.lib.backoff import Backoff
from trow.lib.failures import FailureLog
from trow.lib.steady import steady_clock
from trow.oci.errors import StorageFull, Unavailable
from trow.registry.events import Action, Event, Outcome, Part

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from trow.audit.chain import Gap
    from trow.audit.keys import SigningKey
    from trow.audit.retention import Retention, TrimPlan

    Waiting: TypeAlias = tuple[float, Event, asyncio.Future[None] | None]

log = logging.getLogger(__name__)

WEBHOOK: Final = "webhook"

_FLUSH_SECONDS: Final = 0.1
_LATE_SECONDS: Final = 1.0
_MOST_IN_A_COMMIT: Final = 2_000
# For each part but the first: records that anybody can cause delay nobody for long.
_MOST_OF_OTHERS: Final = 500
_RECORDS_A_SLICE: Final = 32
_PAUSE_SECONDS: Final = 0.000_05
# Where nobody waits and there are few records, each has a pause of its own: no request meets more than one.
_FEW: Final = 200
_LONG_PAUSE_SECONDS: Final = 0.002
# After a failure, also for what is urgent; then up to the first pause, which grows.
_LEAST_PAUSE_SECONDS: Final = 0.1
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0
# How often a process that stops tries to write what is left.
_LAST_TRIES: Final = 3
_FAILING: Final = Unavailable("the audit trail cannot be written at the moment; try again")
_FULL: Final = StorageFull("the audit database has no space left; free some or enlarge its volume")
_STOPPING: Final = Unavailable("the registry is stopping; try again")


@dataclass(slots=True)
class _Batch:
    """What goes into one commit; kept as it is until that succeeds.

    Attributes:
        heads: where the chains get to by it.
        plans: what is removed after it.
    """

    heads: dict[Part, Head]
    writes: WriteBatch = field(default_factory=WriteBatch)
    futures: list[asyncio.Future[None]] = field(default_factory=list)
    plans: dict[Part, TrimPlan] = field(default_factory=dict)
    tried: bool = False

    @property
    def empty(self) -> bool:
        writes = self.writes
        return not (writes.rows or writes.positions or writes.checkpoints or self.futures)


@dataclass(slots=True)
class _Chain:
    """One part of the record.

    Attributes:
        waiting: what has been reported.
        head: where the chain has got to.
        covered: the last record under a checkpoint, and when that was made.
        unreported: events that could not be recorded, of which no record tells.
    """

    head: Head
    covered: int
    trimmer: Trimmer
    covered_at: float
    waiting: deque[Waiting] = field(default_factory=deque)
    unreported: int = 0

    def checkpoint_due(self, head: Head, *, closing: bool) -> bool:
        """Whether a checkpoint is due: after a number of records or seconds, and before records are removed."""
        new = head.sequence - self.covered
        soon = closing or self.trimmer.full or time.monotonic() - self.covered_at >= CHECKPOINT_SECONDS
        return new >= CHECKPOINT_RECORDS or (new > 0 and soon)

    def idle_seconds(self) -> float:
        """The seconds until there is something to do, if nothing happens before."""
        if self.trimmer.busy or self.waiting:
            return 0.0
        due = CHECKPOINT_SECONDS
        if self.head.sequence > self.covered:
            due = max(0.0, self.covered_at + CHECKPOINT_SECONDS - time.monotonic())
        return min(due, self.trimmer.seconds_left())


class TrailWriter:
    """The thread, and what it is told.

    Attributes:
        path, key: the database, and what signs its checkpoints.
        positions: how far each sink has come.
        recorded: how many records this process has written.
        lost: how many events could not be recorded.

    Raises:
        AuditError: the database cannot be opened.
    """

    def __init__(
        self, path: Path, key: SigningKey, retention: Retention, clock: Callable[[], float], *, webhook: bool
    ) -> None:
        self.path = path
        self.key = key
        self._store = AuditStore(path)
        self._clock = clock
        self._steady = steady_clock(clock)
        self._webhook = webhook
        self.positions = Positions(self._store.positions())
        self._chains = {part: self._chain(part, retention) for part in Part}
        self.recorded = self.lost = 0
        self.last_recorded = 0.0
        self._backoff = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._failures = FailureLog(
            log,
            "the audit database does not take records; they are kept and tried again",
            "the audit database takes records again",
            level=logging.ERROR,
        )
        self._losing = threading.Lock()
        self._batch: _Batch | None = None
        self._wake = threading.Event()
        self._prompt = threading.Event()
        self._urgent = threading.Event()
        self._closing = False
        self._callbacks: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._work, name="trow-audit", daemon=True)

    def _chain(self, part: Part, retention: Retention) -> _Chain:
        writer = chain.writer_of(self._store.name, part)
        head = self._store.head(writer)
        if self._webhook and self.positions.get(WEBHOOK, writer) is None:
            # The webhook does not get what was recorded before it was set.
            self.positions.advance(WEBHOOK, writer, head.sequence)

        def sent() -> int | None:
            return self.positions.get(WEBHOOK, writer) if self._webhook else None

        def sign(first: int, last: Head) -> Gap:
            return chain.gap(first, last, times.precise(self._now()), self.key)

        trimmer = Trimmer(self._store, writer, retention.of(part), sent, sign)
        # Records that a crash has left without a checkpoint get one at once.
        return _Chain(head, self._store.covered(writer), trimmer, time.monotonic() - CHECKPOINT_SECONDS)

    @property
    def heads(self) -> Mapping[str, Head]:
        """The last record that is stored, by writer."""
        return {each.head.writer: each.head for each in self._chains.values()}

    def waiting(self, part: Part) -> deque[Waiting]:
        """What has been reported of one part; anybody may append, and then calls `wake`."""
        return self._chains[part].waiting

    @property
    def failing(self) -> bool:
        """Whether the last commit failed."""
        return self._backoff.failures > 0

    def displaced(self) -> Sequence[Path]:
        """The files of the database that were moved. May be called from any thread."""
        return self._store.displaced()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def on_stored(self, callback: Callable[[], None]) -> None:
        """Call something after each commit, in the writer's thread."""
        self._callbacks.append(callback)

    def wake(self, *, urgent: bool = False, late: bool = False) -> None:
        """Wake the thread: something waits.

        Args:
            urgent: somebody waits for it.
            late: it is of the past already, and may wait for more of its kind: each commit takes a moment from the
                requests that are being answered.
        """
        if urgent:
            self._urgent.set()
        if not late and not self._prompt.is_set():
            self._prompt.set()
        # Asking is cheaper than setting, and this is called for every request.
        if not self._wake.is_set():
            self._wake.set()

    def count_lost(self, part: Part) -> None:
        """Count an event that cannot be recorded; the loss itself is recorded as soon as possible."""
        with self._losing:
            first = not any(each.unreported for each in self._chains.values())
            self._chains[part].unreported += 1
            self.lost += 1
        if first:
            log.error("audit records are being lost: the audit database does not keep up")
        self.wake()

    def finish(self) -> None:
        """Write what waits, with a checkpoint, and end the thread."""
        self._closing = True
        self.wake(urgent=True)
        self._thread.join()

    def close(self) -> None:
        """Keep the sinks' last positions and close; after `finish`."""
        writes = WriteBatch(positions=self.positions.take())
        with contextlib.suppress(apsw.Error):  # then the sinks repeat a few records
            if writes.positions:
                self._store.commit(writes)
        self._store.close()

    # ---- in the thread

    def _work(self) -> None:
        while True:
            self._wait_for_work()
            closing = self._closing
            while self._commit_once(closing=closing):
                pass
            if closing and (not self.failing or self._backoff.failures >= _LAST_TRIES):
                break
        waiting = [each for of in self._chains.values() for each in of.waiting]
        left = (len(self._batch.writes.rows) if self._batch is not None else 0) + len(waiting)
        if left:
            log.error("audit records are lost: the audit database did not take them in the end", extra={"count": left})
            self.lost += left
        _answer([future for _, _, future in waiting if future is not None], _STOPPING)

    def _wait_for_work(self) -> None:
        """Wait for something to do; what is not urgent waits a little longer, for a larger commit."""
        if self.failing:
            time.sleep(_LEAST_PAUSE_SECONDS)
            self._urgent.wait(self._backoff.pause)
        elif (
            self._wake.wait(min(each.idle_seconds() for each in self._chains.values()))
            and not self._closing
            and self._prompt.wait(_LATE_SECONDS)
        ):
            self._urgent.wait(_FLUSH_SECONDS)
        # Cleared before anything is taken, so that what comes from now on wakes again.
        self._urgent.clear()
        self._prompt.clear()
        self._wake.clear()

    def _commit_once(self, *, closing: bool) -> bool:
        """Do one commit and one step of each trim; returns whether there is more to do at once."""
        try:
            self._batch = self._batch or self._next_batch(closing=closing)
            if self._batch is not None:
                self._commit(self._batch)
            busy = [] if closing else [each.trimmer for each in self._chains.values() if each.trimmer.busy]
            for trimmer in busy:
                trimmer.step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the trail has to go on
            self._failures.fail(error, None if isinstance(error, (apsw.Error, OSError)) else error)
            self._backoff.fail()
            if self._batch is not None:
                _answer(self._batch.futures, _FULL if isinstance(error, apsw.FullError) else _FAILING)
                self._batch.futures = []
            return False
        self._backoff.succeed()
        self._failures.succeed()
        return bool(busy) or any(each.waiting or each.unreported for each in self._chains.values())

    def _next_batch(self, *, closing: bool) -> _Batch | None:
        batch = _Batch({part: each.head for part, each in self._chains.items()})
        batch.writes.positions = self.positions.take()
        for part, each in self._chains.items():
            if not closing and (plan := each.trimmer.plan(self._earliest_now())) is not None:
                batch.plans[part] = plan
            self._add_records(batch, part, each)
            head, plan = batch.heads[part], batch.plans.get(part)
            if each.checkpoint_due(head, closing=closing):
                batch.writes.checkpoints.append(chain.checkpoint(head, times.precise(self._now()), self.key))
            if plan is not None and plan.excess is None:
                batch.writes.trims.append(chain.trim(plan.last, times.precise(self._now()), self.key))
        return None if batch.empty else batch

    def _now(self) -> int:
        return times.microseconds(self._clock())

    def _earliest_now(self) -> int:
        """The earlier time of two clocks: a clock that was set ahead must not remove records."""
        return times.microseconds(min(self._clock(), self._steady()))

    def _add_records(self, batch: _Batch, part: Part, of: _Chain) -> None:
        """Make records of the waiting events, and one for those that were lost meanwhile."""
        with self._losing:
            lost, of.unreported = of.unreported, 0
        count = min(len(of.waiting), _MOST_IN_A_COMMIT if part is Part.EFFECTS else _MOST_OF_OTHERS)
        for number in range(1, 1 + count):
            at, event, future = of.waiting.popleft()
            self._add(batch, part, at, event, future)
            if count < _FEW and not self._closing:
                self._urgent.wait(_LONG_PAUSE_SECONDS)
            elif number % _RECORDS_A_SLICE == 0:
                time.sleep(_PAUSE_SECONDS)
        if lost:
            loss = Event(
                Action.AUDIT_LOSS,
                Outcome.FAILED,
                reason="the audit database did not keep up",
                detail=f"{lost} events before this one are not on record",
                count=lost,
            )
            self._add(batch, part, self._clock(), loss, None)
        if (plan := batch.plans.get(part)) is not None:
            self._add(batch, part, self._clock(), plan.event, None)

    def _add(self, batch: _Batch, part: Part, at: float, event: Event, future: asyncio.Future[None] | None) -> None:
        if future is not None:
            batch.futures.append(future)
        head, moment = batch.heads[part], times.microseconds(at)
        try:
            record = records.compose(event, head.writer, head.sequence + 1, moment, head.hash, UNSEALED)
            content, digest = chain.seal(record)
        except Exception:
            # Values of a wrong type, which is a mistake in the program. The trail has to go on.
            log.exception("an event could not be recorded")
            self.count_lost(part)
            return
        batch.writes.add(record, moment, content)
        batch.heads[part] = Head(head.writer, record.sequence, digest)

    def _commit(self, batch: _Batch) -> None:
        # A commit that seemed to fail may have taken place.
        may_be_stored = batch.tried and batch.writes.rows
        if not may_be_stored or any(self._store.head(head.writer) != head for head in batch.heads.values()):
            batch.tried = True
            self._store.commit(batch.writes)
        self._batch = None
        self.recorded += len(batch.writes.rows)
        self.last_recorded = self._clock() if batch.writes.rows else self.last_recorded
        for part, each in self._chains.items():
            if each.head != batch.heads[part]:
                each.head = batch.heads[part]
                each.trimmer.note_growth()
        for point in batch.writes.checkpoints:
            of = self._chains[Part(chain.part_name(point.writer))]
            of.covered, of.covered_at = point.sequence, time.monotonic()
        for part, plan in batch.plans.items():
            self._chains[part].trimmer.begin(plan)
            if plan.unsent:
                self.positions.advance(WEBHOOK, plan.last.writer, plan.last.sequence)
                log.error("audit records were removed before the webhook took them", extra={"count": plan.unsent})
        _answer(batch.futures, None)
        for callback in self._callbacks:
            callback()


def _answer(futures: list[asyncio.Future[None]], error: Unavailable | None) -> None:
    if not futures:
        return

    def resolve() -> None:
        for future in futures:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(type(error)(error.message))

    with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
        futures[0].get_loop().call_soon_threadsafe(resolve)
