"""One record for one pull and one for one push, whatever number of requests they take.

A client that pulls an image asks for a manifest by tag, then often for another one by digest, then for blobs, each in a
request of its own. The requests of one caller in one repository are gathered here by what the manifests refer to, and
recorded once, after some seconds without a request. What repeats is gathered too (`trow.registry.aggregator`).
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from trow.lib.caches import LruCache
from trow.oci import manifest as manifests
from trow.oci.errors import OciError
from trow.registry.actor import event_of
from trow.registry.aggregator import EventAggregator
from trow.registry.events import Action, Outcome
from trow.registry.reading import DocumentReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.oci.digest import Digest
    from trow.oci.names import Reference, Repository
    from trow.registry.actor import Caller
    from trow.registry.events import AuditLog, Event
    from trow.registry.ports import ManifestRecord

# Pulls or pushes gathered at a time; above it the oldest is recorded as it is.
_MOST: Final = 10_000
_MOST_OF_A_CALLER: Final = 64
_LONGEST_SECONDS: Final = 300.0
# Manifests named in one record; more are only counted.
_MOST_MANIFESTS: Final = 64
# Of one manifest: images have at most 127 layers.
_MOST_REFERENCES: Final = 256
# Manifests of one pull whose references are looked for, and manifests that are remembered.
_MOST_EXPECTED: Final = 512
_MOST_KNOWN: Final = 1024
_PUSH_IDLE_SECONDS: Final = 600.0

Key: TypeAlias = tuple[str, str, str, str]


def _key(caller: Caller, repository: Repository) -> Key:
    """What the requests of one transfer have in common."""
    identity = caller.identity
    return identity.name, identity.credential, caller.client, repository


@dataclass(slots=True, eq=False)
class _Pull:
    """A pull under way."""

    begin: Event
    reference: Reference
    digest: Digest
    touched: float
    expected: list[frozenset[Digest]] = field(default_factory=list)
    fetched: dict[Digest, None] = field(default_factory=dict)
    manifests: int = 0
    checks: int = 0
    blobs: int = 0
    bytes: int = 0
    recording: asyncio.Task[None] | None = None

    def expects(self, digest: Digest) -> bool:
        """Whether a manifest of this pull refers to it."""
        return any(digest in each for each in self.expected)

    def event(self) -> Event:
        """The summary."""
        parts = [f"{self.manifests} manifest requests", *([f"{self.checks} checks (HEAD)"] if self.checks else [])]
        others = [digest for digest in self.fetched if digest != self.digest]
        return replace(
            self.begin,
            action=Action.PULL,
            outcome=Outcome.OK,
            manifests=tuple(others[:_MOST_MANIFESTS]),
            detail=", ".join(parts) if self.manifests or self.checks else "",
            blobs=self.blobs,
            bytes=self.bytes,
        )


@dataclass(slots=True)
class _Push:
    """Blobs that were received and wait for a manifest."""

    begin: Event
    touched: float
    blobs: int = 0
    bytes: int = 0


class TransferTracker:
    """Gathers requests into records.

    Args:
        idle: seconds after which a pull has ended.

    Attributes:
        aggregator: counts what repeats; swept together with what has ended.
    """

    def __init__(self, audit: AuditLog, idle: float, clock: Callable[[], float] = time.time) -> None:
        self._audit = audit
        self._idle = idle
        self._clock = clock
        self._pulls: dict[Key, list[_Pull]] = {}
        # When to look next whether a pull has ended; each pull under way is in here, once.
        self._due: list[tuple[float, int, Key, _Pull]] = []
        self._numbers = itertools.count()
        self.references = References()
        self._pushes: OrderedDict[Key, _Push] = OrderedDict()
        self.aggregator = EventAggregator(audit, clock)
        self._swept = clock()

    async def manifest(
        self, caller: Caller, repository: Repository, reference: Reference, record: ManifestRecord, size: int | None
    ) -> None:
        """A manifest is about to be sent; ``size`` is how much of it, None for HEAD.

        Raises:
            Unavailable: nothing may happen that is not on record, and this cannot be recorded.
        """
        key, digest = _key(caller, repository), record.digest
        for pull in reversed(self._pulls.get(key, ())):
            if reference in (pull.reference, digest) and (
                pull.digest == digest or (reference == digest and pull.expects(digest))
            ):
                break
        else:
            pull = self._open(key, caller, reference, digest, record.media_type)
        await self._wait_for_begin(key, pull)
        pull.touched = self._clock()
        if size is None:
            pull.checks += 1
            return
        pull.manifests += 1
        pull.bytes += size
        if digest not in pull.fetched:
            pull.fetched[digest] = None
            if len(pull.expected) < _MOST_EXPECTED:
                pull.expected.append(await self.references.of(record))

    async def blob(self, caller: Caller, repository: Repository, digest: Digest, size: int) -> None:
        """Bytes of a blob are about to be sent. Raises like `manifest`."""
        key = _key(caller, repository)
        pull = next((each for each in reversed(self._pulls.get(key, ())) if each.expects(digest)), None)
        if pull is None:  # no manifest was asked for
            pull = self._open(key, caller, digest, digest)
            pull.expected.append(frozenset({digest}))
        await self._wait_for_begin(key, pull)
        pull.touched = self._clock()
        pull.blobs += 1
        pull.bytes += size

    def _open(self, key: Key, caller: Caller, reference: Reference, digest: Digest, media_type: str = "") -> _Pull:
        now = self._clock()
        begin = event_of(
            caller,
            Action.PULL_BEGIN,
            Outcome.INTENT,
            status=200,
            repository=key[-1],
            reference=reference,
            digest=digest,
            media_type=media_type,
            started_at=now,
        )
        pull = _Pull(begin, reference, digest, now)
        pulls = self._pulls.setdefault(key, [])
        pulls.append(pull)
        if len(pulls) > _MOST_OF_A_CALLER:
            self._record(pulls.pop(0))
        self._schedule(key, pull)
        if len(self._due) > _MOST:
            self._finish_next()
        if self._audit.fail_closed:
            pull.recording = asyncio.create_task(self._audit.record_now(pull.begin))
        return pull

    async def _wait_for_begin(self, key: Key, pull: _Pull) -> None:
        """Wait until the begin is on record, also for those that did not open the pull but send what belongs to it."""
        if pull.recording is None:
            return
        try:
            await asyncio.shield(pull.recording)
        except OciError:
            self._forget(key, pull)
            raise

    def _forget(self, key: Key, pull: _Pull) -> bool:
        """End a pull without a record; False if it had ended before."""
        pulls = self._pulls.get(key, [])
        if pull not in pulls:
            return False
        pulls.remove(pull)
        if not pulls:
            del self._pulls[key]
        return True

    def _record(self, pull: _Pull) -> None:
        task = pull.recording  # where it has to be on record, nothing follows a begin that is not
        if task is None or (task.done() and not task.cancelled() and task.exception() is None):
            self._audit.record(pull.event())

    def received(self, caller: Caller, repository: Repository, size: int) -> None:
        """A blob was received and stored."""
        key, now = _key(caller, repository), self._clock()
        push = self._pushes.get(key)
        if push is None:
            begin = event_of(caller, Action.PUSH, status=201, repository=repository, started_at=now)
            push = self._pushes[key] = _Push(begin, now)
            if len(self._pushes) > _MOST:
                self._record_unfinished(self._pushes.popitem(last=False)[1])
        self._pushes.move_to_end(key)
        push.touched = now
        push.blobs += 1
        push.bytes += size

    def pushed(self, caller: Caller, repository: Repository, event: Event) -> None:
        """A manifest was stored: the end of a push, with the blobs that came before it."""
        push = self._pushes.pop(_key(caller, repository), None)
        if push is not None:
            event = replace(event, blobs=push.blobs, bytes=event.bytes + push.bytes, started_at=push.begin.started_at)
        self._audit.record(event)

    def _record_unfinished(self, push: _Push) -> None:
        self._audit.record(
            replace(push.begin, blobs=push.blobs, bytes=push.bytes, detail="blobs only; no manifest followed")
        )

    def sweep(self, *, everything: bool = False) -> None:
        """Record what has ended; call it many times a second, and with ``everything`` at the end.

        Records are made here, on the event loop: a few at a time delay no request.
        """
        now = self._clock()
        if now < self._swept:
            self._clock_was_set_back(now)
        self._swept = now
        while self._due and (everything or self._due[0][0] < now):
            _, _, key, pull = self._due[0]
            recorded = pull.recording is None or pull.recording.done()
            # A caller that never stops asking is recorded now and then.
            long = pull.touched < now - self._idle or pull.begin.started_at < now - _LONGEST_SECONDS
            if everything or (recorded and long):
                self._finish_next()
            else:
                heapq.heappop(self._due)
                self._schedule(key, pull)
        # The one that was touched first comes first.
        while self._pushes and (everything or next(iter(self._pushes.values())).touched < now - _PUSH_IDLE_SECONDS):
            self._record_unfinished(self._pushes.popitem(last=False)[1])
        self.aggregator.sweep(everything=everything)

    def _clock_was_set_back(self, now: float) -> None:
        """The clock was set back: what is gathered would not end before it has caught up, so it is recorded now."""
        looks, self._due = self._due, []
        for _, _, key, pull in looks:
            if pull.recording is not None and not pull.recording.done():
                pull.touched = now
                self._schedule(key, pull)
            elif self._forget(key, pull):
                self._record(pull)
        while self._pushes:
            self._record_unfinished(self._pushes.popitem(last=False)[1])
        self.aggregator.sweep(everything=True)

    def _finish_next(self) -> None:
        _, _, key, pull = heapq.heappop(self._due)
        if self._forget(key, pull):
            self._record(pull)

    def _schedule(self, key: Key, pull: _Pull) -> None:
        due = min(pull.touched + self._idle, pull.begin.started_at + _LONGEST_SECONDS)
        heapq.heappush(self._due, (max(due, self._clock()), next(self._numbers), key, pull))


class References:
    """What manifests refer to, for those that were read last: a roll-out asks a thousand times for one."""

    def __init__(self) -> None:
        self._known: LruCache[Digest, frozenset[Digest]] = LruCache(_MOST_KNOWN)
        self._reader = DocumentReader()

    def __len__(self) -> int:
        return len(self._known)

    async def of(self, record: ManifestRecord) -> frozenset[Digest]:
        """Digests that a manifest refers to, up to a limit that no real one reaches; none if it cannot be parsed."""
        known = self._known.get(record.digest)
        if known is None:
            known = frozenset()
            with contextlib.suppress(OciError):
                parsed = await self._reader.read(record.content, lambda raw: manifests.parse(raw, record.media_type))
                descriptors = itertools.chain(parsed.children, parsed.blobs)
                known = frozenset(each.digest for each in itertools.islice(descriptors, _MOST_REFERENCES))
            self._known.put(record.digest, known)
        return known
