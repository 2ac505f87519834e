"""Files and standard output get the trail as JSON lines, each at its own pace and from a thread of its own.

The database is the queue: a sink that is slow, full or stopped for a week delays nothing, takes no memory, and goes on
where it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Final, Protocol

import apsw
import msgspec

from trow.audit import chain
from trow.audit import record as records
from trow.audit.chain import Checkpoint, Head
from trow.audit.errors import AuditError
from trow.audit.record import Record
from trow.audit.store import TrailReader, checkpoint_line
from trow.lib import times
from trow.lib.backoff import Backoff
from trow.lib.failures import FailureLog
from trow.lib.lines import write_all
from trow.lib.terminal import escaped_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from trow.audit.writer import TrailWriter

log = logging.getLogger(__name__)

_LINES_AT_ONCE: Final = 500
_FIRST_PAUSE_SECONDS: Final = 0.4
_LONGEST_PAUSE_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 5.0
# A record has at most about 200 kB; the end of a file holds several.
_TAIL_BYTES: Final = 2**20


class Sink(Protocol):
    """Where lines go. Used by one thread.

    Attributes:
        name: the name its position is stored under.
        remembers: whether the sink itself tells where it stands, so that its position need not be kept at once.
    """

    name: str
    remembers: bool

    def resume(self, writers: Collection[str]) -> Mapping[str, tuple[int, int]]:
        """The last record of each writer and the last one covered by a checkpoint that it holds, where it can tell."""

    def write(self, lines: bytes, opening: Callable[[], bytes]) -> None:
        """Write whole lines.

        Args:
            lines: records and checkpoints.
            opening: makes the lines that a fresh file begins with: for each writer a checkpoint over what is before.

        Raises:
            OSError: they were not taken and will be offered again.
        """

    def close(self) -> None:
        """Close the sink; call it last."""


class SinkThread:
    """Writes the trail to one sink."""

    def __init__(self, trail: TrailWriter, sink: Sink, now: Callable[[], int]) -> None:
        self._trail = trail
        self._sink = sink
        self._now = now
        self._reader: TrailReader | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._backoff = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._failures = FailureLog(
            log,
            f"audit records cannot be written to {sink.name}; they are kept and tried again",
            f"audit records are written to {sink.name} again",
            level=logging.ERROR,
        )
        self._heads = dict(trail.heads)
        self._covered = {writer: head.sequence for writer, head in self._heads.items()}
        for writer, head in self._heads.items():
            if trail.positions.get(sink.name, writer) is None:
                trail.positions.advance(sink.name, writer, head.sequence)
        trail.on_stored(self._wake.set)
        self._wake.set()
        self._thread = threading.Thread(target=self._work, name=f"trow-audit-{sink.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits, unless that takes too long; the rest follows after the next start."""
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
                reader = self._reader or self._open()
                # Some of each writer in turn: one may have more than can be written for hours.
                while any([self._write_next(reader, head) for head in list(self._heads.values())]):  # noqa: C419 - all
                    pass
                self._backoff.succeed()
                self._failures.succeed()
            except (OSError, AuditError, apsw.Error) as error:
                self._failures.fail(error)
                self._wake.set()
                self._stopping.wait(self._backoff.fail())
        if self._reader is not None:
            self._reader.close()
        self._sink.close()

    def _open(self) -> TrailReader:
        """Find the last record that the sink has, by itself or by the database; a new sink begins with the next one."""
        with contextlib.ExitStack() as stack:
            reader = stack.enter_context(contextlib.closing(TrailReader(self._trail.path)))
            held = self._sink.resume(list(self._heads))
            for writer, head in self._trail.heads.items():
                position = self._trail.positions.get(self._sink.name, writer)
                last, covered = held.get(writer, (position, position))
                if last is not None and covered is not None and last <= head.sequence:
                    self._heads[writer] = Head(writer, last, reader.hash_at(writer, last))
                    self._covered[writer] = covered
            stack.pop_all()
        self._reader = reader
        return reader

    def _write_next(self, reader: TrailReader, head: Head) -> bool:
        """Write the next records of one writer; returns whether there were any."""
        writer = head.writer
        lines = reader.lines_after(head, self._covered[writer], _LINES_AT_ONCE)
        if not lines:
            return False
        self._sink.write(b"".join(escaped_bytes(line.content) + b"\n" for line in lines), self._opening)
        last = next((line for line in reversed(lines) if line.is_record), None)
        if last is not None:
            if lines[0].sequence > head.sequence + 1:
                log.error("audit records were removed before they were written to %s", self._sink.name)
            self._heads[writer] = Head(writer, last.sequence, records.read(last.content).hash)
            self._trail.positions.advance(self._sink.name, writer, last.sequence)
            if not self._sink.remembers:
                self._trail.wake()
        covered = [line.sequence for line in lines if not line.is_record]
        self._covered[writer] = max([self._covered[writer], *covered])
        return True

    def _opening(self) -> bytes:
        time = times.precise(self._now())
        marks = [chain.checkpoint(head, time, self._trail.key) for head in self._heads.values() if head.hash]
        return b"".join(checkpoint_line(mark).content + b"\n" for mark in marks)


class _CheckpointLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    checkpoint: Checkpoint


_CHECKPOINT: Final = msgspec.json.Decoder(_CheckpointLine)


def read_line(line: bytes) -> Record | Checkpoint:
    """A line of a file.

    Raises:
        ValueError: it is neither a record nor a checkpoint.
    """
    return _CHECKPOINT.decode(line).checkpoint if line.startswith(b'{"checkpoint":') else records.read(line)


class StreamSink:
    """Writes to standard output, from where a container's logs are collected."""

    name = "stdout"
    remembers = False

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def resume(self, writers: Collection[str]) -> Mapping[str, tuple[int, int]]:  # noqa: ARG002
        """None: a stream does not know what it has shown."""
        return {}

    def write(self, lines: bytes, opening: Callable[[], bytes]) -> None:  # noqa: ARG002 - a stream has no beginning
        write_all(self._fd, lines)

    def close(self) -> None:
        """Does nothing: the stream belongs to the process."""


class FileSink:
    """Writes to a file; at a size it becomes ``NAME.1``, the one before ``NAME.2``, and so on.

    The file may be moved away at any time, and a new one is begun.

    Args:
        path: the file.
        most_bytes: a file is closed before it grows beyond.
        keep: how many closed ones stay.
    """

    name = "file"
    remembers = True

    def __init__(self, path: Path, *, most_bytes: int = 100 * 2**20, keep: int = 9) -> None:
        self._path = path
        self._most = most_bytes
        self._keep = keep
        self._fd = -1
        self._size = 0
        self._foreign = False

    def resume(self, writers: Collection[str]) -> Mapping[str, tuple[int, int]]:
        """Reads the last record of the file, or of the file before it when this one is empty."""
        self._open()
        end = os.pread(self._fd, _TAIL_BYTES, max(0, self._size - _TAIL_BYTES))
        if end and not end.endswith(b"\n"):  # half a line, which a crash has left; it is written again
            self._size -= len(end) - (end.rfind(b"\n") + 1)
            os.ftruncate(self._fd, self._size)
        for path in (self._path, *([] if self._size else [self._old(1)])):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                if held := _held(file.read().split(b"\n"), writers):
                    return held
        # Another database's records, or none at all: ours begin in a file of their own.
        self._foreign = self._size > 0
        return {}

    def write(self, lines: bytes, opening: Callable[[], bytes]) -> None:
        self._open()
        if self._size and (self._foreign or self._size + len(lines) > self._most):
            self._rotate()
            self._foreign = False
            self._open()
        content = lines if self._size else opening() + lines
        try:
            write_all(self._fd, content)
        except OSError:
            # Half a line would spoil the next one.
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(content)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        """Open the file, or the one that has taken its place."""
        if self._fd >= 0:
            try:
                current = os.path.samestat(os.fstat(self._fd), self._path.stat())
            except FileNotFoundError:
                current = False
            if not current:
                self.close()
        if self._fd < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _old(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _rotate(self) -> None:
        if not self._keep:
            self._path.unlink()
            return
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._old(number).replace(self._old(number + 1))
        self._path.replace(self._old(1))


def _held(lines: list[bytes], writers: Collection[str]) -> dict[str, tuple[int, int]]:
    """The last record and the last checkpoint of each writer in these lines; none where another's are the last."""
    held: dict[str, tuple[int, int]] = {}
    for line in reversed(lines):
        try:
            read = read_line(line)
        except ValueError:
            continue
        if read.writer in writers:
            # A record's checkpoint may still be missing, hence only what is before the record is surely covered.
            held.setdefault(read.writer, (read.sequence, read.sequence - isinstance(read, Record)))
        if not held or len(held) == len(writers):
            break
    return held
