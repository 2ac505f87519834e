"""Files and standard output get the trail from the database, each at its own pace and in a thread of its own.

The database is the queue: an output that is slow, full or stopped for a week delays nothing, takes no memory, and goes
on where it was.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, Protocol

import apsw

from trow.audit import chain
from trow.audit import record as records
from trow.audit.chain import Head
from trow.audit.errors import AuditError
from trow.audit.reader import TrailReader, checkpoint_line
from trow.lib import times
from trow.lib.backoff import Backoff
from trow.lib.failures import FailureLog
from trow.lib.terminal import escaped_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from trow.audit.keys import SigningKey
    from trow.audit.reader import Line

log = logging.getLogger(__name__)

_LINES_AT_ONCE: Final = 500
_FIRST_PAUSE_SECONDS: Final = 0.4
_LONGEST_PAUSE_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 5.0


class Output(Protocol):
    """Where lines go. Used by one thread.

    Attributes:
        name: what its position is kept under.
        remembers: whether the output itself tells where it stands, so that its position need not be kept at once.
    """

    name: str
    remembers: bool

    def resume(self, writers: Collection[str]) -> Mapping[str, tuple[int, int]]:
        """The last record of each writer and the last one covered by a checkpoint that it holds, where it can tell."""

    def write(self, lines: bytes, opening: Callable[[], bytes]) -> None:
        """Take whole lines.

        Args:
            lines: records and checkpoints.
            opening: makes the lines that a fresh file begins with: for each writer a checkpoint over what is before.

        Raises:
            OSError: they were not taken and will be offered again.
        """

    def close(self) -> None:
        """No more lines come."""


class Trail(Protocol):
    """What a follower needs of the trail."""

    path: Path
    key: SigningKey

    @property
    def heads(self) -> Mapping[str, Head]:
        """The last record of each writer that is stored."""

    def tell(self, callback: Callable[[], None]) -> None:
        """Have something called whenever records were stored."""

    def position(self, sink: str, writer: str) -> int | None:
        """The last record of a writer that a sink has had."""

    def move(self, sink: str, writer: str, sequence: int, *, soon: bool = True) -> None:
        """A sink has had everything of a writer up to a record."""


class Follower:
    """Writes the trail to one output."""

    def __init__(self, trail: Trail, output: Output, now: Callable[[], int]) -> None:
        self._trail = trail
        self._output = output
        self._now = now
        self._reader: TrailReader | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._backoff = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._failures = FailureLog(
            log,
            f"audit records cannot be written to {output.name}; they are kept and tried again",
            f"audit records are written to {output.name} again",
            level=logging.ERROR,
        )
        self._heads = dict(trail.heads)
        self._covered = {writer: head.sequence for writer, head in self._heads.items()}
        for writer, head in self._heads.items():
            if trail.position(output.name, writer) is None:
                trail.move(output.name, writer, head.sequence, soon=False)
        trail.tell(self._wake.set)
        self._wake.set()
        self._thread = threading.Thread(target=self._work, name=f"trow-audit-{output.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what there is, unless that takes too long; the rest follows after the next start."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(_STOP_SECONDS)

    # ---- in the thread

    def _work(self) -> None:
        stopping = False
        while not stopping:
            self._wake.wait()
            self._wake.clear()
            stopping = self._stopping.is_set()
            try:
                self._catch_up()
                self._backoff.succeed()
                self._failures.succeed()
            except (OSError, AuditError, apsw.Error) as error:
                self._fail(error)
        if self._reader is not None:
            self._reader.close()
        self._output.close()

    def _fail(self, error: Exception) -> None:
        self._failures.fail(error)
        self._wake.set()
        self._stopping.wait(self._backoff.fail())

    def _catch_up(self) -> None:
        reader = self._reader or self._open()
        # Some of each writer in turn: one may have more than can be written for hours.
        while any([self._write_some(reader, head) for head in list(self._heads.values())]):  # noqa: C419 - all of them
            pass

    def _write_some(self, reader: TrailReader, head: Head) -> bool:
        """Write what comes next of one writer; whether there was anything."""
        lines = reader.lines_after(head, self._covered[head.writer], _LINES_AT_ONCE)
        if lines:
            self._output.write(b"".join(escaped_bytes(line.content) + b"\n" for line in lines), self._opening)
            self._advance(head, lines)
        return bool(lines)

    def _open(self) -> TrailReader:
        reader = TrailReader(self._trail.path)
        try:
            self._find_place(reader)
        except BaseException:
            reader.close()
            raise
        self._reader = reader
        return reader

    def _find_place(self, reader: TrailReader) -> None:
        """Where the output stands by its own account, or by ours; a new one begins with what comes next."""
        held = self._output.resume(list(self._heads))
        for writer, head in self._trail.heads.items():
            position = self._trail.position(self._output.name, writer)
            last, covered = held.get(writer, (position, position))
            if last is not None and covered is not None and last <= head.sequence:
                self._heads[writer] = Head(writer, last, reader.hash_at(writer, last))
                self._covered[writer] = covered

    def _advance(self, head: Head, lines: Sequence[Line]) -> None:
        writer = head.writer
        last = next((line for line in reversed(lines) if line.is_record), None)
        if last is not None:
            if lines[0].sequence > head.sequence + 1:
                log.error("audit records were removed before they were written to %s", self._output.name)
            self._heads[writer] = Head(writer, last.sequence, records.read(last.content).hash)
            self._trail.move(self._output.name, writer, last.sequence, soon=not self._output.remembers)
        covered = [line.sequence for line in lines if not line.is_record]
        self._covered[writer] = max([self._covered[writer], *covered])

    def _opening(self) -> bytes:
        time = times.precise(self._now())
        marks = [chain.checkpoint(head, time, self._trail.key) for head in self._heads.values() if head.hash]
        return b"".join(checkpoint_line(mark).content + b"\n" for mark in marks)
